"""Everything foreign that KDQ reads: for each subject, how to mutate it and how to read the result."""

import hashlib
import io
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from unittest.mock import patch

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

from kdq import models
from kdq.data import prepared
from kdq.data.catalog import CATALOG
from kdq.data.image_file import read_image
from kdq.data.sets import cifar
from kdq.distill import cached_logits
from kdq.errors import UserError
from kdq.evaluate.stage import evaluate
from kdq.models import file as model_file
from kdq.provenance import seal
from kdq.provenance.verify import study
from kdq.provenance.verify.__main__ import line
from kdq.provenance.verify.results import verify
from kdq.recipe.grammar import Grammar
from kdq.recipe.stages import find_stages
from kdq.report import answers, fastest
from kdq.report import latency as latency_file
from kdq.report import metrics as metrics_file
from kdq.report.figures import curves
from kdq.report.tables import cells as table
from kdq.report.tables import comparisons, deployment, layers, summary
from kdq.roots.sources import hub as hub_checkpoint
from kdq.study.config import merged, read_study
from kdq.train import checkpoint
from kdq.workflow.targets import check as check_target
from tests.data.conftest import Tiny
from tests.fuzz.evil import Evil
from tests.fuzz.guard import guarded
from tests.fuzz.mutate import mutated_bytes, mutated_value
from tests.fuzz.published import Published
from tests.fuzz.real import CELL, CPU, KINDS, VIEWS, Real

HOME = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Subject:
    """Something that is read: ``change`` returns mutated content, ``read`` reads a file with it."""

    change: Callable[[Random], bytes]
    read: Callable[[Path], object]
    name: str = "file"


def subjects(folder: Path) -> dict[str, Subject]:
    """Return all subjects by name; their real files are below ``folder``."""
    real = Real(folder)
    return {**of_texts(), **of_files(real), **of_cifar(), **of_images(), **of_hub(folder), "results": of_results(real)}


def of_texts() -> dict[str, Subject]:
    """Return what a user writes: recipes and configs."""
    types = find_stages(HOME / "kdq")
    grammar = Grammar(types, {"teacher": {}, "student": {}}, {})

    def read_recipe(path: Path) -> None:
        text = path.read_text(errors="replace")
        for attempt in (
            lambda: check_target(f"results/digits/seed=0/{text}/metrics.json", grammar, CATALOG),
            lambda: [grammar.resolve(stage) for stage in grammar.parse(text).stages],
        ):
            try:
                attempt()
            except UserError as error:
                failed = error
            else:
                failed = None
        if failed:
            raise failed

    def read_config(path: Path) -> None:
        with patch("kdq.study.config.find_stages", return_value=types):  # slow, and always the same
            read_study(merged([path]), HOME / "kdq", [path])

    return {
        "recipe": Subject(changed_recipe, read_recipe),
        "config": Subject(changed_config, read_config, "config.yaml"),
    }


RECIPES = (
    "teacher/kd,temperature=2/gpfq,bits=4",
    "hard,seed=0/rtn,bits=3,levels=2^b-1",
    "teacher/dkd,alpha=2,beta=10/gpfq,bits=4/kd/rtn,bits=3",
    "teacher,file=model.bin,folder=weights,source=hub/mixup",
)
PIECES = (
    *("/", ",", "=", "..", "/../", ".", "{", "}", "\n", "\0", "'", '"', ";", "$(x)", "`x`", " ", "\u202e", "０"),
    *("nan", "inf", "1e999", "-0", "0x10", "true", "teacher", "kd", "bits=4"),
    *("9" * 5000, "a" * 300, "/kd" * 500),
)


def changed_recipe(random: Random) -> bytes:
    text = random.choice(RECIPES)
    for _ in range(random.randint(1, 3)):
        start = random.randrange(len(text) + 1)
        end = min(len(text), start + random.choice((0, 0, 1, 5)))
        text = text[:start] + random.choice(PIECES) + text[end:]
    return text.encode()


def changed_config(random: Random) -> bytes:
    files = (HOME / "config.yaml", *sorted((HOME / "studies").glob("*.yaml")))
    content = random.choice(files).read_bytes()
    if random.random() < 0.4:
        return mutated_bytes(content, random, YAML_BOMBS)
    values = merged([HOME / "config.yaml"])
    for _ in range(random.randint(1, 2)):
        values = mutated_value(values, random)
    return yaml.safe_dump(values).encode()


def _bomb(where: str) -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join([*lines, where.format("*a11")]).encode()


HUGE_GRIDS = (
    "'{1..9999999999}'",
    "'teacher/kd,temperature={1..300000}/rtn,bits={2..8}'",
    ", ".join(f"'teacher/kd,temperature={{{n}00000..{n}99999}}'" for n in range(1, 21)),
    "'" + "{" * 2000 + "'",
    "'{1..5..0}'",
)
YAML_BOMBS = [
    *(_bomb(where) for where in ("datasets: {}", "stages: {{kd: {}}}", "teacher: {{width: {}}}", "x: {}")),
    *(f"datasets: [digits]\nseeds: [0]\nrecipes: [{recipes}]\n".encode() for recipes in HUGE_GRIDS),
]


