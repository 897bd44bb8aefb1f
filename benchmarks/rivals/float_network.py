"""The float network that rivals quantize: a plain torch.fx module of one input, its normalisation inside."""

import torch
from torch import nn

from kdq.models.file import read, to_network
from kdq.models.operations import GlobalAverage
from kdq.models.tracing import trace


def float_network(model: str) -> torch.fx.GraphModule:
    """Return the network of a float model file in eval mode."""
    network = to_network(read(model), model)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.__class__ = nn.Conv2d  # of a subclass, which computes the same, tracers would see the inside
    for name, module in list(network.named_modules()):
        if isinstance(module, GlobalAverage):  # quantized tensors lack what it asks for
            network.set_submodule(name, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    graph = trace(network)
    _, *others = [node for node in graph.nodes if node.op == "placeholder"]
    for node in others:  # the taps, which nothing reads
        graph.erase_node(node)
    output = next(node for node in graph.nodes if node.op == "output")
    if isinstance(output.args[0], list | tuple):
        output.args = tuple(output.args[0])
    graph.set_codegen(torch.fx.graph.CodeGen())
    return torch.fx.GraphModule(network, graph).eval()
