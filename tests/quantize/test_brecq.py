"""BRECQ against AdaRound, against autograd on the whole loss, and in networks of every kind."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdq.errors import UserError
from kdq.models.codes import Point, QuantizedWeight
from kdq.models.networks.resnet import BasicBlock
from kdq.models.registry import build
from kdq.quantize.bits.sensitivity import measure
from kdq.quantize.execution.network import quantize
from kdq.quantize.methods.brecq import StraightThrough, Weight, block_error, descend, fisher, slopes
from kdq.quantize.quantizer import Block, nearest_codes, quantizer_of
from kdq.quantize.solver.soft_rounding import STRETCH, pull
from kdq.recipe.stages import find_stages, settle
from tests.quantize import small

SHORT = {"iterations": 120, "learning_rate": 0.1, "batch_size": 8}
IMAGES = torch.randint(0, 256, (24, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def settled(model, seed=0):
    """A network whose BatchNorms do not all hide what is behind them."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def network(architecture="wrn10-1", width=0.25):
    torch.manual_seed(0)
    arguments = {"classes": 4, "channels": 3, "stem": "cifar", "width": width, "mean": [0.5] * 3, "std": [0.3] * 3}
    return settled(build(architecture, **arguments))


def run(model, method="brecq", images=IMAGES, **keys):
    keys = (SHORT if method == "brecq" else {}) | keys
    return quantize(model, images, quantizer_of(f"kdq.quantize.methods.{method}", keys, 0), log=small.silent)


def codes_of(layer, bits=3, share=0.7):
    """Nearest codes of a layer with a step per output that clips some weights."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    weight = layer.weight.detach().double().flatten(1)
    step = (share * weight.abs().amax(1) / high).float()
    codes = nearest_codes(weight, step, low, high).view(layer.weight.shape)
    return QuantizedWeight(codes, step, low, high, bits)


def residual_block(drift=0.1, samples=40, **shape):
    """A residual block with a strided shortcut, and inputs of both networks."""
    torch.manual_seed(1)
    downsample = nn.Sequential(nn.Conv2d(6, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
    module = settled(BasicBlock(6, 8, 2, downsample))
    return of_module(module, (samples, 6, 8, 8), drift, **shape)


def of_module(module, shape, drift=0.1, bits=3):
    generator = torch.Generator().manual_seed(2)
    mix = torch.randn(shape[1], shape[1], generator=generator) / shape[1] ** 0.5
    x = torch.einsum("mc...,cd->md...", torch.randn(shape, generator=generator), mix).relu()
    xq = (x + drift * torch.randn(shape, generator=generator)).relu()
    layers = {name: each for name, each in module.named_modules() if isinstance(each, nn.Conv2d | nn.Linear)}
    codes = {name: codes_of(layer, bits) for name, layer in layers.items()}
    with torch.no_grad():
        return Block(module, module.__call__, layers, codes, xq, module(x))


def error_of(block, codes):
    """The block's error, computed by a copy of the module that has these codes for weights."""
    module = copy.deepcopy(block.model)
    for name, of_layer in codes.items():
        layer = module.get_submodule(name)
        layer.weight.data = replace(block.codes[name], codes=of_layer).decode()
    with torch.no_grad():
        return float((module(block.inputs) - block.outputs).square().sum()) / len(block.inputs)


@torch.no_grad()
def seen_by(block, layer):
    """A layer's inputs and outputs in the float block, on the quantized network's inputs."""
    caught = []
    hook = layer.register_forward_hook(lambda layer, inputs, output: caught.append((*inputs, output)))
    block.model(block.inputs)
    hook.remove()
    return caught[0]


def keys_of(**keys):
    return quantizer_of("kdq.quantize.methods.brecq", SHORT | keys, 0).keys


def generator():
    return torch.Generator().manual_seed(0)


