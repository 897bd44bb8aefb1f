"""The grammar of recipes: one recipe, one path; every slip is answered with the right spelling."""

import shutil

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kdq.errors import UserError
from kdq.recipe.grammar import Grammar, expand, spell
from kdq.recipe.stages import find_stages, unread_keys
from kdq.study.products import names_of_cells
from kdq.workflow.targets import check as check_target

DATASETS = ("digits", "cifar10", "cifar100", "folder")
positive = st.floats(0.01, 100) | st.integers(1, 100).map(float)
not_negative = st.floats(1e-9, 1e6) | st.integers(0, 10**6).map(float)
TRAINING = {
    "epochs": st.integers(1, 10**5),
    "learning_rate": positive,
    "flip": st.booleans(),
    "schedule": st.sampled_from(["cosine", "onecycle"]),
    "momentum": st.floats(0, 1, exclude_max=True),
    "width": st.floats(0.01, 16),
}
KD = {"temperature": positive, "label_weight": not_negative, "loss": st.sampled_from(["kl", "ce"])}
RTN = {
    "bits": st.integers(2, 8),
    "levels": st.sampled_from(["2^b", "2^b-1", "paper"]),
    "scale": st.sampled_from(["search", "mse", "minmax"]) | positive,
    "patches": st.sampled_from(["all", "paper"]) | st.integers(1, 10**6),
    "order": st.sampled_from(["forward", "iterative"]),
}
ROOTS = {
    name: TRAINING | {"label_smoothing": st.floats(0, 1, exclude_max=True), "seed": st.integers(0, 10**9)}
    for name in ("teacher", "hard")
}
OTHERS = {"kd": TRAINING | KD, "dkd": TRAINING | {"alpha": not_negative, "beta": not_negative}, "rtn": RTN, "gpfq": RTN}


@st.composite
def stages(draw, kinds):
    name = draw(st.sampled_from(sorted(kinds)))
    keys = draw(st.fixed_dictionaries({}, optional=kinds[name]))
    return name, keys


recipes = st.tuples(stages(ROOTS), st.lists(stages(OTHERS), max_size=3)).map(lambda parts: [parts[0], *parts[1]])


@pytest.fixture(scope="module")
def grammar(home):
    student = {"epochs": 20, "width": 0.5, "learning_rate": 0.3, "batch_size": 50, "crop": 2}
    roles = {"teacher": {"epochs": 30}, "student": student, "retrain": {"crop": 1}}
    return Grammar(find_stages(home / "kdq"), roles, {"dkd": {"warmup": 0.5}, "qkd": {"epochs": 7}})


def refused(grammar, text: str, match: str) -> None:
    with pytest.raises(UserError, match=match) as error:
        grammar.parse(text)
    assert "\n" not in str(error.value) and repr(text) in str(error.value)


def test_a_stage_longer_than_the_name_of_a_folder(grammar):
    text = f"teacher,folder={'a' * 250}"
    with pytest.raises(UserError, match="265 letters, expected at most 255"):
        grammar.parse(text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("hard" + "/kd" * 20, "recipe 'hard/kd.*': 21 stages, expected at most 20"),
        ("hard" + "/kd" * 259, "260 stages, expected at most 20"),
        ("hard" + "/kd" * 1000, "3,004 bytes, expected at most 2,048"),
        ("ü" * 1025, "2,050 bytes, expected at most 2,048"),
    ],
)
def test_a_recipe_longer_than_the_path_of_a_file(grammar, text, match):
    for parse in (grammar.parse, lambda text: expand([text])):
        with pytest.raises(UserError, match=match) as error:
            parse(text)
        assert len(str(error.value)) < 200
    assert len(grammar.parse("hard" + "/kd" * 19).stages) == 20


