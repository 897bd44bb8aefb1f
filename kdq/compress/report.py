"""The report of a compression: what was asked, what came out, how sure that is, and everything that was tried."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdq.compress.candidates import Candidate

if TYPE_CHECKING:
    from kdq.compress.drops import Drop

RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def name_of(data: str, model: str) -> str:
    """Return the name of a compression, of letters that a folder's name may have.

    >>> name_of("photos/birds", "results/cifar10/seed=0/hard/model.safetensors"), name_of("cifar10", "mine.yaml")
    ('birds-hard', 'cifar10-mine')
    >>> name_of("imagenet", "torchvision/resnet50.IMAGENET1K_V2")
    'imagenet-resnet50.IMAGENET1K_V2'
    """
    path = Path(model)
    stem = path.parent.name if path.name == "model.safetensors" else re.sub(r"\.(yaml|yml|safetensors)$", "", path.name)
    return re.sub(r"[^\w.+-]+", "-", f"{Path(data).name}-{stem}").strip("-.") or "model"


@dataclass(frozen=True)
class Report:
    """What a report is about.

    ``dataset``, ``split_seed`` and ``trained_on`` say which images: the study's data file, and the header of the one
    that the network was trained with, empty if that is not known.
    ``drop`` is that of the chosen model on the images to report on; ``float_top1`` the float network's accuracy there;
    ``chosen_on`` and ``reported_on`` describe the images in words; ``layers`` are those of its metrics; ``latency`` is
    the content of its ``latency.json``; ``command`` makes it again by Snakemake.
    """

    asked: dict
    dataset: str
    split_seed: int
    trained_on: dict
    candidates: list[Candidate]
    chosen: Candidate
    drop: Drop
    float_top1: float
    chosen_on: str
    reported_on: str
    onnx_bytes: int
    float_onnx_bytes: int
    layers: list[dict]
    latency: dict
    command: str

    @property
    def facts(self) -> dict:
        """The content of ``compress.json``: all numbers."""
        lists = {"candidates": [each.row for each in self.candidates], "chosen": self.chosen.row}
        return asdict(self) | lists | {"risk": self.chosen.drop.risk(self.asked["max_drop"])}


def candidates_csv(candidates: list[Candidate]) -> str:
    """Return the table of all that was tried, in the order of their budgets."""
    rows = [each.row for each in sorted(candidates, key=lambda each: (each.budget, each.recipe))]
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def markdown(report: Report) -> str:
    """Return the content of ``report.md``."""
    sections = (_result, _sureness, _times, _tried, _layers, _again)
    return "\n\n".join(section(report) for section in sections) + "\n"


def _points(drop: Drop) -> str:
    return f"{drop.points:.2f} points, 95% interval {drop.low:.2f} to {drop.high:.2f}"


def _allowed(asked: dict) -> str:
    return f"{asked['max_drop']:g} point{'' if asked['max_drop'] == 1 else 's'}"


def _result(report: Report) -> str:
    asked, drop, times = report.asked, report.drop, report.float_onnx_bytes / report.onnx_bytes
    return "\n".join(
        [
            f"# {asked['model']} on {asked['data']}, within {_allowed(asked)}",
            "",
            f"`{report.chosen.recipe}`: {report.onnx_bytes:,} bytes, {times:.1f} times smaller than the float network, "
            f"for {_points(drop)}, of accuracy.",
            "",
            "| | `model.onnx`, bytes | accuracy | drop |",
            "|---|---|---|---|",
            f"| float | {report.float_onnx_bytes:,} | {report.float_top1:.2%} | |",
            f"| compressed | {report.onnx_bytes:,} | {drop.top1:.2%} | {_points(drop)} |",
            "",
            f"Accuracy on {report.reported_on}, which had no part in the choice.",
        ]
    )


def _sureness(report: Report) -> str:
    choice, most = report.chosen.drop, report.asked["max_drop"]
    return "\n".join(
        [
            "## How sure that is",
            "",
            f"Chosen on {report.chosen_on}: there the drop is {_points(choice)}. One image is worth "
            f"{100 / choice.images:.2g} points, and the chance that the true drop is above {_allowed(report.asked)} is "
            f"{choice.risk(most):.0%}. The smallest model that passes tends to be a lucky one, so expect a "
            "little more. `SURE=0.95` asks for a drop that is allowed with that confidence, at some bytes.",
        ]
    )


def _times(report: Report) -> str:
    lines = ["## Milliseconds", ""]
    if report.latency.get("busy") or not report.latency.get("runtimes"):
        return "\n".join([*lines, f"Not measured: {report.latency.get('busy', 'no runtime')}. Run the command again."])
    lines += [
        f"{report.latency['processor']['name']}, {report.latency['threads']} thread, load {report.latency['load']:g}; "
        "the files run in turn, a speed-up is the median over rounds.",
        "",
        "| runtime | batch 1, float | batch 1, compressed | times as fast, batch 1 | batch 128 |",
        "|---|---|---|---|---|",
    ]
    for name, measured in report.latency["runtimes"].items():
        if "model" in (milliseconds := measured["milliseconds"]):
            ratios = measured["speedups"]["float"]
            cells = [RUNTIMES.get(name, name), *(f"{milliseconds[file]['median']:.3g}" for file in ("float", "model"))]
            cells += [f"{ratios[batch]['median']:.2f}" for batch in ("1", "128")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _tried(report: Report) -> str:
    lines = ["## What was tried", "", "| recipe | bytes of its model file | drop | |", "|---|---|---|---|"]
    for each in sorted(report.candidates, key=lambda each: (each.budget, each.recipe)):
        verdict = "**chosen**" if each == report.chosen else "within" if each.within else "too much"
        lines.append(f"| `{each.recipe}` | {each.file_bytes:,} | {_points(each.drop)} | {verdict} |")
    return "\n".join(lines)


def _layers(report: Report) -> str:
    rows = [f"| {layer['name']} | {layer['weights']:,} | {layer.get('bits', '')} |" for layer in report.layers]
    return "\n".join(["## Bits of each layer", "", "| layer | weights | bits |", "|---|---|---|", *rows])


def _again(report: Report) -> str:
    return "\n".join(
        [
            "## By Snakemake",
            "",
            "Every candidate is an ordinary recipe of the study beside this file:",
            "",
            f"    {report.command}",
        ]
    )


def summary(report: Report) -> list[str]:
    """Return the result in a few lines."""
    lines = [
        f"float      {report.float_onnx_bytes:11,} bytes, {report.float_top1:.2%} of {report.reported_on}",
        f"compressed {report.onnx_bytes:11,} bytes, {report.drop.top1:.2%}, drop {_points(report.drop)}",
    ]
    for name, measured in report.latency.get("runtimes", {}).items():
        if "model" in (milliseconds := measured["milliseconds"]):
            times = f"{milliseconds['model']['median']:.3g} ms against {milliseconds['float']['median']:.3g}"
            lines.append(f"{RUNTIMES.get(name, name)}: {times} at batch 1")
    return lines
