"""Results that verify as fresh and were made without training: what they hold does not matter, what they say does."""

import shutil
from pathlib import Path

import torch

from kdq.models.networks import resnet
from kdq.models.packing import pack
from kdq.provenance import formats, ledger
from kdq.provenance.files import sha256, write_json, write_tensors
from kdq.quantize.bits import sensitivity_table
from kdq.quantize.bits.sensitivity_table import Measurement
from kdq.recipe.path import Cell, table_file
from kdq.report import record
from kdq.study.products import Products
from kdq.train import history

ARCHITECTURE = {"architecture": "resnet18", "classes": 10, "channels": 1, "stem": "cifar", "mean": [0.3], "std": [0.4]}
IMAGES = 360
PART = dict.fromkeys(("top1", "top5", "cross_entropy", "expected_calibration_error"), 0.5) | {"images": IMAGES}


class Results:
    """Writes files below ``folder / "results"``, in the order in which a study makes them."""

    def __init__(self, products: Products, folder: Path, width: float):
        self.products, self.folder = products, folder
        self.architecture = {**ARCHITECTURE, "width": width}
        self.tensors = resnet.build(**self.architecture).state_dict()
        self.digests: dict[str, str] = {}
        self._quantized: dict[int, tuple[dict, dict]] = {}

    def made_by(self, path: str) -> dict:
        """Code, keys and inputs as the workflow has them for a path."""
        product = self.products.of(path)
        code = self.products.code.of(*product.code)
        note = self.folder / ledger.FOLDER / f"{code}.json"
        if not note.is_file():
            write_json(note, self.products.code.digests(*product.code))
        inputs = {role: self.digests[other] for role, other in product.inputs.items()}
        return {"code": code, "inputs": inputs, "keys": product.keys}

    def write(self, path: str, tensors: dict, header: dict) -> None:
        write_tensors(self.folder / path, tensors, header)
        self.digests[path] = sha256(self.folder / path)

    def data(self, dataset: str, split_seed: int = 0) -> None:
        path = f"results/{dataset}/data/split={split_seed}.safetensors"
        header = {"format": formats.DATA, "dataset": dataset, "split_seed": split_seed}
        self.write(path, {"x": torch.zeros(8)}, {**header, "provenance": self.made_by(path)})

    def cell(self, dataset: str, seed: int, recipe) -> None:
        """Model, history, predictions and metrics."""
        folder = f"results/{dataset}/seed={seed}/{recipe.path}"
        cell = {"dataset": dataset, "seed": seed, "recipe": recipe.path}
        if recipe.parent is None and "seed" in recipe.last.keys:
            self.copy(f"{folder}/model.safetensors")
        else:
            self.model(f"{folder}/model.safetensors", cell, recipe)
        path = f"{folder}/predictions.safetensors"
        classes = {f"{part}_class": torch.zeros(IMAGES, dtype=torch.int16) for part in ("validation", "test")}
        self.write(path, classes, {"format": formats.PREDICTIONS, **cell})
        metrics = f"{folder}/metrics.json"
        evaluation = self.made_by(metrics) | {"predictions": self.digests[path]}
        write_json(self.folder / metrics, {**cell, "validation": PART, "test": PART, "evaluation": evaluation})

    def copy(self, path: str) -> None:
        """A root that seeds share, and its history."""
        original = self.products.of(path).inputs["original"]
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        for name in (Path(path).name, "history.csv"):
            shutil.copy(self.folder / Path(original).with_name(name), self.folder / Path(path).with_name(name))
        self.digests[path] = self.digests[original]

    def model(self, path: str, cell: dict, recipe) -> None:
        made_by, tensors, layers = self.made_by(path), self.tensors, {}
        header = {"format": formats.MODEL, **cell, "architecture": self.architecture, "keys": made_by.pop("keys")}
        if recipe.last.kind.quantizes:
            tensors, layers = self.quantized(recipe.last.keys["bits"])
        else:
            rows = [dict.fromkeys(history.COLUMNS, 0.125) | {"epoch": epoch} for epoch in range(15)]
            header["history"] = history.write(self.folder / Path(path).with_name("history.csv"), rows)
        self.write(path, tensors, {**header, "layers": layers, "provenance": made_by})

    def quantized(self, bits: int) -> tuple[dict, dict]:
        """Tensors with packed codes in the place of weights, and what a header says of the layers."""
        if bits not in self._quantized:
            tensors, layers = dict(self.tensors), {}
            for name in [name for name, value in tensors.items() if value.dim() > 1]:
                count = tensors.pop(name).numel()
                tensors[f"{name}.codes"] = pack(torch.zeros(count, dtype=torch.int16), 0, bits)
                layers[name] = {"shape": [count], "low": 0, "high": 1, "storage_bits": bits, "relative_error": 0.1}
            self._quantized[bits] = tensors, layers
        return self._quantized[bits]

    def views(self, folder: str) -> str:
        """The cache of a teacher's logits."""
        path = f"{folder}/views,crop=0,flip=true,precision=float32.safetensors"
        made_by = self.made_by(path)
        cell = Cell.of(path).identity
        header = {"format": formats.VIEWS, **cell, "crop": 0, "flip": True, **made_by.pop("inputs")}
        inputs = {key: header[key] for key in ("data", "teacher")}
        self.write(path, {"logits": torch.zeros(2)}, {**header, "provenance": {**made_by, "inputs": inputs}})
        return path

    def measured(self, cell: Cell) -> str:
        """What each layer of a cell's parent costs alone."""
        path = cell.path("sensitivity.csv")
        made_by = self.made_by(path)
        rows = [Measurement("conv1", 9, 1, bits, 0.5, 0.25, 0.125, 0.5) for bits in (2, 3)]
        sensitivity_table.write(self.folder / path, rows, cell, keys=made_by.pop("keys"), provenance=made_by)
        return path

    def archive(self, cell: Cell) -> str:
        """The archive of a cell's model; what it holds does not matter."""
        path = cell.path("model.archive.safetensors")
        made_by = self.made_by(path)
        header = {"format": formats.ARCHIVE, **cell.identity, "archive": made_by}
        self.write(path, {"codes": torch.zeros(3)}, header)
        return path

    def table(self) -> None:
        """The tables and their record, which names its files as Snakemake does: run beside the results."""
        inputs = [*self.products.report.inputs("table"), *self.products.report.histories()]
        study = self.products.study
        outputs = [table_file(study.name, name) for name in ("table", "summary", "layers")]
        Path(outputs[0]).parent.mkdir(parents=True, exist_ok=True)
        for path in outputs:
            Path(path).write_text("\n".join(inputs))
        job = self.products.report.job("table")
        record.write(table_file(study.name, "table", "json"), job, study.source, inputs, outputs)
