"""Compare the smallest models within a drop of accuracy: this package's, NNCF's and MCT's, of the same float network.

    python -m benchmarks.compress --data cifar10 --model results/cifar10/seed=0/hard/model.safetensors
        [--max-drop 1] [--network NAME] [--folder benchmarks/results/compress] [--keep]

All choose on the same images by the measured drop, calibrate on the same 256 images, quantize activations to 8 bits and
are judged on the same test images by the file that each writes, in ONNX Runtime. NNCF
(``quantize_with_accuracy_control``) and MCT (mixed precision, whose budget is found by the same bisection as ours) run
in environments of their own below ``--folder``, made when they are missing; a rival that can't be installed or fails is
left out, with a line. ``weight_bytes`` are the weights at their bits, whatever the file stores. Written:
``compress.csv``, to which a further network's rows are appended; ``--keep`` takes rivals' files that are there.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd

from benchmarks.deploy import compared_times, logits
from benchmarks.rivals.environments import python_of
from kdq.compress.drops import Drop, Images, drop, images_of
from kdq.data.prepared import Prepared
from kdq.data.prepared import read as read_data
from kdq.deploy import latency, machine
from kdq.errors import UserError
from kdq.provenance.files import read_json
from kdq.recipe.path import data_file
from kdq.workflow.compress import FOLDER as COMPRESSED

CALIBRATION = 256  # images
RIVALS = {  # environment, program
    "NNCF, accuracy control": ("nncf", "nncf_accuracy_control"),
    "MCT, mixed precision": ("mct", "mct_mixed_precision"),
}
FLOAT, OURS = "float", "KDQ"
TIMES = ("ms_1", "ms_128", "speedup_1", "speedup_128")


class Comparison:
    """The comparison on one network: its study, made by this package's compression, and the images of each purpose."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.compressed = COMPRESSED / f"benchmark-{arguments.network}"
        self.folder = arguments.folder / arguments.network
        self.folder.mkdir(parents=True, exist_ok=True)

    def ours(self) -> dict[str, Path]:
        """Compress the network by this package; return the files of the float network and ours."""
        words = ["--data", self.arguments.data, "--model", self.arguments.model, "--name", self.compressed.name]
        words += ["--max-drop", self.arguments.max_drop, "--image-size", self.arguments.image_size]
        if subprocess.call([sys.executable, "-m", "kdq.workflow.compress", *words]):
            raise UserError(f"{self.compressed}: this package found no model within {self.arguments.max_drop} points")
        self.report = read_json(self.compressed / "compress.json", sealed=True)
        return {FLOAT: self.root / "model.onnx", OURS: self.compressed / "model.onnx"}

    @property
    def root(self) -> Path:
        """The folder of the float network in the study."""
        return self.compressed / "study/results" / self.report["dataset"] / "seed=0/teacher"

    def images(self) -> tuple[Prepared, Images]:
        """Return the data, and which images are to choose on and to report on; write them for the rivals."""
        data = self.compressed / "study" / data_file(self.report["dataset"], self.report["split_seed"])
        prepared = read_data(data)
        chosen = images_of(data, self.report["trained_on"])
        np.save(self.folder / "calibration.npy", prepared.train.images[:CALIBRATION].numpy())
        ((part, mask),) = chosen.choice.items()
        content = getattr(prepared, part)
        pixels, labels = content.images.numpy()[mask], content.labels.numpy()[mask]
        np.savez(self.folder / "choice.npz", images=pixels, labels=labels)
        return prepared, chosen

    def rivals(self) -> dict[str, Path]:
        """Let each rival compress the float network; return the files of those that did."""
        files = {}
        for name, (environment, program) in RIVALS.items():
            file = self.folder / f"{program}.onnx"
            if self.arguments.keep and file.exists() or self.ran(environment, program, file):
                files[name] = file
        return files

    def ran(self, environment: str, program: str, file: Path) -> bool:
        """Run a rival's program; return whether it wrote its file."""
        if (python := python_of(environment, self.arguments.folder)) is None:
            return False
        inputs = [self.root / "model.onnx", self.root / "model.safetensors", self.folder / "calibration.npy"]
        words = [python, "-m", f"benchmarks.rivals.{program}", *inputs, file, self.folder / "choice.npz"]
        settings = {"text": True, "check": False, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
        with open(f"{file}.log", "w", encoding="utf-8") as log:
            settings |= {"stdout": log, "stderr": subprocess.STDOUT}
            code = subprocess.run([*map(str, words), self.arguments.max_drop], **settings).returncode
        if code:
            print(f"{self.arguments.network}: {program}: left out, see {log.name}", file=sys.stderr)
        return code == 0

    def rows(self) -> list[dict]:
        files = self.ours()
        prepared, chosen = self.images()
        files |= self.rivals()
        right = {name: answers(file, prepared) for name, file in files.items()}
        rows = []
        for name, file in files.items():
            facts = {"network": self.arguments.network, "method": name, "max_drop": float(self.arguments.max_drop)}
            facts |= {"bytes": file.stat().st_size, "weight_bytes": self.weight_bytes(name, file)}
            if name != FLOAT:
                facts["choice_drop"] = lost(right, name, chosen.choice).points
            of_test = lost(right, name, chosen.report)
            facts |= {"test_images": of_test.images, "test_top1": of_test.top1, "test_drop": of_test.points}
            rows.append(facts | {"test_low": of_test.low, "test_high": of_test.high})
        return timed(rows, files, prepared)

    def weight_bytes(self, name: str, file: Path) -> int:
        """Return the bytes of the weights at their bits; a file that is not ours or MCT's stores them so."""
        if name == OURS:
            return round(sum(layer["weights"] * layer["bits"] for layer in self.report["layers"]) / 8)
        if (facts := Path(f"{file}.json")).exists() and name != FLOAT:
            return round(json.loads(facts.read_text(encoding="utf-8"))["weight_bytes"])
        stored = onnx.load(file).graph.initializer
        return sum(onnx.numpy_helper.to_array(each).nbytes for each in stored if len(each.dims) > 1)


def answers(file: Path, prepared: Prepared) -> dict[str, np.ndarray]:
    """Return whether a file classifies each image right in ONNX Runtime, by part."""
    parts = {part: getattr(prepared, part) for part in ("validation", "test")}
    return {
        part: logits("onnxruntime", file, split.images).argmax(1) == split.labels.numpy()
        for part, split in parts.items()
    }


def lost(right: dict, name: str, masks: dict[str, np.ndarray]) -> Drop:
    """Return the drop of the file ``name`` against the float one on the images of ``masks``."""
    ours, reference = (
        np.concatenate([right[each][part][mask] for part, mask in masks.items()]) for each in (name, FLOAT)
    )
    return drop(ours, reference)


def timed(rows: list[dict], files: dict[str, Path], prepared: Prepared) -> list[dict]:
    """Return the rows of each runtime with times; none if the machine is too busy, which a line says."""
    shape = ",".join(["float32", *map(str, prepared.test.images.shape[1:])])
    result = []
    for runtime in sorted(machine.runtimes().keys() - {"torch"}):
        times, busy = latency.run(runtime, {name: str(file) for name, file in files.items()}, shape, 1)
        if busy:
            print(f"no times: {runtime} {busy}", file=sys.stderr)
        for row in rows:
            measured = compared_times(times, FLOAT, row["method"]) if times else {}
            result.append(row | {"runtime": runtime} | {key: measured.get(key, "") for key in TIMES})
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--max-drop", default="1")
    parser.add_argument("--image-size", default="")
    parser.add_argument("--network", default="network", help="its name in the table")
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/results/compress"))
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    try:
        rows = pd.DataFrame(Comparison(arguments).rows())
    except UserError as error:
        sys.exit(f"error: {error}")
    table = arguments.folder / "compress.csv"
    if table.exists():
        before = pd.read_csv(table)
        rows = pd.concat([before[before.network != arguments.network], rows])
    rows.to_csv(table, index=False)
    print(rows.to_string(index=False))


if __name__ == "__main__":
    main()
