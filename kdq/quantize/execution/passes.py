"""Forward passes of a float and of its partly quantized network, as the halves of one batch.

The two networks differ in the weights of their quantized layers alone, so that one model computes both: the first half
of every batch is the float network's, the second the quantized one's. Only the layers tell the halves apart: each takes
its float weight to the first half of its input and its quantized weight to the second.
"""

import collections
import contextlib
import functools
import os
import tempfile
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from kdq.errors import UserError, reason
from kdq.models.activations import observed, quantized_activations
from kdq.models.codes import Point
from kdq.quantize.execution.images import floats
from kdq.quantize.execution.layer import forward

AT_ONCE = 64  # images of a pass that gives the later inputs of layers that run more than once


class _Reached(Exception):
    """The layer has its input: the rest of the forward pass is not needed."""


def input_of(arguments: tuple, keywords: dict) -> Tensor:
    """Return what nn.Conv2d.forward or nn.Linear.forward is called with."""
    return arguments[0] if arguments else keywords["input"]


def before_calls(layers: dict[str, nn.Module], action: Callable) -> contextlib.AbstractContextManager:
    """In the block call ``action(name, inputs)`` before every call of a layer."""
    return observed(layers, lambda name, inputs: action(name, inputs[0]))


@dataclass
class Halves:
    """A model whose batches hold the float network's half and the quantized network's, within :meth:`joined`.

    ``layers`` by name; a layer takes ``chunk`` images at a time, so that the same numbers come out of batches of any
    size; ``weights`` those that are quantized by now, decoded; ``points`` the quantized activations. The layers
    ``constants`` get one input for both halves, without samples: they compute with the quantized weights for both.
    """

    model: nn.Module
    layers: dict[str, nn.Module]
    chunk: int
    weights: dict[str, Tensor] = field(default_factory=dict)
    constants: Collection[str] = ()
    points: Sequence[Point] = ()

    @contextlib.contextmanager
    def joined(self, samples: int, arrive: Callable, leave: Callable) -> Iterator[None]:
        """In the block call ``arrive(name, inputs, quantized inputs)`` before every call of a layer.

        Behind it ``leave(name, outputs, quantized outputs)`` may change the quantized outputs in place. A constant
        layer does not arrive, and leaves the same outputs twice.
        """

        def call(name, input):  # named as in nn.Conv2d.forward and nn.Linear.forward
            if name in self.constants:
                outputs = forward(self.layers[name], input, self.weights.get(name))
                leave(name, outputs, outputs)
                return outputs
            if input.dim() < 2 or not len(input) or len(input) % (2 * samples):
                shape = len(input) // 2, *input.shape[1:]
                raise UserError(f"{name}: input of shape {shape}, expected the {samples} samples in dimension 0")
            arrive(name, *input.chunk(2))
            outputs = self._outputs(name, input, self.chunk * (len(input) // (2 * samples)))
            leave(name, *outputs.chunk(2))
            return outputs

        try:
            for name, layer in self.layers.items():
                layer.forward = functools.partial(call, name)
            with quantized_activations(self.model, self.points, half=True):
                yield
        finally:
            for layer in self.layers.values():
                vars(layer).pop("forward", None)

    def _outputs(self, name: str, inputs: Tensor, rows: int) -> Tensor:
        """Return a layer's outputs in both networks, computed from so many ``rows`` at a time."""
        outputs, start = None, 0
        for half, weight in zip(inputs.chunk(2), (None, self.weights.get(name)), strict=True):
            for part in half.split(rows):
                of_part = forward(self.layers[name], part, weight)
                if outputs is None:
                    outputs = of_part.new_empty(len(inputs), *of_part.shape[1:])
                outputs[start : start + len(part)] = of_part
                start += len(part)
        return outputs

    def run(self, images: Tensor, arrive: Callable, leave: Callable) -> None:
        """Pass uint8 ``images`` (M, C, H, W) through both networks, see :meth:`joined`."""
        with self.joined(len(images), arrive, leave):
            self.model(doubled(images))

    def inputs(self, name: str, chunks: Sequence[Tensor], leave: Callable, in_memory: bool) -> list[tuple[Tensor, ...]]:
        """Return what reaches the first call of a layer in both networks, per chunk of uint8 images.

        Unless ``in_memory``, the inputs lie in mapped files in the temporary folder.
        """
        caught = []
        for chunk in chunks:
            with self.joined(len(chunk), lambda *inputs: None, leave):
                both = layer_input(self.model, self.layers[name], doubled(chunk))
            caught.append((both if in_memory else _mapped(both)).chunk(2))
        return list(zip(*caught, strict=True))


def doubled(images: Tensor) -> Tensor:
    """Return the batch of both networks for uint8 ``images``: floats, twice."""
    return torch.cat([floats(images)] * 2)


def layer_input(model: nn.Module, layer: nn.Module, batch: Tensor) -> Tensor:
    """Return what the first call of ``layer`` gets if the model gets ``batch``; what follows it is not computed."""
    caught = []

    def catch(layer, arguments, keywords):
        caught.append(input_of(arguments, keywords))
        raise _Reached

    with layer.register_forward_pre_hook(catch, with_kwargs=True), contextlib.suppress(_Reached):
        model(batch)
    return caught[0]


def _mapped(tensor: Tensor) -> Tensor:
    """Return the tensor as a mapped file, which the system can take out of memory and read again."""
    try:
        with tempfile.NamedTemporaryFile(prefix="kdq-") as file:  # removed at once: the map alone keeps the content
            os.posix_fallocate(file.fileno(), 0, tensor.nbytes)  # a write to a map on a full disk ends the process
            mapped = torch.from_file(file.name, shared=True, size=tensor.numel(), dtype=tensor.dtype)
    except (OSError, RuntimeError) as error:  # of the system, or of torch if there is no address space for the map
        raise UserError(
            f"memory: {tempfile.tempdir or 'temporary folder'} can't hold a layer's inputs "
            f"({getattr(error, 'strerror', None) or reason(error)}), expected room there, another TMPDIR or more GiB "
            "of memory"
        ) from None
    return mapped.view(tensor.shape).copy_(tensor)


def survey(model: nn.Module, layers: dict[str, nn.Module], image: Tensor) -> tuple[list[str], int]:
    """Return the layers' names in the order of their calls, and the most bytes in use at a call, for one uint8 image.

    A layer that is called twice stands there twice. The bytes are those of tensors that any module takes or returns and
    that are still held when a layer returns.
    """
    order, alive, most_bytes = [], weakref.WeakValueDictionary(), 0
    names = {id(module): name for name, module in layers.items()}

    def note(tensors):
        alive.update((id(leaf), leaf) for leaf in tree_leaves(tensors) if isinstance(leaf, Tensor))

    def before(module, arguments, keywords):
        note((arguments, keywords))
        if id(module) in names:
            order.append(names[id(module)])

    def behind(module, arguments, output):
        nonlocal most_bytes
        note(output)
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in alive.values()}
        most_bytes = max(most_bytes, sum(storages.values()))

    with contextlib.ExitStack() as hooks:
        for module in model.modules():
            hooks.enter_context(module.register_forward_pre_hook(before, with_kwargs=True))
            hooks.enter_context(module.register_forward_hook(behind))
        model(floats(image))
    return order, most_bytes


def later_inputs(
    model: nn.Module, layers: dict[str, nn.Module], order: list[str], images: Tensor, points: Sequence[Point] = ()
) -> dict[str, tuple[list[Tensor], list[Tensor]]]:
    """Return the inputs of all calls but the first, for every layer that runs more than once.

    They are those of the float network, and those of it with quantized activations at ``points``; ``images`` uint8 (M,
    C, H, W). One forward pass more for each, and only for networks with such a layer.
    """
    names = [name for name in layers if order.count(name) > 1]
    analog = _later_inputs(model, {name: layers[name] for name in names}, images)
    quantized = analog
    if points:
        with quantized_activations(model, points):
            quantized = _later_inputs(model, {name: layers[name] for name in names}, images)
    return {name: (analog[name], quantized[name]) for name in names}


def _later_inputs(model: nn.Module, layers: dict[str, nn.Module], images: Tensor) -> dict[str, list[Tensor]]:
    later, calls = {name: [] for name in layers}, collections.Counter()

    def arrive(name, inputs):
        calls[name] += 1
        if calls[name] > 1:
            later[name].append(inputs.clone())  # an activation in place may come

    with before_calls(layers, arrive):
        for chunk in images.split(AT_ONCE) if later else ():
            calls.clear()
            model(floats(chunk))
    return later
