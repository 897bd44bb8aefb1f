"""Keys that do not fit the data set or the networks of other stages are refused when planning."""

import pytest

from kdq.errors import UserError
from kdq.models import registry
from kdq.recipe.stages import find_stages
from kdq.recipe.vocabulary import Base
from kdq.retrain.keys import Continued
from kdq.study.config import Config, Data, Role, read_study
from kdq.workflow.targets import check as check_target

IMPORTED = {"source": "transformers", "repository": "o/n", "revision": "0" * 40, "sha256": "0" * 64}
BASE = {"datasets": ["cifar10"], "seeds": [0]}


def study(home, recipe, **changes):
    return read_study({**BASE, "recipes": [recipe], **changes}, home / "kdq")


def refused(home, recipe, match, **changes):
    with pytest.raises(UserError, match=match) as error:
        study(home, recipe, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stage", "part"),
    [
        *((method, "feature maps") for method in ("at", "fitnet", "reviewkd", "sp")),
        *((method, "the embedding") for method in ("crd", "pkt", "rkd", "ntklc")),
        ("rtn/ntklc", "the embedding"),
        ("ntk", "the parameters of the last stage"),
        ("dml,start=fresh", "the architecture"),
        ("rtn/dcq", "sections"),
        ("kd/rtn/dcq,teacher=root", "sections"),
    ],
)
def test_methods_that_read_more_than_logits_of_an_imported_network(home, stage, part):
    role = "teacher" if "root" in stage else "parent"
    message = f"recipe 'teacher/{stage}': .*: reads {part}, and the {role} is of source=transformers"
    refused(home, f"teacher/{stage}", message, stages={"teacher": IMPORTED})
    assert study(home, f"teacher/{stage}", student={"epochs": 30}).recipes  # a trained teacher has them


@pytest.mark.parametrize(
    "stage", ["kd", "dkd", "mixup", "dml", "ntk,parameters=all", "rtn", "rtn/qat", "kd/at", "kd/rtn/dcq"]
)
def test_methods_that_read_logits_alone(home, stage):
    assert study(home, f"teacher/{stage}", stages={"teacher": IMPORTED}).recipes


@pytest.mark.parametrize(
    ("recipe", "match"),
    [
        ("hard/fitnet,architecture=wrn16-2,hint=layer4", "hint: found 'layer4', expected a stage of both .*: layer1"),
        ("hard,architecture=wrn16-2/fitnet,hint=layer4", "fitnet: hint: found 'layer4'"),
        ("hard/fitnet,hint=embedding", "fitnet: hint: found 'embedding', .*: layer1, layer2, layer3, layer4"),
        ("hard/rtn/dcq,sections=9", "dcq: sections: found 9, expected 1 to 8, the blocks of the network"),
        ("hard,architecture=wrn16-2/rtn/dcq,sections=7", "dcq: sections: found 7, expected 1 to 6"),
        ("hard,architecture=mobilenetv2/rtn/dcq,sections=18", "dcq: sections: found 18, expected 1 to 17"),
        ("teacher,width=0.5/kd/rtn/dcq,teacher=root", "teacher: found one of width 0.5, expected the parent's"),
        ("teacher/kd/channels/rtn/dcq,teacher=root", "teacher: found one of"),
        ("hard/channels/rtn/dcq,teacher=root", r"teacher: found one of other channels than the parent's \(channels\)"),
        ("hard/channels,ratio=0.3/rtn/ntklc", r"found a parent whose channels were pruned \(channels,ratio=0.3\)"),
        ("hard,crop=17", "crop: found 17, expected at most 16, half the side of an image of cifar10"),
        ("hard,crop=1000000", "crop: found 1000000, expected less than or equal to 256"),
        ("hard,cutout=33", "cutout: found 33, expected at most 32, the side of an image of cifar10"),
        ("hard,resolution=33", "resolution: found 33, expected at most 32, the side of an image of cifar10"),
        ("hard,batch_size=60001", "batch_size: found 60001, expected at most 60000, the number of images of cifar10"),
        ("hard/rtn/qat,batch_size=60001", "batch_size: found 60001, expected at most 60000"),
        ("hard/rtn,batchnorm=reestimate,images=1", "images: found 1 beside batchnorm=reestimate, expected at least 2"),
    ],
)  # fmt: skip
def test_keys_that_meet(home, recipe, match):
    refused(home, recipe, match)


def test_what_fits_just(home):
    for recipe in (
        "hard,crop=16,cutout=32",
        "hard,batch_size=60000",
        "hard/rtn/dcq,sections=8",
        "hard/fitnet,hint=layer4",
        "hard/channels/rtn/dcq",
        "hard/channels/rtn/qat",
    ):
        stage, *rest = recipe.split("/")
        name, *keys = stage.split(",")
        assert study(home, "/".join([",".join([name, *sorted(keys)]), *rest])).recipes


def test_the_smaller_data_set_decides(home):
    refused(
        home, "hard,crop=5", "expected at most 4, half the side of an image of digits", datasets=["cifar10", "digits"]
    )
    refused(home, "hard,crop=9", "expected at most 8, half .* of folder", datasets=["folder"], data={"image_size": 16})


def test_statistics_of_each_channel(home):
    imported = {**IMPORTED, "source": "hub", "mean": [0.5], "std": [0.5]}
    refused(
        home, "teacher", "mean: found 1 values, expected 3, one per channel of cifar10", stages={"teacher": imported}
    )
    assert study(home, "teacher", stages={"teacher": imported}, datasets=["digits"]).recipes


