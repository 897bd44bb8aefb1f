"""Documents written from the config's types: the schema for editors and the page ``docs/config.md``.

``python -m kdq.study.docs`` writes both.
"""

import json
import sys
from pathlib import Path

import kdq
from kdq.recipe.grammar import LONGEST_NAME, LONGEST_RECIPE, MOST_RECIPES, MOST_STAGES
from kdq.recipe.kinds import KINDS
from kdq.recipe.stages import find_stages
from kdq.recipe.vocabulary import Base
from kdq.retrain.keys import OWN_DEFAULTS, Continued
from kdq.study.config import Config, Role
from kdq.study.limits import MOST_CELLS


def schema() -> str:
    """Return the JSON schema of a config, which may lie over another: no key of its own is required."""
    document = Config.model_json_schema()
    del document["required"]
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **document}, indent=2) + "\n"


def documentation(package: Path) -> str:
    """Return the page that describes every key of a config and of a stage."""
    lines = [
        "# The keys of a study",
        "",
        "Written by `make docs` from `kdq/study/config.py` and from the files of the stages; edit those.",
        "",
        "Every number has a range, also in recipes. A recipe has at most "
        f"{MOST_STAGES} stages and {LONGEST_RECIPE} bytes, a stage",
        f"{LONGEST_NAME} bytes; a study has at most {MOST_RECIPES} recipes and {MOST_CELLS} cells.",
        "",
        "A config is YAML that versions 1.1 and 1.2 read alike: `010`, `1:30`, `1_000`, `5e-4`, `yes`, `no` and dates",
        "without quotes have two meanings and are refused, as are a key that is given twice and tags. Anchors, aliases",
        "and merge keys (`<<`) work. The same holds for values of `--config`, for which Snakemake itself reads plain",
        "numbers.",
        "",
        "## Config",
        "",
        *_key_table(Config, ("teacher", "student", "retrain")),
        "",
        "## `teacher`, `student`: networks and training",
        "",
        "Every key may also be spelled out in a stage that trains: `hard,epochs=20,width=0.5`.",
        "",
        *_key_table(Role),
        "",
        "## `retrain`: training that starts from a model",
        "",
        "Of the stages of kind retrain, tune and prune: the keys of training, without those of a network, which is the",
        "parent's. A key that is not set here is that of `student`; these alone have defaults of their own. Stages of",
        "kind prune may have 0 `epochs`: they prune and do not train.",
        "",
        *_key_table(Continued, Continued.model_fields.keys() - set(OWN_DEFAULTS)),
    ]
    for kind in KINDS.values():
        shared = Role.model_fields.keys() if kind.trains else ()
        for stage in (stage for stage in find_stages(package).values() if stage.kind == kind):
            lines += ["", f"## Stage `{stage.name}` ({kind.name})", "", *_key_table(stage.keys, shared)]
    return "\n".join(lines) + "\n"


def _key_table(model: type[Base], leave_out=()) -> list[str]:
    return ["| key | type | default | meaning |", "|---|---|---|---|", *_key_rows(model, "", leave_out)]


def _key_rows(model: type[Base], prefix: str, leave_out=()) -> list[str]:
    rows, document = [], model.model_json_schema()
    for key, field in model.model_fields.items():
        inner = field.annotation
        if key in leave_out:
            continue
        if isinstance(inner, type) and issubclass(inner, Base):
            rows += _key_rows(inner, f"{key}.")
            continue
        default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
        kind = _type_name(document["properties"][key])
        rows.append(f"| `{prefix}{key}` | {kind} | {default} | {field.description} |")
    return rows


def _type_name(entry: dict) -> str:
    """Return the type of a JSON schema's entry in words, with its bounds."""
    if "enum" in entry:
        return ", ".join(f"`{choice}`" for choice in entry["enum"])
    if "const" in entry:
        return f"`{entry['const']}`"
    if "anyOf" in entry:
        return " or ".join(_type_name(choice) for choice in entry["anyOf"])
    if entry.get("type") == "array":
        return f"list of {_type_name(entry['items'])}"
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {_bound(entry[bound])}" for bound, sign in signs.items() if bound in entry]
    return " ".join([entry.get("type", "any"), ", ".join(bounds)]).strip()


def _bound(value: float) -> str:
    """Return a bound as people write it.

    >>> [_bound(value) for value in (0.001, 100000, 2**63)]
    ['0.001', '100000', '2^63']
    """
    if value >= 2**53:
        return f"2^{int(value).bit_length() - 1}"
    return str(int(value)) if value == int(value) else f"{value:g}"


if __name__ == "__main__":
    Path("schemas").mkdir(exist_ok=True)
    Path("schemas/config.schema.json").write_text(schema(), encoding="utf-8")
    Path("docs/config.md").write_text(documentation(Path(kdq.__file__).parent), encoding="utf-8")
    sys.stdout.write("schemas/config.schema.json\ndocs/config.md\n")
