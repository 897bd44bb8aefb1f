"""The page of a study in a browser: what is on it, by mouse and by keyboard, in light and dark, wide and narrow."""

import random
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kdq.evaluate.significance import bootstrap_images, paired
from kdq.recipe.path import Cell
from kdq.report import pareto
from kdq.report.page import assets, document
from tests.report.page import made_up
from tests.report.page.made_up import EVIL, FIRST, SECOND


@pytest.fixture(scope="module")
def study():
    return made_up.sources()


@pytest.fixture(scope="module")
def file(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    document.write(path, study, assets.read(), "abc1234")
    return path


def recipes(page) -> list[str]:
    return [text.replace("\u200b", "") for text in page.locator("#table tbody tr:visible .recipe").all_inner_texts()]


def column(page, name: str) -> list[float]:
    place = page.locator(f"#table thead th:has([data-sort={name}])").evaluate("each => each.cellIndex") + 1
    texts = page.locator(f"#table tbody tr:visible td:nth-child({place})").all_inner_texts()
    return [float(re.match(r"[\d.]+", text.strip())[0]) for text in texts]


def test_the_table_sorts(opened, file, study):
    page = opened(file)
    assert len(recipes(page)) == len(study.tables["summary"])
    assert column(page, "test_top1") == sorted(column(page, "test_top1"), reverse=True)
    page.click("[data-sort=file_bytes]")
    sizes = column(page, "file_bytes")
    assert page.locator("[aria-sort=ascending]").inner_text().strip().startswith("file")
    page.click("[data-sort=file_bytes]")
    assert recipes(page)[0].startswith(("teacher/kd", "hard")) and len(set(sizes)) > 3
    page.click("[data-sort=recipe]")
    assert recipes(page) == sorted(recipes(page))


def test_the_table_and_the_chart_are_filtered(opened, file):
    page = opened(file, drawn=True)
    page.fill("#filter", "gpfq bits<=3")
    page.wait_for_function("document.querySelector('#count').textContent.includes(' of ')")
    assert recipes(page) and all(re.search(r"gpfq,bits=[23]$", recipe) for recipe in recipes(page))
    assert page.inner_text("#count") == f"{len(recipes(page))} of 21 models"
    drawn = page.evaluate(
        "document.querySelector('#chart').data.flatMap(each => each.rows || []).map(each => each.recipe)"
    )
    assert sorted(drawn) == sorted(recipes(page))
    page.fill("#filter", "")
    page.select_option("#network", "hard")
    assert {recipe.split("/")[0] for recipe in recipes(page)} == {"hard"}


def test_each_seed_has_a_row(opened, file, study):
    page = opened(file)
    page.locator("select.level").last.select_option("seed")
    assert len(recipes(page)) == len(study.tables["table"])
    page.fill("#filter", "seed=2 hard")
    page.wait_for_function("document.querySelector('#count').textContent.includes(' of ')")
    assert set(column(page, "seeds")) == {2}


def test_a_cell_opens_with_all_that_is_known_of_it(opened, file, study):
    page = opened(file)
    page.locator("#table tbody tr", has_text="gpfq").first.click()
    sheet = page.locator("dialog[open]")
    text = sheet.inner_text()
    for part in ("Stages", "Seeds", "Error of each layer", "Confusion", "Keys of the last stage", "abc1234", "PyTorch"):
        assert part in text
    page.wait_for_selector("#layers[data-drawn]")
    names = page.evaluate("document.querySelector('#layers').layout.yaxis.categoryarray")
    assert names == made_up.LAYERS
    page.wait_for_selector("#training[data-drawn]")
    assert len(page.evaluate("document.querySelector('#training').data")) == 2 * 3  # accuracy and loss of each seed
    links = sheet.locator("a").evaluate_all("each => each.map(link => link.getAttribute('href'))")
    assert any(re.fullmatch(r"\.\./\.\./digits/seed=0/.+/model\.safetensors", link) for link in links)
    assert any(link.endswith("model.onnx") for link in links)


def test_the_confusion_matrix_counts_the_predictions(opened, file, study):
    page = opened(file, part="#model=digits&1&" + FIRST.replace("/", "%2F"))
    page.wait_for_selector(".confusion tbody tr")
    rows = page.locator(".confusion tbody tr").all()
    texts = [row.locator("td").all_inner_texts() for row in rows]
    counts = [[int(text or 0) for text in row] for row in texts]
    part, predicted = study.parts["digits"], study.predicted[Cell("digits", 1, FIRST)]
    expected = np.zeros((4, 4), dtype=int)
    np.add.at(expected, (part.labels, predicted), 1)
    assert counts == expected.tolist()


def test_a_class_named_like_html_is_shown_as_text(opened, file):
    page = opened(file)
    page.locator("#table tbody tr").first.click()
    page.wait_for_selector(".confusion th")
    assert page.locator(f".confusion th[title={EVIL!r}]").count() == 2
    assert page.locator("img").count() == 0


def pick_two(page):
    for name in (FIRST, SECOND):
        page.get_by_label(f"pick {name} to compare", exact=True).check()
    page.click("#compare")
    page.wait_for_selector("dialog[open] .contrast")


def test_two_cells_side_by_side_have_the_difference_of_the_table(opened, file, study):
    page = opened(file)
    pick_two(page)
    rows = study.tables["comparisons"]
    row = rows[(rows.recipe == FIRST) & (rows.other == SECOND)].iloc[0]
    text = page.locator("dialog[open]").inner_text()
    assert f"{100 * row.difference:+.1f} points" in text and row.verdict in text
    assert f"{100 * row.low:+.1f} to {100 * row.high:+.1f}" in text.replace("−", "-")
    assert "A planned comparison" in text


def test_two_cells_that_no_table_compares_are_compared_by_their_images(opened, file, study):
    page = opened(file)
    one, two = "hard/rtn,bits=3", "teacher/kd/gpfq,bits=4"
    correct = [
        np.stack([study.predicted[Cell("digits", seed, recipe)] == study.parts["digits"].labels for seed in range(3)])
        for recipe in (one, two)
    ]
    over_seeds = paired(*(100 * answers.mean(1) for answers in correct))
    over_images = bootstrap_images(*correct)
    page.evaluate(f"""document.querySelectorAll('#table tbody input').forEach(each => {{
        if ([{one!r}, {two!r}].some(name => each.ariaLabel === `pick ${{name}} to compare`)) each.click(); }})""")
    page.click("#compare")
    page.wait_for_selector("dialog[open] .contrast")
    text = page.locator("dialog[open]").inner_text().replace("−", "-")
    ends = [tuple(map(float, pair)) for pair in re.findall(r"([+-][\d.]+) to ([+-][\d.]+)", text)]
    sign = 1 if text.index(one) < text.index(two) else -1
    expected = [(over_seeds.low, over_seeds.high), (100 * over_images.low, 100 * over_images.high)]
    expected = [sorted((sign * low, sign * high)) for low, high in expected]
    assert ends[0] == pytest.approx(expected[0], abs=0.06)
    assert ends[1] == pytest.approx(expected[1], abs=0.5)  # a normal interval beside a bootstrap of 200 images
    assert "Not a planned comparison" in text


def test_the_front_is_that_of_the_package(opened, file):
    page = opened(file)
    random_ = random.Random(0)
    for size in (1, 2, 30, 200):
        points = [(random_.randint(1, 9), random_.randint(0, 20)) for _ in range(size)]
        assert page.evaluate("points => kdq.front(points)", points) == pareto.front(points)


def test_axes_can_be_chosen_and_the_front_is_chosen_on_validation(opened, file, study):
    page = opened(file, drawn=True)
    page.select_option("#x", "ms0")
    page.select_option("#y", "test_cross_entropy")
    page.wait_for_function("document.querySelector('#chart').layout.yaxis.title.text.includes('cross entropy')")
    page.select_option("#y", "test_agreement_root")
    page.wait_for_function("document.querySelector('#front').disabled")
    page.select_option("#x", "file_bytes")
    page.select_option("#y", "test_top1")
    page.wait_for_function("document.querySelector('#chart').data[0].front")
    shown = page.evaluate("document.querySelector('#chart').data[0].front")
    rows = study.tables["summary"].sort_values(["file_bytes_mean"], kind="stable")
    expected = pareto.front(list(zip(rows.file_bytes_mean, rows.validation_top1_mean, strict=True)))
    assert set(shown) == set(rows.recipe.iloc[expected])


def test_the_theme_follows_the_system_and_the_switch(opened, file):
    def background(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    page, dark = opened(file), opened(file, color_scheme="dark")
    light = background(page)
    assert background(dark) != light
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: light" and background(page) == light
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: dark" and background(page) == background(dark)
    page.reload()
    assert background(page) == background(dark)  # it is kept


def focused(page) -> str:
    """Return the id of the element that has the focus, or its tag."""
    return page.evaluate("document.activeElement.id || document.activeElement.tagName")


def test_the_keyboard_alone_is_enough(opened, file):
    page = opened(file)
    page.keyboard.press("/")
    assert focused(page) == "filter"
    page.keyboard.type("kd")
    page.wait_for_function("document.querySelector('#count').textContent.includes(' of ')")
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused(page) == "TR":
            break
    assert focused(page) == "TR"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    before = recipes(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    assert page.inner_text("#sheet-title").replace("\u200b", "").endswith(before[1])
    assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog:not([open])", state="attached")
    assert focused(page) == "TR"  # back to where it was
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    assert page.locator("#compare").is_enabled()


def test_a_phone_scrolls_down_only(opened, file):
    page = opened(file, width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#table tbody tr").first.click()
    page.wait_for_selector("dialog[open]")
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= 390


def with_second_data_set(study):
    """The same study on a second data set too."""

    def renamed(cells: dict) -> dict:
        return {Cell("cifar10", place.seed, place.recipe): value for place, value in cells.items()}

    tables = {name: pd.concat([table, table.assign(dataset="cifar10")]) for name, table in study.tables.items()}
    part = study.parts["digits"]
    cells = {name: getattr(study, name) for name in ("metrics", "histories", "predicted")}
    both = {name: values | renamed(values) for name, values in cells.items()}
    return replace(study, tables=tables, parts={"digits": part, "cifar10": part}, **both)


def test_data_sets_are_shown_one_at_a_time(opened, study, tmp_path):
    path = tmp_path / "index.html"
    document.write(path, with_second_data_set(study), assets.read())
    page = opened(path)
    assert page.locator("#datasets button").all_inner_texts() == ["cifar10", "digits"]
    assert len(recipes(page)) == len(study.tables["summary"])
    page.click("#datasets button:last-child")
    assert page.locator("#datasets [aria-pressed=true]").inner_text() == "digits"
    page.locator("#table tbody tr").first.click()
    page.wait_for_selector("dialog[open]")
    assert "results/digits/seed=0" in page.locator("dialog").inner_text()


def test_a_study_of_one_seed_without_times_has_no_verdicts(opened, tmp_path):
    path = tmp_path / "index.html"
    document.write(path, made_up.sources(seeds=(0,), timed=False), assets.read())
    page = opened(path)
    assert "no verdict" in page.inner_text("#findings") and "undecided" not in page.inner_text("#cards")
    assert page.locator("#x option[value^=ms]").count() == 0
    page.locator("#table tbody tr").first.click()
    page.wait_for_selector("dialog[open]")


def test_1000_cells_take_less_than_3_seconds(opened, tmp_path):
    """Of the processor, which a busy machine does not lengthen; the chart is the last that is drawn."""
    path = tmp_path / "index.html"
    classes = [str(number) for number in range(10)]
    study = made_up.sources(students=27, seeds=range(5), images=1000, classes=classes)
    assert len(study.metrics) >= 1000
    document.write(path, study, assets.read())
    page = opened(path)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.reload()
    page.wait_for_selector("#chart[data-drawn]")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    assert metrics["ThreadTime"] < 3
    page.locator("select.level").last.select_option("seed")
    assert page.inner_text("#count") == f"{len(study.metrics):,} models"
