"""Bits of models whose layers may differ, and the names of series over bits."""

import re

from kdq.recipe.path import keys_of, name_of

SCALE = "search"  # the default of every quantizer
STEPS = {"search": "searched step", "mse": "least-squares step", "minmax": "min-max step"}


def mean_bits(layers: list[dict]) -> int | float:
    """Return the bits per weight of a model's quantized ``layers``: a whole number if all agree, else their mean."""
    if len({layer["bits"] for layer in layers}) == 1:
        return layers[0]["bits"]
    return sum(layer["bits"] * layer["weights"] for layer in layers) / sum(layer["weights"] for layer in layers)


def nearest_tenth(bits: float) -> int | float:
    """Return the bits at which models are compared: a budget is met to less than a tenth, seldom to the last bit."""
    rounded = round(bits, 1)
    return int(rounded) if rounded == int(rounded) else rounded


def without_bits(stage: str) -> str:
    """Return a stage without its number of bits, which the points of one line have in common; of a budget the word.

    >>> without_bits("gpfq,budget=3,levels=2^b")
    'gpfq,budget,levels=2^b'
    """
    pairs = {key: "" if key == "budget" else f"={value}" for key, value in keys_of(stage).items() if key != "bits"}
    return ",".join([name_of(stage), *(f"{key}{value}" for key, value in pairs.items())])


def without_activations(quantizer: str) -> str:
    """Return a quantizer, as in the table, without what it does to activations.

    >>> without_activations("gpfq,activation_range=minmax,activations=8,levels=2^b+qat")
    'gpfq,levels=2^b+qat'
    """
    return re.sub(r",activation(s|_range)=[^,+]*", "", quantizer)


def with_scale(stage: str, keys: dict) -> str:
    """Return a stage, as the recipe spells it, with the scale in its resolved ``keys`` if that is not the default.

    >>> with_scale("rtn,levels=paper", {"scale": "mse"}), with_scale("rtn,levels=paper", {"scale": "search"})
    ('rtn,levels=paper,scale=mse', 'rtn,levels=paper')
    """
    scale = keys.get("scale", SCALE)
    if scale == SCALE or "scale" in keys_of(stage):
        return stage
    name, *pairs = stage.split(",")
    return ",".join([name, *sorted([*pairs, f"scale={scale}"])])


def in_words(quantizer: str) -> str:
    """Return a quantizer, as in the table, as it is shown: with its step in words if that is not the searched one.

    ``rtn`` always says which, since that of the literature has another.

    >>> in_words("rtn,bias=correct"), in_words("gpfq"), in_words("gpfq,levels=2^b,scale=minmax+qat")
    ('rtn, searched step, bias=correct', 'gpfq', 'gpfq, min-max step, levels=2^b+qat')
    """
    return "+".join(map(_stage_in_words, quantizer.split("+")))


def _stage_in_words(stage: str) -> str:
    name, *pairs = stage.split(",")
    scales = [pair.removeprefix("scale=") for pair in pairs if pair.startswith("scale=")]
    steps = [STEPS.get(scale, f"scale {scale}") for scale in scales or [SCALE] * (name == "rtn")]
    return ", ".join([name, *steps, *(pair for pair in pairs if not pair.startswith("scale="))])
