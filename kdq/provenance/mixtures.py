"""Mixtures in a study: models that were trained in another precision, or on another kind of machine, than the rest.

Each is sound by itself, but then their differences are not those of the recipes alone. So the run's job for the table
and ``make verify`` report a mixture, from what the metrics of all cells say of the model and of its evaluation.
"""

from collections import Counter

from kdq.recipe.path import Cell


def auto_precision(metrics: dict) -> str | None:
    """Return what the key ``precision`` was, ``bfloat16`` or ``float32``, for a model trained with ``auto``, else None.

    A precision that the config names is no accident of the machine.
    """
    return _part(metrics, "provenance").get("precision") if _part(metrics, "keys").get("precision") == "auto" else None


def mixtures(cells: list[dict]) -> list[str]:
    """Return a line if ``auto`` had both values among the ``cells``, their metrics, and one if machines differ.

    Machines are compared step by step: to train on GPUs and to quantize and evaluate on CPUs is no mixture.
    """
    cells = [cell for cell in cells if _is_original(cell)]
    lines = []
    precisions = Counter(str(precision) for cell in cells if (precision := auto_precision(cell)))
    if len(precisions) > 1:
        lines.append(
            f"precision: auto was {_counts(precisions)}; their comparisons have no verdict, the key precision sets one"
        )
    mixed = [f"{step} {_counts(machines)}" for step, machines in _machines(cells).items() if len(machines) > 1]
    return lines + ([f"machines differ: {'; '.join(mixed)}"] if mixed else [])


def _part(metrics: dict, key: str) -> dict:
    value = metrics.get(key)
    return value if isinstance(value, dict) else {}  # a file of other hands may hold anything


def _is_original(cell: dict) -> bool:
    """Return whether a cell's model is no copy, under another seed, of a root that seeds share."""
    place = Cell(cell["dataset"], cell["seed"], cell["recipe"])
    return place == place.original


def _machines(cells: list[dict]) -> dict[str, Counter]:
    """Return for each step how often it ran on each kind of machine; an imported model was computed on none."""
    steps = {"trained": Counter(), "quantized": Counter(), "evaluated": Counter()}
    for cell in cells:
        made_by = _part(cell, "provenance")
        step = "trained" if "precision" in made_by else "quantized"
        for name, by in ((step, made_by), ("evaluated", _part(cell, "evaluation"))):
            if "device" in by:
                steps[name][f"{by['device']} (torch {by.get('torch')})"] += 1
    return steps


def _counts(counter: Counter) -> str:
    """Return the counts, the highest first: ``bfloat16 for 20 of 23 models, float32 for 3``."""
    (first, count), *rest = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{first} for {count:,} of {counter.total():,} models", *(f"{name} for {count:,}" for name, count in rest)]
    return ", ".join(words)
