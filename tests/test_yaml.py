"""YAML with two meanings is refused with file and line; all else reads as before."""

import math
import os
import subprocess
import sys
import time

import pytest
import yaml

from kdq.errors import UserError
from kdq.study.config import Origin, merged, read_study, typed
from kdq.study.strict_yaml import MOST_BYTES, read_file

LEVELS = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))
MULTIPLIED = f"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n{LEVELS}"
MERGED = MULTIPLIED.replace("[x, x, x, x, x, x, x, x, x, x]", "{x: 1}").replace("[*", "{<<: [*").replace("]", "]}")
BASE = {"x": 1, "y": 2}
TWICE = """\
datasets: [folder]
seeds: [0]
recipes: [hard, "hard/kd"]
data: {image_folder: images, image_size: 32}
student: {architecture: resnet18, width: 0.0625, epochs: 30, batch_size: 16}
stages:
  kd: {temperature: 2}
# ... further down, added later
student: {learning_rate: 0.02}
stages:
  gpfq: {images: 64}
"""


@pytest.fixture
def file(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "study.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


REFUSED = [
    (TWICE, "line 9: the key 'student' is given twice, first in line 5"),
    (
        "student:\n  epochs: 1\n  width: 1\n  'epochs': 2",
        "line 4: the key 'student.epochs' is given twice, first in line 2",
    ),
    ("a: {b: 1, b: 1}", "line 1: the key 'a.b' is given twice, first in line 1"),
    ("a: &x {b: 1}\nc: {<<: *x, <<: *x}", "line 2: the key 'c.<<' is given twice"),
    ("seeds: [010]", "line 1: found 010, which is 8 in YAML 1.1 and 10 in YAML 1.2; write 8 or 10"),
    ("seeds: [08]", "found 08, which is '08' in YAML 1.1 and 8 in YAML 1.2"),
    ("a: 0o17", "which is '0o17' in YAML 1.1 and 15 in YAML 1.2"),
    ("a: 0b11", "which is 3 in YAML 1.1 and '0b11' in YAML 1.2"),
    ("\nstudent: {epochs: 1:30}", "line 2: found 1:30, which is 90 in YAML 1.1 and '1:30' in YAML 1.2; write 90 or"),
    ("a: 1_000", "found 1_000, which is 1000 in YAML 1.1 and '1_000' in YAML 1.2; write 1000 or '1_000'"),
    ("flip: no", "found no, which is false in YAML 1.1 and 'no' in YAML 1.2; write false or 'no'"),
    ("flip: Off", "found Off, which is false in YAML 1.1 and 'Off'"),
    ("on: 1", "found on, which is true in YAML 1.1"),
    ("a: 5e-4", "found 5e-4, which is '5e-4' in YAML 1.1 and 0.0005 in YAML 1.2"),
    (
        "a: 2024-01-01",
        "found 2024-01-01, which is a date in YAML 1.1 and '2024-01-01' in YAML 1.2; write '2024",
    ),
    ("a: 2024-99-01", "found 2024-99-01, which is a date"),
    ("a: =", "not readable as YAML"),
    ("a: " + "9" * 5000, "found a number of 5000 digits, expected at most 300"),
    (
        "a: !!python/object/apply:os.system [ls]",
        "line 1: found the tag tag:yaml.org,2002:python/object",
    ),
    ("a: !!int '010'", "found the tag tag:yaml.org,2002:int, expected a value without one"),
    ("a: &a [*a]", "line 1: a contains itself by an alias"),
    ("x: 1\na: &a {b: *a}", "line 2: a.b contains itself by an alias"),
    ("a: &a\n  <<: *a", "contains itself by an alias"),
    (MULTIPLIED, "line 5: a4 has more than 100,000 values"),
    (MERGED, "line 6: a5.<< has more than 100,000 values"),
    ("a: *b", "found undefined alias 'b'"),
    ("? [a]\n: 1", "found a list or mapping as a key"),
    ("a: x\0y", "special characters are not allowed"),
    (b"b: 1\na: \xff", "line 2: found bytes that are not UTF-8"),
    ("a: 1".encode("utf-16"), "line 1: found bytes that are not UTF-8"),
    ("a:\n\tb: 1", "line 2: not readable as YAML .found character '.t'"),
    ("a: 1\n---\nb: 2", "line 2: not readable as YAML .* another document"),
    ("", "found nothing, expected keys with values"),
    ("# nothing\n", "found nothing, expected keys with values"),
    ("[]", r"found \[\], expected keys with values"),
    ("0", "found 0, expected keys with values"),
    ("a: " + "[" * 3000, "nested too deeply"),
    ("a: 1 #" + "x" * MOST_BYTES, "larger than 1,048,576 bytes"),
]


@pytest.mark.parametrize(("content", "match"), REFUSED, ids=[str(index) for index in range(len(REFUSED))])
def test_refused_in_one_line(file, content, match):
    started, path = time.monotonic(), file(content)
    for read in (read_file, lambda path: merged([path]), lambda path: Origin([path])):
        with pytest.raises(UserError, match=match) as error:
            read(path)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert time.monotonic() - started < 120  # values that multiply would take hours, or all memory


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("b: &b {x: 1, y: 2}\na: {<<: *b, x: 3}\nc: *b", {"b": BASE, "a": {"y": 2, "x": 3}, "c": BASE}),
        ("a: &x [1]\nb: [*x, *x]", {"a": [1], "b": [[1], [1]]}),
        ("a: {b: 1}\nc: {b: 1}", {"a": {"b": 1}, "c": {"b": 1}}),
        (b"\xef\xbb\xbfa: 1", {"a": 1}),
        ("a: ü", {"a": "ü"}),
        ("a: [+1, -0, 007, 0x1F, 1.5e+3, .5, 1., .inf]", {"a": [1, 0, 7, 31, 1500.0, 0.5, 1.0, math.inf]}),
        ("a: [true, False, ~, null, 1-2, y]", {"a": [True, False, None, None, "1-2", "y"]}),
        ("a: ['010', \"1:30\", 'no']", {"a": ["010", "1:30", "no"]}),
        ('{"a": {"b": [1, 2.5, true, null, "x"]}}', {"a": {"b": [1, 2.5, True, None, "x"]}}),
        ("%YAML 1.1\n---\na: 1\n...\n", {"a": 1}),
        ("a: |\n  no\n  010\n", {"a": "no\n010\n"}),
    ],
)
def test_what_has_one_meaning_reads_as_pyyaml_reads_it(file, content, expected):
    assert read_file(file(content)) == expected == yaml.safe_load(content)


