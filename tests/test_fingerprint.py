"""Fingerprints: code that computes the same keeps its own, other code gets another; only what is imported counts."""

import ast
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest.mock import Mock

import grimp
import pytest

from kdq.errors import UserError
from kdq.provenance import fingerprint
from kdq.provenance.documentation import reads_documentation
from kdq.provenance.fingerprint import Fingerprints, canonical, parse

HOME = Path(__file__).resolve().parents[1]
SOURCE = '''
"""A module."""
import math
from typing import Annotated

from pydantic import BaseModel, Field


class Parameters(BaseModel):
    """Keys."""

    alpha: Annotated[float, Field(ge=0, description="a weight")] = 1.0


def loss(x: float, weight: float = 2.0) -> float:
    """Mean square."""
    # why
    return weight * x + math.pi


async def later():
    """Nothing."""
    return "text"
'''
SAME = {
    "a comment": ("# why", "# because\n    # of that"),
    "no comment": ("    # why\n", ""),
    "a docstring": ("Mean square.", "Something else."),
    "no docstring": ('    """Mean square."""\n', ""),
    "a module's docstring": ('"""A module."""', ""),
    "a class's docstring": ('    """Keys."""\n', '    """Other keys\n\n    and more."""\n'),
    "a coroutine's docstring": ('    """Nothing."""\n', ""),
    "formatting": ("weight * x + math.pi", "(\n        weight*x\n        + math . pi\n    )"),
    "quotes": ('"text"', "'text'"),
    "blank lines": ("\n\n\n", "\n\n\n\n\n"),
    "description of a key": ('description="a weight"', 'description="another text"'),
    "no description of a key": (', description="a weight"', ""),
    "a trailing comma": ("weight: float = 2.0)", "weight: float = 2.0,)"),
    "a number's spelling": ("= 2.0)", "= 2.00)"),
}
OTHER = {
    "a constant": ("math.pi", "math.e"),
    "an operator": ("weight * x", "weight / x"),
    "the order of an expression": ("weight * x", "x * weight"),
    "a default": ("= 2.0)", "= 3.0)"),
    "a type": ("= 2.0)", "= 2)"),
    "a key's default": ("= 1.0", "= 2.0"),
    "a key's bound": ("ge=0", "ge=1"),
    "a text": ('"text"', '"other"'),
    "a name": ("def loss", "def cost"),
    "an annotation": ("-> float", "-> int"),
    "an import": ("import math", "import cmath as math"),
    "a text that is no docstring": ('return "text"', '"text"\n    return "text"'),
    "async": ("async def", "def"),
}


QUANTIZERS = ("rtn", "gpfq", "spfq", "sparse", "gptq", "qronos", "adaround", "brecq")
EVALUATIONS = {"evaluate", "evaluate a ResNet", "evaluate a WRN"}
RETRAINING = ("qat", "qkd", "dcq", "adaptive")


def changed(pair) -> str:
    assert SOURCE.count(pair[0]) >= 1
    return SOURCE.replace(*pair)


class TestCanonical:
    @pytest.mark.parametrize("name", SAME)
    def test_the_same(self, name):
        assert canonical(ast.parse(changed(SAME[name]))) == canonical(ast.parse(SOURCE))

    @pytest.mark.parametrize("name", OTHER)
    def test_other(self, name):
        assert canonical(ast.parse(changed(OTHER[name]))) != canonical(ast.parse(SOURCE))

    @pytest.mark.parametrize("module", ["pydantic", "kdq.recipe.vocabulary"])
    def test_a_key_loses_its_description(self, module):
        text = f"from {module} import Field\nx = Field(description='a')"
        assert canonical(ast.parse(text)) == canonical(ast.parse(text.replace("'a'", "'b'")))

    @pytest.mark.parametrize(
        "text",
        [
            "f(description='a')",
            "Field(description='a')",
            "from a import Field\nField(description='a')",
            "from a import f as Field\nField(description='a')",
            "from .pydantic import Field\nField(description='a')",
            "from pydantic import Field\nf(description='a')",
            "from pydantic import Field\nField(description=f('a'))",
            "from pydantic import Field\nField(title='a')",
            "from pydantic import Field\ndef Field(description): f(description)\nField(description='a')",
            "from pydantic import Field\nfor Field in f: Field(description='a')",
            "from pydantic import Field\nlambda Field: Field(description='a')",
            "class A(Base, description='a'): b = 1",
        ],
    )
    def test_nothing_else_does(self, text):
        assert canonical(ast.parse(text)) != canonical(ast.parse(text.replace("'a'", "'b'")))

    def test_nothing_but_a_docstring_is_nothing(self):
        assert canonical(ast.parse('"""A module."""')) == canonical(ast.parse(""))

    def test_none_is_a_value(self):
        assert canonical(ast.parse("x = None")) != canonical(ast.parse("x = 0"))
        assert canonical(ast.parse("return_ = f()")) != canonical(ast.parse("return_ = f(None)"))

    def test_what_stands_inside_and_what_after(self):
        inside, after = "if a:\n    b\n    c", "if a:\n    b\nc"
        assert canonical(ast.parse(inside)) != canonical(ast.parse(after))

    def test_an_else_is_no_body(self):
        assert canonical(ast.parse("if a:\n    b\nelse:\n    c")) != canonical(ast.parse("if a:\n    b\n    c"))


