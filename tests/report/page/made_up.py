"""Made-up studies for the page: any number of recipes and seeds, with names that want to be HTML."""

import numpy as np
import pandas as pd

from kdq.recipe.path import Cell
from kdq.report.latency import Latency
from kdq.report.page.sources import Sources, TestPart
from kdq.report.tables import cells, comparisons, deployment, summary
from tests.report.cells import cell, latency

EVIL = "</script><img src=x onerror=alert(1)>"
KINDS = {"teacher": "root", "hard": "root", "kd": "distill", "rtn": "quantize", "gpfq": "quantize"}
LAYERS = [f"layer{place}.conv" for place in range(20)]
FIRST, SECOND = "teacher/kd/gpfq,bits=2", "teacher/kd/rtn,bits=2"


def recipes(students: int) -> list[str]:
    """Return networks, and each of them by two quantizers at 2, 3 and 4 bits."""
    networks = ["teacher", "hard", "teacher/kd", *(f"teacher/kd,temperature={t}" for t in range(2, students + 1))]
    quantized = [
        f"{network}/{name},bits={bits}" for network in networks for name in ("rtn", "gpfq") for bits in (2, 3, 4)
    ]
    return sorted([*networks, *quantized])


def predictions(labels: np.ndarray, recipe: str, seed: int, classes: int) -> np.ndarray:
    """Return classes of which a share is right that grows with the bits, shared by the networks of a seed."""
    bits = int(recipe[-1]) if "bits=" in recipe else 5
    chance = np.random.default_rng(seed).random(len(labels)) + 0.01 * np.random.default_rng(bits).random(len(labels))
    hard = {"rtn": 0.12, "gpfq": 0.004}.get(recipe.rpartition("/")[2].partition(",")[0], 0) * (5 - bits)
    wrong = chance > 0.95 - hard - 0.03 * ("kd" in recipe)
    return np.where(wrong, (labels + 1 + seed) % classes, labels)


def metrics(recipe: str, seed: int, top1: float) -> dict:
    bits = int(recipe[-1]) if "bits=" in recipe else 32
    made = cell(recipe, seed, top1, {"bits": bits} if bits < 32 else {}, file_bytes=1000 * bits + 10 * len(recipe))
    quantized = [
        {"name": name, "weights": 10, "bits": bits, "levels": "2^b", "relative_error": 0.4 / bits} for name in LAYERS
    ]
    made["layers"] = quantized if bits < 32 else []
    made["provenance"] = {
        "code": "0" * 16,
        "device": "cpu",
        "python": "3.11",
        "torch": "2.11",
        "inputs": {"data": "1" * 64},
    }
    return made


def history(epochs: int, seed: int) -> pd.DataFrame:
    """Return a training whose last loss is not a number."""
    epoch = np.arange(1, epochs + 1)
    loss = np.where(epoch == epochs, np.nan, 1 / epoch)
    return pd.DataFrame({"epoch": epoch, "validation_accuracy": 1 - 1 / (epoch + seed + 1), "loss": loss})


def sources(students=1, seeds=(0, 1, 2), images=200, classes=("zero", EVIL, "two", "three"), timed=True) -> Sources:
    """Return a study of ``7 * (students + 2)`` recipes."""
    labels = np.arange(images) % len(classes)
    made, predicted, histories = {}, {}, {}
    for recipe in recipes(students):
        for seed in seeds:
            place = Cell("digits", seed, recipe)
            predicted[place] = predictions(labels, recipe, seed, len(classes))
            made[place] = metrics(recipe, seed, float((predicted[place] == labels).mean()))
            if "bits=" not in recipe:
                histories[place] = history(30, seed)
    table = cells.rows(list(made.values()), KINDS)
    correct = {place: classes_ == labels for place, classes_ in predicted.items()}
    tables = {
        "table": table,
        "summary": summary.summarize(table),
        "comparisons": comparisons.rows(table, KINDS, correct),
    }
    if timed:
        times = [
            latency(place.recipe, place.seed, 0.5, 1.0 if "bits=" in place.recipe else None)
            for place in made
            if place.seed == seeds[0]
        ]
        tables["deployment"] = deployment.rows([Latency(**values) for values in times], table)
    part = TestPart(list(classes), labels)
    return Sources("made-up", tables, {"digits": part}, made, histories, predicted, KINDS, ["accuracy_vs_bits"])
