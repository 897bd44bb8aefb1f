"""The scripts of the stages that train from a parent: the code that runs is the code that was checked."""

import runpy
import sys
from types import SimpleNamespace

import pytest

from kdq.errors import UserError
from kdq.workflow import job


@pytest.mark.parametrize("script", ["distill", "retrain"])
def test_a_method_is_imported_before_its_code_is_checked(script, home, tmp_path, monkeypatch):
    """An edit between the two would train by the new code under the fingerprint of the old."""
    imported = []

    def check_code(planned, *files):
        imported.append("made_up_method" in sys.modules)
        raise UserError("the check comes now")

    (tmp_path / "made_up_method.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(job, "check_code", check_code)
    plan = {"module": "made_up_method", "code": "planned", "files": ["made_up_method.py"], "keys": {}}
    output = SimpleNamespace(model="results/digits/seed=0/teacher/made_up/model.safetensors")
    snakemake = SimpleNamespace(log=[tmp_path / "log"], threads=1, params=SimpleNamespace(job=plan), output=output)
    with pytest.raises(SystemExit):
        runpy.run_path(str(home / f"scripts/{script}.py"), {"snakemake": snakemake})
    sys.modules.pop("made_up_method")
    assert imported == [True] and "the check comes now" in (tmp_path / "log").read_text()
