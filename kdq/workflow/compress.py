"""Find the smallest model within a drop of accuracy: ``make compress DATA=images MODEL=folder MAX_DROP=1``.

A study of its own, in ``compressed/NAME/study/``, imports the network as ``teacher``. A bisection over the mean bits
per weight asks Snakemake for one budget after the other. Each candidate is an ordinary recipe of that study, so what is
there is not made again. The chosen one is exported, timed and copied to ``compressed/NAME/`` with a report.
"""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from kdq.compress import report, source
from kdq.compress.candidates import ROOT, Candidate, recipe_of
from kdq.compress.search import BUDGETS, smallest_within
from kdq.errors import Stopped, UserError, reason
from kdq.provenance.files import atomic, read_header, read_json, write_json
from kdq.provenance.formats import DATA
from kdq.provenance.formats import MODEL as MODEL_FILE
from kdq.recipe.path import HUB, Cell, data_file
from kdq.report import metrics
from kdq.stdout import print_lines
from kdq.study.products import GIVEN_AWAY, LATENCY, METRICS, MODEL, ONNX, PREDICTIONS
from kdq.workflow.signals import raise_on_sigterm

HOME = Path(__file__).resolve().parents[2]
FOLDER = Path("compressed")
FOUND, NONE_WITHIN, REFUSED, INTERRUPTED, STOPPED = 0, 1, 2, 130, 143  # exit codes


@dataclass(frozen=True)
class Snakemake:
    """Plain Snakemake in the working folder ``folder``, whose ``config.yaml`` it reads."""

    folder: Path
    cores: str

    def command(self, *targets: str) -> list[str]:
        options = ["--snakefile", str(HOME / "Snakefile"), "--directory", str(self.folder), "--cores", self.cores]
        return ["snakemake", *targets, *options]

    def make(self, *arguments: str) -> None:
        """Run Snakemake; raise UserError with the first error of its own or of a job, which its log has too."""
        log = self.folder / "snakemake.log"
        with open(log, "a+", encoding="utf-8") as file:
            start = file.seek(0, os.SEEK_END)
            command = [sys.executable, "-m", *self.command(*arguments)]
            if not (code := exit_code(command, file)):
                return
            file.seek(start)
            text = file.read()
        errors = re.findall(r"^\s*error: (.*)", text, re.MULTILINE)
        errors += ["another run works in this folder"] if "LockException" in text else []
        raise UserError(f"{(errors or [f'snakemake ended with code {code}'])[0]} (log: {log})")


def exit_code(command: list[str], output) -> int:
    """Run a command and return its exit code; what stops it is raised once it has ended.

    An interrupt from the terminal reaches it too. SIGTERM does not, and is passed on as an interrupt, at which
    Snakemake stops its jobs.
    """
    with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
        except Stopped:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise


