"""The quantized network against a plain implementation with two full forwards a layer, and what must not change."""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

from kdq.errors import UserError
from kdq.quantize.bits import scale
from kdq.quantize.bits.alphabet import Alphabet
from kdq.quantize.execution import passes
from kdq.quantize.execution.network import quantize
from kdq.quantize.gram import calibration, shifts
from kdq.quantize.methods.gpfq import gpfq
from kdq.quantize.methods.rtn import RTN, Parameters, rtn
from kdq.quantize.quantizer import excess, quantizer_of
from tests.quantize.small import silent

QUANTIZERS = {"gpfq": gpfq, "rtn": rtn}


class Residual(nn.Module):
    """Strided, grouped, dilated, depthwise and reflecting convolutions, a shortcut, normalisation and a classifier."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 5)
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding="same", dilation=2, groups=2, padding_mode="reflect")
        self.strided = nn.Conv2d(8, 8, (3, 2), stride=2, padding=(1, 0))
        self.shortcut = nn.Conv2d(8, 8, 1, stride=2)
        self.last = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = functional.relu(self.bn(self.stem(x)), inplace=True)
        x = self.grouped(self.depthwise(x).relu()).relu() + x
        x = self.strided(x) + self.shortcut(x)
        return self.fc(self.last(x.relu()).relu().mean((2, 3)))


def network(seed=0):
    torch.manual_seed(seed)
    model = Residual().eval()
    model.bn.running_mean.uniform_(-0.1, 0.1)
    model.bn.running_var.uniform_(0.5, 1.5)
    return model


def images(count=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 10, 10), generator=generator, dtype=torch.uint8)


def run(model, quantizer="gpfq", pictures=None, **keys):
    name = f"kdq.quantize.methods.{quantizer}"
    return quantize(model, images() if pictures is None else pictures, quantizer_of(name, keys, 0), log=silent)


def unfolded(layer, inputs):
    """(groups, patches, d) by functional.unfold, written apart from the code under test."""
    if isinstance(layer, nn.Linear):
        return inputs.flatten(0, -2).double()[None]
    if layer.padding == "same":
        reach = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        border = (reach[1] // 2, reach[1] - reach[1] // 2, reach[0] // 2, reach[0] - reach[0] // 2)
    else:
        border = (layer.padding[1], layer.padding[1], layer.padding[0], layer.padding[0])
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    columns = functional.unfold(
        functional.pad(inputs.double(), border, mode), layer.kernel_size, layer.dilation, 0, layer.stride
    )
    return columns.movedim(1, 2).flatten(0, 1).unflatten(1, (layer.groups, -1)).movedim(1, 0)


def seen(model, layer, batch):
    """The layer's input in a full forward pass."""
    caught = []
    with layer.register_forward_pre_hook(lambda module, arguments: caught.append(arguments[0])), torch.no_grad():
        model(batch)
    return caught[0]


ORDER = ("stem", "depthwise", "grouped", "strided", "shortcut", "last", "fc")


def naive(model, pictures, quantizer, bits, factor, order=ORDER):
    """Per layer two full forwards, patches written out, one step a layer; codes by layer, errors by layer."""
    analog_model, quantized_model = model, copy.deepcopy(model)
    batch, codes, errors = pictures.float() / 255, {}, {}
    for name in order:
        layer, twin = analog_model.get_submodule(name), quantized_model.get_submodule(name)
        x, xq = unfolded(layer, seen(analog_model, layer, batch)), unfolded(twin, seen(quantized_model, twin, batch))
        weight = layer.weight.detach().double().reshape(len(x), -1, x.shape[2])
        step = (weight.abs().amax(-1).mean() * factor / 2 ** (bits - 1)).float()
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        found = quantizer(weight, xq.mT @ x, xq.mT @ xq, step, low, high)
        codes[name] = found.reshape(layer.weight.shape)
        decoded = found.double() * step.double()
        errors[name] = float((x @ weight.mT - xq @ decoded.mT).norm() / (x @ weight.mT).norm())
        twin.weight.data = codes[name].float() * step
    return codes, errors, quantized_model


