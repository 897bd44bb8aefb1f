"""What a node is told to run is read as it was meant: every recipe comes through, and one without quotes is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snakemake_interface_executor_plugins.utils import TargetSpec, encode_target_jobs_cli_args

from kdq.errors import UserError
from kdq.workflow.snakemake_fixes.target_jobs import target_jobs

NAMES = {"evaluate": {"dataset", "seed", "parent", "stage"}, "all": set()}
stages = st.from_regex(r"[a-z]{1,4}(,[a-z_]{1,5}=[0-9a-z.]{1,4}){0,3}", fullmatch=True)


def read(words):
    return target_jobs(["snakemake", "--target-jobs", *words, "--cores", "all"], NAMES.get)


@given(st.lists(stages, min_size=1, max_size=3), stages, st.integers(0, 9))
def test_what_snakemake_writes_is_read_back(parents, stage, seed):
    wildcards = {"dataset": "digits", "seed": str(seed), "parent": "/".join(parents), "stage": stage}
    assert read(encode_target_jobs_cli_args([TargetSpec("evaluate", wildcards)])) == [("evaluate", wildcards)]


def test_several_jobs_and_none():
    word = "evaluate:dataset=digits,seed=0,parent=hard,stage="
    assert [wildcards["stage"] for _, wildcards in read([f'{word}"rtn,bits=3"', f"{word}rtn"])] == ["rtn,bits=3", "rtn"]
    assert read(["all:"]) == [("all", {})]
    assert target_jobs(["snakemake", "--cores", "2"], NAMES.get) == []


@pytest.mark.parametrize("stage", ["rtn,bits=3", "teacher,seed=0", "kd,stage=2"])
def test_a_recipe_that_lost_its_quotes_is_refused(stage):
    with pytest.raises(UserError, match="slurm-pass-command-as-script: true"):
        read([f"evaluate:dataset=digits,seed=0,parent=hard,stage={stage}"])
