"""List the results of a study: the last lines of ``make run``."""

from pathlib import Path

from kdq.provenance.verify import study
from kdq.recipe.path import study_folder, table_file
from kdq.stdout import print_lines


def result_files(folder) -> list[str]:
    """Return the paths of the tables and of the folders of figures in the folder of a study."""
    folder = Path(folder)
    return [str(path) for path in (*sorted(folder.glob("*.csv")), *sorted(folder.glob("figures/*")))]


def quickest(deployment) -> list[str]:
    """Return lines on the quickest model, none if there is no table of deployment in the file ``deployment``."""
    if not Path(deployment).exists():
        return []
    from kdq.report import fastest
    from kdq.report.tables.deployment import SCHEMA

    return fastest.lines(SCHEMA.read(deployment))


if __name__ == "__main__":
    name = study.products([]).study.name
    files = [f"  {path}" for path in result_files(study_folder(name))]
    last = "One page with all of them: snakemake --report report.html"
    print_lines(["The results of this study:", *files, *quickest(table_file(name, "deployment")), last])