def test_not_a_number_is_the_same_in_both(file):
    assert math.isnan(read_file(file("a: .nan"))["a"])


def test_the_studies_that_come_along(home):
    files = [home / "config.yaml", *sorted((home / "studies").glob("*.yaml"))]
    assert len(files) > 5
    for path in files:
        assert read_file(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: found a FIFO, expected a config"):
        read_file(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"seeds": ["010"]}, "--config: found 010, which is 8 in YAML 1.1 and 10 in YAML 1.2"),
        ({"student": {"epochs": "1:30"}}, "--config: found 1:30, which is 90"),
        ({"student": {"flip": "no"}}, "--config: found no, which is false"),
        ("{a: 1, a: 2}", "--config: the key 'a' is given twice"),
    ],
)
def test_values_of_the_command_line_are_read_alike(value, match):
    with pytest.raises(UserError, match=f"^{match}"):
        typed(value)


def test_a_recipe_of_the_command_line_is_a_text():
    recipes = ["{teacher,hard}/rtn", "teacher/kd,temperature=2", "hard/rtn,bits={2..4}", "[", "a: b: c", "\t"]
    assert typed({"recipes": recipes}) == {"recipes": recipes}


def test_the_values_that_snakemake_merged_are_not_trusted(file, home):
    """Snakemake reads the same file by its own loader, which takes the last of two keys."""
    path = file("datasets: [digits]\nseeds: [0]\nrecipes: [teacher]\nrecipes: [hard]\n")
    with pytest.raises(UserError, match="line 4: the key 'recipes' is given twice, first in line 3"):
        read_study(yaml.safe_load(path.read_text()), home / "kdq", [path])


def test_templates_of_snakemake_are_refused(file, home):
    """They run Python; Snakemake's values no longer have the key that asks for them."""
    path = file("__use_yte__: true\ndatasets: [digits]\nseeds: [0]\nrecipes: [hard]\n")
    with pytest.raises(UserError, match="study.yaml: unknown key '__use_yte__'"):
        read_study({"datasets": ["digits"], "seeds": [0], "recipes": ["hard"]}, home / "kdq", [path])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "options", "match"),
    [
        (TWICE, [], "study.yaml: line 9: the key 'student' is given twice, first in line 5"),
        ("datasets: [digits]\nseeds: [010]\nrecipes: [hard]\n", [], "study.yaml: line 2: found 010, which is 8"),
        ("datasets: [digits]\nseeds: [0]\nrecipes: [hard]\n", ["--config", "student={flip: no}"], "--config: found no"),
    ],
)
def test_snakemake_ends_with_one_line(file, home, tmp_path, text, options, match):
    words = [sys.executable, "-m", "snakemake", "-s", str(home / "Snakefile"), "-n", "--configfile", str(file(text))]
    run = subprocess.run([*words, *options], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    errors = [line for line in run.stderr.splitlines() if "error" in line.lower()]
    assert run.returncode == 1 and len(errors) == 1 and match in errors[0]
    assert "Traceback" not in run.stderr and not (tmp_path / "results").exists()
