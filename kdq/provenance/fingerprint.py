"""Fingerprints of code: a job's script and stage with all that they import, hashed as syntax, not as text.

Snakemake tracks neither imported modules nor an edit that only touches a comment. A fingerprint follows the imports
inside the package (grimp) from a script and a stage's file, and hashes each file's syntax tree without comments,
docstrings and positions; it goes into a rule's params, so that exactly the jobs whose code changed run again.

Every job computes its own, and parsing takes longer than some jobs: results are cached below ``.snakemake/`` with a
digest of the bytes of all files of the package, which are read each time.
"""

import ast
import contextlib
import glob
import hashlib
import json
from pathlib import Path

import grimp

from kdq.errors import UserError
from kdq.provenance.files import read_json, write_json

PACKAGE = "kdq"
KEPT = Path(".snakemake/code")  # below the working folder; jobs and planning use it, verification does not


class Fingerprints:
    """Fingerprints of the code below ``home``, the folder that holds the package ``kdq`` and the scripts.

    They are cached in the folder ``kept``, if given and if its parent exists.
    """

    def __init__(self, home, kept: Path | None = None):
        self.home, self.kept = Path(home), kept
        self._graph = None
        self._digests: dict[Path, str] = {}
        self._results: dict[tuple, str] = {}

    def of(self, *files) -> str:
        """Return one digest, 16 hexadecimal digits, of ``files`` and all that they import from the package."""
        key = tuple(str(file) for file in files)
        if key not in self._results:
            self._results[key] = combined(self.digests(*files))
        return self._results[key]

    def digests(self, *files) -> dict[str, str]:
        """Return the digest of each file that the fingerprint of ``files`` covers, by its path below ``home``."""
        if self.kept is None:
            return self._computed(files)
        path = self.kept / f"{hashlib.sha256(json.dumps([str(file) for file in files]).encode()).hexdigest()[:16]}.json"
        content = self._content(files)
        with contextlib.suppress(UserError):  # missing or damaged
            if (known := read_json(path, sealed=True)).get("content") == content:
                return known["digests"]
        digests = self._computed(files)
        if self.kept.parent.is_dir() and content == self._content(files):  # not edited meanwhile
            with contextlib.suppress(UserError, OSError):
                write_json(path, {"content": content, "digests": digests}, alone=False)
        return digests

    def _computed(self, files) -> dict[str, str]:
        return {str(path.relative_to(self.home)): self._digest(path) for path in self.closure(*files)}

    def _content(self, files) -> str:
        """Return one digest of the paths and bytes of ``files`` and of every file of the package."""
        package = glob.iglob(f"{glob.escape(str(self.home))}/{PACKAGE}/**/*.py", recursive=True)
        total = hashlib.sha256()
        for path in sorted({str(self.home / file) for file in files}.union(package)):
            with open(path, "rb") as file:
                content = file.read()
            total.update(f"{path} {len(content)} ".encode())
            total.update(content)
        return total.hexdigest()

    def closure(self, *files) -> list[Path]:
        """Return the files and every file of the package that they import, directly or not, sorted."""
        package = (self.home / PACKAGE).resolve()
        paths = {(self.home / file).resolve() for file in files}
        modules = set()
        for path in paths:
            modules |= {self._module(path)} if path.is_relative_to(package) else self._imports_of_script(path)
        upstream = set().union(*(self.graph.find_upstream_modules(module) for module in modules))
        return sorted(paths | {self._path(module) for module in modules | upstream})

    @property
    def graph(self):
        """The graph of imports; a module also imports the package that it lies in, as Python does."""
        if self._graph is None:
            self._graph = grimp.build_graph(PACKAGE, cache_dir=None)
            for module in self._graph.modules - {PACKAGE}:
                self._graph.add_import(importer=module, imported=module.rpartition(".")[0])
        return self._graph

    def _module(self, path: Path) -> str:
        parts = list(path.relative_to(self.home.resolve()).with_suffix("").parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def _path(self, module: str) -> Path:
        base = self.home.resolve().joinpath(*module.split("."))
        return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")

    def _imports_of_script(self, path: Path) -> set[str]:
        """Return the modules of the package that a script outside of it imports."""
        names = set()
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        return names & self.graph.modules

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = hashlib.sha256(canonical(parse(path)).encode()).hexdigest()
        return self._digests[path]


def combined(digests: dict[str, str]) -> str:
    """Return one digest, 16 hexadecimal digits, of the digests of files by their paths."""
    lines = [f"{path} {digest}" for path, digest in sorted(digests.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file; raise UserError with file and line if it is not Python."""
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise UserError(f"{path}: line {error.lineno}: {error.msg}") from None


def canonical(node) -> str:
    """Return a syntax tree as text without positions, docstrings and empty fields: equal under every Python version.

    The ``description`` of a key is documentation and left out like a docstring.
    """
    if isinstance(node, list):
        kept = [item for item in node if not (isinstance(item, ast.keyword) and item.arg == "description")]
        return "[" + ",".join(canonical(item) for item in kept) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list) and _has_docstring(node):
            value = value[1:]
        if name not in ("kind", "type_comment") and value not in (None, []):
            fields.append(f"{name}={canonical(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _has_docstring(node) -> bool:
    documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    return documented and ast.get_docstring(node, clean=False) is not None
