"""Which models are compared: decided from recipes alone, a number of pairs in proportion to that of the cells."""

from itertools import combinations

from kdq.report.bits import nearest_tenth

ALL_PAIRS_UP_TO = 16  # models of a group; in a larger one each is compared with the group's first alone


def shares_root(recipe: str) -> bool:
    """Is the recipe's root one model under all seeds, as ``teacher,seed=0`` is?"""
    return any(key.startswith("seed=") for key in recipe.split("/")[0].split(","))


def baseline(networks) -> str:
    """The network that the others are held against: ``hard``, else another student on labels, else the first root."""
    roots = [path for path in networks if "/" not in path]
    return min(roots, key=lambda path: (path.split(",")[0] != "hard", shares_root(path), path))


def students(networks) -> list[str]:
    """The networks that are held against the baseline in the figure: all but the roots of others, sorted."""
    first = baseline(networks)
    teachers = {path.split("/")[0] for path in networks if "/" in path}
    return sorted(set(networks) - teachers - {first})


def of_group(group: list[str]) -> list[tuple[str, str]]:
    """Pairs ``(model, other)`` of a group, the later against the earlier: all, or those with the first."""
    if len(group) > ALL_PAIRS_UP_TO:
        return [(model, group[0]) for model in group[1:]]
    return [(model, other) for other, model in combinations(group, 2)]


def choose(models: list[dict]) -> list[tuple[str, dict, dict]]:
    """``(family, model, other)`` for every comparison of one data set.

    ``models`` are rows of the table, one a recipe. The families: ``baseline``, float networks against the baseline;
    ``float``, float networks among themselves; ``networks``, quantized ones of different float networks by the same
    quantizer at the same bits; ``quantizers``, different quantizers of the same float network at the same bits. Bits
    are the same where they are to a tenth.
    """
    by_recipe = {row["recipe"]: row for row in models}
    floats = [row["recipe"] for row in models if row["quantizer"] == "none"]
    first = baseline(floats)
    found = [("baseline" if first in pair else "float", pair) for pair in of_group(_first(floats, first))]
    quantized = [row | {"bits": nearest_tenth(row["bits"])} for row in models if row["quantizer"] != "none"]
    for group in _groups(quantized, ("quantizer", "bits")):
        by_network = {row["network"]: row["recipe"] for row in group}
        ordered = [by_network[network] for network in _first(by_network, first)]
        found += [("networks", pair) for pair in of_group(ordered)]
    for group in _groups(quantized, ("network", "bits")):
        by_quantizer = {row["quantizer"]: row["recipe"] for row in group}
        ordered = [by_quantizer[name] for name in sorted(by_quantizer, key=lambda name: (name != "rtn", name))]
        found += [("quantizers", pair) for pair in of_group(ordered)]
    return [(family, by_recipe[model], by_recipe[other]) for family, (model, other) in found]


def _first(paths, first: str) -> list[str]:
    return sorted(paths, key=lambda path: (path != first, path))


def _groups(rows: list[dict], columns: tuple[str, ...]) -> list[list[dict]]:
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in columns), []).append(row)
    return [groups[key] for key in sorted(groups)]