@pytest.mark.parametrize("name", QUANTIZERS)
def test_equals_two_forwards_a_layer(name):
    model = network()
    codes, errors, reference = naive(copy.deepcopy(model), images(), QUANTIZERS[name], bits=3, factor=0.9)
    layers = run(model, name, bits=3, scale=0.9, granularity="layer")
    assert list(layers) == list(codes)
    for layer, result in layers.items():
        assert result.codes.equal(codes[layer]), layer
        assert result.facts["relative_error"] == pytest.approx(errors[layer], rel=1e-4)
    batch = images().float() / 255
    assert torch.allclose(model(batch), reference(batch), atol=1e-5)


@pytest.mark.parametrize("name", ["spfq", "sparse", "gptq", "qronos", "adaround", "brecq"])
def test_the_others_of_the_family_quantize_a_network(name):
    keys = {"bits": 4, "bias": "correct"} | ({"iterations": 20} if name in ("adaround", "brecq") else {})

    def once(model):
        return quantize(model, images(), quantizer_of(f"kdq.quantize.methods.{name}", keys, 3), seed=3, log=silent)

    first, second = once(model := network()), once(network())
    for layer, result in first.items():
        assert result.codes.equal(second[layer].codes), layer
        assert model.get_submodule(layer).weight.equal(result.decode())
        assert 0 < result.facts["relative_error"] < 0.3


@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("patches", ["all", "paper", 200])
def test_the_model_computes_with_the_decoded_codes(granularity, patches):
    model, before = network(), network()
    layers = run(model, granularity=granularity, patches=patches, bits=4)
    for name, layer in layers.items():
        module, original = model.get_submodule(name), before.get_submodule(name)
        assert layer.step.shape == ((1,) if granularity == "layer" else (len(layer.codes),))
        assert module.weight.equal(layer.codes.float() * layer.step.view(-1, *[1] * (layer.codes.dim() - 1)))
        assert (layer.low, layer.high, layer.storage_bits) == (-8, 7, 4)
        assert layer.codes.min() >= -8 and layer.codes.max() <= 7
        assert 0 < layer.facts["relative_error"] < 0.3
        if module.bias is not None:
            assert module.bias.equal(original.bias)
    assert all("forward" not in vars(module) for module in model.modules())


def test_the_same_seed_gives_the_same_codes():
    first, second = (run(network(), patches="paper") for _ in range(2))
    assert all(first[name].codes.equal(second[name].codes) for name in first)


@pytest.mark.parametrize("patches", ["all", "paper", 200])
@pytest.mark.parametrize("scales", [0.8, "search"])
def test_gram_matrices_residuals_and_chunks_do_not_matter(monkeypatch, patches, scales):
    results = []
    for residuals, chunk_bytes in [(False, 2**26), (True, 2**27), (False, 5000), (True, 5000)]:
        monkeypatch.setattr(scale, "prefers_residuals", lambda *arguments, answer=residuals: answer)
        monkeypatch.setattr(calibration.gram_matrices, "__defaults__", ("all", 0, chunk_bytes))
        monkeypatch.setattr(calibration, "COLUMN_BYTES", chunk_bytes)
        results.append(run(network(), scale=scales, granularity="layer", patches=patches))
    for result in results[1:]:
        for name, layer in result.items():
            assert layer.codes.equal(results[0][name].codes), name
            assert layer.facts["relative_error"] == pytest.approx(results[0][name].facts["relative_error"], rel=1e-4)


def test_few_rows_or_patches_are_left_to_residuals():
    inputs = torch.zeros(4, 64, 8, 8)

    def prefers(scales, outputs, sampling="all", stride=1):
        layer = nn.Conv2d(64, outputs, 3, stride, padding=1)
        seen = calibration.Calibration(layer, inputs, inputs, sampling)
        return scale.prefers_residuals(calibration.weight_matrix(layer), seen, scales)

    assert prefers(1, 16, stride=2) and prefers(1, 128, "paper") and prefers(15, 16, "paper")
    assert not prefers(1, 1024) and not prefers(15, 64)


