"""The check of requested tables and figures: whether they are files of this run's study."""

from pathlib import PurePath

from kdq.errors import UserError, nearest
from kdq.recipe.path import RESULTS, STUDIES, study_folder
from kdq.report.figures import FIGURES
from kdq.report.jobs import TABLES

FIGURE_FORMS = (".png", ".svg", ".json")


def check(target: str, study: str, datasets) -> None:
    """Raise UserError, one line with the right path, for a table or figure that is none of the study of that name.

    ``datasets`` are those of the study.
    """
    folder = study_folder(study)
    tables = [PurePath(path).name for rule in TABLES.values() for path in rule.files(study)]
    match PurePath(target).parts:
        case [results, name] if results == RESULTS and name in tables:
            raise UserError(f"{target}: tables and figures are those of a study, expected {folder}/{name}")
        case [results, dataset, "figures", name] if results == RESULTS and name.endswith(FIGURE_FORMS):
            raise UserError(
                f"{target}: tables and figures are those of a study, expected {folder}/figures/{dataset}/{name}"
            )
        case [results, studies, name, _, *_] if (results, studies) == (RESULTS, STUDIES) and name != study:
            raise UserError(f"{target}: found the study {name!r}, expected {study!r}, whose config this run has")
        case [results, studies, _, name] if (results, studies) == (RESULTS, STUDIES) and name not in tables:
            raise UserError(f"{target}: ends in {name!r}, expected one of {', '.join(tables)}{nearest(name, tables)}")
        case [results, studies, _, "figures", dataset, name] if (results, studies) == (RESULTS, STUDIES):
            if PurePath(name).stem not in FIGURES:
                suggestion = nearest(PurePath(name).stem, FIGURES)
                raise UserError(f"{target}: there is no such figure, expected one of {', '.join(FIGURES)}{suggestion}")
            if dataset not in datasets:
                raise UserError(f"{target}: found the data set {dataset!r}, expected one of {', '.join(datasets)}")
