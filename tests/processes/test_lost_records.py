"""What headers tell of results without a record, without Snakemake."""

import json
from types import SimpleNamespace

import pytest
from snakemake.persistence import ParamsChange

from kdq.provenance.fingerprint import Fingerprints
from kdq.study.config import read_study
from kdq.study.products import Products
from kdq.workflow.lost_records import LostRecords, header
from tests.verify.made_up import Results

CELL = "results/digits/seed=0/hard"
MODEL = [f"{CELL}/model.safetensors", f"{CELL}/history.csv"]
METRICS = [f"{CELL}/metrics.json", f"{CELL}/predictions.safetensors"]
UNCHANGED = (set(), set())


def study(home, **student):
    values = {"datasets": ["digits"], "seeds": [0], "recipes": ["hard"], "student": student}
    return read_study(values, home / "kdq")


@pytest.fixture
def records(home, tmp_path, monkeypatch):
    """The records of a study whose one cell and data are there, with headers alone."""
    monkeypatch.chdir(tmp_path)
    products = Products(study(home), Fingerprints(home))
    results = Results(products, tmp_path, 0.0625)
    results.data("digits")
    results.cell("digits", 0, products.study.recipes[0])
    return LostRecords(products.study, products.code)


@pytest.mark.parametrize("files", [MODEL, METRICS, ["results/digits/data/split=0.safetensors"]])
def test_what_this_code_made_is_unchanged(records, files):
    assert records.change(files) == UNCHANGED


def test_other_keys_and_other_code_are_named(records, home, monkeypatch):
    changed = LostRecords(study(home, epochs=7), records.code)
    before, now = changed.change(MODEL)
    assert now == {"epochs=7"} and len(before) == 1
    monkeypatch.setattr(records.code, "of", lambda *files: "0" * 16)
    assert LostRecords(records.study, records.code).change(METRICS)[1] == {"code " + "0" * 16}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"[" * 100_000, b'{"evaluation": 1}', None])
def test_a_file_without_a_readable_header_tells_nothing(records, content, tmp_path):
    (tmp_path / METRICS[0]).unlink()
    (tmp_path / METRICS[0]).mkdir() if content is None else (tmp_path / METRICS[0]).write_bytes(content)
    assert records.change(METRICS) is None
    (tmp_path / MODEL[0]).write_bytes(content or b"")
    assert records.change(MODEL) is None
    assert records.change(["results/table.csv"]) is None  # missing
    assert records.report(are_made_again=True) == []


def test_a_header_is_read_without_the_seal(tmp_path):
    file = tmp_path / "sensitivity.csv"
    file.write_text('# {"provenance": {"code": "c"}}\nkl\n')
    assert header(str(file)) == {"provenance": {"code": "c"}}
    file.with_suffix(".json").write_text(json.dumps({"job": {}}))
    assert header(str(file.with_suffix(".json"))) == {"job": {}}


class Persistence:
    """Snakemake's records, of the files ``known`` alone."""

    def __init__(self, *known):
        self.known = set(known)

    def has_metadata(self, job):
        return self.known.issuperset(job.output)

    def params_changed(self, job, file=None):
        return ParamsChange()


def test_records_that_exist_decide_and_no_header_is_read(records, home):
    changed = LostRecords(study(home, epochs=7), records.code)
    persistence, job = Persistence(*MODEL), SimpleNamespace(output=MODEL)
    changed.use(persistence)
    assert persistence.has_metadata(job) and not persistence.params_changed(job)
    assert changed.report(are_made_again=True) == []


def test_without_a_record_the_header_decides(records, home):
    changed = LostRecords(study(home, epochs=7), records.code)
    persistence, job = Persistence(), SimpleNamespace(output=MODEL)
    changed.use(persistence)
    assert persistence.has_metadata(job)
    change = persistence.params_changed(job)
    assert change.only_new == {"epochs=7"} and set(change) == {MODEL[0]}
    assert not persistence.has_metadata(SimpleNamespace(output=["results/table.csv"]))
    assert len(changed.report(are_made_again=True)) == 2


def test_a_rule_without_output_has_nothing_to_look_up(records):
    persistence, job = Persistence(), SimpleNamespace(output=[])
    records.use(persistence)
    assert persistence.has_metadata(job) and not persistence.params_changed(job)


def test_unknown_records_are_left_alone(records):
    unknown = SimpleNamespace()
    records.use(unknown)
    assert vars(unknown) == {}
