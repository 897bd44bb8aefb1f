"""Quantization of a network, layer by layer in any order, each layer on what reaches it in both networks by then.

In the order of execution all layers are quantized in one forward pass of all images, each when the images reach it. In
another order, or if the activations of all images need more memory than allowed, every layer takes a partial pass of
its own, some images at a time. The codes are the same.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from kdq.errors import UserError
from kdq.models.activations import quantized_activations
from kdq.models.codes import Codes, Point, QuantizedWeight
from kdq.models.network import Network
from kdq.quantize.bits.alphabet import Alphabet
from kdq.quantize.execution import bias
from kdq.quantize.execution.batchnorm import reestimate
from kdq.quantize.execution.equalization import equalize
from kdq.quantize.execution.images import floats
from kdq.quantize.execution.impact import Impact
from kdq.quantize.execution.layer import forward, quantize_layer, relative_error, without_bias
from kdq.quantize.execution.passes import Halves, doubled, later_inputs, layer_input
from kdq.quantize.execution.rectifiers import passed_outputs
from kdq.quantize.execution.selection import Selection, activation_points, as_modules, point_of, seen, select
from kdq.quantize.gram.calibration import Calibration
from kdq.quantize.quantizer import Block, Quantizer, check_codes

# Images whose inputs are summed up at once, and at most so many chunks of images. Neither depends on the memory's
# limit, so that with any limit the very same numbers are added in the same order.
CHUNK, CHUNKS = 32, 16


@torch.no_grad()
def quantize(
    model: nn.Module,
    images: Tensor,
    quantizer: Quantizer,
    seed: int = 0,
    device=None,
    log: Callable[[str], None] = print,
    bits: Mapping[str, int] | None = None,
    views: Tensor | None = None,
    order: Sequence[str] | Impact | None = None,
) -> Codes:
    """Quantize the layers of a float network in place; return the weights in order of execution.

    With the key ``activations`` each is quantized on inputs X~ that are quantized too, unless ``activation_order`` is
    ``last``, with the ranges that the float network has on ``images``; the result's ``points`` hold them.

    These are every nn.Conv2d and nn.Linear, and the projections of every nn.MultiheadAttention, which get layers of
    their own (:mod:`kdq.models.plain_layers`); but for those that the key ``keep`` names, that are never called, or
    that can't be quantized, which the result's ``kept`` lists and the log tells.

    ``model`` takes float images in [0, 1] and treats each on its own; ``images`` uint8 (M, C, H, W) are the calibration
    images, ``views`` those from which the statistics of BatchNorm are measured again if the keys say so (default: the
    same); ``bits`` are those of each layer by name (default: the key's); ``order`` names the layers in the order in
    which to quantize them (default: as they are executed), or is the impact by which the next one is chosen. X are a
    layer's inputs in the float network, X~ those in the network as it is by then: only layers that came earlier in the
    order are quantized there.

    The model is left in evaluation mode and computes with the decoded weights. Raises UserError for numbers that are
    not finite, and ValueError for an order of other layers.

    A layer that runs more than once is quantized on the inputs of all its calls. Those of the later calls depend on its
    own codes; in their place the float network's stand on both sides, for X~ those with quantized activations. A layer
    whose input is the same for all images, such as that of a position bias, is quantized before all others, which see
    its quantized outputs in both networks.
    """
    device = device or next(model.parameters()).device
    images, views = images.to(device), (images if views is None else views).to(device)
    keys, holders = quantizer.keys, {}
    selection = select(model.to(device).eval(), images, keys.keep, keys.batchnorm == "fold")
    if keys.channels == "equalize":
        equalize(model)
    for name, reason in selection.reasons.items():
        log(f"{name}: stays float, {reason}")
    executed = selection.executed
    if isinstance(order, Sequence) and sorted(order) != sorted(executed):
        raise ValueError(f"order: {list(order)}, expected each of {executed} once")
    bits = bits or dict.fromkeys(executed, keys.bits)
    with as_modules(selection.functional):
        if keys.bias == "correct":
            holders = bias.holders(model, selection.layers, floats(images[:1]))
        points = activation_points(model, selection, images, keys)
        network = _Network(model, selection, images, quantizer, seed, log, bits, points)
        network.quantize(order, fits=2 * len(images) * selection.image_bytes <= keys.memory * 2**30)
        for name, weight in network.halves.weights.items():
            selection.layers[name].weight.data = weight
        bias.store(holders, network.shifts)
        if keys.batchnorm == "reestimate":
            with quantized_activations(model, points):
                reestimate(model, floats(views))
    return Codes({name: network.done[name] for name in executed}, kept=selection.kept(model), points=points)


@dataclass
class _Network:
    """A network on its way from float to quantized: ``done`` are its codes, ``shifts`` its bias corrections."""

    model: nn.Module
    selection: Selection
    images: Tensor
    quantizer: Quantizer
    seed: int
    log: Callable[[str], None]
    bits: Mapping[str, int]
    points: Sequence[Point]
    done: dict[str, QuantizedWeight] = field(default_factory=dict)
    shifts: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self):
        self.passed = passed_outputs(self.model, self.selection.layers) if self.quantizer.sees_relu else {}
        selection, chunk = self.selection, max(CHUNK, -(-len(self.images) // CHUNKS))
        self.layers, self.seen = selection.layers, seen(self.points, self.quantizer.keys)
        self.calls = [name for name in selection.calls if name not in selection.constants]
        self.halves = Halves(self.model, self.layers, chunk, constants=selection.constants, points=self.seen)
        self.later = later_inputs(self.model, self.layers, self.calls, self.images, self.seen)

    def quantize(self, order: Sequence[str] | Impact | None, fits: bool) -> None:
        """Quantize all layers in ``order``, or as they are executed if it is None; constant ones first.

        ``fits``: the activations of all images fit in memory. Raises UserError if they don't and blocks are learned.
        """
        if self.quantizer.learns_blocks and not fits:
            gigabytes = 2 * len(self.images) * self.selection.image_bytes / 2**30
            raise UserError(
                f"memory: found {self.quantizer.keys.memory:g} GiB, expected at least {gigabytes:.3g}, the activations "
                f"of {len(self.images)} images: blocks are learned on all of them"
            )
        for name in self.selection.constants:
            self._quantize_constant(name)
        if self.quantizer.learns_blocks and isinstance(self.model, Network):
            self.quantize_by_blocks()
        elif order is None and fits:
            self.quantize_in_one_pass()
        else:
            names = order if isinstance(order, Sequence) else self.selection.executed
            names = [name for name in names if name not in self.done]
            if isinstance(order, Impact):
                cost = order.costs(self.model, self.layers, self.points)
                candidate = functools.partial(self._candidate, in_memory=fits)
                names = order.order(names, self.halves.weights, candidate, cost, self.log)
            self.quantize_one_by_one(names, in_memory=fits)

    def _quantize_constant(self, name: str) -> None:
        """Quantize a layer on an input that is the same for all images, in the quantized network that of one."""
        layer, analog = self.layers[name], self.selection.constants[name]
        with self.halves.joined(1, lambda *inputs: None, self._shift):
            here = layer_input(self.model, layer, doubled(self.images[:1]))
        quantized = [here.reshape(analog[0].shape), *analog[1:]]
        self._quantize(name, analog, quantized)
        weight = self.halves.weights[name]
        self._finish(name, lambda: [(forward(layer, analog[0]), forward(layer, quantized[0], weight))])

    def quantize_in_one_pass(self) -> None:
        """Quantize every layer at its first call in one forward pass of all images."""
        coming = iter(self.calls)

        def arrive(name, *inputs):
            if next(coming, None) != name:
                raise UserError(f"{name}: not called where other images call it, expected one order for all images")
            if name not in self.done:
                self._quantize(name, *map(self._split, inputs))

        def leave(name, *outputs):
            if name not in finished:
                finished.add(name)
                self._finish(name, lambda: zip(*map(self._split, outputs), strict=True))
            self._shift(name, *outputs)

        finished = set(self.done)
        self.halves.run(self.images, arrive, leave)

    def quantize_by_blocks(self) -> None:
        """Quantize the layers of one block after another: one by one first, then together."""
        parts, both = [self.model.enter, *self.model.blocks, self.model.head], doubled(self.images)
        for index, part in enumerate(parts):
            before = set(self.done)

            def arrive(name, *inputs):
                if name not in self.done:
                    self._quantize(name, *map(self._split, inputs))

            def leave(name, *outputs, before=before):
                if name not in before:
                    self._finish(name, lambda: zip(*map(self._split, outputs), strict=True))
                self._shift(name, *outputs)

            with self.halves.joined(len(self.images), arrive, self._shift):
                analog = part(both).chunk(2)[0]
            if names := [name for name in self.done if name not in before]:
                rest = functools.partial(_through, parts[index + 1 :])
                self._learn(names, part, both.chunk(2)[1], analog, self.seen, rest)
            with self.halves.joined(len(self.images), lambda *inputs: None, leave):
                both = part(both)

    def _learn(self, names: Sequence[str], run: Callable, *arguments) -> None:
        """Replace the codes of layers by those that the quantizer learns for them together, see :class:`Block`."""
        layers, codes = ({name: of[name] for name in names} for of in (self.layers, self.done))
        for name, learned in self.quantizer.learned(Block(self.model, run, layers, codes, *arguments)).items():
            # the error of a layer's outputs is that of the new codes, which is not known yet
            facts, weight = codes[name].facts | {"relative_error": None}, codes[name]
            _check_learned(f"{self.quantizer.name}: layer {name}", learned, weight)
            self.done[name] = replace(weight, codes=learned, facts=facts)
            self.halves.weights[name] = self.done[name].decode().to(self.layers[name].weight)

    def quantize_one_by_one(self, order: Iterable[str], in_memory: bool) -> None:
        """Quantize the layers in ``order``, each after partial passes; inputs wait on disk unless ``in_memory``."""
        for name in order:
            inputs = self._inputs(name, in_memory)
            self._quantize(name, *inputs)
            weights, layer = (None, self.halves.weights[name]), self.layers[name]

            def outputs(layer=layer, weights=weights, inputs=inputs):
                for pair in zip(*inputs, strict=True):
                    yield tuple(forward(layer, part, weight) for part, weight in zip(pair, weights, strict=True))

            self._finish(name, outputs)

    def _inputs(self, name: str, in_memory: bool) -> list[tuple[Tensor, ...]]:
        """Return what reaches a layer's first call in both networks as they are now, in chunks."""
        return self.halves.inputs(name, self.images.split(self.halves.chunk), self._shift, in_memory)

    def _candidate(self, name: str, in_memory: bool) -> Tensor:
        """Return the decoded weight that a layer would get now."""
        weight = self._codes(name, *self._inputs(name, in_memory))
        return weight.decode().to(self.layers[name].weight)

    def _split(self, whole: Tensor) -> Sequence[Tensor]:
        """Return a layer's inputs or outputs in chunks of samples; a sample may be several rows."""
        return whole.split(self.halves.chunk * (len(whole) // len(self.images)))

    def _quantize(self, name: str, analog: Sequence[Tensor], quantized: Sequence[Tensor]) -> None:
        """Quantize a layer on the inputs of its first call, in chunks, and those of its later calls."""
        self.done[name] = self._codes(name, analog, quantized)
        self.halves.weights[name] = self.done[name].decode().to(self.layers[name].weight)
        if self.quantizer.learns_blocks and not isinstance(self.model, Network):  # each layer is its own block
            layer, later = self.layers[name], self.later.get(name, ([], []))
            analog, quantized = (
                torch.cat([*kind, *rest]) for kind, rest in zip((analog, quantized), later, strict=True)
            )
            self._learn([name], functools.partial(_call, layer), quantized, forward(layer, analog))

    def _codes(self, name: str, analog: Sequence[Tensor], quantized: Sequence[Tensor]) -> QuantizedWeight:
        """Return the codes of a layer on these inputs of its first call, in chunks."""
        later, point = self.later.get(name, ([], [])), point_of(name, self.seen)
        # the place of execution, not that in the order: a layer's patches are drawn the same way in every order
        seed = self.seed + self.selection.places[name]
        sampling, inputs = self.quantizer.keys.patches, ([*analog, *later[0]], [*quantized, *later[1]])
        one_call = self.selection.calls.count(name) == 1
        passed = self.passed.get(name)
        calibration = Calibration(self.layers[name], *inputs, sampling, seed, one_call, point, passed)
        alphabet = Alphabet(self.bits[name], self.quantizer.keys.levels)
        return quantize_layer(name, calibration, self.quantizer, alphabet)

    def _finish(self, name: str, outputs: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Take the layer's error and bias correction from its outputs in both networks, pairs of chunks."""
        layer, weight = self.layers[name], self.done[name]
        if self.quantizer.keys.bias == "correct":
            self.shifts[name] = bias.mean_difference(layer, outputs())
        error = weight.facts["relative_error"]
        if error is None:
            error = relative_error(tuple(without_bias(layer, part) for part in pair) for pair in outputs())
        self.done[name] = replace(weight, facts=weight.facts | {"relative_error": round(error, 9)})
        bits, scale = weight.facts["bits"], weight.facts["scale"]
        self.log(f"{name}: {bits} bits, scale {scale:.3f}, relative error {error:.4f}")

    def _shift(self, name: str, analog: Tensor, quantized: Tensor) -> None:
        """Add the layer's bias correction to its outputs in the quantized network."""
        if name in self.shifts:
            bias.add_shift(self.layers[name], quantized, self.shifts[name])


def _check_learned(where: str, codes: Tensor, before: QuantizedWeight) -> None:
    """Raise UserError unless learned codes have type, shape and range of those ``before``."""
    try:
        check_codes(codes[None], before.codes, (None,), before.low, before.high)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _call(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return a layer's outputs; hooks are not called."""
    return layer.forward(inputs)


def _through(parts: Iterable[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    """Return what the last of ``parts`` gives, each called with what the one before gave."""
    for part in parts:
        x = part(x)
    return x
