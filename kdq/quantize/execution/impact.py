"""The order of quantization by impact: which layer costs least, or most, beside those that are quantized already.

After every layer all that remain are measured again: each is quantized on its inputs in the network as it is by then,
and the network with it and those before it is evaluated. A layer's codes hold until a layer that runs before it is
quantized. For L layers L (L + 1) / 2 - 1 evaluations and about half as many quantizations of a layer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from kdq.data.prepared import Split
from kdq.models.activations import quantized_activations
from kdq.models.codes import Point
from kdq.quantize.bits.losses import Reference, log_probabilities


@dataclass(frozen=True)
class Impact:
    """What a layer costs: the loss ``cost``, as in :meth:`Reference.losses`, on ``part``; the ``pick`` comes next."""

    part: Split
    cost: str = "kl"
    pick: str = "least"

    def costs(self, model: nn.Module, layers: Mapping[str, nn.Module], points: Sequence[Point]) -> Callable:
        """Return the function that gives the cost of decoded weights by layer, in a ``model`` that is float otherwise.

        Activations are quantized at ``points``.
        """
        device = next(model.parameters()).device
        reference = Reference(log_probabilities(model, self.part.images, device), self.part.labels)

        def cost(weights: Mapping[str, Tensor]) -> float:
            before = {name: layers[name].weight.data for name in weights}
            try:
                for name, weight in weights.items():
                    layers[name].weight.data = weight
                with quantized_activations(model, points):
                    return reference.losses(log_probabilities(model, self.part.images, device))[self.cost]
            finally:
                for name, weight in before.items():
                    layers[name].weight.data = weight

        return cost

    def order(
        self, names: Sequence[str], quantized: Mapping, candidate: Callable, cost: Callable, log
    ) -> Iterator[str]:
        """Yield the layers ``names``, which are in order of execution, in that of their impact.

        ``quantized`` are the decoded weights of all layers that are quantized by now, and has a layer that was yielded
        when the next one is asked for. ``candidate(name)`` gives the weight that a layer would get now. Of equal costs
        the layer that runs first comes next.
        """
        best, places = {"least": min, "most": max}[self.pick], {name: place for place, name in enumerate(names)}
        waiting, candidates = list(names), {}
        while len(waiting) > 1:
            candidates |= {name: candidate(name) for name in waiting if name not in candidates}
            costs = {name: cost({**quantized, name: candidates[name]}) for name in waiting}
            chosen = best(waiting, key=costs.get)
            log(f"{chosen}: next, {self.cost} {costs[chosen]:.6g} is the {self.pick} of {len(waiting)} layers")
            yield chosen
            waiting.remove(chosen)
            candidates = {name: weight for name, weight in candidates.items() if places[name] < places[chosen]}
        yield from waiting
