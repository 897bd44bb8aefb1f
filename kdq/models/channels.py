"""Networks with fewer channels: modules of other shapes, in the places of those that an architecture builds."""

from collections.abc import Mapping, Sequence

from torch import nn

from kdq.errors import UserError

KEY = "shrunk"  # of an architecture, see `shrink`
RESIZED = nn.Conv2d | nn.Linear | nn.BatchNorm2d


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's parameters and buffers by name."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def described(architecture: dict, network: nn.Module, before: Mapping[str, Sequence[int]]) -> dict:
    """Return the arguments of :func:`kdq.models.registry.build` that make the network, which had the shapes ``before``.

    Raise UserError if other modules than convolutions, linear layers and BatchNorms have changed.
    """
    changed, shapes = dict(architecture.get(KEY, {})), shapes_of(network)
    for name in filter(lambda name: shapes[name] != tuple(before[name]), shapes):
        layer = network.get_submodule(name.rpartition(".")[0])
        if not isinstance(layer, RESIZED) or layer.weight is None:
            kind = type(layer).__name__
            raise UserError(f"{name}: channels of {kind}, expected those of a convolution, linear layer or BatchNorm2d")
        changed[name.rpartition(".")[0]] = list(layer.weight.shape)
    return {**architecture, KEY: changed} if changed else architecture


def shrink(network: nn.Module, shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    """Give modules other shapes in place, that of the weight by the module's name, and return the network.

    What is in them is left open. Raise AttributeError for a name of no such module.
    """
    for name, shape in shapes.items():
        module = network.get_submodule(name)
        if isinstance(module, nn.Conv2d):
            if module.groups == module.out_channels:  # one group per channel
                module.groups = shape[0]
            module.out_channels, module.in_channels = shape[0], shape[1] * module.groups
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = shape
        else:
            module.num_features = shape[0]
        for key, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if value.dim():
                value.data = value.new_empty(shape if key == "weight" else shape[:1])
    return network


def outline(outlined: dict[str, tuple], shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple]:
    """Return the shapes of tensors by name in a network that was shrunk."""
    result = dict(outlined)
    for name in outlined:
        module, _, key = name.rpartition(".")
        if module in shapes and outlined[name]:  # a count of batches has no channels
            result[name] = tuple(shapes[module] if key == "weight" else shapes[module][:1])
    return result
