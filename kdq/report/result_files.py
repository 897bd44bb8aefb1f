"""List the results of a study: the last lines of ``make run``."""

from pathlib import Path

from kdq.provenance.verify import study
from kdq.recipe.path import study_folder
from kdq.stdout import print_lines


def result_files(folder) -> list[str]:
    """Return the paths of the tables and of the folders of figures in the folder of a study."""
    folder = Path(folder)
    return [str(path) for path in (*sorted(folder.glob("*.csv")), *sorted(folder.glob("figures/*")))]


if __name__ == "__main__":
    files = [f"  {path}" for path in result_files(study_folder(study.products([]).study.name))]
    last = "One page with all of them: snakemake --report report.html"
    print_lines(["The results of this study:", *files, last])
