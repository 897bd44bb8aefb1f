"""What was done to a network, in words: how the figure of techniques names models."""

from kdq.recipe.grammar import Grammar, Recipe
from kdq.recipe.path import join


def technique(recipe: Recipe, grammar: Grammar) -> dict[str, str]:
    """Return ``network``, the stages that make it without their epochs, and ``done``, what was done to it, in order.

    The words are ``distil`` for training with a teacher, ``prune``, perhaps ``with a teacher``, ``quantize`` with
    training on labels behind it, ``round`` without, and ``train`` for other training; ``nothing`` for none of them.
    """
    made = len(recipe.stages) - len(recipe.stages_of_network) + 1
    words = ["distil"] if recipe.maker.kind.learns_from == "parent" else []
    for stage in recipe.stages[made:]:
        word = _word(stage, grammar)
        if (word, words[-1:]) == ("train", ["round"]):
            words[-1] = "quantize"
        elif (word, words[-1:]) != ("train", ["quantize"]):
            words.append(word)
    network = join(*(_without_epochs(stage.text) for stage in recipe.stages[:made]))
    return {"network": network, "done": ", ".join(words) or "nothing"}


def _word(stage, grammar: Grammar) -> str:
    if stage.kind.quantizes:
        return "round"
    taught = bool(grammar.resolve(stage).get("distillation_weight"))
    if stage.kind.prunes:
        return "prune with a teacher" if taught else "prune"
    return "distil" if taught else "train"


def _without_epochs(stage: str) -> str:
    return ",".join(part for part in stage.split(",") if not part.startswith("epochs="))
