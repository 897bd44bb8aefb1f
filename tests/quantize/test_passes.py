"""Two networks as the halves of one batch: what each layer gets, what a survey finds, and hooks that are gone after."""

import resource
import tempfile

import pytest
import torch
from torch import nn

from kdq.errors import UserError
from kdq.quantize.execution.images import floats
from kdq.quantize.execution.layer import quantizable_layers
from kdq.quantize.execution.passes import Halves, later_inputs, layer_input, survey
from tests.quantize.small import ORDER, network, part


class Shortcuts(nn.Module):
    """Holds a shortcut and a view of an activation while its layers are called; changes activations in place."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        x = self.first(x).relu_()
        top = x[:, :, :4]
        x = self.second(input=x) + x
        x = self.third(x).add_(1)
        return self.fc(x.mean((2, 3)) + top.mean((2, 3)))


IMAGES = torch.randint(0, 256, (6, 3, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Shortcuts().eval()


def as_they_are(name, analog, quantized):
    pass


@torch.no_grad()
def inputs_of(model):
    """The layers' inputs in an ordinary pass."""
    seen, layers = {}, quantizable_layers(model)
    for name, layer in layers.items():
        layer.register_forward_pre_hook(
            lambda layer, given, keywords, name=name: seen.update({name: (*given, *keywords.values())[0].clone()}),
            with_kwargs=True,
        )
    model(floats(IMAGES))
    for layer in layers.values():
        layer._forward_pre_hooks.clear()
    return seen


@torch.no_grad()
def test_each_half_is_what_its_network_computes_alone(model):
    layers, arrived = quantizable_layers(model), {}
    halves = Halves(model, layers, 4)
    analog = inputs_of(model)
    halves.weights["first"] = layers["first"].weight * 0.9
    halves.run(IMAGES, lambda name, *inputs: arrived.update({name: [part.clone() for part in inputs]}), as_they_are)
    model.first.weight.data = halves.weights["first"]
    quantized = inputs_of(model)
    assert list(arrived) == ["first", "second", "third", "fc"]
    for name, (of_float, of_quantized) in arrived.items():
        assert torch.allclose(of_float, analog[name], atol=1e-6), name
        assert torch.allclose(of_quantized, quantized[name], atol=1e-6), name
    assert not analog["fc"].equal(quantized["fc"])


@torch.no_grad()
def test_partial_passes_find_the_same_inputs_and_stop_there(model, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    layers = quantizable_layers(model)
    halves, analog = Halves(model, layers, 4, {"first": model.first.weight * 0.9}), inputs_of(model)
    in_memory, mapped = (halves.inputs("third", IMAGES.split(4), as_they_are, here) for here in (True, False))
    assert [len(chunk) for chunk in in_memory[0]] == [4, 2]
    assert torch.allclose(torch.cat(in_memory[0]), analog["third"], atol=1e-6)
    for kind, same in zip(in_memory, mapped, strict=True):
        assert all(chunk.equal(other) for chunk, other in zip(kind, same, strict=True))
    assert not list(tmp_path.iterdir())  # the maps alone keep the content
    model.fc = None
    assert layer_input(model, model.third, floats(IMAGES)).shape == (6, 3, 16, 16)


@torch.no_grad()
def test_a_temporary_folder_without_room_is_refused_in_one_line(model, tmp_path, monkeypatch):
    """The process may write files of 1,000 bytes: the system refuses as on a full disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match=f"memory: {tmp_path} can't hold") as caught:
            Halves(model, quantizable_layers(model), 4).inputs("third", [IMAGES], as_they_are, in_memory=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@torch.no_grad()
def test_hooks_and_weights_are_gone_after_an_error(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def fail(name, analog, quantized):
        if name == "second":
            raise KeyError

    halves = Halves(model, quantizable_layers(model), 4, {"first": torch.zeros(3, 3, 3, 3)})
    with pytest.raises(KeyError):
        halves.run(IMAGES, fail, as_they_are)
    assert all(not module._forward_pre_hooks and not module._forward_hooks for module in model.modules())
    assert all("forward" not in vars(module) for module in model.modules())
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_a_survey_finds_order_and_bytes(model):
    order, most_bytes = survey(model, quantizable_layers(model), IMAGES[:1])
    assert order == ["first", "second", "third", "fc"]
    picture = 3 * 16 * 16 * 4
    assert 3 * picture <= most_bytes <= 6 * picture
    small = network()  # declares its layers in another order than it calls them
    assert survey(small, quantizable_layers(small), part().images[:1])[0] == ORDER


def test_later_inputs_are_those_of_all_calls_but_the_first():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.once, self.often = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.often(self.often(self.often(self.once(x)).relu_()).relu_())

    model = Twice().eval()
    with torch.no_grad():
        first = model.often(model.once(floats(IMAGES))).relu()
        second = model.often(first).relu()
        later = later_inputs(model, quantizable_layers(model), ["once", *["often"] * 3], IMAGES)
    analog, quantized = later.pop("often")
    assert not later and len(analog) == 2 and analog is quantized
    assert torch.allclose(analog[0], first, atol=1e-6)
    assert torch.allclose(analog[1], second, atol=1e-6)
    assert later_inputs(model, quantizable_layers(model), ["once", "often"], IMAGES) == {}