class TestRoundTrip:
    @given(recipes)
    def test_what_is_spelled_is_read(self, grammar, parts):
        text = "/".join(spell(name, keys) for name, keys in parts)
        recipe = grammar.parse(text)
        assert recipe.path == text
        assert [(stage.name, stage.keys) for stage in recipe.stages] == parts
        assert all(spell(stage.name, stage.keys) == stage.text for stage in recipe.stages)

    @given(recipes, st.randoms())
    def test_one_recipe_has_one_path(self, grammar, parts, random):
        """Any other order of the keys is refused, with the right one in the message."""
        name, keys = parts[-1]
        items = list(keys.items())
        random.shuffle(items)
        pairs = [spell("", {key: value})[1:] for key, value in items]
        other = ",".join([name, *pairs])
        head = "/".join(spell(*part) for part in parts[:-1])
        text = f"{head}/{other}" if head else other
        assume(other != spell(name, keys))
        with pytest.raises(UserError, match="is spelled") as error:
            grammar.parse(text)
        assert str(error.value).endswith(f"is spelled {spell(name, keys)!r}")

    @given(recipes)
    def test_ancestors(self, grammar, parts):
        recipe = grammar.parse("/".join(spell(*part) for part in parts))
        assert recipe.root.path == spell(*parts[0]) and recipe.root.parent is None
        assert [len(ancestor.stages) for ancestor in recipe.ancestors] == list(range(1, len(parts)))
        if len(parts) > 1:
            assert recipe.ancestors[-1] == recipe.parent and recipe.ancestors[0] == recipe.root
            assert recipe.path == f"{recipe.parent.path}/{recipe.last.text}"

    @given(st.text(max_size=30))
    def test_garbage_is_refused_in_one_line(self, grammar, text):
        try:
            assert grammar.parse(text).path == text
        except UserError as error:
            assert "\n" not in str(error)

    @given(st.sampled_from(["teacher", "kd", "rtn"]), st.text(max_size=12), st.text(max_size=12))
    def test_garbage_of_keys_too(self, grammar, name, key, value):
        try:
            assert grammar.parse_stage(f"{name},{key}={value}").text == f"{name},{key}={value}"
        except UserError as error:
            assert "\n" not in str(error)


