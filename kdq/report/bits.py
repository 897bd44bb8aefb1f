"""Bits of models whose layers may have different ones, and the names of series over bits."""


def mean_bits(layers: list[dict]) -> int | float:
    """Bits a weight of a model's quantized ``layers``: a whole number where all have it, else the mean over weights."""
    if len({layer["bits"] for layer in layers}) == 1:
        return layers[0]["bits"]
    return sum(layer["bits"] * layer["weights"] for layer in layers) / sum(layer["weights"] for layer in layers)


def nearest_tenth(bits: float) -> int | float:
    """Bits at which models are compared: a budget is met to less than a tenth, and seldom to the last bit."""
    rounded = round(bits, 1)
    return int(rounded) if rounded == int(rounded) else rounded


def without_bits(stage: str) -> str:
    """A stage without its number of bits: what the points of one line have in common; ``budget`` is left as a word."""
    name, *pairs = stage.split(",")
    kept = ["budget" if pair.startswith("budget=") else pair for pair in pairs if not pair.startswith("bits=")]
    return ",".join([name, *kept])
