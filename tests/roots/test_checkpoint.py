"""A teacher from a checkpoint: fetched once, verified, loaded strictly; whatever is wrong is one line."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from kdq import models
from kdq.data.prepared import Prepared, Split
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.roots.sources import importer
from kdq.study.config import read_study
from tests.roots.hub import COMMIT, OTHER_COMMIT

NAME = "pytorch_model.bin"
STATISTICS = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}


@pytest.fixture(scope="module")
def colours() -> Prepared:
    """Images in three channels, of CIFAR's size and number of classes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 3, 32, 32), generator=generator, dtype=torch.uint8)
    part = Split(images, torch.arange(20) % 10)
    classes = [f"class {index}" for index in range(10)]
    return Prepared(part, part, part, classes, [0.5] * 3, [0.25] * 3, "cifar10", {}, 0)


@pytest.fixture
def original(build):
    """The network that somebody else trained."""
    return build("resnet50", seed=7, channels=3, **STATISTICS).eval()


@pytest.fixture
def keys(home):
    """The resolved keys of a teacher, as the planner gives them to a job."""

    def keys(path=None, **changes):
        values = {"source": "hub", "repository": "owner/name", "revision": COMMIT, "width": 0.0625}
        values |= {"architecture": "resnet50", **STATISTICS}
        if path:
            values["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        values |= changes
        own = {key: value for key, value in values.items() if value is not None}
        study = {"datasets": ["cifar10"], "seeds": [0], "recipes": ["teacher"], "stages": {"teacher": own}}
        return (found := read_study(study, home / "kdq")).grammar.resolve(found.recipes[0].last)

    return keys


@pytest.fixture
def files(tmp_path, original):
    """A folder with the checkpoint."""
    folder = tmp_path / "published"
    folder.mkdir()
    torch.save(original.state_dict(), folder / NAME)
    return folder


def load(colours, keys):
    """Return network, architecture and the path of the weights."""
    network, architecture, paths = importer(keys["source"])(colours, keys, print)
    return network, architecture, paths["weights"]


def refused(colours, keys, *messages):
    with pytest.raises(UserError) as caught:
        load(colours, keys)
    text = str(caught.value)
    assert "\n" not in text
    for message in messages:
        assert message in text, text


class TestHub:
    def test_the_network_is_the_original_and_a_model_file_holds_it(self, hub, files, keys, colours, original, tmp_path):
        hub.offer(files)
        network, architecture, path = load(colours, keys(files / NAME))
        images = torch.rand(4, 3, 32, 32)
        assert torch.equal(network(images), original(images))
        assert path.read_bytes() == (files / NAME).read_bytes()
        model_file.save(tmp_path / "model", network, architecture, Codes())
        assert torch.equal(models.load(tmp_path / "model")(images), original(images))

    def test_a_warm_cache_needs_no_hub(self, hub, files, keys, colours):
        hub.offer(files)
        load(colours, keys(files / NAME))
        assert len(hub.asked) == 1
        hub.stop()
        load(colours, keys(files / NAME))
        assert len(hub.asked) == 1
        hub.start()

    def test_a_cold_cache_needs_one(self, hub, files, keys, colours):
        hub.stop()
        refused(
            colours, keys(files / NAME), "owner/name, commit 0123456789ab, file pytorch_model.bin: not to be", "refused"
        )
        hub.start()

    def test_a_hub_that_is_gone_half_way_leaves_nothing_that_is_believed(self, hub, files, keys, colours, tmp_path):
        hub.offer(files)
        hub.dies_within = NAME
        refused(colours, keys(files / NAME), "not to be downloaded")
        assert not list((tmp_path / "cache").glob("**/snapshots/**/*.bin"))
        hub.dies_within = None
        hub.start()
        network, _, path = load(colours, keys(files / NAME))
        assert path.read_bytes() == (files / NAME).read_bytes()

    def test_another_revision_is_another_file(self, hub, files, keys, colours):
        hub.offer(files)
        refused(colours, keys(files / NAME, revision=OTHER_COMMIT), "commit 89abcdef0123", "404")

    def test_another_repository(self, hub, files, keys, colours):
        hub.offer(files)
        refused(colours, keys(files / NAME, repository="owner/other"), "owner/other, commit", "404")

    def test_another_file(self, hub, files, keys, colours):
        hub.offer(files)
        refused(colours, keys(files / NAME, file="best.bin"), "file best.bin", "404")

    def test_another_checksum(self, hub, files, keys, colours):
        hub.offer(files)
        found = hashlib.sha256((files / NAME).read_bytes()).hexdigest()
        refused(colours, keys(sha256="0" * 64), f"SHA-256 {found}", f"expected SHA-256 {'0' * 64}")

    def test_a_damaged_cache_is_not_believed(self, hub, files, keys, colours):
        hub.offer(files)
        path = load(colours, keys(files / NAME))[2]
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        refused(colours, keys(files / NAME), str(path), "SHA-256", "remove the file")


class TestFolder:
    def test_needs_no_hub(self, files, keys, colours, original, no_network):
        network, _, path = load(colours, keys(folder=str(files), repository=None, revision=None))
        assert path == files / NAME
        assert torch.equal(network.fc.weight, original.fc.weight)

    def test_safetensors(self, files, keys, colours, original, no_network):
        save_file(original.state_dict(), files / "model.safetensors")
        local = {"folder": str(files), "repository": None, "revision": None, "file": "model.safetensors"}
        network = load(colours, keys(**local))[0]
        assert torch.equal(network.fc.weight, original.fc.weight)

    def test_the_checksum_counts_where_it_is_given(self, files, keys, colours):
        local = {"folder": str(files), "repository": None, "revision": None, "sha256": "0" * 64}
        refused(colours, keys(**local), "expected SHA-256 000")

    def test_without_the_file(self, tmp_path, keys, colours):
        local = keys(folder=str(tmp_path), repository=None, revision=None)
        refused(colours, local, "folder: found", "has no file pytorch_model.bin")


class TestTensors:
    @pytest.fixture
    def saved(self, files, keys, colours, original):
        """Refuse what the state dict becomes after a change."""

        def saved(change, *messages, **changes):
            state = original.state_dict()
            torch.save(change(state) or state, files / NAME)
            refused(colours, keys(folder=str(files), repository=None, revision=None, **changes), *messages)

        return saved

    def test_one_is_missing(self, saved):
        name = "layer2.0.bn1.running_var"
        saved(lambda state: {key: state[key] for key in state if key != name}, f"the tensor {name} is missing (1 in")

    def test_one_too_many(self, saved):
        saved(lambda state: state.update(head=torch.zeros(1)), "the tensor head is unexpected (1 in")

    def test_one_of_another_shape(self, saved):
        change = {"conv1.weight": torch.zeros(4, 3, 7, 7)}
        saved(lambda state: state.update(change), "conv1.weight has the shape (4, 3, 7, 7), expected (4, 3, 3, 3)")

    def test_a_network_of_another_width(self, saved):
        saved(lambda state: None, "expected (8, 3, 3, 3), of resnet50, stem=cifar, width=0.125", width=0.125)

    def test_another_architecture(self, saved):
        saved(lambda state: None, "of resnet18", architecture="resnet18")

    def test_other_classes(self, saved):
        change = {"fc.weight": torch.zeros(100, 128), "fc.bias": torch.zeros(100)}
        saved(lambda state: state.update(change), "a network of 100 classes, the data set has 10")

    def test_tensors_within_something_else(self, saved):
        saved(lambda state: {"state_dict": dict(state)}, "no state dict, expected tensors by name")

    def test_anything_but_tensors_is_not_unpickled(self, saved, tmp_path):
        class Harm:
            def __reduce__(self):
                return (tmp_path.joinpath("harm").touch, ())

        saved(lambda state: {"fc.weight": Harm()}, "not readable as weights")
        assert not (tmp_path / "harm").exists()

    @pytest.mark.parametrize("name", [NAME, "model.safetensors"])
    @pytest.mark.parametrize("content", [b"", b"not weights", b"\0" * 100])
    def test_no_weights_at_all(self, files, keys, colours, name, content):
        (files / name).write_bytes(content)
        local = keys(folder=str(files), repository=None, revision=None, file=name)
        refused(colours, local, f"{files / name}: not readable as weights")


class TestStatistics:
    def test_of_the_keys(self, files, keys, colours):
        network, architecture, _ = load(colours, keys(folder=str(files), repository=None, revision=None))
        assert {key: architecture[key] for key in STATISTICS} == STATISTICS
        assert network.mean.flatten().tolist() == pytest.approx(STATISTICS["mean"])

    @pytest.mark.parametrize(
        ("name", "mean", "std"), [("resnet50_cifar10", 0.4914, 0.2023), ("resnet50_cifar100", 0.5071, 0.2675)]
    )
    def test_of_a_known_repository(self, hub, files, keys, colours, name, mean, std):
        hub.offer(files, repository=f"edadaltocg/{name}")
        known = keys(files / NAME, repository=f"edadaltocg/{name}", mean=None, std=None)
        architecture = load(colours, known)[1]
        assert (architecture["mean"][0], architecture["std"][0]) == (mean, std)

    @pytest.mark.parametrize("repository", ["owner/name", "edadaltocg/resnet50_svhn"])
    def test_of_an_unknown_repository(self, files, keys, colours, repository):
        refused(
            colours, keys(files / NAME, repository=repository, mean=None, std=None), "mean: 0 values for 3 channels"
        )

    def test_one_without_the_other(self, files, keys, colours):
        known = {"repository": "edadaltocg/resnet50_cifar10", "std": None}
        refused(colours, keys(files / NAME, **known), "std: 0 values for 3 channels")

    def test_of_another_number_of_channels(self, files, keys, colours):
        with pytest.raises(UserError, match="mean: found 1 values, expected 3, one per channel"):
            keys(files / NAME, mean=[0.5])
