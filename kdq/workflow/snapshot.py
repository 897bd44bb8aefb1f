"""The code of a job: every file is read once, so what is imported is what is fingerprinted, whenever that happens.

Without it an edit between planning and an import, taken back before the check, or an edit before a late import would
run unnoticed; so would bytecode of an edit of the same size within the same second, by which Python tells files apart.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path

PACKAGE = __name__.partition(".")[0]
_contents: dict[Path, bytes] = {}


def read(path) -> bytes:
    """Return the content of a file of code as it was at the first call for it."""
    path = Path(path).resolve()
    if path not in _contents:
        _contents[path] = path.read_bytes()
    return _contents[path]


class Loader(SourceFileLoader):
    """Compiles a module from the snapshot; bytecode on disk is not trusted."""

    def get_code(self, fullname):
        return self.source_to_code(read(self.path), self.path)


class Finder(MetaPathFinder):
    """Finds the modules of the package as Python does, to be loaded from the snapshot."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] != PACKAGE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and type(spec.loader) is SourceFileLoader:
            spec.loader = Loader(fullname, spec.origin)
        return spec


def run(script: str, **names) -> None:
    """Run a script, and import what it needs of the package, from the snapshot; ``names`` are its globals.

    Modules that are imported already are imported again.
    """
    sys.meta_path.insert(0, Finder())
    for module in [name for name in sys.modules if name.partition(".")[0] == PACKAGE and name != __name__]:
        del sys.modules[module]
    exec(compile(read(script), script, "exec"), {"__name__": "<script>", "__file__": script, **names})
