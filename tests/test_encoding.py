"""Texts are UTF-8 in every locale: nothing is read or written in the encoding that the environment happens to have."""

import ast
import os
import subprocess
import sys

import pytest

FOLDERS = ("kdq", "scripts", "rules", "envs", "benchmarks")
BINARY = {"os", "tarfile", "Image"}  # modules whose ``open`` gives bytes
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def in_encoding_of_the_locale(source: str) -> list[str]:
    """Return the calls that open a text without naming its encoding."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if _is_text(call) and not {"encoding", None} & _keywords(call).keys()]


def _keywords(call: ast.Call) -> dict:
    return {keyword.arg: keyword.value for keyword in call.keywords}


def _is_text(call: ast.Call) -> bool:
    method = isinstance(call.func, ast.Attribute)
    name = call.func.attr if method else getattr(call.func, "id", "")
    if name in ("read_text", "write_text"):
        return method
    if name == "open" and method and getattr(call.func.value, "id", "") in BINARY:
        return False
    if name not in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile", "run", "Popen", "check_output"):
        return False
    keywords = _keywords(call)
    if name in ("run", "Popen", "check_output"):
        return "text" in keywords or "universal_newlines" in keywords
    position = 0 if name.endswith("TemporaryFile") or (name == "open" and method) else 1
    modes = [keywords["mode"]] if "mode" in keywords else call.args[position : position + 1]
    default = "w+b" if name.endswith("TemporaryFile") else "r"
    return "b" not in (modes[0].value if modes else default)


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        ("open(p)", True),
        ("open(p, 'w', newline='')", True),
        ("open(p, 'rb')", False),
        ("open(p, 'a', encoding='utf-8')", False),
        ("path.open()", True),
        ("path.open('rb')", False),
        ("os.open(p, os.O_RDONLY)", False),
        ("path.read_text()", True),
        ("Path(p).write_text(text)", True),
        ("path.write_text(text, encoding='utf-8')", False),
        ("NamedTemporaryFile()", False),
        ("NamedTemporaryFile('w')", True),
        ("subprocess.run(words, text=True)", True),
        ("subprocess.run(words, encoding='utf-8')", False),
    ],
)
def test_the_check_itself(source, refused):
    assert bool(in_encoding_of_the_locale(source)) == refused


def test_every_text_names_its_encoding(home):
    files = [file for folder in FOLDERS for file in sorted((home / folder).rglob("*.py"))]
    assert len(files) > 100
    assert {str(file): calls for file in files if (calls := in_encoding_of_the_locale(file.read_text("utf-8")))} == {}
    for file in (home / "Snakefile", *(home / "rules").glob("*.smk")):
        assert not any(word in file.read_text("utf-8") for word in ("read_text(", "write_text(", "open("))


def test_files_and_stages_in_the_locale_c(home, tmp_path):
    """What is written there is read there, and the sources of all stages, which have letters outside ASCII."""
    program = """
import locale
from pathlib import Path
from kdq.provenance import files
from kdq.recipe.stages import find_stages
from kdq.provenance.fingerprint import Fingerprints
from kdq.study.strict_yaml import read_file
assert locale.getpreferredencoding(False) != "UTF-8", "the test needs another locale"
files.write_table("table.csv", "name\\nM\\u00fcller\\n", {"format": "x"})
assert files.read_table("table.csv", "x")[1] == "name\\nM\\u00fcller\\n"
assert read_file("a.yaml") == {"a": "\\u00fc"}
home = Path(HOME)
assert len(find_stages(home / "kdq")) > 20
assert Fingerprints(home).of("scripts/distill.py", "kdq/distill/methods/kd.py")
"""
    (tmp_path / "a.yaml").write_text("a: ü", encoding="utf-8")
    words = [sys.executable, "-c", f"HOME = {str(home)!r}\n{program}"]
    environment = {**os.environ, **C_LOCALE, "PYTHONPATH": str(home)}
    run = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode(errors="replace")
