"""Time pruned networks: what channels, and zeros, are worth in milliseconds, as ONNX files in float and with integers.

    python -m benchmarks.pruning [--networks resnet18 vgg16_bn] [--folder benchmarks/results/pruning]

The networks have random weights, images of CIFAR's size and width 0.5: right for bytes and speed. Each runtime that is
installed gets one process and one thread; its rounds run all files in turn, and a speed-up is the median over rounds of
the ratio to the whole float network. Written: ``pruning.csv``, ``pruning.md``.
"""

import argparse
import os
from pathlib import Path

import onnx
import torch

from benchmarks.deploy import compared_times, markdown, ours, random_gains, write
from kdq.data.prepared import Prepared, Split
from kdq.deploy import latency, machine
from kdq.deploy.onnx_file import to_onnx
from kdq.models import channels, masks, registry
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
BITS = {"float": 32, "8 bits": 8}
COLUMNS = (
    *("network", "pruned", "weights", "parameters_left", "bytes", "onnx_bytes", "runtime", "ms_1", "ms_128"),
    *("speedup_1", "speedup_128", "wall_over_processor"),
)


def images_of(count: int) -> Split:
    return Split(torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8), torch.arange(count) % 10)


def pruned(architecture: str, how: str, prepared: Prepared):
    """Return a network with random weights, pruned by a key of ``RATIOS`` or ``PATTERNS``, and its architecture."""
    torch.manual_seed(0)
    kind = {"classes": 10, "channels": 3, "stem": "cifar", "mean": prepared.mean, "std": prepared.std}
    network = random_gains(registry.build(architecture, width=WIDTH, **kind).eval())
    before = channels.shapes_of(network)
    if how in RATIOS:
        prune(network, prepared.train.images[:1].float() / 255, RATIOS[how])
    if how in PATTERNS:
        chosen = {name: PATTERNS[how](layer.weight.detach()) for name, layer in quantizable_layers(network).items()}
        masks.attach(network, {name: mask for name, mask in chosen.items() if mask is not None})
    return network, channels.described(network.architecture, network, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet18", "vgg16_bn"])
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/results/pruning"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    split = images_of(256)
    prepared = Prepared(split, split, split, list("0123456789"), [0.5] * 3, [0.25] * 3, "cifar10", {}, 0)
    rows = []
    for architecture in arguments.networks:
        files, facts = {}, {}
        for how in (WHOLE, *RATIOS, *PATTERNS):
            path = arguments.folder / f"{architecture} {how}.safetensors"
            network, described = pruned(architecture, how, prepared)
            model_file.save(path, network, described, Codes())
            left = sum(map(masks.left_in, quantizable_layers(network).values()))
            for weights, bits in BITS.items():
                name = f"{how}, {weights}"
                content = model_file.read(path) if bits == 32 else ours(path, bits, 8, prepared, "rtn")
                files[name] = path.with_name(f"{path.stem}, {weights}.onnx")
                onnx.save(to_onnx(content, path, {}), files[name])
                facts[name] = {"network": architecture, "pruned": how, "weights": weights, "parameters_left": left}
                facts[name] |= {"bytes": path.stat().st_size, "onnx_bytes": files[name].stat().st_size}
                if bits != 32:
                    facts[name] |= {"bytes": ""}
        for runtime in sorted(machine.runtimes().keys() - {"torch"}):
            times, busy = latency.run(runtime, {name: str(file) for name, file in files.items()}, "float32,3,32,32", 1)
            if busy:
                print(f"no times: {runtime} {busy}")
                continue
            whole = f"{WHOLE}, float"
            rows += [fact | {"runtime": runtime} | compared_times(times, whole, name) for name, fact in facts.items()]
    rows = [{column: row[column] for column in COLUMNS} for row in rows]
    write(rows, COLUMNS, "pruning", arguments.folder)
    head = f"{machine.processor()['name']}, {' '.join(machine.processor()['flags'])}; load {os.getloadavg()[0]:.1f}\n\n"
    text = head + markdown(rows, COLUMNS)
    (arguments.folder / "pruning.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
