"""A forward pass that stops at every layer computes what it computes in one go, and its memory is its own affair."""

import threading

import pytest
import torch
from torch import nn

from kdq.quantize.execution.lockstep import Pass, images_of_a_pass, stopping
from kdq.quantize.execution.spill import Room, Spill
from kdq.quantize.execution.survey import later_inputs, survey


class Shortcuts(nn.Module):
    """Holds a shortcut, a list, a view of a weight and a view of an activation while its layers are called."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        scale, kept = self.first.weight.mean((1, 2, 3)).view(1, -1, 1, 1), [x * 2]
        view = self.fc.weight.t()
        x = self.first(x).relu_()
        top = x[:, :, :4]
        x = self.second(x) + x + kept[0]
        x = self.third(x) * scale
        return self.fc(x.mean((2, 3)) + top.mean((2, 3))) + view.sum()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Shortcuts().eval()


IMAGES = torch.randint(0, 256, (6, 3, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def layers_of(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}


def finish(one, layers, look=lambda one: None):
    """Advance a pass to its end; the names of the layers it stopped at."""
    names = []
    one.advance()
    while one.layer:
        names.append(one.layer)
        look(one)
        with one.loaded() as given, torch.no_grad():
            output = [type(layers[one.layer]).forward(layers[one.layer], given)]
        del given
        one.advance(output.pop())
    return names


class Kept(nn.Module):
    """The model, and what it returned last."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        self.result = self.model(x)


@pytest.mark.parametrize("limit_bytes", [None, float("inf"), 40_000, 0])
def test_a_pass_with_stops_computes_the_same(model, tmp_path, limit_bytes):
    expected, layers, kept = model(IMAGES.float() / 255), layers_of(model), Kept(model)
    spill = None if limit_bytes is None else Spill(model, Room(limit_bytes), tmp_path / "file", smallest_bytes=1)
    with stopping(layers):
        names = finish(Pass(kept, IMAGES, spill), layers)
    assert names == ["first", "second", "third", "fc"]
    assert kept.result.equal(expected)
    assert any(tmp_path.iterdir()) == (limit_bytes in (40_000, 0))
    assert model(IMAGES.float() / 255).equal(expected)  # no weight was emptied with the views of it


def test_what_is_on_disk_is_not_in_memory(model, tmp_path):
    layers, spill, sizes = layers_of(model), Spill(model, Room(0), tmp_path / "file", smallest_bytes=1), {}

    def look(one):
        sizes[one.layer] = spill.size_bytes
        assert one.spilled and one.input.untyped_storage().nbytes() == 0
        with one.loaded() as given:
            assert given.untyped_storage().nbytes() == given.numel() * 4
        assert one.input.untyped_storage().nbytes() == 0

    with stopping(layers):
        finish(Pass(model, IMAGES, spill), layers, look)
    picture = IMAGES.numel() * 4
    # The pictures, twice them in the list and the scale; then the first layer's output too, which the view holds.
    assert sizes == {
        "first": 2 * picture + 12,
        "second": 3 * picture + 12,
        "third": 4 * picture + 12,
        "fc": 4 * picture + 12 + 72,
    }


def test_an_error_of_the_model_comes_to_who_advances(model):
    layers = layers_of(model)
    one = Pass(model, IMAGES)
    with stopping(layers):
        one.advance()
        one.advance(torch.zeros(6, 4, 16, 16))
        with pytest.raises(RuntimeError, match="size of tensor"):
            one.advance(torch.zeros(6, 3, 16, 16))
    one.abandon()
    assert not one.is_alive()


def test_an_abandoned_pass_ends_its_thread(model):
    before = threading.active_count()
    one, never = Pass(model, IMAGES), Pass(model, IMAGES)
    with stopping(layers_of(model)):
        one.advance()
        assert threading.active_count() == before + 1
        one.abandon()
        never.abandon()
    assert threading.active_count() == before


def test_layers_are_themselves_again_after_the_block(model):
    with pytest.raises(KeyError), stopping(layers_of(model)):
        raise KeyError
    assert all("forward" not in vars(module) for module in model.modules())


def test_a_survey_finds_order_and_bytes(model):
    order, most_bytes = survey(model, layers_of(model), IMAGES[:1])
    assert order == ["first", "second", "third", "fc"]
    assert most_bytes == 4 * 3 * 16 * 16 * 4 + 12 + 12


def test_later_inputs_are_those_of_all_calls_but_the_first():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.once, self.often = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.often(self.often(self.often(self.once(x)).relu_()).relu_())

    model = Twice().eval()
    with torch.no_grad():
        first = model.often(model.once(IMAGES.float() / 255)).relu()
        second = model.often(first).relu()
        found = later_inputs(model, layers_of(model), ["once", *["often"] * 3], IMAGES, at_once=4)
    assert list(found) == ["often"] and [len(inputs) for inputs in found["often"]] == [4, 4, 2, 2]
    assert torch.allclose(torch.cat(found["often"][::2]), first, atol=1e-6)
    assert torch.allclose(torch.cat(found["often"][1::2]), second, atol=1e-6)
    assert later_inputs(model, layers_of(model), ["once", "often"], IMAGES) == {}


@pytest.mark.parametrize(
    ("images", "limit_bytes", "expected"),
    [
        (20, 1e9, 32),
        (128, 1e9, 32),
        (1024, 1e9, 64),
        (1024, 8 * 64, 64),
        (1024, 8 * 63, 32),
        (1024, 8, 1),
        (1024, 1, 1),
    ],
)
def test_images_of_a_pass(images, limit_bytes, expected):
    assert images_of_a_pass(images, 1, limit_bytes) == expected