def changed_tensors(path: Path, random: Random) -> bytes:
    """Mutate a safetensors file: its bytes, or its header or tensors, well formed and sealed."""
    if random.random() < 0.4:
        return mutated_bytes(path.read_bytes(), random, [b"{}", b"PK\x03\x04"])
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(json.loads(file.read(size))["__metadata__"]["kdq"])
    tensors = load_file(path)
    for _ in range(random.randint(1, 2)):
        if random.random() < 0.6:
            header = mutated_value(header, random)
        else:
            tensors = changed_tensor(tensors, random)
    if isinstance(header, dict):
        header[seal.KEY] = seal.BLANK
    place = path.with_suffix(".changed")
    save_file(tensors, place, metadata={"kdq": json.dumps(header)})
    if isinstance(header, dict):
        seal.seal(place)
    return place.read_bytes()


def changed_tensor(tensors: dict, random: Random) -> dict:
    if not tensors:
        return {"x": torch.zeros(1)}
    changed, name = dict(tensors), random.choice(list(tensors))
    value = changed[name]
    changes = (
        lambda: value.flatten(),
        lambda: value[..., None].contiguous(),
        lambda: value[:0],
        lambda: value.repeat(*[2] * max(1, value.dim())),
        lambda: value.to(random.choice((torch.float64, torch.int16, torch.uint8, torch.bool, torch.bfloat16))),
        lambda: torch.full_like(value, random.choice((0, 1, 255 if value.dtype == torch.uint8 else -1))),
        lambda: value.float() * torch.nan,
        lambda: torch.zeros(random.choice(((100_000, 1), (1, 100_000), (1000, 1000)))),
    )
    if random.random() < 0.2:
        del changed[name]
    elif random.random() < 0.2:
        changed[f"{name}x"] = changed.pop(name)
    else:
        changed[name] = random.choice(changes)() if value.dim() else value[None]
    return changed


def changed_json(path: Path, random: Random) -> bytes:
    """Mutate a JSON file: its bytes, or its values, sealed."""
    if random.random() < 0.4:
        return mutated_bytes(path.read_bytes(), random, [b"[]", b"null", b"[" * 200_000, b'{"a":' * 200_000])
    value = json.loads(path.read_bytes())
    for _ in range(random.randint(1, 2)):
        value = mutated_value(value, random)
    if not isinstance(value, dict):
        return json.dumps(value).encode()
    place = path.with_suffix(".changed")
    place.write_text(json.dumps({**value, seal.KEY: seal.BLANK}))
    seal.seal(place)
    return place.read_bytes()


def of_files(real: Real) -> dict[str, Subject]:
    """Return the files of a study, as if copied from elsewhere."""
    metrics, predictions = real.evaluation
    files, data, tables = [real.model(True), real.model(False)], real.data, real.tables

    def tensors(path):
        return lambda random: changed_tensors(path, random)

    def as_bytes(*paths):
        return lambda random: mutated_bytes(random.choice(paths).read_bytes(), random, [files[0].read_bytes()])

    def read_model(path):
        return evaluate(model_file.read(path), path, real.prepared, None, CPU)

    def read_data(path):
        return evaluate(model_file.read(files[0]), files[0], prepared.read(path), None, CPU)

    def read_predictions(path):
        evaluate(model_file.read(files[0]), files[0], real.prepared, path, CPU)

    def compare(path):
        rows = table.SCHEMA.read(tables["table"])
        comparisons.rows(rows, KINDS, answers.read([data], [predictions, path]))

    def read_metrics(path):
        rows = table.rows([metrics_file.read(path)], KINDS)
        table.SCHEMA.write(path.with_name("table.csv"), rows)
        summary.summarize(rows)
        layers.rows([metrics_file.read(path)])

    def read_latency(path):
        of_cells = table.SCHEMA.read(tables["table"])
        rows = deployment.rows([latency_file.read(path)], of_cells)
        deployment.SCHEMA.write(path.with_name("deployment.csv"), rows)
        deployment.machines(rows)
        fastest.lines(deployment.SCHEMA.read(path.with_name("deployment.csv")))

    def read_views(path):
        cached_logits.read(path, real.prepared, **VIEWS).sum()

    return {
        "archive": Subject(tensors(real.archive), models.load),
        "model": Subject(lambda random: changed_tensors(random.choice(files), random), read_model),
        "data": Subject(tensors(data), read_data),
        "metrics": Subject(lambda random: changed_json(metrics, random), read_metrics, f"{CELL}/metrics.json"),
        "latency": Subject(lambda random: changed_json(real.latency, random), read_latency, f"{CELL}/latency.json"),
        "predictions": Subject(tensors(predictions), read_predictions),
        "compared predictions": Subject(tensors(predictions), compare, f"{CELL}/predictions.safetensors"),
        "history": Subject(as_bytes(real.history), curves.read_history),
        "tables": Subject(as_bytes(tables["table"]), table.SCHEMA.read),
        "views": Subject(tensors(real.views), read_views),
        "checkpoint": Subject(as_bytes(real.checkpoint), lambda path: checkpoint.load(path, "run", lambda line: None)),
        "weights.bin": Subject(as_bytes(real.hub_weights("weights.bin")), hub_checkpoint.read, "weights.bin"),
        "weights.safetensors": Subject(
            as_bytes(real.hub_weights("weights.safetensors")), hub_checkpoint.read, "weights.safetensors"
        ),
    }


