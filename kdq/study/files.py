"""The config files of a study, and the name that its tables and figures go by."""

import hashlib
import json
import os
import re
from pathlib import Path

from kdq.errors import UserError
from kdq.provenance.files import read_json

DEFAULT = "config.yaml"


def config_files(named, home: Path) -> list[str]:
    """Return the files of a study: those ``named`` on the command line, else ``config.yaml`` alone.

    That of the working folder is used, whatever it is; if there is none, the default study in ``home``.
    """
    if named:
        return [str(file) for file in named]
    return [DEFAULT if os.path.lexists(DEFAULT) else str(home / DEFAULT)]


def study_name(files: list[str]) -> str:
    """Return the name of a study of these files: their names without endings, joined by ``+``.

    >>> study_name(["studies/cifar10-small.yaml", "studies/quantizers.yaml"]), study_name(["config.yaml"])
    ('cifar10-small+quantizers', 'default')
    >>> study_name(["my study (2).yaml"])
    'my-study-2'
    """
    stems = ["default" if Path(file).name == DEFAULT else Path(file).stem for file in files]
    return "+".join(re.sub(r"[^\w.]+", "-", stem).strip("-.") or "study" for stem in stems) or "default"


def source_of(files: list[str], values: dict) -> dict:
    """Return what the records of a study's tables and figures tell of it: its files, and a digest of its merged config.

    Files below the working folder have relative paths, so that results can be moved with them.
    """
    here = Path.cwd()
    paths = [Path(os.path.abspath(file)) for file in files]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=repr).encode()).hexdigest()
    relative = [path.relative_to(here) if path.is_relative_to(here) else path for path in paths]
    return {"files": [str(path) for path in relative], "sha256": digest}


def check_owner(folder: Path, source: dict) -> None:
    """Raise UserError if ``folder`` holds tables or figures of a study of other files.

    The same files may say something else than before, and other files the same.
    """
    for record in sorted(folder.rglob("*.json")):
        files, digest = _owner(record)
        if files and digest != source["sha256"] and files != source["files"]:
            raise UserError(
                f"{folder}: found the tables of {', '.join(files)}, expected those of {', '.join(source['files'])}; "
                "give one of them a name of its own, by the key `name` or by --config name=NAME, or remove the folder"
            )


def _owner(record: Path) -> tuple[list[str], str]:
    """Return files and digest of the study that the record of a table or figure names; no files if it names none."""
    try:
        owner = read_json(record)["study"]
        return [os.fspath(file) for file in owner["files"]], owner["sha256"]
    except (UserError, KeyError, TypeError):  # damaged or of an earlier version: made again
        return [], ""