class TestMessages:
    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("teacher/kdd", "stage 'kdd' does not exist, expected one of .*; did you mean 'kd'"),
            ("teacher/qwertz", "stage 'qwertz' does not exist, expected one of [a-z, ]*$"),
            ("teacher/kd,alpa=2", "stage 'kd': unknown key 'alpa', expected one of architecture, .*, width$"),
            ("teacher/kd,temprature=2", "stage 'kd': unknown key 'temprature'; did you mean 'temperature'"),
            ("teacher/rtn,zzz=2", "stage 'rtn': unknown key 'zzz', expected one of .*batchnorm, bias, bits, .*scale"),
            ("teacher/kd,loss=kk", "loss: found 'kk', expected 'kl' or 'ce'; did you mean 'kl'"),
            ("teacher/kd,temperature=0", "temperature: found 0, expected greater than or equal to 0.01"),
            ("teacher/kd,temperature=hot", "temperature: found 'hot', expected number"),
            ("teacher/kd,temperature=nan", "temperature: found nan, expected a finite number"),
            ("teacher/kd,temperature=1e999", "temperature: found inf, expected a finite number"),
            ("teacher/rtn,batchnorm=reestimate,bias=correct", "bias: found 'correct' beside .*'reestimate': "),
            ("teacher/rtn,bits=9", "bits: found 9, expected less than or equal to 8"),
            ("teacher/rtn,bits=2.5", "bits: found 2.5, expected integer"),
            ("teacher/rtn,budget=1.5", "budget: found 1.5, expected 0 or greater than or equal to 2"),
            ("teacher/rtn,budget=8.5", "budget: found 8.5, expected 0 or less than or equal to 8"),
            ("teacher/rtn,budget=3.0", "is spelled 'rtn,budget=3'"),
            ("teacher/rtn,cost=kll", "cost: found 'kll', expected 'kl', 'loss' or 'accuracy'; did you mean 'kl'"),
            ("teacher,seed=0,epochs=3", r"is spelled 'teacher,epochs=3,seed=0'$"),
            ("teacher,seed=00", r"is spelled 'teacher,seed=0'$"),
            ("teacher,seed=own", "seed: found 'own', expected integer"),
            ("teacher,seed=-1", "seed: found -1, expected greater than or equal to 0"),
            ("teacher/kd,seed=0", "stage 'kd': unknown key 'seed'"),
            ("teacher,epochs=0", "epochs: found 0, expected greater than or equal to 1"),
            ("teacher,flip=True", "flip: found 'True', expected boolean"),
            ("teacher,flip=1", "flip: found 1, expected boolean"),
            ("teacher/kd,temperature=true", "temperature: found True, expected number"),
            ("teacher/kd,temperature=2.0", r"stage 'kd,temperature=2.0' is spelled 'kd,temperature=2'$"),
            ("teacher/kd,temperature=02", r"is spelled 'kd,temperature=2'$"),
            ("teacher/kd,temperature=1e3", r"is spelled 'kd,temperature=1000'$"),
            ("teacher/kd,temperature= 2", r"stage 'kd,temperature= 2' is spelled 'kd,temperature=2'$"),
            ("teacher/kd,temperature=2,loss=ce", r"is spelled 'kd,loss=ce,temperature=2'$"),
            ("teacher/rtn,bits=4,bits=4", "the key 'bits' is given twice"),
            ("teacher/rtn,bits", "found 'bits', expected key=value"),
            ("teacher/rtn,bits=", "found 'bits=', expected key=value"),
            ("teacher/rtn,=4", "found '=4', expected key=value"),
            ("teacher/rtn,", "found '', expected key=value"),
            ("kd", r"begins with 'kd' of kind distill, expected a root \(hard, teacher\); did you mean 'teacher/kd'"),
            ("rtn,bits=4/kd", "begins with 'rtn,bits=4' of kind quantize, expected a root"),
            ("teacher/hard", "the root 'hard' can only come first"),
            ("teacher/kd/teacher", "the root 'teacher' can only come first"),
            ("", "stage '' does not exist"),
            ("/teacher", "stage '' does not exist"),
            ("teacher/", "stage '' does not exist"),
            ("teacher//rtn", "stage '' does not exist"),
            ("teacher /rtn", "stage 'teacher ' does not exist.*did you mean 'teacher'"),
            (
                "hard/qat",
                "qat retrains a quantized model, but its parent 'hard' is float; did you mean 'hard/gpfq,bits=4/qat'",
            ),
            (
                "teacher/rtn,bits=2/kd/dcq,inputs=student/rtn",
                "its parent 'teacher/rtn,bits=2/kd' is float; did you mean "
                "'teacher/rtn,bits=2/kd/gpfq,bits=4/dcq,inputs=student/rtn'",
            ),
            ("hard/rtn/qat,width=2", "stage 'qat': unknown key 'width'"),
            ("hard/rtn/qat,teacher=parent", "teacher: found 'parent', expected 'float', 'root' or 'teacher'"),
            ("teacher/../kd", "stage '..' does not exist"),
            ("teacher,file=..", "file: found '..', expected the name of a file in the repository or folder"),
            ("teacher,file=$(x)", r"file: found '\$\(x\)', in a recipe expected letters, digits"),
            ("teacher,folder=a b", "folder: found 'a b', in a recipe expected letters, digits"),
            ("teacher,repository=x", "repository: found 'x', expected a repository of the hub, owner/name"),
        ],
    )
    def test_of_a_recipe(self, grammar, text, match):
        refused(grammar, text, match)

    @pytest.mark.parametrize("value", ["-1", "0", "serach", "true"])
    def test_of_a_key_that_is_a_word_or_a_number(self, grammar, value):
        refused(
            grammar,
            f"teacher/rtn,scale={value}",
            r"expected 'search', .*'minmax' or .*(greater than or equal to 0.01|number)",
        )


