"""The paths, modules and links that the documentation names exist."""

import pkgutil
import re
from pathlib import Path

import bracex
import pytest

HOME = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *(str(path.relative_to(HOME)) for path in HOME.glob("docs/**/*.md"))]
EXAMPLES = ("kdq/distill/methods/match.py", "kdq/quantize/methods/nearest.py", "kdq/clip/")  # files to be added
REMOVED = ("benchmarks.gpfq_bits",)
FOLDERS = "kdq|rules|scripts|docs|tests|studies|profiles|schemas|benchmarks|envs"


def named(page: str, pattern: str) -> list[str]:
    """Return the words in backticks that match a pattern, with their braces expanded."""
    words = [word for code in re.findall(r"`([^`\n]+)`", (HOME / page).read_text()) for word in code.split()]
    return [name for word in words if re.fullmatch(pattern, word) for name in bracex.expand(word)]


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page):
    paths = [path for path in named(page, rf"({FOLDERS})/[\w./{{}},-]*") if not path.startswith(EXAMPLES)]
    assert [path for path in paths if not (HOME / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_named_modules_exist(page):
    for name in named(page, r"(kdq|benchmarks)\.[\w.]+"):
        if name not in REMOVED:
            pkgutil.resolve_name(name)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, or of a table's lines."""
    if path.suffix == ".csv":
        return {f"L{line}" for line, _ in enumerate(path.read_text().splitlines(), 1)}
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    for link, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", (HOME / page).read_text()):
        target = (HOME / page).parent / link if link else HOME / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"
