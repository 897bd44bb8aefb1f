"""The table of sequences: which order of stages wins at which bits, and whether a quantized teacher beats a student.

A sequence is a recipe without the bits of the model that it ends with, so that the models of one sequence differ in
bits alone. The winner is chosen by validation accuracy and compared by test accuracy: chance in the choice is not in
the comparison. A model whose layers differ in bits has no one number of bits: it is compared at equal bytes and at
equal bit-operations alone. Models of different bits of activations are never compared.
"""

import pandas as pd

from kdq.quantize.bits.alphabet import Alphabet
from kdq.recipe.path import join, keys_of, name_of, parent, stages
from kdq.report.bits import nearest_tenth
from kdq.report.pairs import best
from kdq.report.tables import comparisons, summary
from kdq.report.tables.comparisons import Answers
from kdq.report.tables.schema import Schema, bits_per_weight, count, number, text, truth

SAME_COST = 1.02  # files of one network's size differ by the names in their headers
LEAST_COST = 0.9  # a rival that costs less leaves a gap in which a better one may be missing
COSTS = {  # columns of the summary, by question
    "teacher at equal bytes": "file_bytes_mean",
    "teacher at equal MACs": "macs_mean",
    "teacher at equal bit-operations": "bit_operations_mean",
}
DESCRIBED = (
    *("bits", "activation_bits", "sequence", "recipe", "validation_seen", "epochs", "parameters"),
    *("test_top1_mean", *COSTS.values()),
)
TOO_CHEAP = f"`other` costs {{:.0%}} of `recipe`, less than {LEAST_COST:.0%}: no student of about its cost, no verdict"

SCHEMA = Schema(
    "sequences",
    "at each number of bits the best sequence of stages against each other one",
    {
        "dataset": text("data set"),
        "question": text(
            "`order`: at these bits of weights (to a tenth) and activations, does the best sequence for a size of "
            "network beat this one? `teacher at equal bits`: does the best quantized teacher beat the best student "
            "at its bits? `teacher at equal MACs`: does it beat the best student at its bits of about its "
            "multiply-accumulates? `teacher at equal bytes` and `teacher at equal bit-operations`: does it beat the "
            "best student, of any bits of weights or float, of about its bytes or bit-operations? About is "
            f"{LEAST_COST:.0%} to {SAME_COST:.0%} of it; if no student costs that, the best of those that cost less "
            "is `other`, and there is no verdict. Both have the same bits of activations. Teachers are roots "
            "`teacher` and all that students are distilled from. Best is always by mean accuracy on the validation "
            "part"
        ),
        "bits": bits_per_weight("bits of `recipe`"),
        "other_bits": bits_per_weight("bits of `other`; 32 for a float model"),
        "activation_bits": count("bits of the activations of both; 32 for float ones", unit="bits per activation"),
        "sequence": text("`recipe` without its bits"),
        "other_sequence": text("`other` without its bits"),
        "recipe": text("the model"),
        "other": text("the model that it is compared with"),
        "validation_seen": truth(
            "`true` if the root of `recipe` was imported and may have seen the validation part, by which the best is "
            "chosen",
            optional=True,
        ),
        "other_validation_seen": truth("the same of `other`", optional=True),
        **comparisons.of_each(
            {
                "epochs": count("training of the network, as a float network and since", unit="epochs"),
                **{name: summary.SCHEMA.columns[name] for name in ("parameters", "test_top1_mean", *COSTS.values())},
            }
        ),
        **comparisons.STATISTICS,
        "p_holm": number(
            "`p`, corrected by Holm: for `order` for all that are compared with one winner, else for all bits of this "
            "data set and question; empty if the note refuses a verdict",
            optional=True,
        ),
    },
)

Pair = tuple[str, "pd.Series", "pd.Series"]


def sequence(recipe: str, bits: float) -> str:
    """Return the recipe without the bits that are those of its model.

    >>> sequence("teacher/gpfq,bits=8/kd/gpfq,bits=2,levels=2^b", 2)
    'teacher/gpfq,bits=8/kd/gpfq,levels=2^b'
    """
    bits_pair = ("bits", f"{bits:g}")
    parts = []
    for stage in stages(recipe):
        pairs = [f"{key}={value}" for key, value in keys_of(stage).items() if (key, value) != bits_pair]
        parts.append(",".join([name_of(stage), *pairs]))
    return join(*parts)


