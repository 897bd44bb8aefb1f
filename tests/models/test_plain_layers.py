"""Plain layers in the place of packed and standardized weights: the same function, in memory and through a file."""

import itertools

import pytest
import torch
from torch import nn

from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models import load, registry
from kdq.models.codes import Codes
from kdq.models.plain_layers import ProjectedAttention, replace, replaced
from tests.models.classifiers import transformers_classifier


def attention(**options) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(12, 3, **options).eval()
    for parameter in module.parameters():
        parameter.data.normal_(0, 0.4)  # biases too
    return module


def same(attended, expected):
    for ours, theirs in zip(attended, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 7, "vdim": 5}], ids=str)
@pytest.mark.parametrize("need_weights", [True, False])
@torch.no_grad()
def test_an_attention_by_its_projections(batch_first, bias, sizes, need_weights):
    module = attention(batch_first=batch_first, bias=bias, **sizes)
    query, key, value = torch.randn(4, 6, 12), *(torch.randn(4, 9, sizes.get(name, 12)) for name in ("kdim", "vdim"))
    given = [part if batch_first else part.transpose(0, 1) for part in (query, key, value)]
    plain = ProjectedAttention(module)
    for average in (True, False):
        options = {"need_weights": need_weights, "average_attn_weights": average}
        same(plain(*given, **options), module(*given, **options))
        alone = [part[0] for part in (query, key, value)]
        same(plain(*alone, **options), module(*alone, **options))


@torch.no_grad()
def test_masks_of_an_attention():
    module, x = attention(batch_first=True), torch.randn(4, 6, 12)
    plain = ProjectedAttention(module)
    hidden, causal = torch.zeros(4, 6, dtype=torch.bool), torch.ones(6, 6).triu(1).bool()
    hidden[1, 4:] = True
    masks = (None, causal, torch.randn(6, 6), torch.randn(12, 6, 6))
    for mask, padding, weights in itertools.product(masks, (None, hidden), (True, False)):
        if padding is not None and mask is not None and mask.dtype != torch.bool:
            padding = torch.zeros(4, 6).masked_fill_(hidden, -torch.inf)  # one type for both masks
        options = {"attn_mask": mask, "key_padding_mask": padding, "need_weights": weights}
        same(plain(x, x, x, **options), module(x, x, x, **options))


@torch.no_grad()
def test_an_encoder_layer_of_torch_calls_the_projections():
    torch.manual_seed(0)
    layer, x = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True).eval(), torch.randn(4, 6, 12)
    expected, calls = layer(x), []
    replace(layer)
    layer.self_attn.q_proj.register_forward_hook(lambda *given: calls.append(1))
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)
    assert calls


def test_an_attention_with_further_keys_stays_as_it_is():
    network = nn.ModuleList([attention(add_bias_kv=True), attention(add_zero_attn=True)])
    assert replaced(replace(network)) == []


@pytest.mark.parametrize(("name", "count"), [("siglip", 1), ("bit", 12)])
@torch.no_grad()
def test_a_network_of_transformers_is_the_same_with_plain_layers_and_after_a_file(tmp_path, name, count):
    network, architecture, images = transformers_classifier(name)
    batch = images.float() / 255
    expected = network(batch)
    names = replaced(replace(network))
    assert len(names) == count
    torch.testing.assert_close(network(batch), expected, rtol=1e-5, atol=1e-6)
    path = tmp_path / "model.safetensors"
    model_file.save(path, network, architecture, Codes(), keys={})
    loaded = load(path)
    assert replaced(loaded) == names and loaded(batch).equal(network(batch))
    assert replaced(replace(loaded)) == names  # once and for all
    shapes = registry.outline(**model_file.read(path).header["architecture"])
    assert shapes.keys() <= loaded.state_dict().keys()


@pytest.mark.parametrize("wrong", [["network.vision_model"], ["nothing"], [3], "name", 7])
def test_a_file_that_names_other_modules_is_refused_in_one_line(tmp_path, wrong):
    network, architecture, _ = transformers_classifier("siglip")
    path = tmp_path / "model.safetensors"
    model_file.save(path, network, {**architecture, "plain_layers": wrong}, Codes(), keys={})
    with pytest.raises(UserError, match="model.safetensors: its tensors do not fit its architecture") as caught:
        load(path)
    assert "\n" not in str(caught.value)
