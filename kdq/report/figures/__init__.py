"""The figures: every file in this folder that declares ``FIGURE = Figure(...)`` is one, named as the file.

Nothing else registers a figure. The first line of the file's docstring is the figure's label in the report, the rest
its caption (reStructuredText). Both and the declaration are taken from the syntax tree, so that the planner learns them
without importing matplotlib or pandas. The file also defines ``read(*paths)``, which returns data, and
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
    figure is drawn from ``table``, and the one ``beside`` it if the study has that, or from the ``cell_file`` of every
    recipe in that attribute. ``parameters`` are further attributes that ``draw`` is given. The rest is the file's.
    """

    shows: str
    table: str = ""
    beside: str = ""
    cell_file: str = ""
    parameters: tuple[str, ...] = ()
    name: str = ""
    label: str = ""
    caption: str = ""

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
            tree = ast.parse(file.read_bytes())
            for node in tree.body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FIGURE":
                    arguments = {word.arg: ast.literal_eval(word.value) for word in node.value.keywords}
                    label, _, caption = (ast.get_docstring(tree) or file.stem).partition("\n\n")
                    figures[file.stem] = Figure(**arguments, name=file.stem, label=label, caption=caption)
        except (AttributeError, SyntaxError, TypeError, ValueError) as error:
            raise UserError(f"{file}: not readable as a figure ({error}); expected FIGURE = Figure(...)") from None
    return figures


FIGURES = find_figures(Path(__file__).parent)
