"""Compare this package's ONNX files with rivals' of the same float networks: bytes, accuracy and milliseconds.

    python -m benchmarks.deploy [--networks resnet18 resnet50 results/.../hard/model.safetensors]
        [--rivals NAME ...] [--data results/cifar10/data/split=0.safetensors] [--folder benchmarks/results/deploy]
        [--files] [--keep]
    python -m benchmarks.deploy --runtimes

``resnet18`` and ``resnet50`` have width 1 and random weights: right for bytes and speed; a model file's accuracy is
measured too. The rivals are quantized and timed with their own packages, each in an environment of its own below
``--folder``, which is made when it is missing; a rival that can't be installed or fails is left out, with a line. Every
runtime gets one process and one thread; its rounds run all files in turn, and a speed-up is the median over rounds of
the ratio to the float file. Written: ``deploy.csv``, ``deploy.md``. With ``--files`` only the files are made,
but that of inductor; with ``--keep`` files that are there are not made again. ``--runtimes`` compares old versions of
ONNX Runtime with the installed one instead, on files of all kinds.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from benchmarks.rivals.environments import OLD_RUNTIMES, python_of
from benchmarks.rivals.old_runtimes import compared
from kdq.data.prepared import Prepared
from kdq.data.prepared import read as read_data
from kdq.deploy import latency, machine
from kdq.deploy.onnx_file import to_onnx
from kdq.deploy.timing import BATCHES, BFLOAT16, RUNTIMES
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models import registry
from kdq.models.codes import Codes
from kdq.models.file import ModelFile, read, to_network
from kdq.quantize.quantizer import quantizer_of
from kdq.quantize.stage import quantize_stage

CPU = torch.device("cpu")
CALIBRATION = {"gpfq": 256, "rtn": 16}  # images; random weights need few
CHEAP = {"scale": 0.8, "activation_range": "minmax"}  # of random weights
BITS = (8, 4, 3, 2)
FLOAT, TRAINED, INDUCTOR = "float", "trained", "PT2E inductor"
# name: environment, program, bits of weights
RIVALS = {
    "ORT static": ("", "static_onnxruntime", 8),
    "NNCF": ("nncf", "nncf_onnx", 8),
    "Brevitas 8": ("brevitas", "brevitas_qcdq", 8),
    "Brevitas 4": ("brevitas", "brevitas_qcdq", 4),
    INDUCTOR: ("torchao", "pt2e", 8),
}
COLUMNS = (
    *("network", "method", "weight_bits", "activation_bits", "bytes", "bytes_over_bits", "runtime", "test_top1"),
    *("ms_1", "ms_1_least", "ms_128", "ms_128_least", "speedup_1", "speedup_128"),
    *("processor_speedup_1", "processor_speedup_128", "wall_over_processor", "load"),
)
HIDDEN = ("activation_bits", "ms_1_least", "ms_128_least", "load")
SHOWN = tuple(column for column in COLUMNS if column not in HIDDEN)


def random_gains(network: nn.Module) -> nn.Module:
    """Draw the gains and biases of a network's BatchNorm, in place, and return it."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # a gain of 0 would make a layer of zeros
            nn.init.uniform_(module.weight, 0.3, 0.6)
            nn.init.normal_(module.bias, std=0.1)
    return network


def random_network(architecture: str, prepared: Prepared, width: float = 1.0) -> nn.Module:
    """Return a network with random weights and gains."""
    torch.manual_seed(0)
    channels, classes = prepared.train.images.shape[1], len(prepared.classes)
    arguments = {"stem": "cifar", "width": width, "mean": prepared.mean, "std": prepared.std}
    network = registry.build(architecture, channels=channels, classes=classes, **arguments).eval()
    return random_gains(network)


def is_file(network: str) -> bool:
    return network.endswith(".safetensors")


def float_files(network: str, prepared: Prepared, folder: Path) -> Path:
    """Write the float model file and ONNX file of a network; return the first."""
    path = folder / "float.safetensors"
    if not path.exists():
        float_ = to_network(read(network), network) if is_file(network) else random_network(network, prepared)
        model_file.save(path, float_, float_.architecture, Codes())
    onnx.save(to_onnx(read(path), path, {}), folder / "float.onnx")
    return path


def ours(path: Path, bits: int, activations: int, prepared: Prepared, method: str) -> ModelFile:
    """Return the content of the model file of a float one quantized by ``method``."""
    file = read(path)
    network = to_network(file, path)
    keys = {"bits": bits, "activations": activations, "images": CALIBRATION[method]} | (
        CHEAP if method == "rtn" else {}
    )
    quantizer = quantizer_of(f"kdq.quantize.methods.{method}", keys, 0)
    codes = quantize_stage(network, prepared, quantizer, seed=0, device=CPU, log=lambda line: None)
    floats = {name: value for name, value in network.state_dict().items() if name.removesuffix(".weight") not in codes}
    return ModelFile(file.header, floats, codes)


