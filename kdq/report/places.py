"""Say where the results lie: the last line of ``make run``."""

from pathlib import Path


def places(folder) -> list[str]:
    """The tables and the folders of figures that there are below ``folder``, as paths."""
    folder = Path(folder)
    found = [
        *folder.glob("table.csv"),
        *folder.glob("summary.csv"),
        *folder.glob("layers.csv"),
        *folder.glob("sensitivity.csv"),
        *folder.glob("comparisons.csv"),
        *folder.glob("sequences.csv"),
        *sorted(folder.glob("*/figures")),
    ]
    return [str(path) for path in found]


if __name__ == "__main__":
    print("The results of this study:")
    print("\n".join(f"  {path}" for path in places("results")))
    print("One page with all of them: snakemake --report report.html")
