"""The digest of a history: the same for equal runs, another for whatever else is changed."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdq.errors import UserError
from kdq.provenance import formats
from kdq.provenance.files import write_tensors
from kdq.recipe.path import Cell
from kdq.train import history

ROWS = [
    {
        **{"epoch": epoch, "loss_cross_entropy": 1 / epoch, "training_flops": 10**9},
        **{"images_per_second": 1e3 / 7, "processor_seconds": 2.5, "energy_joules": 90.5, "peak_memory_bytes": 512},
    }
    for epoch in (1, 2, 3)
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("history") / "history.csv"


@given(st.floats(1e-3, 1e9), st.integers(0, 2**40), st.none() | st.floats(0, 1e9))
def test_what_was_measured_does_not_count(path, value, memory, energy):
    expected = history.write(path, ROWS)
    measured = {"images_per_second": value, "processor_seconds": value}
    measured |= {"energy_joules": energy, "peak_memory_bytes": memory}
    assert history.write(path, [{**row, **measured} for row in ROWS]) == history.digest(path) == expected


@pytest.mark.parametrize("rows", [ROWS, []], ids=["trained", "imported"])
def test_every_other_byte_counts(path, rows):
    expected = history.write(path, rows)
    content = path.read_bytes()
    undetected = set()
    for index in range(len(content)):
        changed = bytearray(content)
        changed[index] ^= 1
        path.write_bytes(changed)
        try:
            if history.digest(path) == expected:
                undetected.add(chr(content[index]))
        except UserError:
            continue
    assert undetected <= set("0123456789.")
    assert len(undetected) == 0 or rows


@pytest.mark.parametrize(
    "content", [b"", b"epoch\r\n1\r\n", b"\xff\xfe", b"images_per_second,peak_memory_bytes\r\n1\r\n"]
)
def test_what_is_no_history(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{path}: not readable as the history of a training") as error:
        history.digest(path)
    assert "\n" not in str(error.value)


def test_an_older_one_without_costs_has_the_digest_that_it_had(path):
    path.write_bytes(b"epoch,images_per_second,peak_memory_bytes\r\n1,7.5,512\r\n")
    blanked = b"epoch,images_per_second,peak_memory_bytes\r\n1,,\r\n"
    assert history.digest(path) == hashlib.sha256(blanked).hexdigest()


@pytest.mark.parametrize("name", ["images_per_second", "processor_seconds"])
def test_only_the_energy_may_be_unknown(path, name):
    with pytest.raises(UserError, match="not readable as the history"):
        history.write(path, [{**ROWS[0], name: None}])


def test_of_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="nothing.csv: not readable"):
        history.digest(tmp_path / "nothing.csv")


class TestBesideAModel:
    @pytest.fixture
    def saved(self, tmp_path):
        cell = Cell("digits", 0, "hard")
        digest = history.write(tmp_path / cell.path("history.csv"), ROWS)
        header = {"format": formats.MODEL, **cell.identity, "history": digest}
        write_tensors(tmp_path / cell.path("model.safetensors"), {}, header)
        return tmp_path / cell.path("history.csv")

    def test_its_own_is_well(self, saved):
        history.check(saved)

    def test_a_row_less_is_told(self, saved):
        lines = saved.read_bytes().splitlines(keepends=True)
        saved.write_bytes(b"".join(lines[:-1]))
        with pytest.raises(
            UserError, match=f"^{saved}: not the history that .*model.safetensors was saved with; remove"
        ):
            history.check(saved)

    def test_both_of_another_cell_are_told(self, saved):
        other = saved.parent.with_name("teacher")
        saved.parent.rename(other)
        with pytest.raises(UserError, match="teacher/model.safetensors: recipe: found 'hard', expected 'teacher'"):
            history.check(other / "history.csv")

    def test_without_a_model_there_is_nothing_to_compare(self, saved):
        saved.with_name("model.safetensors").unlink()
        history.check(saved)
