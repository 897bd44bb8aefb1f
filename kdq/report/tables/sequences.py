"""The table of sequences: which order of stages wins at which bits, and whether a quantized teacher beats a student.

A sequence is a recipe without the bits of the model that it ends with, so that the models of one sequence differ in
bits alone. The winner is chosen by validation accuracy and compared by test accuracy: chance in the choice is not in
the comparison. A model whose layers differ in bits has no one number of bits: it is compared at equal bytes alone.
Models of different bits of activations are never compared.
"""

import pandas as pd

from kdq.quantize.bits.alphabet import Alphabet
from kdq.recipe.path import join, keys_of, name_of, stages
from kdq.report import precisions
from kdq.report.tables import comparisons, summary
from kdq.report.tables.comparisons import Answers
from kdq.report.tables.schema import Schema, bits_per_weight, count, number, share, text, truth

SAME_SIZE = 0.02  # files of one network's size differ by the names in their headers
DESCRIBED = (
    *("bits", "activation_bits", "sequence", "recipe", "validation_seen", "epochs", "parameters"),
    *("test_top1_mean", "file_bytes_mean"),
)

SCHEMA = Schema(
    "sequences",
    "at each number of bits the best sequence of stages against each other one",
    {
        "dataset": text("data set"),
        "question": text(
            "`order`: at these bits of weights and activations, does the best sequence for a size of network beat this "
            "one? `teacher at equal bits`: does the best quantized teacher beat the best student at its bits? `teacher "
            "at equal bytes`: does it beat the best student, of any bits or float, whose file is no larger (2% are "
            "allowed)? Both have the same bits of activations. Teachers are the networks that students are distilled "
            "from. Best is always by mean accuracy on the validation part"
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
        "epochs": count("training of the network of `recipe`, as a float network and since", unit="epochs"),
        "other_epochs": count("that of `other`", unit="epochs"),
        "parameters": count("parameters of the network of `recipe`"),
        "other_parameters": count("that of `other`"),
        "test_top1_mean": share("mean over the seeds: accuracy of `recipe` on the test part"),
        "other_test_top1_mean": share("that of `other`"),
        "file_bytes_mean": number("mean over the seeds: size of the file of `recipe`", unit="bytes"),
        "other_file_bytes_mean": number("that of `other`", unit="bytes"),
        **comparisons.STATISTICS,
        "p_holm": number(
            "p-value of `test`, corrected by Holm: for `order` for all that are compared with one winner, else for all "
            "bits of this data set and question",
            optional=True,
        ),
        "p_images_holm": number("`p_images`, corrected by Holm in the same way"),
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
            if seeds := sorted(model.all_seeds & rival.all_seeds):
                pair = {"dataset": dataset, "question": question, "other": rival.recipe}
                pair |= {f"other_{name}": rival[name] for name in DESCRIBED if name != "recipe"}
                pair |= {name: model[name] for name in DESCRIBED}
                pair["mixed"] = len(model.auto_precisions | rival.auto_precisions) > 1
                pair["winner"] = model.recipe if question == "order" else ""
                compared.append(pair | comparisons.difference(pair, kinds, seeds, correct))
    return SCHEMA.frame(comparisons.corrected(compared, ["dataset", "question", "winner"]))


def _models(table: pd.DataFrame, epochs: dict[str, int]) -> pd.DataFrame:
    """Return the summary of one data set with each model's sequence, size, epochs, seeds and role."""
    teachers = set(table.root[table.network != table.root])
    cells = table.sort_values("seed").groupby("recipe")
    first = cells.head(1).set_index("recipe")
    models = summary.summarize(table).set_index("recipe", drop=False).rename_axis(None)
    return models.assign(
        parameters=first.parameters,
        epochs=models.recipe.map(epochs),
        all_seeds=cells.seed.agg(set),
        auto_precisions=pd.Series(precisions.by_recipe(table)),
        is_teacher=first.network.isin(teachers),
        has_bits=first.apply(_has_bits, axis=1),
        sequence=[sequence(recipe, bits) for recipe, bits in zip(models.recipe, models.bits, strict=True)],
    )


def _has_bits(cell: pd.Series) -> bool:
    """Return whether all quantized weights have one alphabet."""
    if not isinstance(cell.levels, str):  # a float model
        return False
    return abs(Alphabet(cell.bits, cell.levels).nominal_bits - cell.nominal_bits) < 1e-3


def best(models: pd.DataFrame) -> pd.Series:
    """Return the model of the best mean validation accuracy; then least cross entropy, then first path."""
    by = ["validation_top1_mean", "validation_cross_entropy_mean", "recipe"]
    return models.sort_values(by, ascending=[False, True, True]).iloc[0]


def orders(models: pd.DataFrame) -> list[Pair]:
    """Return at each number of bits, among networks of one size, the best quantized model against each other one.

    Bits are those of weights and of activations.
    """
    pairs = []
    for _, group in models[models.has_bits].groupby(["bits", "activation_bits", "parameters"]):
        winner = best(group)
        rivals = group[group.recipe != winner.recipe].sort_values("recipe")
        pairs += [("order", winner, rival) for _, rival in rivals.iterrows()]
    return pairs


def against_teachers(models: pd.DataFrame) -> list[Pair]:
    """Return at each number of bits the best quantized teacher against the best student at these bits and bytes."""
    pairs = []
    for (bits, of_activations), teachers in models[models.is_teacher & models.has_bits].groupby(
        ["bits", "activation_bits"]
    ):
        teacher, students = best(teachers), models[~models.is_teacher & (models.activation_bits == of_activations)]
        rivals = {
            "teacher at equal bits": students[students.has_bits & (students.bits == bits)],
            "teacher at equal bytes": students[students.file_bytes_mean <= (1 + SAME_SIZE) * teacher.file_bytes_mean],
        }
        pairs += [(question, teacher, best(group)) for question, group in rivals.items() if len(group)]
    return pairs