class TestBlock:
    def test_slopes_are_those_of_autograd_on_the_whole_loss(self):
        """Written out: soft weights, the block by functions, error and regularization, gradients of the variables."""
        block, beta, importance = residual_block(), 7.0, None
        importance = torch.rand(block.outputs.shape, generator=generator())
        weights = [Weight(layer, block.codes[name]) for name, layer in block.layers.items()]
        for weight in weights:
            weight.rounding.variable += torch.randn(weight.rounding.variable.shape, generator=generator())
        taken = torch.tensor([3, 0, 3, 17])
        ups = [weight.rounding.up() for weight in weights]
        actual = []
        for up, slope, weight in zip(ups, slopes(block, importance, weights, ups, taken), weights, strict=True):
            slope = slope - 0.5 * pull(up, beta)
            sigmoid = weight.rounding.variable.sigmoid()
            actual.append(slope * ((up > 0) & (up < 1)) * STRETCH * sigmoid * (1 - sigmoid))
        variables = [weight.rounding.variable.clone().requires_grad_() for weight in weights]
        expected = torch.autograd.grad(self.straight(block, variables, importance, taken, 0.5, beta), variables)
        for first, second in zip(actual, expected, strict=True):
            assert second.abs().max() > 0 and torch.allclose(first, second, rtol=1e-3, atol=1e-5 * second.abs().max())

    def straight(self, block, variables, importance, taken, regularization, beta):
        m, total, soft = block.model, 0, {}
        for (name, layer), variable in zip(block.layers.items(), variables, strict=True):
            quantized = block.codes[name]
            step = quantized.step.view(-1, 1, 1, 1)
            below = (layer.weight.detach() / step).floor()
            h = (variable.sigmoid() * 1.2 - 0.1).clip(0, 1)
            inside = (below >= quantized.low) & (below < quantized.high)
            soft[name] = torch.where(inside, below + h, below.clamp(quantized.low, quantized.high)) * step
            total = total + regularization * torch.where(inside, 1 - (2 * h - 1).abs() ** beta, 0).sum()
        x = block.inputs[taken]
        y = m.bn1(F.conv2d(x, soft["conv1"], stride=2, padding=1)).relu()
        y = m.bn2(F.conv2d(y, soft["conv2"], padding=1))
        y = (y + m.downsample[1](F.conv2d(x, soft["downsample.0"], stride=2))).relu()
        return total + (importance[taken] * (y - block.outputs[taken]) ** 2).sum() / len(taken)

    def test_the_error_of_one_layer_is_that_of_adaround(self):
        """e'H e + 2 e'(X~'X - H) w plus what no code changes, and its slope is -2 (H e + (X~'X - H) w)."""
        torch.manual_seed(3)
        block = of_module(nn.Linear(12, 5), (60, 12))
        layer, quantized = block.model, block.codes[""]
        block = replace(block, run=lambda x: layer.forward(x), layers={"": layer})
        with torch.no_grad():
            x = torch.linalg.lstsq(layer.weight, (block.outputs - layer.bias).mT).solution.mT  # one that gives them
        weight = Weight(layer, quantized)
        up = weight.rounding.up()
        everything = torch.arange(60)
        (slope,) = slopes(block, None, [weight], [up], everything)
        w, q, xq = layer.weight.detach().double(), weight.decoded(up).double(), block.inputs.double()
        cross, gram = xq.mT @ x.double() / 60, xq.mT @ xq / 60
        expected = -2 * (gram @ (w - q).mT + (cross - gram) @ w.mT).mT * weight.step.double()
        assert torch.allclose(slope.double(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))

    @pytest.mark.parametrize("weighted", [False, True])
    def test_leaves_less_error_than_rounding_its_layers_one_by_one(self, weighted):
        block = residual_block()
        importance = torch.rand(block.outputs.shape, generator=generator()) * 2 if weighted else None
        keys = keys_of(iterations=400)
        learned = descend(block, importance, keys, generator())
        alone = {}
        for name, layer in block.layers.items():  # each on what reaches it in the float block: AdaRound's way
            inputs, outputs = seen_by(block, layer)
            part = Block(layer, layer.__call__, {name: layer}, {name: block.codes[name]}, inputs, outputs)
            alone |= descend(part, None, keys, generator())
        nearest = {name: quantized.codes for name, quantized in block.codes.items()}
        errors = [error_of(block, codes) for codes in (learned, alone, nearest)]
        assert errors[0] < 0.9 * errors[1] < 0.9 * errors[2], errors

    def test_every_code_is_one_of_the_two_next_to_its_weight(self):
        block = residual_block(bits=2)
        learned, changed = descend(block, None, keys_of(), generator()), 0
        for name, codes in learned.items():
            quantized = block.codes[name]
            below = (block.layers[name].weight.detach() / quantized.step.view(-1, 1, 1, 1)).floor()
            bounds = quantized.low, quantized.high
            assert codes.dtype == torch.int16 and codes.shape == quantized.codes.shape
            assert ((codes == below.clamp(*bounds)) | (codes == (below + 1).clamp(*bounds))).all()
            changed += int((codes != quantized.codes).sum())
        assert changed > 20

    def test_a_descent_that_finds_nothing_better_keeps_the_nearest_codes(self):
        block = residual_block()
        learned = descend(block, None, keys_of(iterations=3, learning_rate=10.0, batch_size=1), generator())
        assert all(codes.equal(block.codes[name].codes) for name, codes in learned.items())

    def test_what_it_computes_with_is_gone_afterwards(self):
        block = residual_block()
        before = copy.deepcopy(block.model.state_dict())
        descend(block, None, keys_of(iterations=2), generator())
        assert all("forward" not in vars(module) for module in block.model.modules())
        assert all(value.equal(before[name]) for name, value in block.model.state_dict().items())

    def test_the_unit_of_the_outputs_does_not_matter(self):
        block = residual_block(drift=0.0)
        twice = replace(block, run=lambda x: 4 * block.run(x), outputs=4 * block.outputs)
        first, second = (descend(each, None, keys_of(), generator()) for each in (block, twice))
        assert all(codes.equal(second[name]) for name, codes in first.items())