def files_of(path: Path, prepared: Prepared, arguments) -> dict[str, tuple[Path, int]]:
    """Return the file and the bits per weight of each method, made if they are missing."""
    folder = path.parent
    files = {FLOAT: (folder / "float.onnx", 32)}
    for bits in BITS:
        file = folder / f"kdq-{bits}.onnx"
        if not (arguments.keep and file.exists()):
            onnx.save(to_onnx(ours(path, bits, 8, prepared, method_of(folder)), path, {}), file)
        files[f"KDQ {bits}"] = file, bits
    np.save(folder / "calibration.npy", prepared.train.images[: CALIBRATION[method_of(folder)]].numpy())
    for name, (environment, program, bits) in ((name, RIVALS[name]) for name in arguments.rivals):
        if arguments.files and name == INDUCTOR:  # it is timed where it is compiled
            continue
        file = folder / f"{program}-{bits}.{'pt2' if program == 'pt2e' else 'onnx'}"
        if (arguments.keep and file.exists()) or rival(environment, program, bits, file, path, arguments):
            files[name] = file, bits
    return files


def method_of(folder: Path) -> str:
    """Return the quantizer: random weights are just rounded."""
    return "gpfq" if folder.name == TRAINED else "rtn"


def rival(environment: str, program: str, bits: int, file: Path, path: Path, arguments) -> bool:
    """Let a rival quantize the float network; return whether it did."""
    python = python_of(environment, arguments.folder) if environment else sys.executable
    if python is None:
        return False
    folder = path.parent
    more = {"pt2e": [folder / "test.npy"] if folder.name == TRAINED else []}
    more |= {"brevitas_qcdq": [bits, method_of(folder)]}
    words = [python, "-m", f"benchmarks.rivals.{program}", folder / "float.onnx", path, folder / "calibration.npy"]
    settings = {"capture_output": True, "text": True, "check": False, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    result = subprocess.run([str(word) for word in (*words, file, *more.get(program, ()))], **settings)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no message"]
        print(f"{folder.name}: {program} at {bits} bits: left out ({lines[-1][:200]})", file=sys.stderr)
    return result.returncode == 0


def logits(runtime: str, file: Path, images: torch.Tensor) -> np.ndarray:
    """Return the logits of uint8 images in a runtime."""
    run = RUNTIMES[runtime](str(file), 1)[""]
    return np.concatenate([run((batch.float() / 255).numpy()) for batch in images.split(BATCHES[-1])])


def top1(predicted: np.ndarray, labels: torch.Tensor) -> float:
    return float((predicted.argmax(1) == labels.numpy()).mean())


def compared_times(times: dict, reference: str, name: str) -> dict:
    """Return the columns of times of the file ``name``, whose speed-ups are over ``reference``."""
    row = {}
    for batch in map(str, BATCHES):
        series, float_ = times[name][batch], times[reference][batch]
        row[f"ms_{batch}"] = rounded(1e3 * statistics.median(series["wall"]))
        row[f"ms_{batch}_least"] = rounded(1e3 * min(series["wall"]))
        for prefix, clock in (("", "wall"), ("processor_", "processor")):
            ratios = [a / b for a, b in zip(float_[clock], series[clock], strict=True)]
            row[f"{prefix}speedup_{batch}"] = rounded(statistics.median(ratios))
    shares = [sum(series["wall"]) / sum(series["processor"]) for series in times[name].values()]
    return row | {"wall_over_processor": rounded(max(shares)), "load": round(os.getloadavg()[0], 1)}


def rounded(value: float) -> float:
    return float(f"{value:.3g}")


def rows_of(network: str, prepared: Prepared, arguments) -> list[dict]:
    """Return the rows of one network: each method in each runtime."""
    folder = arguments.folder / (TRAINED if is_file(network) else network)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "test.npy", prepared.test.images.numpy())
    path = float_files(network, prepared, folder)
    files, trained = files_of(path, prepared, arguments), folder.name == TRAINED
    if arguments.files:
        return []
    weights = sum(value.numel() for name, value in read(path).floats.items() if value.dim() > 1)
    rows, size = [], tuple(prepared.test.images.shape[1:])
    for name, (file, bits) in files.items():
        facts = {"network": folder.name, "method": name, "weight_bits": bits, "bytes": file.stat().st_size}
        facts |= {"activation_bits": 32 if name == FLOAT else 8}
        rows.append(facts | {"bytes_over_bits": rounded(facts["bytes"] * 8 / bits / weights)})
    facts_of, result = {row["method"]: row for row in rows}, []
    for runtime in sorted(machine.runtimes().keys() - {"torch"}):
        result += in_runtime(runtime, files, facts_of, prepared if trained else None, size)
    if file := files.get(INDUCTOR, (None,))[0]:
        answer = json.loads(Path(f"{file}.json").read_text(encoding="utf-8"))
        if answer["busy"]:
            print(f"no times: inductor took {answer['busy']} times its processor time", file=sys.stderr)
            return result
        times = answer["times"]
        row = facts_of[INDUCTOR] | {"runtime": "inductor"} | compared_times(times, FLOAT, "int8")
        if trained:
            row["test_top1"] = top1(np.load(f"{file}.npy"), prepared.test.labels)
        result += [row, facts_of[FLOAT] | {"runtime": "inductor"} | compared_times(times, FLOAT, FLOAT)]
    return result