def test_a_grid_larger_than_can_be_planned(home):
    refused(home, "hard,epochs={1..2000}", r"1,200,000 cells .*, expected at most 1,000,000", seeds=list(range(600)))


NONSENSE = [
    *(f"hard,crop={value}" for value in ("1000000", "-1", "1.5", "true", "0x10")),
    *(f"hard,width={value}" for value in ("1e+30", "1e-30", "0", "-1", "nan", "inf", "-inf", "1e999")),
    *(f"hard,epochs={value}" for value in ("0", "1000000000000", "1.5", "2.0", "true", "9" * 200)),
    *(f"hard,batch_size={value}" for value in ("0", "1000000000000")),
    *(f"hard,learning_rate={value}" for value in ("0", "1e+30", "1e-30", "nan", "inf")),
    *(f"hard,{key}=1" for key in ("momentum", "averaging", "label_smoothing")),
    *(f"hard,weight_decay={value}" for value in ("2", "-0", "-0.0", "nan")),
    *(f"hard,rise={value}" for value in ("1.1", "-0.1")),
    *(f"hard,seed={value}" for value in (2**63, "00", "+0", "-0", "0_0", "-1", "1.0", "٠", "０")),
    *(f"hard/kd,temperature={value}" for value in ("1e-30", "1e+30")),
    *(f"hard/kd,{key}=1e+30" for key in ("label_weight", "distillation_weight", "mixup")),
    *("hard/kd,mixup=0.001", "hard/mixup,concentration=1e-09", "hard/dkd,warmup=1e+12", "hard/crd,dimensions=1000000"),
    *(f"hard/rtn,bits={value}" for value in ("2.0", "true", "1", "9", "4.5")),
    *(f"hard/rtn,patches={value}" for value in (10**18, "0", "-1", "2.5")),
    *(f"hard/rtn,memory={value}" for value in ("1e-30", "0", "1e+30")),
    *(f"hard/rtn,scale={value}" for value in ("1e-30", "1e+30")),
    *("hard/rtn,percentile=1e-30", "hard/gptq,damping=1e-30", "hard/spfq,alignment=1001", "hard/rtn,images=10000000"),
    *("hard/rtn/dcq,sections=0", "hard/rtn/ntklc,neurons=1000000000", "hard/rtn/ntklc,zeros=1"),
]  # fmt: skip


@pytest.mark.parametrize("recipe", NONSENSE)
def test_numbers_without_sense(home, recipe):
    key = recipe.partition(",")[2].partition("=")[0]
    refused(home, recipe, f"({key}: found|is spelled)")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"seeds": [2**63]}, "seeds.0: found 9223372036854775808, expected less than 9223372036854775808"),
        ({"data": {"split_seed": 2**63}}, "data.split_seed: found 9223372036854775808, expected less than"),
        ({"data": {"split_seed": True}}, "data.split_seed: found True, expected integer"),
        ({"data": {"validation_fraction": 1e-30}}, "data.validation_fraction: found 1e-30, expected greater than"),
        ({"data": {"folder": "a\0b"}}, "data.folder: found .*, expected a path of printable letters"),
        ({"threads": 10**6}, "threads: found 1000000, expected less than or equal to 1024"),
        ({"student": {"weight_decay": float("nan")}}, "student.weight_decay: found nan, expected a finite number"),
    ],
)
def test_numbers_of_the_config_without_sense(home, values, match):
    refused(home, "hard", match, **values)


def test_the_largest_seeds_are_seeds():
    import torch

    assert torch.Generator().manual_seed(2**63 - 1)


def test_zero_has_no_sign(home):
    grammar = study(home, "hard", student={"weight_decay": -0.0}).grammar
    assert str(grammar.resolve(grammar.parse_stage("hard"))["weight_decay"]) == "0.0"


def test_every_number_has_two_bounds_that_admit_its_default(home):
    models = [Config, Data, Role, Continued, *(stage.keys for stage in find_stages(home / "kdq").values())]
    for model in models:
        for key, entry in model.model_json_schema()["properties"].items():
            for choice in entry.get("anyOf", [entry]):
                choice = choice.get("items", choice)
                if choice.get("type") in ("integer", "number") and "const" not in choice:
                    bounds = {name for name in choice if name.lower().endswith(("minimum", "maximum"))}
                    assert len(bounds) == 2, (model, key)
            field = model.model_fields[key]
            if not field.is_required() and not isinstance(field.default, Base):
                assert model.__pydantic_validator__.validate_assignment(model.model_construct(), key, field.default)


def test_a_recipe_of_the_command_line(home):
    planned = study(home, "hard")
    for recipe, match in [("hard,crop=17", "crop: found 17"), ("hard/rtn/dcq,sections=9", "sections: found 9")]:
        target = f"results/cifar10/seed=0/{recipe}/metrics.json"
        with pytest.raises(UserError, match=match):
            check_target(target, planned.grammar, ["cifar10"], planned.config.data)


@pytest.mark.parametrize("architecture", [*registry.NAMES, "wrn10-1"])
def test_the_facts_of_a_family_are_those_of_its_networks(architecture):
    import torch

    with torch.device("meta"):
        network = registry.build(
            architecture, classes=2, channels=3, stem="cifar", width=0.1, mean=[0.5] * 3, std=[0.5] * 3
        )
    family = registry.family_of(architecture)
    assert family.stages == network.stages and family.blocks(architecture) == len(network.blocks)
