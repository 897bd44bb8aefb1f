"""Time pruned networks: what channels, and zeros, are worth in milliseconds, as ONNX files in float and with integers.

    python -m benchmarks.pruning [--networks resnet18 vgg16_bn] [--folder benchmarks/results/pruning]

The networks have random weights, images of CIFAR's size and width 0.5: right for bytes and speed. Each runtime that is
installed gets one process and one thread; its rounds run all files in turn, and a speed-up is the median over rounds of
the ratio to the whole float network. Written: ``pruning.csv``, ``pruning.md``.
"""

import argparse
import sys
from pathlib import Path

import onnx
import torch

from benchmarks.deploy import FLOAT, compared_times, ours, random_network, write
from kdq.data.prepared import Prepared, Split
from kdq.deploy import latency, machine
from kdq.deploy.onnx_file import to_onnx
from kdq.models import channels, masks
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.prune.method import lowest
from kdq.prune.methods.channels import prune
from kdq.prune.methods.nm import largest_of_groups
from kdq.quantize.execution.layer import quantizable_layers

WIDTH, WHOLE = 0.5, "whole"
RATIOS = {"channels 25%": 0.25, "channels 50%": 0.5, "channels 75%": 0.75}
PATTERNS = {
    "magnitude 75%": lambda weight: lowest(weight.abs().flatten(), round(0.75 * weight.numel())).view_as(weight),
    "nm 2:4": lambda weight: largest_of_groups(weight.abs(), 2, 4) if weight.shape[1] % 4 == 0 else None,
}
COLUMNS = (
    *("network", "pruned", "weights", "parameters_left", "bytes", "onnx_bytes", "runtime", "ms_1", "ms_128"),
    *("speedup_1", "speedup_128", "wall_over_processor"),
)


def pruned(architecture: str, how: str, prepared: Prepared):
    """Return a network with random weights, pruned by a key of ``RATIOS`` or ``PATTERNS``, and its architecture."""
    network = random_network(architecture, prepared, WIDTH)
    before = channels.shapes_of(network)
    if how in RATIOS:
        prune(network, prepared.train.images[:1].float() / 255, RATIOS[how])
    if how in PATTERNS:
        chosen = {name: PATTERNS[how](layer.weight.detach()) for name, layer in quantizable_layers(network).items()}
        masks.attach(network, {name: mask for name, mask in chosen.items() if mask is not None})
    return network, channels.described(network.architecture, network, before)


def rows_of(architecture: str, prepared: Prepared, folder: Path) -> list[dict]:
    """Return the rows of one network: pruned in each way, in float and with integers, in each runtime."""
    files, facts, rows = {}, {}, []
    for how in (WHOLE, *RATIOS, *PATTERNS):
        path = folder / f"{architecture} {how}.safetensors"
        network, described = pruned(architecture, how, prepared)
        model_file.save(path, network, described, Codes())
        left = sum(map(masks.left_in, quantizable_layers(network).values()))
        for weights, content in ((FLOAT, model_file.read(path)), ("8 bits", ours(path, 8, 8, prepared, "rtn"))):
            name = f"{how}, {weights}"
            files[name] = path.with_name(f"{path.stem}, {weights}.onnx")
            onnx.save(to_onnx(content, path, {}), files[name])
            facts[name] = {"network": architecture, "pruned": how, "weights": weights, "parameters_left": left}
            facts[name] |= {"bytes": path.stat().st_size if weights == FLOAT else ""}
            facts[name] |= {"onnx_bytes": files[name].stat().st_size}
    for runtime in sorted(machine.runtimes().keys() - {"torch"}):
        times, busy = latency.run(runtime, {name: str(file) for name, file in files.items()}, "float32,3,32,32", 1)
        if busy:
            print(f"no times: {runtime} {busy}", file=sys.stderr)
            continue
        for name, fact in facts.items():
            row = fact | {"runtime": runtime} | compared_times(times, f"{WHOLE}, {FLOAT}", name)
            rows.append({column: row[column] for column in COLUMNS})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet18", "vgg16_bn"])
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/results/pruning"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    images = Split(torch.randint(0, 256, (256, 3, 32, 32), dtype=torch.uint8), torch.arange(256) % 10)
    prepared = Prepared(images, images, images, list("0123456789"), [0.5] * 3, [0.25] * 3, "cifar10", {}, 0)
    rows = [row for architecture in arguments.networks for row in rows_of(architecture, prepared, arguments.folder)]
    write(rows, COLUMNS, "pruning", arguments.folder)


if __name__ == "__main__":
    main()