class TestResolve:
    def test_the_recipe_wins_over_the_config_and_that_over_the_file(self, grammar):
        def resolved(text):
            return grammar.resolve(grammar.parse_stage(text))

        assert resolved("teacher")["epochs"] == 30 and resolved("teacher")["width"] == 1.0
        assert resolved("hard")["epochs"] == resolved("kd")["epochs"] == 20
        assert resolved("dkd,warmup=0.7")["warmup"] == 0.7 and resolved("dkd")["warmup"] == 0.5
        assert resolved("kd,epochs=3")["epochs"] == 3
        assert resolved("rtn")["bits"] == 4 and "epochs" not in resolved("rtn")

    @pytest.mark.parametrize(
        ("stage", "match"),
        [
            ("rtn,bits=4,budget=2.5", "bits: found 4: the budget gives each layer its own"),
            ("rtn,bits=4,cost=loss", "cost: found 'loss': nothing is chosen by cost without a budget"),
            ("rtn,budget=2.5,levels=paper", "budget: found 2.5, expected at least 3: levels=paper"),
            ("qat,temperature=4", "temperature: found 4.0: distillation_weight=0 matches no teacher"),
            ("magnitude,temperature=4", "temperature: found 4.0: distillation_weight=0 matches no teacher"),
            ("magnitude,teacher=teacher", "teacher: found 'teacher': distillation_weight=0 matches no teacher"),
            ("finetune,teacher=root", "teacher: found 'root': distillation_weight=0 matches no teacher"),
            ("magnitude,epochs=0,teacher=root", "teacher: found 'root': epochs=0 trains nothing"),
            ("magnitude,epochs=0,learning_rate=0.1", "learning_rate: found 0.1: epochs=0 trains nothing"),
            ("magnitude,epochs=0,gradual=0.5", "gradual: found 0.5: epochs=0 trains nothing"),
            ("nm,distillation_weight=1,epochs=0", "distillation_weight: found 1.0: epochs=0 trains nothing"),
        ],
    )
    def test_keys_that_do_not_go_together(self, grammar, stage, match):
        with pytest.raises(UserError, match=match):
            grammar.resolve(grammar.parse_stage(stage))

    def test_keys_that_are_not_read_are_no_part_of_the_result(self, grammar):
        plain, budget, iterative = (
            grammar.resolve(grammar.parse_stage(text)).keys() for text in ("rtn", "rtn,budget=3", "rtn,order=iterative")
        )
        assert iterative - plain == {"cost", "pick"} and iterative - budget == {"bits", "pick"}
        alone = grammar.resolve(grammar.parse_stage("magnitude,epochs=0"))
        assert set(alone) == {"crop", "epochs", "flip", "keep", "scope", "sparsity", "start"}
        assert alone["crop"] == 1  # the role's: of later statistics of BatchNorm

    @given(recipes)
    def test_plain_values_in_order(self, grammar, parts):
        for stage in grammar.parse("/".join(spell(*part) for part in parts)).stages:
            keys = grammar.resolve(stage)
            which = {"seed"} if not stage.kind.has_parent else set()  # says which root it is, not how it is made
            read = stage.type.keys.model_fields.keys() - which - unread_keys(stage.type.keys, stage.keys).keys()
            assert list(keys) == sorted(keys) == sorted(read)
            assert all(type(value) in (int, float, str, bool) for value in keys.values())
            assert {key: value for key, value in stage.keys.items() if key not in which}.items() <= keys.items()


