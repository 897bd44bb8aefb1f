"""A profile for SLURM where there is none is refused in one line."""

import re

import pytest
import yaml

from kdq.errors import UserError
from kdq.workflow import slurm


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Return a function that makes the commands of SLURM, of which squeue runs ``script``."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(script: str) -> None:
        for name in slurm.COMMANDS:
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)

    return make


def test_a_controller_that_answers_is_enough(commands):
    commands("echo 1 job")
    slurm.check()


def test_a_missing_command_is_named(commands, tmp_path):
    with pytest.raises(UserError, match="^sbatch: no such command .*leave out --workflow-profile"):
        slurm.check()
    commands("exit 0")
    (tmp_path / "scancel").unlink()
    with pytest.raises(UserError, match="^scancel: no such command"):
        slurm.check()


@pytest.mark.parametrize(
    ("script", "match"),
    [
        ("echo first >&2; echo 'Unable to contact slurm controller' >&2; exit 1", "found 'Unable to contact slurm"),
        ("exit 3", "found 'exit code 3'"),
        ("exec /no/such/program", "found '.*no/such/program"),
    ],
)
def test_a_controller_that_does_not_answer_is_one_line(commands, script, match):
    commands(script)
    with pytest.raises(UserError, match=match) as error:
        slurm.check()
    assert "\n" not in str(error.value)


def test_profile_and_page_name_every_rule_with_a_gpu(home):
    """On a cluster without GPUs each of them must be told so, or its jobs stay pending."""
    rules = re.findall(r"\ngpu=ESTIMATES\.gpus\(\"(\w+)\"\)", re.sub(r"\n +", "\n", _rules(home)))
    assert set(rules) >= {"root", "distill", "retrain", "teacher_cache"}
    profile = yaml.safe_load((home / "profiles/slurm/profile.yaml").read_text())
    on_gpus = {rule for rule, resources in profile["set-resources"].items() if "slurm_partition" in resources}
    assert on_gpus == set(rules)
    page = (home / "docs/slurm.md").read_text()
    (advice,) = re.findall(r"A cluster without GPUs:[^.]*\.", page)
    assert set(re.findall(r"`(\w+)[:`]", advice)) == set(rules)


def _rules(home) -> str:
    return "".join(file.read_text() for file in sorted((home / "rules").glob("*.smk")))
