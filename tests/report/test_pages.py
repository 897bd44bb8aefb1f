"""The pages on results: what is written from tables, and whether the committed pages are what is written."""

import re
from pathlib import Path

import pytest
from scipy import stats

from kdq.errors import UserError
from kdq.report.pages import PAGES, page

HOME = Path(__file__).resolve().parents[2]
TABLE = """seed,recipe,test_top1,file_bytes
0,hard,0.90,1000
1,hard,0.94,1002
2,hard,0.92,1001
0,hard/gpfq,0.80,100
1,hard/gpfq,0.86,100
2,hard/gpfq,0.83,100
0,teacher,0.95,9000
"""
PAIRS = """recipe,other,difference,p_holm
hard,teacher,-0.03,0.0004
kd,teacher,-0.02,0.25
kd,hard,0.01,
"""


@pytest.fixture
def written(tmp_path):
    """Return what is written from a block, beside two tables."""
    (tmp_path / "study").mkdir()
    (tmp_path / "study/table.csv").write_text(TABLE)
    (tmp_path / "study/pairs.csv").write_text(PAIRS)

    def written(kind: str, *lines: str) -> str:
        path = tmp_path / "page.md"
        path.write_text("\n".join(["# Page", f"<!-- {kind}", *lines, "-->", "as it was", "<!-- end -->", "after", ""]))
        text = page(path)
        assert text.startswith(f"# Page\n<!-- {kind}\n") and text.endswith("\n<!-- end -->\nafter\n")
        return re.search(r"\n-->\n(.*)\n<!-- end -->", text, re.DOTALL)[1]

    return written


@pytest.mark.parametrize("path", sorted((HOME / PAGES).glob("*.md")), ids=lambda path: path.name)
def test_committed_pages_are_those_that_make_docs_writes(path):
    assert path.read_text(encoding="utf-8") == page(path)


def test_a_grid_has_means_over_seeds_with_their_deviation(written):
    grid = ["file: study/table.csv", 'rows: {a student: "hard{}", the teacher: "teacher{}"}']
    columns = 'columns: {float: "", 2 bits: /gpfq}'
    assert written("grid", *grid, "value: test_top1", columns).splitlines() == [
        "|  | float | 2 bits |",
        "| --- | --- | --- |",
        "| a student | 92.00 ± 2.00 | 83.00 ± 3.00 |",
        "| the teacher | 95.00 |  |",
    ]
    assert written("grid", *grid, "value: file_bytes", columns).splitlines()[2:] == [
        "| a student | 1,001 | 100 |",
        "| the teacher | 9,000 |  |",
    ]


def test_contrasts_are_paired_by_seed(written):
    rows, columns = 'rows: {quantized: ["hard{}", hard]}', "columns: {2 bits: /gpfq, 3 bits: /other}"
    interval = stats.ttest_1samp([-10, -8, -9], 0).confidence_interval()
    assert written("contrasts", "file: study/table.csv", rows, columns).splitlines() == [
        "|  | 2 bits | 3 bits |",
        "| --- | --- | --- |",
        f"| quantized | [-9.0](study/table.csv#L5) ({interval.low:.1f} to {interval.high:.1f}) |  |",
    ]


def test_contrasts_of_two_files_are_paired_by_seed(written, tmp_path):
    (tmp_path / "study/again.csv").write_text(TABLE.replace("0.90", "0.92"))
    files = ["file: study/again.csv", "other_file: study/table.csv"]
    interval = stats.ttest_1samp([2, 0, 0], 0).confidence_interval()
    assert written("contrasts", *files, 'rows: {again: ["hard{}", "hard{}"]}', 'columns: {float: ""}').splitlines()[
        2:
    ] == [
        f"| again | [+0.7](study/again.csv#L2) ({interval.low:.1f} to {interval.high:.1f}) |",
    ]


def test_a_list_has_the_rows_of_a_file_in_per_cent_with_links(written):
    where = ["file: study/pairs.csv", "beside: study/table.csv", "where: {other: [teacher]}", "sort: difference"]
    columns = 'columns: {"": "{recipe}", points: "{difference:+.1f}", p: "{p_holm}", seed: "{seed:g}", row: "{row}"}'
    assert written("list", *where, columns).splitlines()[2:] == [
        "| kd | -2.0 | 0.25 |  | [row](study/pairs.csv#L3) |",  # has no row beside
        *[f"| hard | -3.0 | < 0.001 | {seed} | [row](study/pairs.csv#L2) |" for seed in range(3)],
    ]


def test_a_sentence_has_differences_paired_by_seed(written):
    rows = "rows: {loss: {file: study/table.csv, recipe: hard, other: hard/gpfq}}"
    text = "{loss.difference:.3f} ({loss.low:.3f} to {loss.high:.3f}, {loss.seeds}) {loss.test_top1:.1f} {loss.row}"
    interval = stats.ttest_rel([90, 94, 92], [80, 86, 83]).confidence_interval()  # an independent way
    assert written("sentence", rows, f'text: "{text}"') == (
        f"9.000 ({interval.low:.3f} to {interval.high:.3f}, 3) 92.0 [row](study/table.csv#L2)"
    )
    single = "rows: {pair: {file: study/pairs.csv, recipe: kd, other: hard}}"
    assert written("sentence", single, 'text: "{pair.difference:.1f}"') == "1.0"


def test_a_commit_that_looks_like_a_number_is_text(written, tmp_path):
    (tmp_path / "study/run.csv").write_text("commit,cores\n4550e07,2\n")
    assert written("sentence", "rows: {run: {file: study/run.csv}}", 'text: "{run.commit} {run.cores}"') == "4550e07 2"


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("grid", ["file: study/table.csv", "value: test_top1", "rows: {a: nothing}", "columns: {b: c}"]),
        ("grid", ["file: study/missing.csv", "value: test_top1", "rows: {a: hard}", "columns: {b: c}"]),
        ("grid", ["file: study/table.csv", "value: top1", "rows: {a: hard}", "columns: {b: c}"]),
        ("contrasts", ["file: study/table.csv", "rows: {a: [hard, kd]}", 'columns: {b: ""}']),
        ("list", ["file: study/pairs.csv", "where: {recipe: nothing}", 'columns: {a: "{recipe}"}']),
        ("sentence", ["rows: {a: {file: study/pairs.csv, recipe: kd}}", "text: x"]),  # two rows
        ("sentence", ["rows: {a: {file: study/pairs.csv, recipe: kd, other: hard}}", 'text: "{a.top1}"']),
        ("sentence", ["rows: {a"]),
    ],
)
def test_a_block_that_has_no_rows_is_named_by_its_line(written, kind, lines):
    with pytest.raises(UserError, match=r"page.md: line 2: the block can't be written \(") as error:
        written(kind, *lines)
    assert "\n" not in str(error.value)