def test_kept_batchnorm_is_untouched_and_reestimated_is_that_of_the_quantized_network():
    model = network()
    run(model, batchnorm="keep")
    assert all(mine.equal(theirs) for mine, theirs in zip(model.bn.buffers(), network().bn.buffers(), strict=True))
    run(model := network(), batchnorm="reestimate", pictures=images())
    outputs = model.stem(images().float() / 255).transpose(0, 1).flatten(1)
    assert torch.allclose(model.bn.running_mean, outputs.mean(1), atol=1e-5)
    assert torch.allclose(model.bn.running_var, outputs.var(1), rtol=1e-4)
    assert not model.bn.training and model.bn.momentum == 0.1


CONVOLUTIONS = [
    nn.Conv2d(6, 4, 3, padding=1),
    nn.Conv2d(6, 4, 3, stride=2, padding=(2, 1)),
    nn.Conv2d(6, 4, (3, 2), dilation=(1, 2), padding="valid"),
    nn.Conv2d(6, 4, 5, padding="same", padding_mode="circular"),
    nn.Conv2d(6, 4, 4, padding="same", dilation=1),
    nn.Conv2d(6, 4, 3, padding=(3, 0), dilation=2, padding_mode="replicate"),
    nn.Conv2d(6, 6, 3, padding=1, groups=6),
    nn.Conv2d(6, 4, 3, stride=(1, 2), padding=1, groups=2),
    nn.Conv2d(6, 4, (7, 1), padding=(3, 0)),
    nn.Conv2d(6, 4, 1),
    nn.Linear(6, 4),
]


@pytest.mark.parametrize("chunk_bytes", [3000, 2**26])
@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_gram_matrices_equal_products_of_patches(layer, chunk_bytes):
    generator = torch.Generator().manual_seed(1)
    shape = (5, 3, 6) if isinstance(layer, nn.Linear) else (5, 6, 8, 7)
    inputs = torch.randn(shape, generator=generator)
    other = inputs + 0.1 * torch.randn(shape, generator=generator)
    padded = layer if getattr(layer, "padding", 0) != "valid" else copy.copy(layer)
    if padded is not layer:
        padded.padding = (0, 0)
    x, xq = unfolded(padded, inputs), unfolded(padded, other)
    cross, gram = calibration.gram_matrices(layer, inputs, other, chunk_bytes=chunk_bytes)
    assert torch.allclose(cross, xq.mT @ x, atol=1e-11) and torch.allclose(gram, xq.mT @ xq, atol=1e-11)
    cross, gram = calibration.gram_matrices(layer, inputs, inputs.clone(), chunk_bytes=chunk_bytes)
    assert cross is gram and torch.allclose(gram, x.mT @ x, atol=1e-11)


@pytest.mark.parametrize("size", [1, 20, 1000])
@pytest.mark.parametrize("sampling", ["all", "paper", 50])
@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_columns_are_those_of_the_rows(layer, sampling, size):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn((5, 3, 6) if isinstance(layer, nn.Linear) else (5, 6, 8, 7), generator=generator)
    for other in (inputs + 1, inputs.clone()):
        pairs = calibration.rows(layer, inputs, other, sampling, 3)
        rows = torch.stack([torch.cat(kind, 1) for kind in zip(*pairs, strict=True)], 1)
        columns = torch.cat(list(calibration.columns(layer, inputs, other, sampling, 3, size)), 2)
        assert columns.shape[1] == (1 if other.equal(inputs) else 2)
        assert columns.double().equal(rows[:, : columns.shape[1]].mT)
        assert columns.shape[3] == calibration.Calibration(layer, inputs, other, sampling, 3).patches


def test_the_list_above_exercises_both_ways():
    assert {shifts.apply_to(layer) for layer in CONVOLUTIONS} == {True, False}


def test_a_cap_takes_that_many_patches_once_and_the_same_in_both_networks():
    layer, inputs = nn.Conv2d(1, 1, 1), torch.arange(120.0).view(5, 1, 4, 6)
    pairs = list(calibration.rows(layer, inputs, -inputs, sampling=50, seed=3, chunk_bytes=80))
    taken = torch.cat([x for x, _ in pairs], 1).flatten()
    assert len(taken) == len(taken.unique()) == 50 and len(pairs) == 5
    assert taken.equal(-torch.cat([xq for _, xq in pairs], 1).flatten())
    every = torch.cat([x for x, _ in calibration.rows(layer, inputs, inputs, sampling=10**6)], 1)
    assert every.flatten().equal(inputs.flatten().double())