class TestFisher:
    def test_its_mean_over_draws_is_the_expectation_over_the_predictions(self):
        torch.manual_seed(0)
        head, outputs = nn.Linear(6, 3), torch.randn(2, 6)
        draws = generator()
        actual = sum(fisher(head, outputs.repeat(500, 1), draws).view(500, 2, 6).mean(0) for _ in range(4)) / 4
        probabilities = head(outputs).softmax(1).detach()
        expected = torch.stack(
            [sum(p[k] * (p @ head.weight - head.weight[k]).square() for k in range(3)).detach() for p in probabilities]
        )
        assert torch.allclose(actual, expected / expected.mean(), rtol=0.15)
        assert float(actual.mean()) == pytest.approx(1, abs=1e-5)

    def test_sure_predictions_weigh_all_outputs_alike(self):
        with torch.no_grad():
            assert fisher(lambda x: x * 0, torch.zeros(3, 2), generator()).equal(torch.ones(3, 2))

    def test_moves_errors_to_outputs_that_matter_less(self):
        """Half of the outputs weigh nothing: the others' error becomes smaller than with all of them."""
        block = residual_block(bits=2)
        importance = torch.zeros_like(block.outputs)
        importance[:, :4] = 2
        weights = [Weight(layer, block.codes[name]) for name, layer in block.layers.items()]
        errors = []
        for weighing in (importance, None):
            learned = descend(block, weighing, keys_of(iterations=300), generator())
            for weight, codes in zip(weights, learned.values(), strict=True):
                weight.layer.weight.data, weight.before = codes * weight.step, weight.layer.weight.data
            with torch.no_grad():
                errors.append(float(block_error(block, importance, torch.arange(len(block.inputs)))))
            for weight in weights:
                weight.layer.weight.data = weight.before
        assert errors[0] < 0.9 * errors[1], errors


def test_a_quantized_activation_passes_the_gradient_of_the_clipped_value():
    point = Point(("conv",), 4, torch.tensor(0.5), 3)
    x = torch.tensor([-2.0, -1.4, 0.2, 5.9, 6.1]).requires_grad_()
    y = StraightThrough(point)(x)
    assert y.tolist() == pytest.approx([-1.5, -1.5, 0.0, 6.0, 6.0])
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [0, 1, 1, 1, 0]


