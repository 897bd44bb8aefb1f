"""A folder to give away, in the layout of a repository of the Hugging Face hub: a model's files with a model card."""

import json
import shutil
from collections.abc import Mapping

import torch

from kdq.data.prepared import read as read_data
from kdq.deploy import hub_configs, model_card, record
from kdq.deploy.file_scores import Score, scores
from kdq.errors import UserError
from kdq.evaluate import predictions as predictions_file
from kdq.models.file import read as read_model
from kdq.provenance.files import atomic, read_json, sha256
from kdq.recipe.path import Cell


def write(
    output: Mapping[str, str], inputs: Mapping[str, str], license_file, stages: list[dict], device: torch.device
) -> list[Score]:
    """Write the files of a folder to give away; return what the two model files score, read again.

    ``output`` and ``inputs`` are paths by role, as in the rule ``model_folder``; ``stages`` holds a dict of ``stage``
    and its ``keys`` per stage of the recipe. Raise UserError that names the file for one that is missing or corrupted.
    """
    prepared, file = read_data(inputs["data"]), read_model(inputs["model"])
    header, predictions = predictions_file.read(inputs["float"])
    of_float = predictions_file.classes(inputs["float"], predictions, "test", len(prepared.test.labels))
    described = record.read(inputs["record"], inputs["onnx"])
    copy(license_file, output["license"])
    for role in ("onnx", "model"):
        copy(inputs[role], output[role])
    scored = scores(output["onnx"], output["model"], prepared, of_float, device)
    write_text(output["config"], json_text(hub_configs.config(file, prepared)))
    write_text(output["preprocessor"], json_text(hub_configs.preprocessor(file, prepared)))
    facts = model_card.Facts(
        cell=Cell.of(output["model"]),
        stages=stages,
        file=file,
        prepared=prepared,
        metrics=read_json(inputs["metrics"], sealed=True),
        scores=scored,
        parent=header["recipe"],
        parent_top1=float((of_float == prepared.test.labels).double().mean()),
        latency=read_json(inputs["latency"], sealed=True) if inputs.get("latency") else {},
        takes_bytes=described["input"]["type"] == "uint8",
    )
    write_text(output["card"], model_card.checked(output["card"], model_card.card(facts)))
    return scored


def copy(source, path) -> None:
    """Copy a file atomically; raise UserError unless the copy, read again, is equal."""
    with atomic(path) as aside:
        shutil.copyfile(source, aside)
    if sha256(path) != sha256(source):
        raise UserError(f"{path}: the copy is not equal to {source}; remove it and run again")


def write_text(path, text: str) -> None:
    """Write a text atomically, as UTF-8."""
    with atomic(path) as aside:
        aside.write_bytes(text.encode())


def json_text(value: dict) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
