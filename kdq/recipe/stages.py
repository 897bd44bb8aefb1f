"""Discovery of stages: every file in a kind's folder that declares a class ``Parameters`` is one, named as the file.

Nothing else registers a stage. Its class is taken from the file's syntax tree and evaluated alone, in the vocabulary
of ``kdq.recipe.vocabulary`` and of ``keys.py`` in the kind's folder: the planner learns every key, type and default
without importing torch.
"""

import importlib
import inspect
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

import kdq.recipe.vocabulary
from kdq.declarations import declared
from kdq.errors import UserError, nearest, shown
from kdq.recipe.kinds import KINDS, Kind
from kdq.recipe.vocabulary import Base


@dataclass(frozen=True)
class StageType:
    """A stage that a recipe may name: its name, kind, file and the class of its keys."""

    name: str
    kind: Kind
    file: Path
    keys: type[Base]

    @property
    def module(self) -> str:
        return f"{self.kind.package}.methods.{self.name}"


def find_stages(package: Path) -> dict[str, StageType]:
    """Return all stages of the package folder ``kdq`` by name; raise UserError for a file that can't be read as one.

    Stages are read again if a file of them was changed, added or removed: reading takes 0.2 s.
    """
    files = [(kind, file) for kind in KINDS.values() for file in sorted((package.parent / kind.folder).glob("*.py"))]
    return dict(_read_stages(tuple((kind, file, _signature(file)) for kind, file in files)))


def _signature(file: Path) -> tuple[int, ...]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=16)
def _read_stages(files: tuple[tuple[Kind, Path, tuple], ...]) -> dict[str, StageType]:
    stages: dict[str, StageType] = {}
    for kind, file, _ in files:
        if (declared := read_parameters(file, kind)) is None:
            continue
        if file.stem in stages:
            raise UserError(f"{file}: the stage name {file.stem!r} is taken by {stages[file.stem].file}")
        stages[file.stem] = StageType(file.stem, kind, file, _all_keys(declared, kind, file))
    return stages


def read_parameters(file: Path, kind: Kind) -> type[Base] | None:
    """Return the class ``Parameters`` of a stage's file, or None if the file declares none and so is no stage."""
    vocabulary = {name: getattr(kdq.recipe.vocabulary, name) for name in kdq.recipe.vocabulary.__all__}
    shared = inspect.getmembers(importlib.import_module(f"{kind.package}.keys"), inspect.isclass)
    vocabulary |= {name: value for name, value in shared if issubclass(value, Base)}
    return declared(file, "Parameters", f"{kind.package}.methods.{file.stem}", vocabulary)


def _all_keys(declared: type[Base], kind: Kind, file: Path) -> type[Base]:
    """Return the class of a stage's declared keys and of those that every stage of its kind has."""
    shared = importlib.import_module(f"{kind.package}.keys").SHARED_KEYS
    for base in shared:
        if twice := declared.model_fields.keys() & base.model_fields.keys():
            key = min(twice)
            raise UserError(f"{file}: the key {key!r} is one of every stage of kind {kind.name}; choose another name")
    if not shared:
        return declared
    further = {}
    if kind.learns_from == "parent" and not declared.logits_only and "teacher_cache" not in declared.refuses:
        further = {"teacher_cache": "the method needs more of the teacher than its logits of crops and flips"}
    return type("Parameters", (declared, *shared), {"__module__": __name__, "refuses": further})


def check(keys: type[Base], values: dict, where: str, *, partial: bool = False) -> dict:
    """Return ``values`` in their types, with all defaults unless ``partial``; raise UserError for the first wrong one.

    ``where`` begins the message: a recipe, or a file and key.
    """
    for key in values:
        if key not in keys.model_fields:
            known = sorted(keys.model_fields)
            hint = nearest(key, known)
            raise UserError(f"{where}: unknown key {key!r}{hint or ', expected one of ' + ', '.join(known)}")
    try:
        checked = keys(**values)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error)}") from None
    changed = {key: value for key, value in checked if value != keys.model_fields[key].default}
    for key, reason in _of_all_bases(keys, "refuses").items():
        if key in changed:
            raise UserError(f"{where}: {key}: found {shown(changed[key])}: {reason}")
    for (key, second), reason in _of_all_bases(keys, "conflicts").items():
        second, _, value = second.partition("=")
        if {key, second} <= changed.keys() and value in ("", changed[second]):
            pair = f"{shown(changed[key])} beside {second}={shown(changed[second])}"
            raise UserError(f"{where}: {key}: found {pair}: {reason}")
    if not partial and (wrong := checked.inconsistency()):  # needs the values of all keys
        raise UserError(f"{where}: {wrong}")
    return checked.model_dump(include=set(values) if partial else None)


def _of_all_bases(keys: type[Base], name: str, *arguments) -> dict:
    """Merge the class attribute ``name``, or the results of that class method, over the bases; subclasses win."""
    merged = {}
    for base in reversed(keys.__mro__):
        value = vars(base).get(name, {})
        merged |= value.__func__(keys, *arguments) if isinstance(value, classmethod) else value
    return merged


def unread_keys(keys: type[Base], values: dict) -> dict[str, str]:
    """Return the keys that a stage with ``values`` does not read, as each class says of its own, with the reason."""
    return _of_all_bases(keys, "unread", values)


def settle(keys: type[Base], role: dict, given: dict, where: str) -> dict:
    """Return all keys that a stage reads: those ``given``, then those of its ``role``, then defaults.

    Keys of the role that the stage does not read are dropped. Raise UserError as :func:`check` does, and for such a key
    among those given.
    """
    values = {**role, **given}
    unread = unread_keys(keys, values)
    for key in given:
        if key in unread:
            raise UserError(f"{where}: {key}: found {shown(given[key])}: {unread[key]}")
    checked = check(keys, {key: value for key, value in values.items() if key not in unread}, where)
    for key, expected in keys.required(given).items():
        if not checked[key]:
            raise UserError(f"{where}: {key}: missing, expected {expected}")
    return {key: value for key, value in sorted(checked.items()) if key not in unread}


def explain(error: ValidationError) -> str:
    """Return the first error of a pydantic validation as ``key: found ..., expected ...``."""
    first = error.errors()[0]
    key = _key_of(first)
    # a key of several types (a word or a number) has an error per type
    expected = " or ".join(dict.fromkeys(_expected(each) for each in error.errors() if _key_of(each) == key))
    message = f"{key}: found {shown(first['input'])}, expected {expected}"
    if isinstance(first["input"], str) and "number" in expected and _is_number(first["input"]):
        message += f"; it is text to YAML, write {float(first['input'])}"
    if first["type"] == "literal_error":
        choices = first["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        message += nearest(first["input"], choices)
    return message


def _key_of(error: dict) -> str:
    """Return the key of an error without the marks that pydantic adds for the choices of a union."""
    parts = [str(part) for part in error["loc"]]
    marks = ("literal[", "constrained-")
    return ".".join(part for part in parts if part not in ("float", "int") and not part.startswith(marks))


def _expected(error: dict) -> str:
    if error["type"] == "model_type":
        return "keys with values"
    return error["msg"].removeprefix("Input should be ").removeprefix("a valid ").removeprefix("Value error, ")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