class TestRetrain:
    def test_of_the_role_student_all_but_epochs_learning_rate_and_network(self, grammar):
        def resolved(text):
            return grammar.resolve(grammar.parse_stage(text))

        plain = resolved("qat")
        assert (plain["epochs"], plain["learning_rate"], plain["batch_size"], plain["crop"]) == (10, 0.02, 50, 1)
        assert not {"width", "architecture", "stem"} & plain.keys()
        assert resolved("qkd")["epochs"] == 7 and resolved("qkd,epochs=3")["epochs"] == 3
        assert resolved("qat,learning_rate=0.5")["learning_rate"] == 0.5

    @pytest.mark.parametrize(
        ("text", "network"),
        [
            ("hard/rtn/qat", "hard"),
            ("teacher/kd/gpfq,bits=2/qat/qkd", "teacher/kd"),
            ("teacher,seed=0/gpfq/kd,epochs=3/rtn/dcq", "teacher,seed=0/gpfq/kd,epochs=3"),
            ("teacher/gpfq/qat/kd", "teacher/gpfq/qat/kd"),
            ("teacher/kd/ntklc", "teacher/kd"),
        ],
    )
    def test_its_float_ancestor(self, grammar, text, network):
        assert grammar.parse(text).network.path == network

    def test_is_quantized_until_something_is_distilled_from_it(self, grammar):
        quantized = {"teacher/rtn": True, "teacher/rtn/qat": True, "teacher/rtn/qat/kd": False, "hard/ntklc": False}
        assert {text: grammar.parse(text).is_quantized for text in quantized} == quantized


class TestSharedRoot:
    def test_is_made_as_the_root_without_the_key(self, grammar):
        for name in ("teacher", "hard", "teacher,epochs=3", "hard,width=0.5"):
            shared = spell(name.split(",")[0], {**grammar.parse_stage(name).keys, "seed": 7})
            assert grammar.resolve(grammar.parse_stage(shared)) == grammar.resolve(grammar.parse_stage(name))
        assert grammar.parse("teacher,epochs=3,seed=0/kd").root.last.keys == {"epochs": 3, "seed": 0}


class TestExpand:
    @pytest.mark.parametrize(
        ("patterns", "expected"),
        [
            (["teacher"], ["teacher"]),
            (["teacher/{kd,mixup}"], ["teacher/kd", "teacher/mixup"]),
            (["a,bits={2..4}"], ["a,bits=2", "a,bits=3", "a,bits=4"]),
            (["{a,b}/c,k={1,2}"], ["a/c,k=1", "a/c,k=2", "b/c,k=1", "b/c,k=2"]),
            (["{a,b/{c,d}}/e"], ["a/e", "b/c/e", "b/d/e"]),
            (["a", "{a,b}", "b"], ["a", "b"]),
            (["a,alpha={0.5,1}"], ["a,alpha=0.5", "a,alpha=1"]),
        ],
    )
    def test_braces(self, patterns, expected):
        assert expand(patterns) == expected

    @pytest.mark.parametrize("pattern", ["teacher{1..100000000}", "{a,b}" * 30])
    def test_a_slip_does_not_fill_the_memory(self, pattern):
        with pytest.raises(UserError, match="gives more than 100,000 recipes"):
            expand([pattern])

    def test_many_slips_do_not_either(self):
        with pytest.raises(UserError, match="give more than 100,000 recipes"):
            expand(["teacher{1..60000}", "hard{1..60000}"])

    def test_nor_does_a_long_pattern(self):
        with pytest.raises(UserError, match="'.xxx.* gives more than 2,682 recipes") as error:
            expand(["{" + "x" * 100_000 + ",y}" + "{a,b}" * 15])
        assert len(str(error.value)) < 200

    @pytest.mark.parametrize("pattern", ["", "{,}"])
    def test_nothing_is_no_recipe(self, pattern):
        with pytest.raises(UserError, match="recipes: found .*, expected a recipe such as 'teacher/kd'"):
            expand([pattern])

    def test_braces_without_end(self):
        with pytest.raises(UserError):
            expand(["{" * 2000])