def of_cifar() -> dict[str, Subject]:
    """Return the files of CIFAR in each form, also with the expected MD5, as by an attacker."""
    tiny = Tiny()
    description = tiny.description()
    batch = tiny.pickles["data_batch_1"]
    parquet = tiny.parquet(["data_batch_1", "data_batch_2", "data_batch_3"])
    evil = [pickle.dumps({"data": Evil(), "labels": [1]}), pickle.dumps({"data": np.array([Evil()], dtype=object)})]

    def read_batch(path):
        content = {**tiny.pickles, "data_batch_1": path.read_bytes()}
        cifar.from_batches(description, path, content, "test")

    def read_colliding_batch(path):
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        content = {**tiny.pickles, "data_batch_1": path.read_bytes()}
        cifar.from_batches(
            replace(description, train={**description.train, "data_batch_1": md5}), path, content, "test"
        )

    def read_archive(path):
        cifar.from_archive(description, path)

    def read_colliding_archive(path):
        cifar.from_archive(replace(description, archive_md5=hashlib.md5(path.read_bytes()).hexdigest()), path)

    def read_parquet(path):
        path.with_name("test.parquet").write_bytes(tiny.parquet(["test_batch"]))
        files = {"train": path.name, "test": "test.parquet"}
        cifar.from_parquet(replace(description, parquet=files), path.parent)

    def changed(content, others=()):
        return lambda random: mutated_bytes(content, random, list(others))

    return {
        "cifar batch": Subject(changed(batch), read_batch),
        "cifar batch of the right MD5": Subject(changed(batch, evil), read_colliding_batch),
        "cifar archive": Subject(changed(tiny.archive), read_archive),
        "cifar archive of the right MD5": Subject(changed(tiny.archive), read_colliding_archive),
        "cifar parquet": Subject(changed(parquet), read_parquet),
    }


def of_hub(folder: Path) -> dict[str, Subject]:
    """Return a model of the transformers library, in its own files and in ours."""
    published = Published(folder / "published")
    return {
        "model of a hub": Subject(published.change, published.read),
        "model file of it": Subject(lambda random: changed_tensors(published.model, random), published.read_model),
    }


def of_results(real: Real) -> Subject:
    """A folder of results, copied from elsewhere, of which one file is another than it was; it is verified."""
    products = study.products([])
    cell = "digits/seed=0/hard/rtn,bits=3"
    places = {
        "digits/data/split=0.safetensors": real.data,
        "digits/seed=0/hard/model.safetensors": real.model(False),
        "digits/seed=0/hard/history.csv": real.history,
        f"{cell}/model.safetensors": real.model(True),
        f"{cell}/metrics.json": real.evaluation[0],
        f"{cell}/predictions.safetensors": real.evaluation[1],
        "table.json": real.record,
        "table.csv": real.tables["table"],
    }
    contents = {place: path.read_bytes() for place, path in places.items()}
    names = ("", "..", "seed=x", "a" * 200, "\n", "é", "model.safetensors", "{x}", ".model.safetensors.7")

    def change(random: Random) -> bytes:
        place = random.choice(list(places))
        name = random.choice(names) if random.random() < 0.2 else ""
        changers = {".json": changed_json, ".safetensors": changed_tensors}
        changer = changers.get(places[place].suffix, lambda path, random: mutated_bytes(path.read_bytes(), random))
        return json.dumps([place, name]).encode() + b"\0" + changer(places[place], random)

    def read(path: Path) -> None:
        which, _, changed = path.read_bytes().partition(b"\0")
        place, name = json.loads(which)
        results = path.parent / "results"
        shutil.rmtree(results, ignore_errors=True)
        for other, content in {**contents, f"{place}{name}": changed}.items():
            (results / other).parent.mkdir(parents=True, exist_ok=True)
            (results / other).write_bytes(content)
        lines = [line(row) for row in verify(products, results)]
        assert len(lines) >= len(contents) and all(text.isprintable() for text in lines)

    return Subject(change, read)


def of_images() -> dict[str, Subject]:
    """Return images of a folder."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    contents = []
    for form in ("png", "jpeg", "gif", "bmp", "tiff", "webp"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, form)
        contents.append(buffer.getvalue())

    def changed(random):
        return mutated_bytes(random.choice(contents), random)

    return {"image": Subject(changed, lambda path: read_image(path, 8))}


def read_guarded(subject: Subject, number: int, name: str, folder: Path) -> None:
    """Mutate the subject with ``number`` as the seed and read it under guard in ``folder``."""
    path = folder / subject.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(subject.change(Random(f"{name} {number}")))
    with guarded(folder):
        subject.read(path)
