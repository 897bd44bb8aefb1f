"""A student of mutual learning that begins with a file of weights from ImageNet: all but what can't be the same."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import kdq
from kdq.distill.imagenet_start import start_from_imagenet
from kdq.distill.methods.dml import DML, Parameters
from kdq.distill.stage import distill
from kdq.errors import UserError
from kdq.recipe.grammar import Grammar
from kdq.recipe.stages import find_stages
from kdq.roots.sources.keys import Fetched
from kdq.train import stage

NAME = "pytorch_model.bin"
CLASSIFIER = {"fc.weight", "fc.bias"}
NEW = {"cifar": {*CLASSIFIER, "conv1.weight"}, "imagenet": CLASSIFIER}


@pytest.fixture(scope="module")
def original(build):
    """A network as torchvision publishes them, for images in three channels and 1000 classes, trained a little."""
    network = build(seed=9, stem="imagenet", channels=3, classes=1000, mean=[0.5] * 3, std=[0.2] * 3)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.add_(1)
    return network


@pytest.fixture
def write(tmp_path, original):
    """Write the original's state dict after a change; gives the keys that name the file."""

    def write(change=lambda state: None, name=NAME) -> dict:
        state = dict(original.state_dict())
        change(state)
        path = tmp_path / name
        torch.save(state, path) if name == NAME else save_file(state, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Fetched(folder=str(tmp_path), file="" if name == NAME else name, sha256=digest).model_dump()

    return write


def student(build, stem="cifar", **changes):
    return build(seed=3, stem=stem, channels=3, mean=[0.5] * 3, std=[0.2] * 3, **changes)


def refused(network, keys, message):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError, match=message) as caught:
        start_from_imagenet(network, keys, print)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class TestLoading:
    @pytest.mark.parametrize("name", [NAME, "model.safetensors"])
    @pytest.mark.parametrize("stem", ["cifar", "imagenet"])
    def test_all_but_the_named_tensors_are_the_files(self, build, write, original, stem, name):
        network, fresh, lines = student(build, stem), student(build, stem).state_dict(), []
        start_from_imagenet(network, write(name=name), lines.append)
        for tensor, value in network.state_dict().items():
            source = fresh if tensor in NEW[stem] else original.state_dict()
            assert torch.equal(value, source[tensor]), tensor
        assert all(tensor in lines[0] for tensor in NEW[stem])

    def test_a_file_without_counts_of_batches(self, build, write, original):
        def forget(state):
            for name in [name for name in state if name.endswith("num_batches_tracked")]:
                del state[name]

        network = student(build)
        start_from_imagenet(network, write(forget), print)
        assert torch.equal(network.bn1.running_var, original.bn1.running_var)
        assert network.bn1.num_batches_tracked == 0

    @pytest.mark.parametrize("name", ["layer2.0.bn1.running_var", "layer4.1.conv2.weight"])
    def test_any_other_that_is_missing_is_refused(self, build, write, name):
        refused(student(build), write(lambda state: state.pop(name)), f"the tensor {name} is missing .1 in all")

    def test_one_too_many(self, build, write):
        refused(student(build), write(lambda state: state.update(head=torch.zeros(1))), "the tensor head is unexpected")

    def test_another_width(self, build, write):
        refused(student(build, width=0.125), write(), "has the shape .4,., expected .8,., of resnet18, stem=cifar")

    def test_another_architecture(self, build, write):
        refused(student(build, architecture="resnet34"), write(), "are missing .* of resnet34")

    def test_another_number_of_channels(self, build, write):
        network = build(seed=3, stem="imagenet")
        refused(network, write(), r"conv1.weight has the shape \(4, 3, 7, 7\), expected \(4, 1, 7, 7\)")

    def test_another_checksum(self, build, write):
        refused(student(build), {**write(), "sha256": "0" * 64}, "expected SHA-256 000")


class TestStage:
    @pytest.fixture
    def resolve(self):
        types = find_stages(Path(kdq.__file__).parent)

        def resolve(recipe, **defaults):
            grammar = Grammar(types, {"teacher": {}, "student": {}, "retrain": {}}, {"dml": defaults})
            return grammar.resolve(grammar.parse(recipe).last)

        return resolve

    def test_a_fresh_student_has_no_keys_of_a_file(self, resolve):
        assert resolve("hard/dml")["student"] == "fresh"
        assert not Fetched.model_fields.keys() & resolve("hard/dml").keys()

    def test_what_makes_no_sense_is_refused(self, resolve):
        with pytest.raises(UserError, match="folder: found 'x': student=fresh does not read this key"):
            resolve("hard/dml,folder=x")
        with pytest.raises(UserError, match="repository: missing, expected a repository"):
            resolve("hard/dml,student=imagenet")
        with pytest.raises(UserError, match="sha256: missing, expected the SHA-256"):
            resolve("hard/dml,student=imagenet", folder="weights")
        with pytest.raises(UserError, match="revision: found .*: a local folder is given"):
            resolve("hard/dml,student=imagenet", folder="weights", sha256="a" * 64, revision="b" * 40)

    @pytest.mark.parametrize("start", ["imagenet", "fresh"])
    def test_the_student_begins_so_and_the_peer_as_ever(
        self, few, build, write, original, resolve, training_keys, tmp_path, monkeypatch, start
    ):
        tasks = []
        monkeypatch.setattr(stage, "fit", lambda task, *arguments, **places: tasks.append(task) or [])
        own = {"folder": write()["folder"], "sha256": write()["sha256"]} if start == "imagenet" else {}
        keys = resolve(f"hard/dml,student={start}", **own) | training_keys()
        parent = build(seed=1, mean=few.mean, std=few.std)
        places = {"checkpoint": tmp_path / "checkpoint", "identity": "", "log": print}
        distill(few, parent, "kdq.distill.methods.dml", keys, seed=0, threads=1, **places)
        assert torch.equal(tasks[0].teacher.network.layer1[0].conv1.weight, parent.layer1[0].conv1.weight)
        same = torch.equal(tasks[0].network.layer1[0].conv1.weight, original.layer1[0].conv1.weight)
        assert same == (start == "imagenet")

    def test_a_fresh_peer_of_a_network_with_random_layers_has_none(self, build):
        activations = [{"mean": 0.4}]
        parent = build(head={"widths": [8], "activations": activations})
        peer = DML(Parameters(start="fresh")).peer(parent)
        assert isinstance(peer.fc, torch.nn.Linear) and "head" not in peer.architecture