def rows(table: pd.DataFrame, kinds: dict[str, str], epochs: dict[str, int], correct: Answers) -> pd.DataFrame:
    """Return the comparisons for all questions; ``table``, ``kinds`` and ``correct`` as for the comparisons.

    ``epochs`` is for every recipe how long its network was trained.
    """
    compared = []
    for dataset, group in table.groupby("dataset"):
        models = _models(group, epochs)
        for question, model, rival in [*orders(models), *against_teachers(models)]:
            cost = rival[COSTS[question]] / model[COSTS[question]] if question in COSTS else 1
            refusal = TOO_CHEAP.format(cost) if cost < LEAST_COST else ""
            if statistics := comparisons.difference(model, rival, kinds, correct, refusal):
                pair = {"dataset": dataset, "question": question, "other": rival.recipe}
                pair |= {f"other_{name}": rival[name] for name in DESCRIBED if name != "recipe"}
                pair |= {name: model[name] for name in DESCRIBED}
                pair["winner"] = model.recipe if question == "order" else ""
                compared.append(pair | statistics)
    return SCHEMA.frame(comparisons.corrected(compared, ["dataset", "question", "winner"]))


def _models(table: pd.DataFrame, epochs: dict[str, int]) -> pd.DataFrame:
    """Return the described models of one data set with each one's sequence, epochs and role."""
    teachers = set(table.root[table.network != table.root])
    first = table.sort_values("seed").groupby("recipe").head(1).set_index("recipe")
    models = comparisons.described(table)
    return models.assign(
        epochs=models.recipe.map(epochs),
        nearest=models.bits.map(nearest_tenth),
        is_teacher=models.network.isin(teachers) | models.network.map(_is_root_teacher),
        has_bits=first.apply(_has_bits, axis=1),
        sequence=[sequence(recipe, bits) for recipe, bits in zip(models.recipe, models.bits, strict=True)],
    )


def _is_root_teacher(network: str) -> bool:
    """Return whether a network is a root ``teacher``, whether or not students of the study are distilled from it."""
    return not parent(network) and name_of(network) == "teacher"


def _has_bits(cell: pd.Series) -> bool:
    """Return whether all quantized weights have one alphabet."""
    if not isinstance(cell.levels, str):  # a float model
        return False
    return abs(Alphabet(cell.bits, cell.levels).nominal_bits - cell.nominal_bits) < 1e-3


def orders(models: pd.DataFrame) -> list[Pair]:
    """Return at each number of bits, among networks of one size, the best quantized model against each other one.

    Bits are those of weights, in the mean to a tenth, and of activations.
    """
    pairs = []
    for _, group in models[models.has_bits].groupby(["nearest", "activation_bits", "parameters"]):
        winner = best(group)
        rivals = group[group.recipe != winner.recipe].sort_values("recipe")
        pairs += [("order", winner, rival) for _, rival in rivals.iterrows()]
    return pairs


def against_teachers(models: pd.DataFrame) -> list[Pair]:
    """Return at each number of bits the best quantized teacher against the best student at these bits and costs."""
    pairs = []
    quantized = models[models.is_teacher & models.has_bits]
    for (bits, of_activations), teachers in quantized.groupby(["nearest", "activation_bits"]):
        teacher, students = best(teachers), models[~models.is_teacher & (models.activation_bits == of_activations)]
        at_bits = students[students.has_bits & (students.nearest == bits)]
        rivals = {"teacher at equal bits": at_bits}
        for question, column in COSTS.items():
            among = at_bits if question == "teacher at equal MACs" else students
            rivals[question] = _of_cost(among, column, teacher[column])
        pairs += [(question, teacher, best(group)) for question, group in rivals.items() if len(group)]
    return pairs


def _of_cost(models: pd.DataFrame, column: str, cost: float) -> pd.DataFrame:
    """Return the models of about a ``cost``; if there are none, all that cost less."""
    models = models[models[column] <= SAME_COST * cost]
    about = models[models[column] >= LEAST_COST * cost]
    return about if len(about) else models