class TestTargets:
    @pytest.mark.parametrize("file", names_of_cells())
    def test_files_of_a_cell(self, grammar, file):
        quantized = file in ("sensitivity.csv", "model.archive.safetensors")
        recipe = "teacher/kd/gpfq,images=64" if quantized else "teacher/kd"
        check_target(f"results/digits/seed=0/{recipe}/{file}", grammar, DATASETS)

    @pytest.mark.parametrize(
        "target",
        [
            *("all", "--cores", "results", "results/", "results/digits", "results/summary.csv"),
            *("results/figures/pareto.pdf", "results/digits/data/split=0.safetensors", "docs/results/digits/seed=0/x"),
        ],
    )
    def test_whatever_else_is_left_to_snakemake(self, grammar, target):
        check_target(target, grammar, DATASETS)

    @pytest.mark.parametrize(
        ("target", "match"),
        [
            ("results/digit/seed=0/teacher/metrics.json", "data set 'digit' does not exist.*did you mean 'digits'"),
            ("results/digits/teacher/metrics.json", "found 'teacher' after the data set, expected seed=NUMBER"),
            ("results/digits/seed=/teacher/metrics.json", "found 'seed=' after the data set"),
            *(
                (f"results/digits/seed={seed}/teacher/metrics.json", "after the data set, expected seed=NUMBER")
                for seed in ("00", "+0", "-0", "0_0", " 0", "0.0", "٠", "０", "0x0")
            ),
            (f"results/digits/seed={2**63}/teacher/metrics.json", "expected a seed below 2"),
            ("results/digits/seed=" + "9" * 5000 + "/x", "expected a seed below 2"),
            *(
                (f"results/digits/data/{name}", "expected for example results/digits/data/split=0.safetensors")
                for name in ("split=00.safetensors", "split=-1.safetensors", "split=0.csv")
            ),
            ("results/digits/seed=0/teacher", "names the folder of a recipe.*teacher/metrics.json"),
            ("results/digits/seed=0/teacher/rtn,bits=4/", "names the folder of a recipe"),
            (
                "results/digits/seed=0/teacher/metric.json",
                "ends in 'metric.json', expected one of .*mean 'metrics.json'",
            ),
            ("results/digits/seed=0", "ends in '', expected one of"),
            (
                "results/digits/seed=0/metrics.json",
                "names no recipe, expected results/digits/seed=0/RECIPE/metrics.json",
            ),
            ("results/digits/seed=0/teacher/kdd/metrics.json", "stage 'kdd' does not exist"),
            ("results/digits/seed=0/kd/metrics.json", "expected a root"),
            ("results/digits/seed=0/teacher/rtn/history.csv", "'rtn' does not train and has no history.csv"),
            ("results/digits/seed=0/teacher/kd/model.archive.safetensors", "'kd' gives a float model, .* no archive"),
            ("results/digits/seed=0/teacher/kd/sensitivity.csv", "'kd' does not quantize and has no sensitivity.csv"),
            (
                "results/digits/seed=0/teacher/rtn,budget=3,images=64/sensitivity.csv",
                "the same for all bits, .* expected teacher/rtn,images=64/sensitivity.csv",
            ),
        ],
    )
    def test_slips(self, grammar, target, match):
        with pytest.raises(UserError, match=match) as error:
            check_target(target, grammar, DATASETS)
        assert "\n" not in str(error.value)

    @given(st.text(max_size=20), st.text(max_size=20))
    def test_garbage_is_refused_in_one_line_or_let_through(self, grammar, seed, rest):
        try:
            check_target(f"results/digits/{seed}/{rest}", grammar, DATASETS)
        except UserError as error:
            assert "\n" not in str(error).replace(seed, "").replace(rest, "")


class TestDiscovery:
    def test_stages_are_read_once_per_version_of_their_files(self, tmp_path, home):
        shutil.copytree(home / "kdq", tmp_path / "kdq")
        first = find_stages(tmp_path / "kdq")
        assert find_stages(tmp_path / "kdq")["kd"] is first["kd"]
        file = tmp_path / "kdq/distill/methods/kd.py"
        file.write_text(file.read_text().replace("temperature: ", "warmth: "))
        edited = find_stages(tmp_path / "kdq")
        assert "warmth" in edited["kd"].keys.model_fields and "warmth" not in first["kd"].keys.model_fields
        file.unlink()
        assert find_stages(tmp_path / "kdq").keys() == first.keys() - {"kd"}
        assert find_stages(home / "kdq")["kd"].file == home / "kdq/distill/methods/kd.py"