class TestParse:
    def test_a_syntax_error_names_file_and_line(self, tmp_path):
        (tmp_path / "wrong.py").write_text("a = 1\nb = = 2\n")
        with pytest.raises(UserError, match=r"wrong.py: line 2: invalid syntax$"):
            parse(tmp_path / "wrong.py")


@pytest.fixture(scope="module")
def fingerprints(home):
    return Fingerprints(home)


@pytest.fixture
def copy(home, tmp_path):
    """A copy of the package and the scripts, to be edited."""
    shutil.copytree(home / "kdq", tmp_path / "kdq", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(home / "scripts", tmp_path / "scripts")
    return tmp_path


def names(home, paths) -> set[str]:
    return {str(path.relative_to(home)) for path in paths}


class TestClosure:
    """What a stage's result depends on; the study's reruns follow from it."""

    @pytest.mark.parametrize("name", ["kd", "dkd", "mixup"])
    def test_a_method_has_no_other_method_and_no_quantizer(self, fingerprints, home, name):
        found = names(home, fingerprints.closure(f"kdq/distill/methods/{name}.py"))
        methods = {f"kdq/distill/methods/{other}.py" for other in ("kd", "dkd", "mixup", "losses")}
        assert found & methods == {f"kdq/distill/methods/{name}.py"}
        assert (
            not {"kdq/quantize/methods/rtn.py", "kdq/quantize/methods/gpfq.py", "kdq/quantize/execution/network.py"}
            & found
        )
        assert {"kdq/distill/method.py", "kdq/data/batches.py", "kdq/recipe/vocabulary.py", "kdq/__init__.py"} <= found

    @pytest.mark.parametrize("name", QUANTIZERS)
    def test_a_quantizer_has_no_other_quantizer_and_no_training(self, fingerprints, home, name):
        found = names(home, fingerprints.closure("scripts/quantize.py", f"kdq/quantize/methods/{name}.py"))
        assert found & {f"kdq/quantize/methods/{other}.py" for other in QUANTIZERS} == {
            f"kdq/quantize/methods/{name}.py"
        }
        assert not any(path.startswith(("kdq/distill", "kdq/evaluate", "kdq/report")) for path in found)
        assert "kdq/train/loop.py" not in found
        assert {"scripts/quantize.py", "kdq/quantize/execution/network.py", "kdq/models/file.py"} <= found

    def test_what_layers_cost_does_not_depend_on_what_is_chosen_by_it(self, fingerprints, home):
        chosen = {"bits/budget", "bits/allocation", "execution/network", "execution/bias", "stage"}
        chosen = {f"kdq/quantize/{name}.py" for name in chosen}
        measured = names(home, fingerprints.closure("scripts/sensitivity.py", "kdq/quantize/methods/gpfq.py"))
        quantized = names(home, fingerprints.closure("scripts/quantize.py", "kdq/quantize/methods/gpfq.py"))
        assert not chosen & measured and chosen <= quantized
        assert "kdq/quantize/bits/sensitivity.py" in measured - quantized

    def test_the_coder_of_archives_is_in_no_model(self, fingerprints, home):
        coder = {"kdq/models/archive.py", "kdq/models/entropy.py"}
        for script in ("train_root", "distill", "quantize", "sensitivity", "teacher_cache"):
            assert not coder & names(home, fingerprints.closure(f"scripts/{script}.py"))
        assert coder <= names(home, fingerprints.closure("scripts/evaluate.py"))

    def test_every_job_that_reads_a_model_depends_on_its_file_but_on_no_network(self, fingerprints, home):
        """A reader that is imported by name is no edge of the graph; a job adds the files of its own networks."""
        for script in ("archive", "distill", "evaluate", "quantize", "retrain", "sensitivity", "teacher_cache"):
            covered = names(home, fingerprints.closure(f"scripts/{script}.py"))
            assert {"kdq/models/file.py", "kdq/models/registry.py"} <= covered, script
            assert not any(path.startswith("kdq/models/networks/") for path in covered), script

    def test_an_evaluation_has_no_training_loop_and_no_method(self, fingerprints, home):
        found = names(home, fingerprints.closure("scripts/evaluate.py"))
        assert {"kdq/evaluate/metrics.py", "kdq/evaluate/stage.py", "kdq/models/file.py"} <= found
        assert not {"kdq/train/loop.py", "kdq/train/stage.py", "kdq/train/checkpoint.py"} & found
        assert not any(path.startswith(("kdq/distill", "kdq/report")) for path in found)

    @pytest.mark.parametrize("script", ["train_root", "distill"])
    def test_training_has_no_evaluation_no_report_and_no_planning(self, fingerprints, home, script):
        found = names(home, fingerprints.closure(f"scripts/{script}.py"))
        assert {"kdq/train/loop.py", "kdq/train/stage.py", "kdq/models/file.py", "kdq/data/batches.py"} <= found
        assert not any(path.startswith(("kdq/evaluate", "kdq/report")) for path in found)
        assert (
            not {"kdq/study/config.py", "kdq/recipe/grammar.py", "kdq/recipe/stages.py", "kdq/workflow/targets.py"}
            & found
        )
        assert "kdq/data/catalog.py" not in found and not any(path.startswith("kdq/data/sets") for path in found)
        assert script == "distill" or not any(path.startswith("kdq/distill") for path in found)

    @pytest.mark.parametrize("name", ["qat", "qkd", "dcq", "adaptive"])
    def test_a_way_to_retrain_has_no_other_one_no_quantizer_and_no_method(self, fingerprints, home, name):
        found = names(home, fingerprints.closure("scripts/retrain.py", f"kdq/retrain/methods/{name}.py"))
        ways = {f"kdq/retrain/methods/{other}.py" for other in ("qat", "qkd", "dcq", "adaptive", "ntklc")}
        assert found & ways == {f"kdq/retrain/methods/{name}.py"}
        assert {"kdq/retrain/lsq.py", "kdq/retrain/stage.py", "kdq/train/loop.py", "kdq/models/file.py"} <= found
        assert ("kdq/retrain/sections.py" in found) == (name == "dcq")
        assert (
            not {"kdq/quantize/methods/rtn.py", "kdq/quantize/methods/gpfq.py", "kdq/quantize/execution/network.py"}
            & found
        )
        shared = {"__init__", "divergence"} | ({"teacher", "outputs"} if name != "qkd" else set())
        assert {path for path in found if path.startswith("kdq/distill")} == {
            f"kdq/distill/{module}.py" for module in shared
        }
        assert not any(path.startswith(("kdq/evaluate", "kdq/report", "kdq/root")) for path in found)
        assert not {"kdq/study/config.py", "kdq/recipe/grammar.py", "kdq/recipe/stages.py"} & found

    def test_preparing_data_has_no_model(self, fingerprints, home):
        found = names(home, fingerprints.closure("scripts/prepare_data.py"))
        assert not any(path.startswith(("kdq/models", "kdq/train", "kdq/distill", "kdq/quantize")) for path in found)
        assert not any(path.startswith("kdq/data/sets") for path in found)


class TestEdits:
    """Of a copy of this very package; the graph of imports stays, so that it is built once."""

    @pytest.fixture(autouse=True)
    def graph(self, fingerprints, monkeypatch):
        monkeypatch.setattr(Fingerprints, "graph", fingerprints.graph)
        self.unedited = fingerprints

    def changes(self, copy, file, old, new) -> set[str]:
        """Which of these jobs get another fingerprint when ``old`` becomes ``new`` in ``file``."""
        jobs = {
            "root": ("scripts/train_root.py", "kdq/roots/methods/hard.py"),
            "teacher": ("scripts/train_root.py", "kdq/roots/methods/teacher.py"),
            "imported teacher": (
                *("scripts/train_root.py", "kdq/roots/methods/teacher.py"),
                "kdq/roots/sources/huggingface.py",
            ),
            "kd": ("scripts/distill.py", "kdq/distill/methods/kd.py"),
            "dkd": ("scripts/distill.py", "kdq/distill/methods/dkd.py"),
            "mixup": ("scripts/distill.py", "kdq/distill/methods/mixup.py"),
            **{name: ("scripts/quantize.py", f"kdq/quantize/methods/{name}.py") for name in QUANTIZERS},
            "sensitivity": ("scripts/sensitivity.py", "kdq/quantize/methods/gpfq.py"),
            "qat": ("scripts/retrain.py", "kdq/retrain/methods/qat.py"),
            "qkd": ("scripts/retrain.py", "kdq/retrain/methods/qkd.py"),
            "dcq": ("scripts/retrain.py", "kdq/retrain/methods/dcq.py"),
            "adaptive": ("scripts/retrain.py", "kdq/retrain/methods/adaptive.py"),
            "evaluate": ("scripts/evaluate.py",),
            "evaluate a ResNet": ("scripts/evaluate.py", "kdq/models/networks/resnet.py"),
            "evaluate a WRN": ("scripts/evaluate.py", "kdq/models/networks/wideresnet.py"),
            "CIFAR": ("scripts/prepare_data.py", "kdq/data/sets/cifar.py"),
            "digits": ("scripts/prepare_data.py", "kdq/data/sets/digits.py"),
        }
        before = {job: self.unedited.of(*files) for job, files in jobs.items()}
        text = (copy / file).read_text()
        assert old in text
        (copy / file).write_text(text.replace(old, new))
        prints = Fingerprints(copy)
        return {job for job, files in jobs.items() if prints.of(*files) != before[job]}

    @pytest.mark.parametrize(
        ("file", "jobs"),
        [
            ("kdq/distill/methods/kd.py", {"kd"}),
            ("kdq/distill/methods/dkd.py", {"dkd"}),
            ("kdq/distill/divergence.py", {"kd", "mixup", *RETRAINING}),
            ("kdq/distill/standardize.py", {"kd", "dkd", "mixup"}),
            ("kdq/quantize/methods/rtn.py", {"rtn"}),
            ("kdq/quantize/methods/gpfq.py", {"gpfq", "sensitivity"}),
            ("kdq/quantize/methods/sparse.py", {"sparse"}),
            ("kdq/quantize/solver/hessian.py", {"gptq", "qronos"}),
            ("kdq/quantize/solver/substitution.py", {*QUANTIZERS, "sensitivity"} - {"rtn", "brecq"}),
            ("kdq/quantize/solver/soft_rounding.py", {"adaround", "brecq"}),
            ("kdq/quantize/execution/bias.py", set(QUANTIZERS)),
            ("kdq/quantize/execution/layer.py", {*QUANTIZERS, "sensitivity", "adaptive"}),
            ("kdq/distill/teacher.py", {"kd", "dkd", "mixup", "qat", "dcq", "adaptive"}),
            ("kdq/quantize/bits/sensitivity.py", {"sensitivity"}),
            ("kdq/quantize/bits/losses.py", {*QUANTIZERS, "sensitivity", "adaptive"}),
            ("kdq/quantize/bits/allocation.py", {*QUANTIZERS, "adaptive"}),
            ("kdq/models/entropy.py", EVALUATIONS),
            ("kdq/evaluate/metrics.py", EVALUATIONS),
            ("kdq/train/loop.py", {"root", "teacher", "imported teacher", "kd", "dkd", "mixup", *RETRAINING}),
            ("kdq/retrain/methods/qat.py", {"qat"}),
            ("kdq/retrain/methods/qkd.py", {"qkd"}),
            ("kdq/retrain/sections.py", {"dcq"}),
            ("kdq/retrain/lsq.py", set(RETRAINING)),
            ("kdq/retrain/allocation.py", {"adaptive"}),
            ("scripts/retrain.py", set(RETRAINING)),
            ("kdq/roots/methods/hard.py", {"root"}),
            ("kdq/roots/sources/hub.py", set()),
            ("kdq/roots/sources/huggingface.py", {"imported teacher"}),
            ("kdq/data/sets/cifar.py", {"CIFAR"}),
            ("kdq/models/networks/mobilenetv2.py", set()),
            ("kdq/models/networks/resnet.py", {"evaluate a ResNet", "evaluate a WRN"}),
            ("kdq/models/networks/wideresnet.py", {"evaluate a WRN"}),
            ("kdq/study/config.py", set()),
            ("kdq/recipe/grammar.py", set()),
            ("scripts/distill.py", {"kd", "dkd", "mixup"}),
        ],
    )
    def test_a_line_more_reaches_exactly_these(self, copy, file, jobs):
        end = (copy / file).read_text()
        assert self.changes(copy, file, end, end + "\nMORE = 1\n") == jobs

    @pytest.mark.parametrize(
        "file", ["kdq/train/loop.py", "kdq/distill/methods/kd.py", "scripts/distill.py", "kdq/provenance/files.py"]
    )
    def test_a_comment_reaches_none(self, copy, file):
        end = (copy / file).read_text()
        assert self.changes(copy, file, end, "# before\n" + end + "\n# after\n") == set()

    def test_a_broken_file_is_named(self, copy):
        (copy / "kdq/distill/methods/kd.py").write_text("def kd(:\n")
        with pytest.raises(UserError, match=r"kdq/distill/methods/kd.py: line 1: "):
            Fingerprints(copy).of("scripts/distill.py", "kdq/distill/methods/kd.py")

    def test_is_short_and_stable(self, copy):
        found = Fingerprints(copy).of("scripts/evaluate.py")
        assert len(found) == 16 and int(found, 16) >= 0
        assert found == Fingerprints(copy).of("scripts/evaluate.py")

    def test_where_it_lies_does_not_matter(self, copy, fingerprints):
        assert Fingerprints(copy).of("scripts/evaluate.py") == fingerprints.of("scripts/evaluate.py")


def test_a_syntax_error_anywhere_in_the_package_is_one_line(home, monkeypatch):
    error = grimp.exceptions.SourceSyntaxError(filename="kdq/a.py", lineno=2, text="a = = b")
    monkeypatch.setattr(grimp, "build_graph", Mock(side_effect=error))
    with pytest.raises(UserError, match="the code can't be read: .*kdq/a.py, line 2: a = = b$"):
        Fingerprints(home).of("scripts/evaluate.py")


class TestDocumentation:
    """Docstrings and descriptions that code of the same closure reads when it runs are part of what it computes."""

    JOB = ("scripts/evaluate.py",)
    DOCUMENTED = "kdq/evaluate/metrics.py"

    @pytest.mark.parametrize(
        ("reader", "counts"),
        [
            ("", False),
            ('TEXT = "__doc__"', False),
            ("text = __doc__", True),
            ("text = function.__doc__", True),
            ('text = getattr(function, "__doc__")', True),
            ('text = vars(function)["__doc__"]', True),
            ("from inspect import getdoc", True),
            ("schema = Parameters.model_json_schema()", True),
        ],
    )
    def test_they_count_if_something_in_the_closure_reads_them(self, copy, fingerprints, monkeypatch, reader, counts):
        monkeypatch.setattr(Fingerprints, "graph", fingerprints.graph)
        documented, reading = copy / self.DOCUMENTED, copy / "kdq/evaluate/stage.py"
        reading.write_text(f"{reading.read_text()}\n{reader}\n")
        before, elsewhere = (Fingerprints(copy).of(*job) for job in (self.JOB, ("scripts/prepare_data.py",)))
        documented.write_text(documented.read_text().replace("Metrics of predictions", "Measures of predictions"))
        assert (Fingerprints(copy).of(*self.JOB) != before) == counts
        documented.write_text(f"{documented.read_text()}\n# a comment\n")
        assert Fingerprints(copy).of("scripts/prepare_data.py") == elsewhere

    def test_no_job_of_today_reads_them(self, home, fingerprints):
        closures = (fingerprints.closure(f"scripts/{script.name}") for script in home.glob("scripts/*.py"))
        for path in set().union(*closures):
            assert not reads_documentation(parse(path)), path


class TestKept:
    """The answer is kept in the working folder, for the next job, as long as no byte of the package is another."""

    JOB = ("scripts/quantize.py", "kdq/quantize/methods/rtn.py")

    @pytest.fixture(autouse=True)
    def folder(self, copy, fingerprints, monkeypatch):
        monkeypatch.setattr(Fingerprints, "graph", fingerprints.graph)
        folder = copy / "study"
        (folder / ".snakemake").mkdir(parents=True)
        monkeypatch.chdir(folder)
        return folder

    def asked(self, copy, monkeypatch) -> tuple[dict, int]:
        """The digests, and how many files were parsed for them."""
        parsed = []
        monkeypatch.setattr(fingerprint, "parse", lambda *file: parsed.append(file) or parse(*file))
        return Fingerprints(copy, fingerprint.KEPT).digests(*self.JOB), len(parsed)

    def test_the_second_job_parses_nothing(self, copy, monkeypatch):
        first, parsed = self.asked(copy, monkeypatch)
        assert parsed > 10
        assert self.asked(copy, monkeypatch) == (first, 0)

    @pytest.mark.parametrize(
        "file", ["kdq/quantize/methods/rtn.py", "scripts/quantize.py", "kdq/quantize/bits/scale.py"]
    )
    def test_an_edit_of_the_same_length_and_time_is_seen(self, copy, monkeypatch, file):
        first, _ = self.asked(copy, monkeypatch)
        path = copy / file
        times, text = path.stat(), path.read_text()
        path.write_text(text + "a = 1\n")
        edited, _ = self.asked(copy, monkeypatch)
        path.write_text(text + "a = 2\n")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        again, _ = self.asked(copy, monkeypatch)
        assert len({first[file], edited[file], again[file]}) == 3

    @pytest.mark.parametrize("damage", [lambda text: "", lambda text: text[:-9], lambda text: text.replace("a", "b")])
    def test_a_damaged_answer_is_not_believed(self, copy, monkeypatch, folder, damage):
        first, parsed = self.asked(copy, monkeypatch)
        (kept,) = (folder / ".snakemake/code").iterdir()
        kept.write_text(damage(kept.read_text()))
        assert self.asked(copy, monkeypatch) == (first, parsed)
        assert self.asked(copy, monkeypatch) == (first, 0)

    def test_nothing_is_written_where_snakemake_never_ran(self, copy, monkeypatch, folder):
        (folder / ".snakemake").rmdir()
        assert self.asked(copy, monkeypatch)[1] > 10
        assert not list(folder.iterdir())

    def test_without_a_folder_nothing_is_kept(self, copy, folder):
        assert Fingerprints(copy).digests(*self.JOB)
        assert not list((folder / ".snakemake").iterdir())

    def test_where_it_cannot_be_kept_there_is_no_error(self, copy, monkeypatch, folder):
        (folder / ".snakemake/code").write_text("no folder")
        assert self.asked(copy, monkeypatch)[1] > 10


def test_a_new_import_joins_the_closure(tmp_path):
    """Of a package made here, each time in a process of its own: the graph is that of the package on disk."""
    package = tmp_path / "kdq"
    (package / "sub").mkdir(parents=True)
    (tmp_path / "job.py").write_text("def main():\n    from kdq import one\n")
    files = {
        "__init__.py": "",
        "sub/__init__.py": "",
        "provenance/__init__.py": "",
        "workflow/__init__.py": "",
        "one.py": "",
        "sub/two.py": "",
        "sub/three.py": "",
        "lone.py": "",
    }
    for name, text in files.items():
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(text)
    copied = ("documentation", "files", "fingerprint", "regular_file", "seal")
    for name in ("errors", *(f"provenance/{name}" for name in copied), "workflow/signals"):
        (package / name).parent.mkdir(exist_ok=True)
        shutil.copy(HOME / f"kdq/{name}.py", package / f"{name}.py")
    code = """
        import pathlib, sys
        from kdq.provenance.fingerprint import Fingerprints
        home = pathlib.Path(sys.argv[1])
        prints = Fingerprints(home)
        print(prints.of("job.py"), *(path.relative_to(home) for path in prints.closure("job.py")))
    """

    def look():
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
        job = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        digest, *paths = job.stdout.split()
        return digest, set(paths)

    first, paths = look()
    assert paths == {"job.py", "kdq/__init__.py", "kdq/one.py"}
    (package / "one.py").write_text("def f():\n    from kdq.sub import two\n")  # lazily: found all the same
    (package / "sub/two.py").write_text("from kdq.sub.three import x\n")
    (package / "sub/three.py").write_text("x = 1\n")
    second, more = look()
    assert more == paths | {"kdq/sub/__init__.py", "kdq/sub/two.py", "kdq/sub/three.py"}
    (package / "sub/three.py").write_text("x = 2\n")
    (package / "lone.py").write_text("x = 2\n")
    third, same = look()
    assert same == more and len({first, second, third}) == 3
