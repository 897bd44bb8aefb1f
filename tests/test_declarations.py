"""Classes that files declare: what planning reads of them, and what is wrong with a file, in one line."""

import subprocess
import sys

import pytest

from kdq.declarations import all_declared, file_of
from kdq.errors import UserError
from kdq.models import registry


class Base:
    """What a file may declare."""

    names: tuple[str, ...] = ()
    size: int

    @staticmethod
    def has(name: str) -> bool:
        return False


def found(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return all_declared(folder, "Declaration", "package", Base, {"LARGE": 7})


def test_classes_are_evaluated_alone_in_the_order_of_their_files(tmp_path):
    text = "import no_such_module\nclass Declaration(Base):\n    names = ('a',)\n    size = LARGE\n"
    second, first = text.replace("'a'", "'b'"), text
    declarations = found(tmp_path, second=second, first=first, helper="import no_such_module\n")
    assert [(declared.names, declared.size) for declared in declarations] == [(("a",), 7), (("b",), 7)]
    assert [file_of(declared.__module__) for declared in declarations] == ["package/first.py", "package/second.py"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Declaration(:", r"line 1: invalid syntax"),
        ("class Declaration:\n    names = ()", r"the class Declaration: found no base, expected Base"),
        (
            "class Declaration(Base):\n    name = ()",
            r"unknown 'name', expected one of has, names, size; did you mean 'na",
        ),
        ("class Declaration(Base):\n    size = SMALL", r"name 'SMALL' is not defined; it may use Base, LARGE"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_the_file(tmp_path, text, message):
    with pytest.raises(UserError, match=rf"wrong\.py: .*{message}") as caught:
        found(tmp_path, right="class Declaration(Base):\n    size = 1\n", wrong=text)
    assert "\n" not in str(caught.value)


def test_a_network_of_two_files_is_refused(tmp_path, monkeypatch):
    for name, networks in (("one", ("a", "b")), ("two", ("b", "c"))):
        (tmp_path / f"{name}.py").write_text(f"class Architectures(Family):\n    names = {networks}\n")
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    with pytest.raises(UserError, match="networks/one.py: the network 'b' is one of kdq/models/networks/two.py too"):
        registry._families()


def test_networks_and_data_sets_are_known_without_torch():
    code = "import sys, kdq.data.catalog, kdq.models.registry; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_stage_has_the_file_of_its_network_and_an_imported_root_those_of_all():
    assert registry.files({"architecture": "wrn16-2", "source": "train"}) == {"kdq/models/networks/wideresnet.py"}
    assert registry.files({"bits": 4}) == set()
    assert {"kdq/models/networks/foreign.py", "kdq/models/networks/resnet.py"} < registry.files({"source": "kdq"})