def in_runtime(runtime: str, files, facts_of, prepared: Prepared | None, size) -> list[dict]:
    """Return the rows of one runtime; accuracies if ``prepared`` is given."""
    rows, runnable = {}, {}
    for name, (file, _) in files.items():
        if file.suffix != ".onnx":
            continue
        images = prepared.test.images if prepared else torch.zeros(2, *size, dtype=torch.uint8)
        try:
            predicted = logits(runtime, file, images)
        except Exception as error:  # noqa: BLE001, the runtimes raise errors of their own kinds
            print(f"{name}: {runtime} can't run it ({str(error).strip()[:200]})", file=sys.stderr)
            continue
        rows[name] = facts_of[name] | {"runtime": runtime}
        runnable[name] = str(file)
        if prepared:
            rows[name]["test_top1"] = top1(predicted, prepared.test.labels)
    images = ",".join(["float32", *map(str, size)])
    times, busy = latency.run(runtime, {"model": runnable.pop(FLOAT)} | runnable, images, 1)
    if busy:
        print(f"no times: {runtime} {busy}", file=sys.stderr)
        return list(rows.values())
    for name, row in rows.items():
        row |= compared_times(times, "model", "model" if name == FLOAT else name)
    bfloat16 = "model" + BFLOAT16
    if bfloat16 in times:
        row = rows[FLOAT] | {"method": "bfloat16", "bytes": "", "bytes_over_bits": "", "test_top1": ""}
        rows[bfloat16] = row | compared_times(times, "model", bfloat16)
    return list(rows.values())


def markdown(rows: list[dict], columns) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(column, row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(column: str, value) -> str:
    if column == "test_top1" and value != "":
        return f"{100 * value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def write(rows: list[dict], columns, name: str, folder: Path, shown=()) -> None:
    """Write a table as ``name``.csv, and as ``name``.md under the machine's name, which is printed too.

    Of the latter the columns are those ``shown``, by default all.
    """
    with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    head = f"{machine.processor()['name']}, {' '.join(machine.processor()['flags'])}; load {os.getloadavg()[0]:.1f}\n\n"
    table = head + markdown(rows, shown or columns)
    (folder / f"{name}.md").write_text(table, encoding="utf-8")
    print(table)


def old_runtimes(prepared: Prepared, arguments) -> list[dict]:
    """Return how files of all kinds do in old versions of ONNX Runtime beside the installed one."""
    folder = arguments.folder / "runtimes"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "test.npy", prepared.test.images[:1000].numpy())
    path = float_files(arguments.networks[0], prepared, folder)
    files = [folder / "float.onnx"]
    for bits in BITS:
        for activations in (0, 4, 8):
            files.append(folder / f"weights{bits}-activations{activations}.onnx")
            if not (arguments.keep and files[-1].exists()):
                onnx.save(to_onnx(ours(path, bits, activations, prepared, "gpfq"), path, {}), files[-1])
    rows = []
    for name in OLD_RUNTIMES:
        python = python_of(name, arguments.folder)
        for file in files if python else ():
            facts = {"runtime": name, "file": file.stem}
            rows.append(facts | compared(python, sys.executable, file, folder / "test.npy", folder))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--data", type=Path, default=Path("results/cifar10/data/split=0.safetensors"))
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/results/deploy"))
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--files", action="store_true")
    parser.add_argument("--runtimes", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    try:
        prepared = read_data(arguments.data)
        if arguments.runtimes:
            rows = old_runtimes(prepared, arguments)
            columns, name, shown = tuple(rows[0]) if rows else (), "runtimes", ()
        else:
            rows = [row for network in arguments.networks for row in rows_of(network, prepared, arguments)]
            columns, name, shown = COLUMNS, "deploy", SHOWN
    except UserError as error:
        sys.exit(f"error: {error}")
    write(rows, columns, name, arguments.folder, shown)


if __name__ == "__main__":
    main()
