"""The figures: every file in this folder that declares ``FIGURE = Figure(...)`` is one, named as the file.

Nothing else registers a figure. The declaration is evaluated alone, from the file's syntax tree: the planner learns
inputs and captions without importing matplotlib or pandas. The file also has ``read(*paths)`` and
``draw(data, dataset, **parameters)``, which returns the drawn figure.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

from kdq.errors import UserError


@dataclass(frozen=True)
class Figure:
    """A figure of a data set.

    ``shows`` is the attribute of :class:`kdq.report.contents.Contents` without which there is nothing to draw. The
    figure is drawn from ``table``, or from the ``cell_file`` of every recipe in that attribute. ``parameters`` are
    further attributes that ``draw`` is given. ``label`` and ``caption`` (reStructuredText) are those in the report.
    """

    label: str
    caption: str
    shows: str
    table: str = ""
    cell_file: str = ""
    parameters: tuple[str, ...] = ()
    name: str = ""

    @property
    def module(self) -> str:
        return f"{__name__}.{self.name}"

    @property
    def code(self) -> tuple[str, ...]:
        """The files whose code, imports included, the figure depends on."""
        return "scripts/plot.py", f"{self.module.replace('.', '/')}.py"


def find_figures(folder: Path) -> dict[str, Figure]:
    """Return the figures in ``folder`` by name; raise UserError for a file whose declaration can't be read."""
    figures = {}
    for file in sorted(folder.glob("*.py")):
        try:
            nodes = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Assign)]
            for node in nodes:
                if isinstance(node.targets[0], ast.Name) and node.targets[0].id == "FIGURE":
                    arguments = {word.arg: ast.literal_eval(word.value) for word in node.value.keywords}
                    figures[file.stem] = Figure(**arguments, name=file.stem)
        except (SyntaxError, TypeError, ValueError) as error:
            raise UserError(f"{file}: not readable as a figure ({error}); expected FIGURE = Figure(...)") from None
    return figures


FIGURES = find_figures(Path(__file__).parent)
