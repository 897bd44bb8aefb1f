"""Why a job runs, from Snakemake's reason and the header of what it made before."""

import pytest
from snakemake.jobs import Reason

from kdq.provenance import ledger
from kdq.workflow.lost_records import LostRecords
from kdq.workflow.terminal.causes import UNKNOWN, Causes
from kdq.workflow.terminal.planned import NEW, Cause
from tests.processes.test_lost_records import METRICS, MODEL, records, study  # noqa: F401, a fixture

DATA = ["results/digits/data/split=0.safetensors"]


def reason(**facts) -> Reason:
    """Return a reason of Snakemake's own class."""
    made = Reason()
    for name, value in facts.items():
        setattr(made, f"_{name}" if isinstance(value, set) else name, value)
    return made


def test_the_key_that_changed_is_named_with_its_role(records, home):  # noqa: F811
    causes = Causes(LostRecords(study(home, epochs=7), records.code), forces=False)
    (cause,) = causes.of(MODEL, reason(params_changed=True))
    assert (cause.subject, cause.role) == ("hard", "student")
    assert cause.change.startswith("epochs ") and cause.change.endswith(" -> 7")
    # a job behind another one that runs: Snakemake does not compare its params
    assert causes.of(MODEL, reason(updated_input_run={"a"})) == (cause,)
    assert causes.of(METRICS, reason(updated_input_run={"a"})) == ()
    assert causes.of(METRICS, reason(params_changed=True)) == (Cause("metrics", UNKNOWN),)


def test_the_file_of_code_that_changed_is_named_by_the_ledger(records, monkeypatch):  # noqa: F811
    made_with = records.claim(METRICS[0])[1].code
    network = "kdq/models/networks/resnet.py"
    before = records.code.digests("scripts/evaluate.py", network)
    ledger.note(made_with, before)
    monkeypatch.setattr(records.code, "of", lambda *files: "0" * 16)
    monkeypatch.setattr(records.code, "digests", lambda *files: before | {"kdq/evaluate/metrics.py": "1" * 64})
    changed = (Cause("metrics", "kdq/evaluate/metrics.py changed"),)
    assert Causes(records, forces=False).of(METRICS, reason(params_changed=True)) == changed
    (ledger.FOLDER / f"{made_with}.json").unlink()
    unknown = (Cause("metrics", f"scripts/evaluate.py, {network} or what is imported there changed"),)
    assert Causes(records, forces=False).of(METRICS, reason(params_changed=True)) == unknown


@pytest.mark.parametrize(
    ("facts", "change"),
    [
        ({"missing_output": {"a"}}, NEW),
        ({"forced": True}, "left unfinished by a run that was stopped"),
        ({"updated_input": {"results/b", "results/a"}}, "results/a and 1 more are newer"),
        ({"updated_input": {"results/a", "b"}, "updated_input_run": {"b"}}, "results/a is newer"),
        ({"software_stack_changed": True}, "the software environment changed"),
        ({"input_changed": True}, "other inputs"),
    ],
)
def test_other_reasons_in_words(records, facts, change):  # noqa: F811
    (cause,) = Causes(records, forces=False).of(METRICS, reason(**facts))
    assert (cause.subject, cause.change) == ("metrics", change)


def test_what_the_command_line_forces_and_what_has_no_header(records, tmp_path):  # noqa: F811
    assert Causes(records, forces=True).of(DATA, reason(forced=True)) == (Cause("data", "forced"),)
    (tmp_path / METRICS[0]).write_text("{}")
    assert Causes(records, forces=False).of(METRICS, reason(params_changed=True)) == (Cause("metrics", UNKNOWN),)
    assert Causes(records, forces=False).of(["elsewhere/a.txt"], reason(forced=True))[0].subject == "a"
