"""The graph of a network: which layer reads what, and which BatchNorm belongs to which layer.

A torch.fx trace whose nodes are the modules below and the few functions that networks call themselves. It needs no
image, and no tensor is computed.
"""

import torch.fx
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdq.errors import UserError, reason
from kdq.models.network import Network
from kdq.models.operations import Add, GlobalAverage
from kdq.models.random_head import RandomHead

LEAVES = (
    nn.Conv2d,
    nn.Linear,
    _BatchNorm,
    nn.MaxPool2d,
    nn.ReLU,
    nn.ReLU6,
    nn.Identity,
    Add,
    GlobalAverage,
    RandomHead,
)


class _Tracer(torch.fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, LEAVES)


def trace(network: nn.Module) -> torch.fx.Graph:
    """Return the graph of a network's forward pass; raise UserError if its path depends on its input."""
    try:
        arguments = {"taps": ()} if hasattr(network, "taps") else None
        graph = _Tracer().trace(network, concrete_args=arguments)
    except Exception as error:  # noqa: BLE001, a trace runs code of any kind
        raise UserError(f"{type(network).__name__}: can't be traced ({reason(error, 200)})") from None
    for node in list(graph.nodes):
        if node.op == "call_module" and isinstance(network.get_submodule(node.target), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    return graph


def norms_behind(network: nn.Module, graph: torch.fx.Graph) -> dict[str, str]:
    """Return the BatchNorm behind each convolution by name: the only reader of its output, and read by it alone."""
    norms = {}
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(network.get_submodule(node.target), nn.Conv2d):
            continue
        readers = list(node.users)
        modules = [network.get_submodule(reader.target) for reader in readers if reader.op == "call_module"]
        if len(readers) == len(modules) == 1 and isinstance(modules[0], _BatchNorm):
            norms[node.target] = readers[0].target
    return norms


def only_reader(node: torch.fx.Node) -> torch.fx.Node | None:
    """Return the one node that reads what ``node`` gives, None if there are none or several."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def is_layer(network: nn.Module, node: torch.fx.Node) -> bool:
    """Return whether a node is a call of an nn.Conv2d or nn.Linear."""
    return node.op == "call_module" and isinstance(network.get_submodule(node.target), nn.Conv2d | nn.Linear)


def is_relu(network: nn.Module, node: torch.fx.Node) -> bool:
    """Return whether a node is a ReLU: a module, a function, or a method of a tensor."""
    if node.op == "call_module":
        return isinstance(network.get_submodule(node.target), nn.ReLU)
    return getattr(node.target, "__name__", node.target) in ("relu", "relu_")


def rectified(network: nn.Module, graph: torch.fx.Graph) -> dict[str, str]:
    """Return the layers that run once and whose outputs a ReLU alone reads, with the BatchNorm between, "" if none."""
    norms, layers = norms_behind(network, graph), {}
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    for node in graph.nodes:
        if not is_layer(network, node) or calls.count(node.target) > 1:
            continue
        reader, norm = only_reader(node), norms.get(node.target, "")
        if norm:
            reader = only_reader(reader)
        if reader is not None and is_relu(network, reader):
            layers[node.target] = norm
    return layers


def folded_norms(network: nn.Module) -> dict[str, str]:
    """Return the BatchNorm that is folded into each convolution by name: none in a network not of this package."""
    return norms_behind(network, trace(network)) if isinstance(network, Network) else {}


def lone_norms(network: nn.Module) -> set[str]:
    """Return the names of the BatchNorms that are behind no convolution of their own."""
    norms = {name for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    return norms - set(norms_behind(network, trace(network)).values())
