"""Verification of a study from unlike machines, and after another number of threads."""

import pytest

from kdq.provenance.verify import study
from kdq.provenance.verify.__main__ import main
from tests.verify.test_verify import KD, SEED, TABLES, copy, made, workflow  # noqa: F401


@pytest.fixture
def output(copy, monkeypatch, capsys):  # noqa: F811
    """Output of ``make verify`` for the copy, fresh files left out, and its exit code."""

    def output():
        monkeypatch.setattr(study, "products", lambda files: workflow(copy.folder, {}))
        code = main([str(copy.folder / "results"), "--quiet"])
        return capsys.readouterr().out.splitlines(), code

    return output


def test_a_mixture_is_told_in_a_line_each_and_its_files_stay_fresh(copy, output):  # noqa: F811
    for folder, precision, device in ((KD, "float32", "cpu A"), (f"{SEED}/hard", "bfloat16", "cpu B")):
        made_by = {"precision": precision, "device": device, "torch": "2"}
        header = {"keys": {"precision": "auto"}, "provenance": made_by}
        copy.rewrite(f"{folder}/metrics.json", lambda metrics, header=header: metrics.update(header))
    lines, _ = output()
    assert [line for line in lines if line.startswith(("precision", "machines"))] == [
        "precision: auto was bfloat16 for 1 of 2 models, float32 for 1; their comparisons have no verdict, the key "
        "precision sets one",
        "machines differ: trained cpu A (torch 2) for 1 of 2 models, cpu B (torch 2) for 1",
    ]
    assert not [path for path in copy() if path not in TABLES]


def test_a_study_of_one_machine_has_no_such_line(copy, output):  # noqa: F811
    lines, code = output()
    assert len(lines) == 1 and code == 0


def test_other_threads_make_what_is_trained_or_quantized_stale(copy):  # noqa: F811
    found = copy(threads=2)
    models = {path for path in copy.files() if path.endswith("/model.safetensors")}
    models -= {path for path in models if path.endswith("/teacher,seed=0/model.safetensors")}  # copies
    by_themselves = {path for path, (_, reason) in found.items() if "threads: 1 -> 2" in reason}
    histories = {path for path in copy.files() if path.endswith("history.csv") and "/teacher,seed=0/" not in path}
    assert by_themselves == {*models, *histories, f"{KD}/rtn/sensitivity.csv"}
    assert found[f"{KD}/model.safetensors"][1].startswith("parameter kd.threads: 1 -> 2")
    assert {path for path in copy.files() if path not in found} == {
        path for path in copy.files() if path.startswith(("results/code/", "results/digits/data/"))
    }