def test_paper_sampling_is_a_grid_of_the_kernels_stride_with_a_quarter_of_its_patches():
    layer = nn.Conv2d(1, 1, 3, padding=1)
    inputs = torch.arange(2 * 81.0).view(2, 1, 9, 9)
    (x, _), *rest = calibration.rows(layer, inputs, inputs, sampling="paper", seed=0)
    # 9 + 2 pixels hold 3 windows of 3 at stride 3: L = 9, hence 3 patches an image.
    assert not rest and x.shape == (1, 6, 9)
    centres = x[0, :, 4].reshape(2, 3)
    assert all(int(centre - 81 * image) % 9 in (0, 3, 6) for image in range(2) for centre in centres[image])


@pytest.mark.parametrize("same", [True, False])
def test_closed_form_of_the_error(same):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 50, 20, generator=generator, dtype=torch.float64)
    xq = x if same else x + 0.2 * torch.randn(2, 50, 20, generator=generator, dtype=torch.float64)
    weight = torch.randn(2, 3, 20, generator=generator, dtype=torch.float64)
    step = torch.tensor([0.1, 0.3])[:, None, None].expand(2, 2, 3)
    codes = rtn(weight, None, None, step, -8, 7)
    cross, gram = (xq.mT @ x, xq.mT @ xq) if not same else (x.mT @ x,) * 2
    closed = excess(weight, codes, step, cross, gram, block=6) + ((x - xq) @ weight.mT).square().sum(1)
    direct = (x @ weight.mT - xq @ (codes * step.double()[..., None]).mT).square().sum(2)
    assert torch.allclose(closed, direct, rtol=1e-4)


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("bits", [2, 4])
def test_a_search_is_never_worse_than_a_fixed_scale_of_its_grid(name, bits):
    """For the first layer, where the inputs do not depend on the scales of earlier layers."""
    searched = {kind: run(network(), name, bits=bits, granularity=kind)["stem"] for kind in ("layer", "channel")}
    for factor in scale.grid(Alphabet(bits)):
        for kind, best in searched.items():
            fixed = run(network(), name, bits=bits, granularity=kind, scale=factor)["stem"]
            assert best.facts["relative_error"] <= fixed.facts["relative_error"] * (1 + 1e-4)


def test_zero_weights_and_dead_inputs_give_positive_steps_and_zero_codes_but_for_rows_without_any_other_input():
    model = network()
    model.stem.weight.data[0] = 0
    model.grouped.weight.data.zero_()
    model.bn.weight.data[3] = model.bn.bias.data[3] = 0  # channel 3 is dead from here on
    for keys in ({}, {"granularity": "layer", "percentile": 0.5}, {"bits": 8, "patches": 20}):
        layers = run(quantized := copy.deepcopy(model), **keys)
        assert not layers["stem"].codes[0].any() and not layers["grouped"].codes.any()
        assert layers["stem"].codes[1:].any()
        decoded, weight = (of.weight[3] for of in (quantized.depthwise, model.depthwise))
        assert (decoded - weight).norm() < 0.4 * weight.norm()  # nothing but zeros reaches these weights
        for layer in layers.values():
            assert layer.step.isfinite().all() and (layer.step > 0).all()
            assert 0 <= layer.facts["relative_error"] < float("inf")


def test_fewer_samples_than_inputs():
    layers = run(network(), pictures=images(count=1))
    assert layers["fc"].facts["relative_error"] < 0.1  # one sample, eight inputs


def test_more_bits_leave_less_error():
    errors = [
        run(network(), bits=bits, levels=levels)["stem"].facts["relative_error"]
        for bits, levels in [(2, "2^b-1"), (2, "2^b"), (2, "paper"), (3, "2^b"), (5, "2^b"), (8, "2^b")]
    ]
    assert errors == sorted(errors, reverse=True)


def test_gpfq_leaves_less_error_than_rounding():
    keys = {"bits": 3, "scale": 0.9, "granularity": "layer"}
    following, rounding = run(network(), "gpfq", **keys), run(network(), "rtn", **keys)
    assert following["fc"].facts["relative_error"] < rounding["fc"].facts["relative_error"]


