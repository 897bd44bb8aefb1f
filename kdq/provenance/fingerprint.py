"""Fingerprints of code: a job's script and stage with all that they import, hashed as syntax, not as text.

Snakemake tracks neither imported modules nor an edit that only touches a comment. A fingerprint follows the imports
inside the package (grimp) from a script and a stage's file, and hashes each file's syntax tree without comments,
positions and documentation (kdq/provenance/documentation.py); it goes into a rule's params, so that exactly the jobs
whose code changed run again.

Every job computes its own, and parsing takes longer than some jobs: results are cached below ``.snakemake/`` with a
digest of the bytes of all files of the package, which are read each time.
"""

import ast
import contextlib
import glob
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import grimp

from kdq.errors import UserError
from kdq.provenance.documentation import documentation, reads_documentation
from kdq.provenance.files import read_json, write_json

PACKAGE = "kdq"
KEPT = Path(".snakemake/code")  # below the working folder; jobs and planning use it, verification does not


class Fingerprints:
    """Fingerprints of the code below ``home``, the folder that holds the package ``kdq`` and the scripts.

    They are cached in the folder ``kept``, if given and if its parent exists. ``read`` returns the content of a file.
    """

    def __init__(self, home, kept: Path | None = None, read: Callable[[Path], bytes] = Path.read_bytes):
        self.home, self.kept, self.read = Path(home), kept, read
        self._graph = None
        self._trees: dict[Path, ast.Module] = {}
        self._readers: dict[Path, bool] = {}
        self._digests: dict[tuple[Path, bool], str] = {}
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
        unchanged = Fingerprints(self.home)._content(files) == content  # on disk: the graph of imports is read there
        if self.kept.parent.is_dir() and unchanged:
            with contextlib.suppress(UserError, OSError):
                write_json(path, {"content": content, "digests": digests}, alone=False)
        return digests

    def _computed(self, files) -> dict[str, str]:
        paths = self.closure(*files)
        documented = any([self._reads_documentation(path) for path in paths])
        return {str(path.relative_to(self.home)): self._digest(path, documented) for path in paths}

    def _content(self, files) -> str:
        """Return one digest of the paths and bytes of ``files`` and of every file of the package."""
        package = glob.iglob(f"{glob.escape(str(self.home))}/{PACKAGE}/**/*.py", recursive=True)
        total = hashlib.sha256()
        for path in sorted({str(self.home / file) for file in files}.union(package)):
            content = self.read(Path(path))
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
            try:
                self._graph = grimp.build_graph(PACKAGE, cache_dir=None)
            except grimp.exceptions.SourceSyntaxError as error:
                raise UserError(f"the code can't be read: {error}") from None
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
        for node in ast.walk(self._tree(path)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        return names & self.graph.modules

    def _tree(self, path: Path) -> ast.Module:
        if path not in self._trees:
            self._trees[path] = parse(path, self.read(path))
        return self._trees[path]

    def _reads_documentation(self, path: Path) -> bool:
        if path not in self._readers:
            self._readers[path] = reads_documentation(self._tree(path))
        return self._readers[path]

    def _digest(self, path: Path, documented: bool) -> str:
        key = path, documented
        if key not in self._digests:
            text = canonical(self._tree(path), set() if documented else None)
            self._digests[key] = hashlib.sha256(text.encode()).hexdigest()
        return self._digests[key]


def combined(digests: dict[str, str]) -> str:
    """Return one digest, 16 hexadecimal digits, of the digests of files by their paths."""
    lines = [f"{path} {digest}" for path, digest in sorted(digests.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def parse(path: Path, content: bytes | None = None) -> ast.Module:
    """Return the syntax tree of a file, or of the ``content`` that it has; raise UserError if it is not Python."""
    try:
        return ast.parse(path.read_bytes() if content is None else content, filename=str(path))
    except SyntaxError as error:
        raise UserError(f"{path}: line {error.lineno}: {error.msg}") from None
    except ValueError as error:
        raise UserError(f"{path}: not Python ({error})") from None


def canonical(node, without: set[int] | None = None) -> str:
    """Return a syntax tree as text without positions and empty fields: equal under every Python version.

    ``without`` are the ids of nodes that are left out, by default those of the documentation.
    """
    without = documentation(node) if without is None else without
    if isinstance(node, list):
        return "[" + ",".join(canonical(item, without) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        kept = [item for item in value if id(item) not in without] if isinstance(value, list) else value
        if name not in ("kind", "type_comment") and kept not in (None, []):
            fields.append(f"{name}={canonical(kept, without)}")
    return f"{type(node).__name__}({','.join(fields)})"