class Compression:
    """The compression of one network on one data set: what is asked for, and what was tried."""

    def __init__(self, arguments: argparse.Namespace):
        self.max_drop, self.sure = source.drop_of(arguments.max_drop), source.confidence_of(arguments.sure)
        self.source = source.source_of(arguments.model)
        size = source.image_size_of(arguments.image_size)
        self.dataset, self.data = source.data_keys(arguments.data, self.source, size)
        self.asked = {"data": arguments.data, "model": arguments.model, "max_drop": self.max_drop, "sure": self.sure}
        self.folder = FOLDER / source.name_of(arguments.name, report.name_of(arguments.data, arguments.model))
        self.snakemake = Snakemake(self.folder / "study", arguments.cores)
        self.quantizer = arguments.quantizer
        self.tried: list[Candidate] = []

    def path(self, recipe: str, name: str) -> str:
        """Return the path of a cell's file, as Snakemake in the study's folder has it."""
        return Cell(self.dataset, 0, recipe).path(name)

    def file(self, recipe: str, name: str) -> Path:
        """Return the path of a cell's file from here."""
        return self.snakemake.folder / self.path(recipe, name)

    def write_config(self) -> None:
        """Write the study's config, for this and for any further run of Snakemake."""
        study = {"datasets": [self.dataset], "seeds": [0], "recipes": [ROOT], "data": self.data, "latency": True}
        text = yaml.safe_dump(self.source.config | study, sort_keys=False, allow_unicode=True)
        write_text(self.snakemake.folder / "config.yaml", f"# written by make compress\n{text}")

    @cached_property
    def images(self):
        """The images to choose on and to report on; the data file has to be there."""
        from kdq.compress.drops import images_of  # imports torch

        return images_of(self.data_file, self.trained_on)

    @property
    def data_file(self) -> Path:
        return self.snakemake.folder / data_file(self.dataset, self.split_seed)

    @property
    def trained_on(self) -> dict:
        """The header of the data file that the network was trained with; the study's has to be there if it trains."""
        return read_header(self.data_file, DATA) if self.source.trains else self.source.trained_on

    @property
    def split_seed(self) -> int:
        return self.data.get("split_seed", 0)

    @cached_property
    def architecture(self) -> str:
        """The name of the float network, whose file has to be there: it alone tells for every source."""
        return read_header(self.file(ROOT, MODEL), MODEL_FILE)["architecture"]["architecture"]

    def drop(self, recipe: str, masks: dict):
        """Return the drop of a model against the float network on the images of ``masks``."""
        return self.images.drop(self.file(recipe, PREDICTIONS), self.file(ROOT, PREDICTIONS), masks)

    def is_within(self, budget: float) -> bool:
        """Make the candidate of a budget and report it; return whether it loses at most what is allowed."""
        recipe = recipe_of(self.quantizer, budget, self.architecture)
        self.snakemake.make(self.path(recipe, METRICS))
        drop, size = self.drop(recipe, self.images.choice), metrics.read(self.file(recipe, METRICS))["file_bytes"]
        candidate = Candidate(recipe, budget, size, drop, drop.bound(self.sure) <= self.max_drop)
        print_lines([str(candidate)])
        self.tried.append(candidate)
        return candidate.within

    def search(self) -> Candidate | None:
        """Return the smallest candidate within the drop, None if there is none."""
        self.write_config()
        doing = "training" if self.source.trains else "importing"
        print_lines([f"{self.folder}: {doing} {self.asked['model']}, preparing {self.asked['data']}"])
        self.snakemake.make(self.path(ROOT, METRICS))
        top1 = self.drop(ROOT, self.images.choice).top1
        print_lines([f"float: {top1:.2%} of {self.images.chosen_on}; one image is {self.images.worth:.2g} points"])
        budget = smallest_within(BUDGETS, self.is_within)
        return next((each for each in self.tried if each.budget == budget), None)

    def export(self, best: Candidate) -> None:
        """Make the ONNX file, the times (anew if it was busy) and the folder to give away, and copy that."""
        latency = self.file(best.recipe, LATENCY)
        if latency.exists() and read_json(latency, sealed=True)["busy"]:
            self.snakemake.make("--force", self.path(best.recipe, LATENCY))
        self.snakemake.make(self.path(best.recipe, f"{HUB}/README.md"))
        for name in GIVEN_AWAY:
            with atomic(self.folder / name) as aside:
                aside.write_bytes(self.file(best.recipe, f"{HUB}/{name}").read_bytes())

    def reported(self, best: Candidate) -> report.Report:
        """Return the report on the chosen candidate, whose files are there."""
        return report.Report(
            asked=self.asked,
            dataset=self.dataset,
            split_seed=self.split_seed,
            trained_on=self.trained_on,
            candidates=self.tried,
            chosen=best,
            drop=self.drop(best.recipe, self.images.report),
            float_top1=self.drop(ROOT, self.images.report).top1,
            chosen_on=self.images.chosen_on,
            reported_on=self.images.reported_on,
            onnx_bytes=self.file(best.recipe, ONNX).stat().st_size,
            float_onnx_bytes=self.file(ROOT, ONNX).stat().st_size,
            layers=metrics.read(self.file(best.recipe, METRICS))["layers"],
            latency=read_json(self.file(best.recipe, LATENCY), sealed=True),
            command=shlex.join(self.snakemake.command(self.path(best.recipe, METRICS))),
        )

    def write(self, written: report.Report) -> None:
        """Write the report in all its forms."""
        write_text(self.folder / "candidates.csv", report.candidates_csv(self.tried))
        write_text(self.folder / "report.md", report.markdown(written))
        write_json(self.folder / "compress.json", written.facts)


def write_text(path: Path, text: str) -> None:
    """Write a text atomically, unless it is there already."""
    if not path.is_file() or path.read_bytes() != text.encode():
        with atomic(path) as aside:
            aside.write_bytes(text.encode())


def run(compression: Compression) -> int:
    """Compress, print what came out, and return the exit code."""
    best = compression.search()
    if best is None:
        write_text(compression.folder / "candidates.csv", report.candidates_csv(compression.tried))
        least = min(compression.tried, key=lambda each: each.drop.points)
        line = f"none is within {compression.max_drop:g} points (SURE={compression.sure:g}); the least drop: {least}"
        print_lines([f"error: {compression.folder}: {line}"])
        return NONE_WITHIN
    print_lines([f"chosen: {best.recipe}; exporting and timing it"])
    compression.export(best)
    written = compression.reported(best)
    compression.write(written)
    print_lines(report.summary(written))
    print_lines([f"{compression.folder}/: model.onnx, model.safetensors, report.md, README.md, candidates.csv"])
    return FOUND


def main() -> int:
    parser = argparse.ArgumentParser(description="Find the smallest model within a drop of accuracy.")
    parser.add_argument("--data", default="", help="a folder of images, one sub-folder per class, or a data set's name")
    parser.add_argument("--model", default="", help="a folder of transformers, a model file of KDQ, or a YAML file")
    parser.add_argument("--max-drop", default="1", help="points of accuracy that may be lost")
    parser.add_argument("--sure", default="0.5", help="confidence that the drop is at most that; 0.5: as measured")
    parser.add_argument("--image-size", default="", help="side in pixels of the images that the network takes")
    parser.add_argument("--quantizer", default="qronos", help="that makes the candidates")
    parser.add_argument("--name", default="", help="of the folder below compressed/")
    parser.add_argument("--cores", default=str(len(os.sched_getaffinity(0))))
    raise_on_sigterm()
    try:
        return run(Compression(parser.parse_args()))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
    except OSError as error:
        sys.stderr.write(f"error: {error.filename}: {reason(error)}\n")
    except KeyboardInterrupt:
        return INTERRUPTED
    except Stopped:
        return STOPPED
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
