"""Quantize a network by torch's PT2E with the quantizer for x86, compile it by inductor, and time it beside its float.

python -m benchmarks.rivals.pt2e FLOAT.onnx MODEL.safetensors CALIBRATION.npy OUTPUT.pt2 [IMAGES.npy]

writes the times, as :func:`kdq.deploy.timing.timed` returns them, of ``float`` and ``int8``, both compiled with frozen
weights, to ``OUTPUT.pt2.json``. Logits of ``IMAGES.npy`` are written to ``OUTPUT.pt2.npy``.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch._inductor.config
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from benchmarks.rivals.float_network import float_network
from kdq.deploy.timing import BATCHES, batches, timed


def quantized(network: torch.nn.Module, images: torch.Tensor) -> torch.nn.Module:
    """Return the int8 network, whose batch is free."""
    batch = torch.export.Dim("N", min=1, max=4096)
    exported = torch.export.export(network, (images[:2],), dynamic_shapes=({0: batch},)).module()
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(exported, quantizer)
    for part in images.split(64):
        prepared(part)
    converted = convert_pt2e(prepared)
    used = {node.target for node in converted.graph.nodes if node.op == "get_attr"}
    for name in [name for name in converted.state_dict() if name not in used]:  # the float weights
        parent, _, attribute = name.rpartition(".")
        delattr(converted.get_submodule(parent), attribute)
    return converted


def run_of(network: torch.nn.Module, shapes: dict[int, torch.Tensor]):
    """Return a function of an array that runs the network compiled for each batch size in ``shapes``."""
    networks = {}
    for size, example in shapes.items():
        torch._dynamo.reset()
        networks[size] = torch.compile(network, dynamic=False)
        networks[size](example)
    return lambda images: networks[len(images)](torch.from_numpy(images)).numpy()


@torch.no_grad()
def main(float_onnx: str, model: str, calibration: str, output: str, images: str = "") -> None:
    torch._inductor.config.freezing = True
    torch.set_num_threads(1)
    network = float_network(model)
    chosen = torch.from_numpy(np.load(calibration)).float() / 255
    int8 = quantized(network, chosen)
    if images:
        content = torch.from_numpy(np.load(images))
        np.save(f"{output}.npy", torch.cat([int8(part.float() / 255) for part in content.split(128)]).numpy())
    batch = torch.export.Dim("N", min=1, max=4096)
    torch.export.save(torch.export.export(int8, (chosen[:2].clone(),), dynamic_shapes=({0: batch},)), output)
    shapes = {size: chosen.repeat(-(-size // len(chosen)), 1, 1, 1)[:size] for size in BATCHES}
    runs = {"float": run_of(network, shapes), "int8": run_of(int8, shapes)}
    times = timed(runs, batches(",".join(["float32", *map(str, chosen.shape[1:])])))
    Path(f"{output}.json").write_text(json.dumps(times), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
