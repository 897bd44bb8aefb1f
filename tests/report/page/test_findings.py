"""The headline and findings of a study: in words from its tables, never wider than these."""

import pandas as pd
import pytest

from kdq.report.page.findings import Contrast, Findings, in_words
from tests.report.page import made_up

NONE_SMALLER = "No smaller model stays within a point of the best float network"


def findings(sources) -> dict:
    return {finding.title: finding for finding in Findings(sources, "digits").all()}


def without_quantized(sources):
    """The same study with its float models alone."""
    tables = {name: table[~table.recipe.str.contains("bits=")] for name, table in sources.tables.items()}
    return made_up.Sources(**vars(sources) | {"tables": tables})


def test_the_headline_is_chosen_on_validation_and_told_on_test():
    sources = made_up.sources()
    study = Findings(sources, "digits")
    headline = study.headline()
    (contrast,) = headline.contrasts
    summary = sources.tables["summary"].set_index("recipe")
    floats = summary[summary.quantizer == "none"]
    best = floats.validation_top1_mean.max()
    near = summary[(summary.quantizer != "none") & (summary.validation_top1_mean >= best - 0.01)]
    assert summary.file_bytes_mean[contrast.recipe] == near.file_bytes_mean.min()
    assert floats.validation_top1_mean[contrast.other] == best
    tops = summary.test_top1_mean
    assert contrast.difference == pytest.approx(100 * (tops[contrast.recipe] - tops[contrast.other]), abs=1e-4)
    assert f"{100 * tops[contrast.recipe]:.1f}%" in headline.text
    times = summary.file_bytes_mean[contrast.other] / summary.file_bytes_mean[contrast.recipe]
    assert headline.title.startswith(f"{times:.1f} times smaller")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("undecided", "undecided"),
        ("worse", "for 1.2 points of accuracy"),
        ("better", "1.2 points more accurate"),
        ("", "without a verdict"),
    ],
)
def test_the_headline_says_no_more_than_the_verdict(monkeypatch, verdict, words):
    made = Contrast("a/gpfq", "a", -1.2, -2.0, -0.4, verdict, "over 3 seeds")
    study = Findings(made_up.sources(), "digits")
    monkeypatch.setattr(study, "contrast", lambda *_: made)
    assert words in study.headline().title


def test_a_planned_contrast_is_that_of_the_table():
    sources = made_up.sources()
    table = sources.tables["comparisons"]
    row = table[table.family == "quantizers"].iloc[0]
    made = Findings(sources, "digits").contrast(row.recipe, row.other)
    assert made.difference == pytest.approx(100 * row.difference)
    assert (made.low, made.high) == pytest.approx((100 * row.low, 100 * row.high))
    assert made.verdict == row.verdict


def test_a_contrast_that_is_not_planned_has_the_statistics_of_the_table():
    sources = made_up.sources()
    planned = sources.tables["comparisons"]
    row = planned[(planned.family == "quantization")].iloc[0]
    sources.tables["comparisons"] = planned.iloc[:0]
    made = Findings(sources, "digits").contrast(row.recipe, row.other)
    assert (made.low, made.high) == pytest.approx((100 * row.low, 100 * row.high), abs=1e-4)


def test_a_single_seed_has_no_verdict():
    for finding in findings(made_up.sources(seeds=(4,))).values():
        assert all(contrast.verdict == "" and "single seed" in contrast.note for contrast in finding.contrasts)
        assert "better in" not in finding.text and "undecided" not in finding.title


def test_a_study_that_quantizes_nothing_names_its_best_network():
    titles = list(findings(without_quantized(made_up.sources(timed=False))))
    assert "is the most accurate of 3 networks" in titles[0]
    assert not any("bits cost" in title for title in titles)


def test_no_model_within_a_point_is_said():
    sources = made_up.sources()
    sources.tables["table"].loc[sources.tables["table"].quantizer != "none", "validation_top1"] = 0.1
    headline = next(iter(findings(sources).values()))
    assert headline.title == NONE_SMALLER
    assert len(headline.contrasts) == 1


def test_a_quantized_model_that_is_larger_than_the_best_float_network_is_no_headline():
    sources = made_up.sources()
    quantized = sources.tables["table"].quantizer != "none"
    sources.tables["table"].loc[quantized, "file_bytes"] += sources.tables["table"].file_bytes.max()
    headline = Findings(sources, "digits").headline()
    assert headline.title == NONE_SMALLER and "instead of" not in headline.text


def test_quantizers_are_counted_by_verdict():
    sources = made_up.sources()
    rows = sources.tables["comparisons"]
    rows = rows[rows.family == "quantizers"]
    text = findings(sources)["Quantizers against rounding to nearest"].text
    counts = {verdict: int((rows.verdict == verdict).sum()) for verdict in ("better", "undecided", "worse")}
    assert ", ".join(f"{verdict} in {count}" for verdict, count in counts.items()) in text
    assert f"of {len(rows)} comparisons" in text and sum(counts.values()) == len(rows)


def test_undecided_says_what_would_have_been_seen():
    made = Contrast("a", "b", -0.1, -0.5, 0.3, "undecided", "over 3 seeds", 0.7)
    assert in_words(made) == (
        "−0.1 points (95% interval −0.5 to +0.3 over 3 seeds; undecided, as differences below 0.7 points are seldom "
        "seen here)"
    )


def test_a_table_without_rows_of_a_data_set_is_no_error():
    sources = made_up.sources(timed=False)
    sources.tables["comparisons"] = pd.DataFrame(columns=sources.tables["comparisons"].columns)
    assert findings(sources)


def test_pruned_models_stand_beside_what_they_were_pruned_from():
    """Three models are taken for pruned ones; the best on validation comes first."""
    sources = made_up.sources()
    table = sources.tables["table"]
    pruned = table.recipe.str.endswith("rtn,bits=3")
    changed = sources.tables | {"table": table.assign(kind=table.kind.mask(pruned, "prune"))}
    finding = findings(made_up.Sources(**vars(sources) | {"tables": changed}))["What pruning costs"]
    by_validation = table[pruned].groupby("recipe").validation_top1.mean().sort_values(ascending=False)
    assert {made.recipe for made in finding.contrasts} == set(by_validation.index)
    assert by_validation[finding.contrasts[0].recipe] == by_validation.max()
    assert all(made.other == made.recipe.removesuffix("/rtn,bits=3") for made in finding.contrasts)
    assert finding.text.startswith("Pruned models on validation") and "% of the bytes" in finding.text
    assert "What pruning costs" not in findings(sources)
