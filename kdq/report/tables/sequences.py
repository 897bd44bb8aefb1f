"""The table of sequences: which order of stages wins at which bits, and whether a quantized teacher beats a student.

A sequence is a recipe without the bits of the model that it ends with, so that the models of one sequence differ in
bits alone. The winner is chosen by validation accuracy and compared by test accuracy: chance in the choice is not in
the comparison. A model whose layers differ in bits has no one number of bits: it takes part at equal bytes alone.
"""

from itertools import groupby

import numpy as np

from kdq.quantize.bits.alphabet import Alphabet
from kdq.report.tables import comparisons, summary
from kdq.report.tables.comparisons import Cell

SAME_SIZE = 0.02  # files of one network's size differ by the names in their headers

COLUMNS = {
    "dataset": "data set",
    "question": "`order`: at these bits, does the best sequence of a size of network beat this other one? `teacher at "
    "equal bits`: does the best quantized teacher beat the best student at its bits? `teacher at equal bytes`: does it "
    "beat the best student, of any bits or float, whose file is no larger (2% are allowed)? Teachers are the networks "
    "that others are distilled from. Best is always by mean accuracy on the validation part",
    "bits": "bits a weight of `recipe`",
    "other_bits": "bits a weight of `other`; 32 for a float model",
    "sequence": "`recipe` without its bits",
    "other_sequence": "`other` without its bits",
    "recipe": "the model",
    "other": "the model that it is compared with",
    "epochs": "epochs for which the network of `recipe` was trained: as a float network, and after it was quantized",
    "other_epochs": "that of `other`",
    "parameters": "parameters of the network of `recipe`",
    "other_parameters": "that of `other`",
    "test_top1_mean": "mean over the seeds: accuracy of `recipe` on the test part, share of 1",
    "other_test_top1_mean": "that of `other`",
    "file_bytes_mean": "mean over the seeds: size of the file of `recipe`, bytes",
    "other_file_bytes_mean": "that of `other`",
    **{name: text for name, text in comparisons.COLUMNS.items() if name not in comparisons.OF_THE_PAIR},
    "p_holm": "p-value of `test`, corrected by Holm: for `order` for all that are compared with one winner, else for "
    "all bits of this data set and question",
    "p_images_holm": "`p_images`, corrected by Holm in the same way",
}


def sequence(recipe: str, bits: int) -> str:
    """The recipe without the bits that are those of its model.

    >>> sequence("teacher/gpfq,bits=8/kd/gpfq,bits=2,levels=2^b", 2)
    'teacher/gpfq,bits=8/kd/gpfq,levels=2^b'
    """
    stages = (stage.split(",") for stage in recipe.split("/"))
    return "/".join(",".join(pair for pair in stage if pair != f"bits={bits}") for stage in stages)


def rows(table: list[dict], kinds: dict[str, str], epochs: dict[str, int], correct: dict[Cell, np.ndarray]):
    """The rows of all questions, of the rows of the table; ``kinds`` and ``correct`` as for the comparisons.

    ``epochs`` gives for every recipe how long its network was trained.
    """
    found = []
    for dataset, group in groupby(sorted(table, key=lambda row: row["dataset"]), lambda row: row["dataset"]):
        models = list(_models(list(group)).values())
        for question, model, other in [*orders(models), *against_teachers(models)]:
            seeds = sorted(model["all_seeds"] & other["all_seeds"])
            if seeds:
                pair = {"dataset": dataset, "question": question} | _described(model, other, epochs)
                pair["winner"] = model["recipe"] if question == "order" else None
                found.append(pair | comparisons.difference(pair, kinds, seeds, correct))
    return comparisons.corrected(found, ("dataset", "question", "winner"), COLUMNS)


def _models(table: list[dict]) -> dict[str, dict]:
    """One summary row a recipe of one data set, with its parameters, seeds, and whether it is a teacher's network."""
    by_recipe: dict[str, list[dict]] = {}
    for row in table:
        by_recipe.setdefault(row["recipe"], []).append(row)
    teachers = {row["root"] for row in table if row["network"] != row["root"]}
    return {
        recipe: summary.summarize(cells)[0]
        | {
            "parameters": cells[0]["parameters"],
            "all_seeds": {row["seed"] for row in cells},
            "is_teacher": cells[0]["network"] in teachers,
            "has_bits": _has_bits(cells[0]),
        }
        for recipe, cells in by_recipe.items()
    }


def _has_bits(row: dict) -> bool:
    """Are all quantized weights of one alphabet?"""
    if row["levels"] is None:
        return False
    return abs(Alphabet(row["bits"], row["levels"]).nominal_bits - row["nominal_bits"]) < 1e-3


def best(models: list[dict]) -> dict:
    """The model of the best mean validation accuracy; of equal ones the least cross entropy, then the first path."""
    return min(
        models, key=lambda row: (-row["validation_top1_mean"], row["validation_cross_entropy_mean"], row["recipe"])
    )


def orders(models: list[dict]) -> list[tuple[str, dict, dict]]:
    """At each number of bits, among networks of one size: the best quantized model against each other one."""
    found = []
    quantized = [row for row in models if row["has_bits"]]
    by_size = sorted(quantized, key=_size)
    for _, group in groupby(by_size, _size):
        group = sorted(group, key=lambda row: row["recipe"])
        winner = best(group)
        found += [("order", winner, other) for other in group if other is not winner]
    return found


def _size(row: dict) -> tuple:
    return row["bits"], row["parameters"]


def against_teachers(models: list[dict]) -> list[tuple[str, dict, dict]]:
    """At each number of bits the best quantized teacher against the best student at its bits, and at its bytes."""
    teachers = [row for row in models if row["is_teacher"] and row["has_bits"]]
    students = [row for row in models if not row["is_teacher"]]
    found = []
    for bits in sorted({row["bits"] for row in teachers}):
        teacher = best([row for row in teachers if row["bits"] == bits])
        most = (1 + SAME_SIZE) * teacher["file_bytes_mean"]
        rivals = {
            "teacher at equal bits": [row for row in students if row["has_bits"] and row["bits"] == bits],
            "teacher at equal bytes": [row for row in students if row["file_bytes_mean"] <= most],
        }
        found += [(question, teacher, best(group)) for question, group in rivals.items() if group]
    return found


def _described(model: dict, other: dict, epochs: dict[str, int]) -> dict:
    measures = ("test_top1_mean", "file_bytes_mean", "bits", "parameters")
    return {
        **{measure: model[measure] for measure in measures},
        **{f"other_{measure}": other[measure] for measure in measures},
        "recipe": model["recipe"],
        "other": other["recipe"],
        "sequence": sequence(model["recipe"], model["bits"]),
        "other_sequence": sequence(other["recipe"], other["bits"]),
        "epochs": epochs[model["recipe"]],
        "other_epochs": epochs[other["recipe"]],
    }
