"""The table of sensitivities: the rows of all files, each with the cell that its path names."""

from kdq.quantize.bits.sensitivity_table import Measurement, write
from kdq.recipe.path import Cell
from kdq.report.tables import sensitivities


def file(folder, seed, recipe, kl):
    path = folder / f"results/digits/seed={seed}" / recipe / "sensitivity.csv"
    path.parent.mkdir(parents=True)
    write(path, [Measurement(layer, 60, 5, 4, kl, -0.125, 0.25, 0.5) for layer in ("stem", "fc")], Cell.of(path))
    return path.relative_to(folder)


def test_rows_are_those_of_the_files_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [
        file(tmp_path, seed, recipe, 0.5) for recipe in ("teacher/kd/gpfq,images=64", "hard/rtn") for seed in (1, 0)
    ]
    rows = sensitivities.rows(files)
    assert list(rows[["recipe", "seed", "layer"]].itertuples(index=False, name=None)) == [
        (recipe, seed, layer)
        for recipe in ("hard/rtn", "teacher/kd/gpfq,images=64")
        for seed in (0, 1)
        for layer in ("stem", "fc")
    ]


def test_small_divergences_keep_six_digits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = sensitivities.rows([file(tmp_path, 0, "hard/gpfq", 1.234567e-9)])
    sensitivities.SCHEMA.write("sensitivity.csv", rows)
    assert sensitivities.SCHEMA.read("sensitivity.csv").equals(rows.assign(kl=1.23457e-9))
