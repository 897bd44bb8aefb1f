"""Which recipes have an ONNX file, as far as their keys tell: the planner refuses the others before any job."""

from kdq.recipe.grammar import Grammar, Recipe


def refusal(recipe: Recipe, grammar: Grammar) -> str:
    """Return why the network of ``recipe`` has no ONNX form, "" if its keys tell of no reason."""
    if quantizers := [stage for stage in recipe.stages_of_network if stage.kind.quantizes]:
        keys = grammar.resolve(quantizers[-1])
        if keys.get("levels") == "paper" and keys.get("bits") == 8:
            return f"the stage {quantizers[-1].text!r} has codes of 9 bits (levels=paper, bits=8), expected at most 8"
    return ""
