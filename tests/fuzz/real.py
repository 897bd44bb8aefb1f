"""Small real files that fuzzing starts from, made by the code that makes them in a study."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from kdq.data import catalog as sources
from kdq.data import prepared
from kdq.data.prepared import Split
from kdq.distill import cached_logits
from kdq.evaluate import predictions as predictions_file
from kdq.evaluate.stage import evaluate
from kdq.models import archive
from kdq.models import file as model_file
from kdq.models.codes import Codes, QuantizedWeight
from kdq.models.networks import resnet
from kdq.provenance.files import write_json, write_tensors
from kdq.report import metrics as metrics_file
from kdq.report import record
from kdq.report.tables import cells as table
from kdq.report.tables import layers, summary
from kdq.train import checkpoint, history
from tests.report.cells import latency

ARCHITECTURE = {"architecture": "resnet18", "classes": 10, "channels": 1, "stem": "cifar", "width": 0.03}
ARCHITECTURE |= {"mean": [0.3], "std": [0.4]}
KINDS = {"hard": "root", "rtn": "quantize"}
VIEWS = {"crop": 0, "flip": True, "precision": "torch.float32", "data": "d" * 64, "teacher": "e" * 64}
CPU = torch.device("cpu")

CELL = "results/digits/seed=0/hard/rtn,bits=3"


class Real:
    """Writes files below ``folder``; each attribute or method returns a path."""

    def __init__(self, folder: Path):
        self.folder = folder
        digits = sources.prepare("digits", {"test_fraction": 0.2}, 0.1, 0)
        few = {part: Split(*(value[:12] for value in vars(getattr(digits, part)).values())) for part in prepared.PARTS}
        self.prepared = replace(digits, **few)
        torch.manual_seed(0)
        self.network = resnet.build(**ARCHITECTURE)

    @cached_property
    def data(self) -> Path:
        path = self.folder / "data.safetensors"
        prepared.write(path, self.prepared, {"code": "0", "keys": {}})
        return path

    def model(self, quantized: bool) -> Path:
        path = self.folder / f"model-{quantized}.safetensors"
        header = {"dataset": "digits", "seed": 0, "recipe": "hard/rtn,bits=3" if quantized else "hard"}
        header |= {"keys": {"bits": 3}, "provenance": {"code": "0", "inputs": {"data": "0" * 64}}}
        model_file.save(path, self.network, ARCHITECTURE, self.codes() if quantized else Codes(), **header)
        return path

    @property
    def archive(self) -> Path:
        path = self.folder / "model.archive.safetensors"
        archive.pack(self.model(True), path)
        return path

    def codes(self) -> Codes:
        facts = {"bits": 3, "levels": "2^b", "scale": 1.0, "relative_error": 0.5}
        codes = {
            name: QuantizedWeight(
                torch.randint(-4, 4, module.weight.shape).short(), torch.full((1,), 0.02), -4, 3, 3, facts
            )
            for name, module in self.network.named_modules()
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
        }
        return Codes(codes)

    @cached_property
    def evaluation(self) -> tuple[Path, Path]:
        """Metrics and predictions of a quantized model."""
        metrics_path, predictions_path = (
            self.folder / CELL / name for name in ("metrics.json", "predictions.safetensors")
        )
        parent = self.folder / "parent.safetensors"
        write = {"format": predictions_file.FORMAT, "dataset": "digits", "seed": 0}
        for path, before, quantized in ((parent, None, False), (predictions_path, parent, True)):
            model = self.model(quantized)
            metrics, predictions = evaluate(model_file.read(model), model, self.prepared, before, CPU)
            write_tensors(path, predictions, {**write, "recipe": metrics["recipe"]})
        write_json(metrics_path, metrics)
        return metrics_path, predictions_path

    @cached_property
    def latency(self) -> Path:
        path = self.folder / CELL / "latency.json"
        write_json(path, latency("hard/rtn,bits=3", float_ms=3.0, bfloat16_ms=2.0))
        return path

    @cached_property
    def history(self) -> Path:
        path = self.folder / "history.csv"
        row = dict.fromkeys(history.COLUMNS, 0.125)
        history.write(path, [{**row, "epoch": epoch} for epoch in (1, 2, 3)])
        return path

    @cached_property
    def views(self) -> Path:
        path = self.folder / "views.safetensors"
        logits = torch.zeros(2, len(self.prepared.train.labels), 10, dtype=torch.float16)
        write_tensors(path, {"logits": logits}, {"format": cached_logits.FORMAT, **VIEWS})
        return path

    @cached_property
    def checkpoint(self) -> Path:
        path = self.folder / "checkpoint.pt"
        state = {"identity": "run", "epoch": 2, "task": self.network.state_dict(), "history": [{"epoch": 1}]}
        checkpoint.save(path, state)
        return path

    def hub_weights(self, name: str) -> Path:
        path = self.folder / name
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(self.network.state_dict(), path)
        else:
            torch.save(self.network.state_dict(), path)
        return path

    @cached_property
    def record(self) -> Path:
        path = self.folder / "table.json"
        tables = self.tables
        job = {"code": "0", "kinds": KINDS, "dkd_grid": []}
        record.write(path, job, {"files": ["study.yaml"], "sha256": "0"}, [self.evaluation[0]], [tables["table"]])
        return path

    @cached_property
    def tables(self) -> dict[str, Path]:
        """The tables of one quantized cell, by name."""
        cell = metrics_file.read(self.evaluation[0])
        root = {**cell, "recipe": "hard", "layers": [], "keys": {}}
        rows = table.rows([root, cell], KINDS)
        found = {
            "table": (table.SCHEMA, rows),
            "summary": (summary.SCHEMA, summary.summarize(rows)),
            "layers": (layers.SCHEMA, layers.rows([root, cell])),
        }
        for name, (schema, content) in found.items():
            schema.write(self.folder / f"{name}.csv", content)
        return {name: self.folder / f"{name}.csv" for name in found}
