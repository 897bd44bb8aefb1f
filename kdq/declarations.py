"""Classes that files declare, evaluated alone: planning learns what there is without importing torch.

A stage declares its keys so, a network its names, a data set its size. Nothing else registers them.
"""

import ast
import importlib
from pathlib import Path
from types import ModuleType

from kdq.errors import UserError, nearest


class Declaration:
    """Base of what the files of a folder declare, such as :class:`kdq.models.family.Family`."""

    @classmethod
    def module(cls) -> ModuleType:
        """Return the module of the file, imported."""
        return importlib.import_module(cls.__module__)

    @classmethod
    def file(cls) -> str:
        """Return the file, relative to the folder that holds the package."""
        return file_of(cls.__module__)


def declared(file: Path, name: str, module: str, vocabulary: dict) -> type | None:
    """Return the class ``name`` of a file, None if it declares none.

    It is taken from the file's syntax tree and may use the names of ``vocabulary`` alone; ``module`` is the name that
    the file is imported by. Raise UserError if the file is not Python or the class can't be evaluated.
    """
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        raise UserError(f"{file}: line {error.lineno}: {error.msg}") from None
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    if not classes:
        return None
    namespace = {"__name__": module, **vocabulary}
    try:
        exec(compile(ast.Module(classes, type_ignores=[]), str(file), "exec"), namespace)
    except Exception as error:
        raise UserError(f"{file}: the class {name}: {error}; it may use {', '.join(sorted(vocabulary))}") from None
    return namespace[name]


def all_declared(folder: Path, name: str, package: str, base: type, vocabulary: dict) -> list[type]:
    """Return the classes ``name`` of all files in a folder, by the files' names; see :func:`declared`.

    Raise UserError too if one is not derived from ``base`` or sets an attribute that ``base`` does not have.
    """
    found = []
    for file in sorted(folder.glob("*.py")):
        if declaration := declared(file, name, f"{package}.{file.stem}", vocabulary | {base.__name__: base}):
            if not issubclass(declaration, base):
                raise UserError(f"{file}: the class {name}: found no base, expected {base.__name__}")
            _check_attributes(file, declaration, base)
            found.append(declaration)
    return found


def _check_attributes(file: Path, declaration: type, base: type) -> None:
    known = sorted(attribute for attribute in {*dir(base), *base.__annotations__} if not attribute.startswith("_"))
    for attribute in vars(declaration):
        if not attribute.startswith("_") and attribute not in known:
            expected = f"expected one of {', '.join(known)}{nearest(attribute, known)}"
            raise UserError(f"{file}: the class {declaration.__name__}: unknown {attribute!r}, {expected}")


def file_of(module: str) -> str:
    """Return the file of a module, relative to the folder that holds the package."""
    return f"{module.replace('.', '/')}.py"