class Calls(nn.Module):
    """A network that calls its layers in an order of its own."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.layers, self.order = nn.ModuleDict(layers), forward

    def forward(self, x):
        return self.order(self.layers, x)


def conv():
    return nn.Conv2d(3, 3, 1)


def shared():
    first, second = conv(), conv()
    second.weight = first.weight
    return Calls(lambda layers, x: layers["b"](layers["a"](x)), a=first, b=second)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: Calls(lambda layers, x: layers["a"](layers["a"](x)[..., :6]), a=conv()),
            r"no layer is left .*layers.a: runs on inputs of several shapes, \(1, 3, 10, 10\) and \(1, 3, 10, 6\)",
        ),
        (lambda: Calls(lambda layers, x: x, a=conv()), "no layer is left .*layers.a: never called in a forward pass"),
        (lambda: Calls(lambda layers, x: layers["a"](x[:3]), a=conv()), "layers.a: input of shape"),
        (lambda: Calls(lambda layers, x: layers["a"](x / 0 * 0), a=conv()), "layers.a: infinite or NaN"),
        (lambda: Calls(lambda layers, x: x, a=nn.BatchNorm2d(3)), "no Conv2d or Linear"),
        (shared, "layers.b: shares its weight with layers.a"),
        (lambda: nn.utils.parametrizations.weight_norm(conv()), "computes in its own way"),
    ],
)
def test_what_cannot_be_quantized_is_refused_in_one_line(model, message):
    with pytest.raises(UserError, match=message) as caught:
        run(model())
    assert "\n" not in str(caught.value)


def test_a_vision_transformer():
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = ViTConfig(image_size=10, patch_size=5, num_labels=4, **sizes)
    torch.manual_seed(0)
    model = ViTForImageClassification(config).eval()
    model.forward = functools.partial(_logits, type(model).forward, model)
    before = copy.deepcopy(model)
    layers = run(model, bits=4)
    assert set(layers) == {name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    assert all(0 < layer.facts["relative_error"] < 0.5 for layer in layers.values())
    batch = images().float() / 255
    assert (model(batch) - before(batch)).norm() < 0.5 * before(batch).norm()


def _logits(forward, model, images):
    return forward(model, pixel_values=images).logits


def test_a_module_under_two_names_that_runs_once_is_one_layer():
    layer = conv()
    assert list(run(Calls(lambda layers, x: layers["a"](x), a=layer, b=layer))) == ["layers.a"]


def test_the_order_of_layers_must_be_that_of_all_images():
    def order(layers, x):
        first, second = ("a", "b") if len(x) <= 2 else ("b", "a")
        return layers[second](layers[first](x))

    with pytest.raises(UserError, match=r"layers.b: not called .* expected one order"):
        run(Calls(order, a=conv(), b=conv()))


def test_a_layer_that_runs_twice_is_quantized_on_the_inputs_of_both_calls():
    """The second call's inputs depend on the codes that are looked for: the float network's stand for them."""
    torch.manual_seed(3)
    model = Calls(lambda layers, x: layers["b"](layers["a"](layers["a"](x).relu()).relu()), a=conv(), b=conv())
    float_layer, batch = copy.deepcopy(model.layers["a"]), images().float() / 255
    with torch.no_grad():
        x = torch.cat([unfolded(float_layer, inputs) for inputs in (batch, float_layer(batch).relu())], 1)
    weight = float_layer.weight.detach().double().reshape(1, 3, 3)
    step = (weight.abs().amax(-1).mean() * 0.9 / 4).float()
    expected = gpfq(weight, x.mT @ x, x.mT @ x, step, -4, 3)
    results = []
    for patches in ("all", 10**6):
        layers = run(again := copy.deepcopy(model), bits=3, scale=0.9, granularity="layer", patches=patches)
        assert list(layers) == ["layers.a", "layers.b"]
        assert layers["layers.a"].codes.equal(expected.reshape(3, 3, 1, 1))
        error = (x @ weight.mT - x @ (expected * step.double()).mT).norm() / (x @ weight.mT).norm()
        assert layers["layers.a"].facts["relative_error"] == pytest.approx(float(error), rel=1e-4)
        results.append((layers["layers.b"].codes, again(batch)))
    assert results[0][0].equal(results[1][0]) and results[0][1].equal(results[1][1])


def test_bits_of_each_layer():
    bits = dict(zip(ORDER, (8, 2, 3, 4, 5, 6, 7), strict=True))
    layers = quantize(network(), images(), quantizer_of("kdq.quantize.methods.gpfq", {}, 0), log=silent, bits=bits)
    assert {name: layer.facts["bits"] for name, layer in layers.items()} == bits
    assert layers["stem"].codes.equal(run(network(), bits=8)["stem"].codes)


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize(
    "keys",
    [{}, {"patches": 500, "scale": 0.8}, {"batchnorm": "reestimate"}, {"bias": "correct", "scale": 0.9}],
    ids=str,
)
def test_the_memory_limit_changes_neither_codes_nor_errors(monkeypatch, name, keys):
    mapped, map_file = [], passes._mapped
    monkeypatch.setattr(passes, "_mapped", lambda *arguments: mapped.append(1) or map_file(*arguments))
    whole, limited, pictures = network(), network(), images(count=40)
    expected = run(whole, name, pictures, **keys)
    assert not mapped
    layers = run(limited, name, pictures, memory=1e-9, **keys)
    assert len(mapped) == 2 * len(layers)
    for layer, weight in layers.items():
        assert weight.codes.equal(expected[layer].codes) and weight.step.equal(expected[layer].step), layer
        assert weight.facts == expected[layer].facts
    assert all(value.equal(whole.state_dict()[key]) for key, value in limited.state_dict().items())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda codes: codes.float(), r"codes: found torch.float32 \(1, 1, 8, 27\), expected torch.int16"),
        (lambda codes: codes[0], r"codes: found torch.int16 \(1, 8, 27\), expected torch.int16 \(1, 1, 8, 27\)"),
        (lambda codes: codes + 5, "codes: found -3 to 12, expected -8 to 7"),
        (lambda codes: None, "codes: found NoneType"),
    ],
)
def test_codes_that_break_the_contract_are_one_line(bad, message):
    class Bad(RTN):
        def codes(self, *arguments):
            return bad(super().codes(*arguments))

    with pytest.raises(UserError, match=message) as caught:
        quantize(network(), images(), Bad(Parameters(scale="minmax")), log=silent)
    assert "\n" not in str(caught.value)


def test_samples_along_another_dimension_are_refused():
    model = Calls(lambda layers, x: layers["a"](x.flatten(2).movedim(2, 0).flatten(0, 1)), a=nn.Linear(3, 3))
    with pytest.raises(UserError, match="layers.a: the samples of a batch are mixed along dimension 0"):
        run(model)


def vit():
    """A small ViT of transformers, as a model file builds it."""
    from kdq.models.networks import huggingface as pretrained

    torch.manual_seed(0)
    config = {"model_type": "vit", "image_size": 8, "patch_size": 4, "hidden_size": 12, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 2, "intermediate_size": 20, "num_labels": 5}
    seen_as = {"size": [8, 8], "resample": "bilinear", "crop": [8, 8], "mean": [0.5] * 3, "std": [0.25] * 3}
    return pretrained.build(architecture="transformers", config=config, preprocessing=seen_as).eval()


def test_a_vision_transformer_equals_two_forwards_a_layer():
    pictures = images(count=40)
    layers = run(model := vit(), bits=4, scale=0.9, granularity="layer", pictures=pictures)
    codes, errors, reference = naive(vit(), pictures, gpfq, bits=4, factor=0.9, order=list(layers))
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert len(layers) == 14 and {*linear} < layers.keys() and list(layers)[0].endswith("projection")
    for name, layer in layers.items():
        assert layer.codes.equal(codes[name]), name
        assert layer.facts["relative_error"] == pytest.approx(errors[name], rel=1e-4)
    batch = pictures.float() / 255
    assert torch.allclose(model(batch), reference(batch), atol=1e-5)


@pytest.mark.parametrize("bad", [{"bits": 1}, {"bits": 9}, {"scale": "best"}, {"scale": 0}, {"patches": 0}, {"c": 1}])
def test_parameters_refuse(bad):
    for name in QUANTIZERS:
        with pytest.raises(ValueError):
            quantizer_of(f"kdq.quantize.methods.{name}", bad, 0)
