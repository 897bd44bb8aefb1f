"""Models trained in what `auto` was on unlike machines: marked in every table, and compared without a verdict."""

import numpy as np
import pytest

from kdq.provenance.mixtures import mixtures
from kdq.recipe.path import Cell
from kdq.report.tables import cells as table
from kdq.report.tables import comparisons, sequences, summary
from tests.report.cells import KINDS, cell, records

ALL_KINDS = {**KINDS, "hard": "root"}
AMD, INTEL = "cpu x86_64 AMD AVX512 bf16", "cpu x86_64 Intel AVX2"


def trained(recipe, precision, seed=0, key="auto", device=AMD, evaluated=AMD):
    """Metrics of a model; of a quantized one with ``precision`` None."""
    made_by = {"device": device, "torch": "2"} | ({"precision": precision} if precision else {})
    keys = {"precision": key} if precision else {"bits": 4}
    metrics = cell(recipe, seed, keys=keys, errors=() if precision else [0.1])
    return metrics | {"provenance": made_by, "evaluation": {"device": evaluated, "torch": "2"}}


def column(cells) -> dict:
    return {row["recipe"]: row["auto_precision"] for row in records(table.rows(cells, ALL_KINDS))}


def test_a_model_has_the_precisions_of_all_that_it_descends_from():
    cells = [trained("teacher", "bfloat16"), trained("teacher/kd", "float32"), trained("teacher/kd/rtn,bits=4", None)]
    cells += [trained("hard", "float32"), trained("hard/rtn,bits=4", None)]
    both = "bfloat16+float32"
    expected = {"teacher": "bfloat16", "teacher/kd": both, "teacher/kd/rtn,bits=4": both}
    assert column(cells) == expected | {"hard": "float32", "hard/rtn,bits=4": "float32"}


def test_a_precision_that_the_config_names_is_no_mixture():
    cells = [trained("teacher", "bfloat16"), trained("teacher/kd", "float32", key="float32")]
    assert column(cells) == {"teacher": "bfloat16", "teacher/kd": "bfloat16"}
    assert mixtures(cells) == []
    imported = cell("teacher") | {"provenance": {}}
    assert column([imported]) == {"teacher": None}


def compared(precisions, seeds=4):
    """Rows of the comparisons of models by recipe, each with what `auto` was under every seed."""
    cells = [
        trained(recipe, names[seed % len(names)], seed) for recipe, names in precisions.items() for seed in range(seeds)
    ]
    shares = dict(zip(precisions, (0.9, 0.5, 0.1), strict=False))
    correct = {
        Cell("digits", seed, recipe): np.random.default_rng(10 * place + seed).random(200) < shares[recipe]
        for place, recipe in enumerate(precisions)
        for seed in range(seeds)
    }
    rows = table.rows(cells, ALL_KINDS)
    return (
        rows,
        correct,
        {(row["recipe"], row["other"]): row for row in records(comparisons.rows(rows, ALL_KINDS, correct))},
    )


def test_across_precisions_there_is_no_verdict_and_the_note_says_why():
    _, _, rows = compared({"hard": ["float32"], "teacher": ["bfloat16"], "hard,epochs=9": ["float32"]})
    mixed, same = rows["teacher", "hard"], rows["hard,epochs=9", "hard"]
    assert mixed["verdict"] is None and mixed["note"] == comparisons.MIXED
    assert mixed["p"] < 0.01 and mixed["p_holm"] is None  # the numbers stay
    assert same["verdict"] == "worse" and same["note"] is None


def test_one_seed_in_another_precision_is_enough():
    _, _, rows = compared({"hard": ["bfloat16"], "teacher": ["bfloat16", "bfloat16", "bfloat16", "float32"]})
    assert rows["teacher", "hard"]["note"] == comparisons.MIXED
    _, _, rows = compared({"hard": ["bfloat16"], "teacher": ["float32"]}, seeds=1)
    assert rows["teacher", "hard"]["note"] == f"{comparisons.SINGLE_SEED}; {comparisons.MIXED}"


def test_a_mean_over_both_says_so():
    rows, _, _ = compared({"hard": ["bfloat16"], "teacher": ["bfloat16", "float32"]})
    found = {row["recipe"]: row["auto_precision"] for row in records(summary.summarize(rows))}
    assert found == {"hard": "bfloat16", "teacher": "bfloat16+float32"}


@pytest.mark.parametrize(("student", "mixed"), [("bfloat16", False), ("float32", True)])
def test_sequences_have_no_verdict_either(student, mixed):
    paths = {"teacher": "bfloat16", "hard": student, "teacher/rtn,bits=4": None, "hard/rtn,bits=4": None}
    cells = [trained(recipe, precision, seed) for recipe, precision in paths.items() for seed in range(3)]
    correct = {
        Cell("digits", seed, recipe): np.random.default_rng(10 * place + seed).random(200) < 0.9 - 0.2 * place
        for place, recipe in enumerate(paths)
        for seed in range(3)
    }
    rows = records(sequences.rows(table.rows(cells, ALL_KINDS), ALL_KINDS, dict.fromkeys(paths, 1), correct))
    assert len(rows) > 0
    assert {row["verdict"] is None for row in rows} == {mixed}
    assert {row["note"] for row in rows} == {comparisons.MIXED if mixed else None}


class TestMixtures:
    def test_counts_of_precisions_and_of_machines_by_step(self):
        cells = [trained("hard", "bfloat16", seed) for seed in range(3)] + [trained("teacher", "float32", device=INTEL)]
        cells += [trained("hard/rtn,bits=4", None, evaluated=INTEL)]
        assert mixtures(cells) == [
            "precision: auto was bfloat16 for 3 of 4 models, float32 for 1; their comparisons have no verdict, the key "
            "precision sets one",
            f"machines differ: trained {AMD} (torch 2) for 3 of 4 models, {INTEL} (torch 2) for 1; "
            f"evaluated {AMD} (torch 2) for 4 of 5 models, {INTEL} (torch 2) for 1",
        ]

    def test_to_train_and_to_quantize_on_machines_of_their_own_is_none(self):
        cells = [trained("hard", "bfloat16", device="NVIDIA H200"), trained("hard/rtn,bits=4", None)]
        assert mixtures(cells) == []

    def test_another_torch_is_another_machine(self):
        cells = [trained("hard", "bfloat16", seed) for seed in range(2)]
        cells[1]["evaluation"]["torch"] = "3"
        assert mixtures(cells) == [
            f"machines differ: evaluated {AMD} (torch 2) for 1 of 2 models, {AMD} (torch 3) for 1"
        ]

    def test_copies_of_a_shared_root_count_once(self):
        cells = [trained("teacher,seed=0", "float32", seed) for seed in range(5)]
        cells += [trained("teacher", "float32"), trained("hard", "bfloat16")]
        assert mixtures(cells)[0].startswith("precision: auto was bfloat16 for 1 of 2 models, float32 for 1;")
        assert mixtures([]) == mixtures([cell("hard"), cell("teacher") | {"provenance": 3, "keys": []}]) == []
