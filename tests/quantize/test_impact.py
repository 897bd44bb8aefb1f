"""The order by impact, against a slow search that quantizes everything anew for every candidate."""

import pytest
import torch
import torch.nn.functional as F

from kdq.models.activations import quantized_activations
from kdq.quantize.execution.impact import Impact
from kdq.quantize.execution.network import quantize
from kdq.quantize.execution.selection import activation_points, select
from kdq.quantize.gram.calibration_images import COST_IMAGES, calibration_images, cost_images
from kdq.quantize.quantizer import quantizer_of
from kdq.quantize.stage import quantize_stage
from tests.quantize.small import ORDER, network, part, silent

EVALUATED = part(40, seed=1)


def gpfq(**keys):
    return quantizer_of("kdq.quantize.methods.gpfq", {"bits": 2, **keys}, 0)


@torch.no_grad()
def cost_of(names, cost, quantizer):
    """The cost of a network whose layers ``names`` alone are quantized, in this order: the others come after them."""
    whole = network()
    codes = quantize(
        whole, part().images, quantizer, seed=3, log=silent, order=[*names, *(n for n in ORDER if n not in names)]
    )
    mixed, images, labels = network(), EVALUATED.images / 255, EVALUATED.labels
    points = activation_points(mixed, select(mixed, part().images), part().images, quantizer.keys)
    analog = mixed(images).double().log_softmax(1)
    for name in names:
        mixed.get_submodule(name).weight.data = codes[name].decode()
    with quantized_activations(mixed, points):
        quantized = mixed(images).double().log_softmax(1)
    if cost == "kl":
        return float((analog.exp() * (analog - quantized)).sum(1).mean())
    if cost == "loss":
        return float(F.nll_loss(quantized, labels) - F.nll_loss(analog, labels))
    return float((analog.argmax(1) == labels).sum() - (quantized.argmax(1) == labels).sum()) / len(labels)


def slow_order(cost, pick, quantizer):
    """The layers one after the other, each that of the least or most cost beside those before it, and the costs."""
    order, costs = [], []
    while len(order) < len(ORDER):
        waiting = [name for name in ORDER if name not in order]
        every = [cost_of([*order, name], cost, quantizer) for name in waiting]
        costs.append((min if pick == "least" else max)(every))
        order.append(waiting[every.index(costs[-1])])
    return order, costs


def by_impact(cost, pick, quantizer):
    """The order that the log tells, the costs in it, and the codes."""
    lines = []
    impact = Impact(EVALUATED, cost, pick)
    codes = quantize(network(), part().images, quantizer, seed=3, log=lines.append, order=impact)
    lines = [line for line in lines if "bits, scale" in line or ": next, " in line]
    order = [line.partition(":")[0] for line in lines if "bits, scale" in line]
    told = [line.partition(":")[0] for line in lines if ": next, " in line]
    assert told == order[:-1]
    return order, [float(line.split()[3]) for line in lines if ": next, " in line], codes


@pytest.mark.parametrize("pick", ["least", "most"])
@pytest.mark.parametrize("cost", ["kl", "loss", "accuracy"])
def test_equals_the_slow_search(cost, pick):
    order, costs, codes = by_impact(cost, pick, gpfq())
    expected, of_expected = slow_order(cost, pick, gpfq())
    assert order == expected
    assert costs == pytest.approx(of_expected[:-1], rel=1e-3, abs=1e-6)
    again = quantize(network(), part().images, gpfq(), seed=3, log=silent, order=expected)
    assert list(codes) == ORDER and all(codes[name].codes.equal(again[name].codes) for name in ORDER)


def test_differs_from_one_sort_by_what_each_layer_costs_alone():
    alone = sorted(ORDER, key=lambda name: cost_of([name], "loss", gpfq()))
    order, _, _ = by_impact("loss", "least", gpfq())
    assert order[0] == alone[0] and order != alone and sorted(order) == sorted(ORDER)


def test_costs_are_those_with_quantized_activations():
    quantizer = gpfq(activations=4)
    order, costs, _ = by_impact("kl", "least", quantizer)
    expected, of_expected = slow_order("kl", "least", quantizer)
    assert order == expected and costs == pytest.approx(of_expected[:-1], rel=1e-3)


def test_partial_passes_from_files_give_the_same():
    order, costs, codes = by_impact("kl", "most", gpfq())
    on_disk, of_disk, again = by_impact("kl", "most", gpfq(memory=1e-9))
    assert on_disk == order and of_disk == costs
    assert all(codes[name].codes.equal(again[name].codes) for name in ORDER)


def test_a_layer_is_quantized_again_only_if_one_before_it_was():
    """The shares of candidates that are computed: the first round all, later those behind the last chosen."""
    names, computed, quantized = list("abcd"), [], {}
    costs = {"a": 4.0, "b": 1.0, "c": 3.0, "d": 2.0}

    def candidate(name):
        computed.append(name)
        return name

    def cost(weights):
        return sum(costs[name] for name in weights)

    for name in Impact(EVALUATED).order(names, quantized, candidate, cost, silent):
        quantized[name] = name
        computed.append(f"-> {name}")
    assert computed == [*"abcd", "-> b", "c", "d", "-> d", "-> c", "-> a"]


class TestImages:
    def test_are_validation_images(self, few):
        chosen = cost_images(few, 1)
        assert len(chosen.images) == min(COST_IMAGES, len(few.validation.images))
        every = {image.numpy().tobytes() for image in few.validation.images}
        assert {image.numpy().tobytes() for image in chosen.images} <= every
        assert COST_IMAGES >= 1000

    def test_the_stage_measures_on_them_and_calibrates_on_others(self, few, build, monkeypatch):
        evaluated = []
        monkeypatch.setattr(Impact, "costs", lambda impact, *rest: evaluated.append(impact) or (lambda weights: 0.0))
        quantizer = quantizer_of(
            "kdq.quantize.methods.rtn", {"order": "iterative", "pick": "most", "cost": "accuracy", "images": 16}, 0
        )
        quantize_stage(build().eval(), few, quantizer, seed=1, device="cpu", log=silent)
        (impact,) = evaluated
        assert (impact.cost, impact.pick) == ("accuracy", "most")
        assert impact.part.images.equal(cost_images(few, 1).images)
        assert not impact.part.images.equal(calibration_images(few, 16, 1).images)