class TestNetwork:
    @pytest.mark.parametrize(
        ("architecture", "learned"),
        [
            ("resnet18", ("conv1", "layer1.0.conv1", "layer1.0.conv2")),
            ("wrn16-1", ("conv1", "layer1.0.conv1", "layer1.0.conv2")),
            ("mobilenetv2", ("features.0.0", "features.1.conv.0.0", "features.1.conv.1")),
        ],
    )
    def test_blocks_of_every_network_of_the_package(self, architecture, learned):
        """The stem, and behind it the first block, of depthwise convolutions in the last network."""
        before, methods = network(architecture, 0.0625), {"brecq": {"fisher": False, "iterations": 250}, "rtn": {}}
        keep, outputs = "+".join(set(names_of(before)) - {*learned}), []
        for method, keys in methods.items():
            model = network(architecture, 0.0625)
            layers = run(model, method, bits=2, keep=keep, **keys)
            assert list(layers) == list(learned)
            for name, layer in layers.items():
                assert model.get_submodule(name).weight.equal(layer.decode()), name
                assert layer.facts["relative_error"] > 0 and layer.codes.min() >= -2 and layer.codes.max() <= 1
            outputs.append(first_block(model) - first_block(before))
            assert all("forward" not in vars(each) and not each._forward_pre_hooks for each in model.modules())
        assert outputs[0].norm() < 0.97 * outputs[1].norm()

    def test_leaves_less_error_than_adaround(self):
        before, errors = network(), {}
        for method in ("brecq", "adaround", "rtn"):
            model = network()
            run(model, method, bits=2, fisher=False, iterations=400) if method == "brecq" else run(
                model, method, bits=2
            )
            errors[method] = float((first_block(model) - first_block(before)).square().sum())
        assert errors["brecq"] < 0.9 * errors["adaround"] < errors["rtn"], errors

    def test_the_same_every_time(self):
        first, second = run(network(), bits=2), run(network(), bits=2)
        assert all(layer.codes.equal(second[name].codes) for name, layer in first.items())

    @pytest.mark.parametrize("levels", ["2^b", "2^b-1", "paper"])
    @pytest.mark.parametrize("bits", range(2, 9))
    def test_codes_stay_in_the_alphabet(self, bits, levels):
        low, high = -(2 ** (bits - 1)) + (levels == "2^b-1"), 2 ** (bits - 1) - (levels != "paper")
        layers = run(small.network(), images=small.part().images, bits=bits, levels=levels, iterations=5)
        assert min(layer.codes.min() for layer in layers.values()) == low
        assert all(layer.codes.max() <= high for layer in layers.values())
        assert {layer.facts["bits"] for layer in layers.values()} == {bits}

    def test_each_layer_is_its_own_block_in_other_networks(self):
        model, before = small.network(), small.network()
        layers = run(model, images=small.part().images, bits=3, iterations=200, bias="correct")
        assert list(layers) == small.ORDER
        nearest = run(small.network(), "rtn", small.part().images, bits=3, bias="correct")
        for name, layer in layers.items():
            assert model.get_submodule(name).weight.equal(layer.decode())
            assert layer.facts["relative_error"] < nearest[name].facts["relative_error"] * 1.02, name
        assert before.stem.weight.shape == model.stem.weight.shape

    @pytest.mark.parametrize("order", ["first", "last"])
    def test_sees_quantized_activations(self, order):
        keys = {"bits": 3, "activations": 4, "iterations": 60, "activation_order": order}
        layers, plain = run(network(), **keys), run(network(), bits=3, iterations=60)
        assert layers.points and not plain.points
        differs = any(not layer.codes.equal(plain[name].codes) for name, layer in layers.items())
        assert differs == (order == "first")

    def test_kept_layers_stay_float_and_the_rest_of_their_block_is_learned(self):
        model, before = network(), network()
        keep = "first+last+layer1.0.conv1+layer2"
        layers = run(model, bits=2, keep=keep, fisher=False)
        kept = {"conv1", "fc", "layer1.0.conv1", *(name for name in names_of(before) if name.startswith("layer2"))}
        assert layers.kept.keys() == kept and not kept & layers.keys()
        assert all(model.get_submodule(name).weight.equal(before.get_submodule(name).weight) for name in kept)
        nearest = run(network(), "rtn", bits=2, keep=keep)
        assert not layers["layer1.0.conv2"].codes.equal(nearest["layer1.0.conv2"].codes)

    def test_bits_of_a_budget(self):
        bits = {name: 2 + index % 3 for index, name in enumerate(names_of(network()))}
        quantizer = quantizer_of("kdq.quantize.methods.brecq", {**SHORT, "iterations": 3}, 0)
        layers = quantize(network(), IMAGES, quantizer, log=small.silent, bits=bits)
        assert {name: layer.facts["bits"] for name, layer in layers.items()} == bits

    def test_is_measured_by_its_nearest_codes(self):
        """The measurement by which a budget is spent does not take a descent per layer and bit-width."""
        rows = [
            measure(
                small.network(), small.part(), quantizer_of(f"kdq.quantize.methods.{method}", {}, 0), log=small.silent
            )
            for method in ("brecq", "rtn")
        ]
        assert rows[0] == rows[1]

    def test_another_order_is_refused_in_one_line(self, home):
        keys = find_stages(home / "kdq")["brecq"].keys
        with pytest.raises(UserError, match="^recipe: order: found 'iterative': blocks are learned as they are exec"):
            settle(keys, {}, {"order": "iterative"}, "recipe")
        assert settle(keys, {}, {"budget": 3.0}, "recipe")["order"] == "forward"

    def test_too_little_memory_is_one_line(self):
        model = network()
        with pytest.raises(
            UserError, match=r"^memory: found 1e-06 GiB, expected at least 0\.\d+, .*24 images"
        ) as caught:
            run(model, memory=1e-6)
        assert "\n" not in str(caught.value)
        assert model.conv1.weight.equal(network().conv1.weight)


def names_of(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]


@torch.no_grad()
def first_block(model):
    """What leaves the first block."""
    return model.blocks[0](model.enter(IMAGES / 255))
