"""The threads of a study: another number plans what it changes, and a job takes them whatever Snakemake has."""

import json

import pytest

from kdq.provenance.files import read_header
from kdq.provenance.formats import MODEL
from kdq.study.config import read_study
from kdq.study.products import computed_with
from kdq.workflow.job import request
from tests.workflow.test_reruns import ALL_FIGURES, TABLES, TRAINED, made, quantized


@pytest.fixture
def study(home):
    return read_study({"datasets": ["digits"], "seeds": [0], "recipes": ["hard"], "threads": 3}, home / "kdq")


def test_what_is_trained_or_quantized_depends_on_them_and_an_imported_network_does_not(study):
    assert computed_with(study, {"source": "train"}) == computed_with(study, {"bits": 4}) == {"threads": 3}
    assert computed_with(study, {"source": "hub"}) == computed_with(study, {"source": "transformers"}) == {}


@pytest.mark.parametrize(("job", "expected"), [({"threads": 2}, 2), ({}, 1)])
def test_a_job_has_those_of_the_study_if_snakemake_gives_fewer(job, expected):
    arguments = ["a.py", "--threads", "1", "--log", "l", "--job", json.dumps(job)]
    assert request(arguments)[1].threads == expected


def test_another_number_plans_every_model_and_nothing_else(finished):
    with finished.configured({"threads": 2}):
        assert finished.plan() == made(TRAINED, quantized()) | TABLES | ALL_FIGURES
    assert finished.plan() == set()


def test_with_fewer_cores_the_run_says_so_and_the_model_has_them(fresh):
    fresh.configure({"threads": 2, "student": {"epochs": 1}})
    model = "results/digits/seed=0/hard/model.safetensors"
    done = fresh.run("--cores", "1", model)
    assert done.returncode == 0, done.stderr
    assert "threads: 2, but 1 cores: jobs take 2 threads, on which their bytes depend" in done.stderr
    assert read_header(fresh.folder / model, MODEL)["provenance"]["threads"] == 2
    assert ", 2 threads" in (fresh.folder / "logs/root/digits/seed=0/hard.log").read_text()
