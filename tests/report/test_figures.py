import pytest

from kdq.report import dkd_choice
from kdq.report.figures import (
    accuracy_vs_bits,
    accuracy_vs_bytes,
    curves,
    dkd_curves,
    dkd_heatmap,
    layer_errors,
    sensitivity,
    style,
    training_curves,
)
from kdq.report.figures import comparisons as forest_plot
from kdq.report.tables import cells as table
from kdq.report.tables import layers, summary
from tests.report.cells import KINDS, LAYERS, budgeted, cell, study

POINTS = [(alpha, beta) for alpha in (0.5, 2.0) for beta in (4.0, 8.0)]


def rows(seeds=(0, 1)):
    return summary.summarize(table.rows(study(seeds), KINDS))


def history(*accuracies, loss=1.0):
    epochs = list(range(1, len(accuracies) + 1))
    return {"epoch": epochs, "loss": [loss / epoch for epoch in epochs], "validation_accuracy": list(accuracies)}


def dkd_cells():
    tied = {"top1": 0.9}
    cells = [cell(f"{point}", top1=0.8 + 0.01 * i, validation=tied) for i, point in enumerate(POINTS)]
    for point, metrics in zip(POINTS, cells, strict=True):
        metrics["keys"] = dict(zip(("alpha", "beta"), point, strict=True))
    return cells


def differences():
    """Two students against the baseline, over two seeds and over images; one is beyond noise."""
    rows = []
    for recipe, difference in (("teacher/kd", 0.02), ("teacher/dkd,alpha=2", -0.01)):
        row = {"dataset": "digits", "family": "baseline", "recipe": recipe, "other": "hard", "difference": difference}
        row |= {"seeds": 2, "test_images": 100, "low": difference - 0.01, "high": difference + 0.01, "p_holm": 0.04}
        row |= {"image_low": difference - 0.02, "image_high": difference + 0.02, "p_images_holm": 0.0001}
        rows.append(row | {"within_noise": difference < 0})
    return rows


def alone():
    """What the layers of two networks cost alone, of two seeds."""
    return [
        {"dataset": "digits", "seed": seed, "recipe": recipe, "layer": layer, "bits": bits, "kl": scale * 4.0**-bits}
        for recipe, scale in (("teacher/gpfq", 1.0), ("teacher/kd/rtn", 0.5))
        for seed in (0, 1)
        for layer in LAYERS
        for bits in (2, 3, 4)
    ]


FIGURES = {
    "accuracy_vs_bits": lambda: accuracy_vs_bits.draw(rows(), "digits"),
    "accuracy_vs_bytes": lambda: accuracy_vs_bytes.draw(rows(), "digits"),
    "comparisons": lambda: forest_plot.draw(differences(), "digits"),
    "training_curves": lambda: training_curves.draw(
        {"teacher": [history(0.5, 0.9)], "teacher/kd": [history(0.4, 0.8)]}, ["teacher"], "digits"
    ),
    "dkd_curves": lambda: dkd_curves.draw({point: [history(0.5, 0.9)] * 2 for point in POINTS}, "digits"),
    "dkd_heatmap": lambda: dkd_heatmap.draw(dkd_choice.by_weights(dkd_cells()), "digits"),
    "layer_errors": lambda: layer_errors.draw(layers.rows(study()), "digits"),
    "sensitivity": lambda: sensitivity.draw(alone(), "digits"),
}


@pytest.fixture(scope="module", params=FIGURES)
def figure(request):
    return FIGURES[request.param]()


def titles(figure):
    return [figure.get_suptitle(), *(panel.get_title() for panel in figure.axes)]


def shown(figure):
    return [panel for panel in figure.axes if panel.axison]


def test_every_figure_names_its_axes_its_data_set_and_its_seeds(figure):
    assert any(panel.get_xlabel() for panel in shown(figure))
    assert any(panel.get_ylabel() for panel in shown(figure))
    assert any("digits" in title and "seed" in title for title in titles(figure))


def test_saved_twice_the_bytes_are_equal_and_hold_no_date(figure, tmp_path):
    for name in ("a", "b"):
        style.save(figure, tmp_path / f"{name}.png", tmp_path / f"{name}.svg")
    for form in ("png", "svg"):
        assert (tmp_path / f"a.{form}").read_bytes() == (tmp_path / f"b.{form}").read_bytes()
    assert "dc:date" not in (tmp_path / "a.svg").read_text()


def heights(panel):
    return {round(float(y), 6) for line in panel.lines for y in line.get_ydata()}


def test_accuracy_vs_bits_holds_every_quantized_accuracy_in_its_networks_panel():
    data = rows()
    panels = {panel.get_title(): panel for panel in accuracy_vs_bits.draw(data, "digits").axes}
    for network, title in (("teacher", "teacher"), ("teacher/kd", "kd")):
        expected = {round(100 * row["test_top1_mean"], 6) for row in data if row["network"] == network}
        assert expected <= heights(panels[title])
    assert "dkd, alpha=2" not in panels  # never quantized


def test_accuracy_vs_bits_places_a_mean_between_whole_bits():
    cells = [cell("teacher"), cell("teacher/gpfq,bits=2", keys={"bits": 2}, errors=[0.1] * 4)]
    cells += [budgeted(widths=(2, 3, 2, 3), budget=2.5), budgeted(widths=(4, 4, 5, 4), budget=4.3)]
    panel = accuracy_vs_bits.draw(summary.summarize(table.rows(cells, KINDS)), "digits").axes[0]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["2", "3", "4", "5", "float"]
    drawn = {round(float(x), 3) for line in panel.lines for x in line.get_xdata()}
    aside = 0.045  # of two quantizers one stands a little to the left, one to the right
    assert {round(place, 3) for place in (-aside, 0.5 + aside, 2.25 + aside)} <= drawn


@pytest.mark.parametrize(("networks", "places"), [(2, 3), (3, 3), (4, 6)])
def test_accuracy_vs_bits_has_no_row_for_the_legend_alone(networks, places):
    names = ["teacher", "teacher/kd", "teacher/dkd,alpha=2", "teacher/dkd"][:networks]
    cells = [cell(name) for name in names]
    cells += [cell(f"{name}/gpfq,bits=2", keys={"bits": 2}, errors=[0.1] * 4) for name in names]
    figure = accuracy_vs_bits.draw(summary.summarize(table.rows(cells, KINDS)), "digits")
    assert len(figure.axes) == places and len(figure.legends) == (networks == 3)


def test_accuracy_vs_bytes_draws_every_recipe_and_names_the_front():
    data = rows()
    figure = accuracy_vs_bytes.draw(data, "digits")
    assert {round(100 * row["test_top1_mean"], 6) for row in data} <= heights(figure.axes[0])
    legend = " ".join(text.get_text() for text in figure.legends[0].get_texts())
    # 250 bytes is the least size; the teacher at 0.955 is the best
    assert "1 kd: gpfq, 2 bits" in legend and "teacher: float" in legend


def test_the_seeds_are_said():
    assert "single seed" in accuracy_vs_bits.draw(rows((0,)), "digits").get_suptitle()
    assert "2 seeds" in accuracy_vs_bits.draw(rows(), "digits").get_suptitle()


def test_curves_are_the_mean_over_seeds():
    histories = {"teacher": [history(0.5, 0.75), history(0.75, 1.0)], "teacher/kd": [history(0.25, 0.5)] * 2}
    loss, accuracy = training_curves.draw(histories, [], "digits").axes
    assert [list(line.get_ydata()) for line in accuracy.lines] == [[62.5, 87.5], [25, 50]]
    assert len(loss.lines) == 2


def test_a_history_is_read_with_its_terms_summed(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss_a,loss_b,validation_accuracy\n1,0.5,1.5,0.25\n2,0.25,0.5,0.75\n")
    expected = {"epoch": [1, 2], "loss": [2.0, 0.75], "validation_accuracy": [0.25, 0.75]}
    assert curves.read_history(path) == expected
    assert curves.read_grouped([path, path], ["a", "b"]) == {"a": [expected], "b": [expected]}


def test_dkd_curves_have_a_panel_an_alpha_and_a_line_a_beta():
    figure = dkd_curves.draw({point: [history(0.5, 0.9)] for point in POINTS}, "digits")
    assert [panel.get_title() for panel in figure.axes] == [r"$\alpha$ = 0.5", r"$\alpha$ = 2"]
    assert [len(panel.lines) for panel in figure.axes] == [2, 2]


def test_dkd_is_chosen_on_validation_and_a_tie_by_cross_entropy_there():
    cells = dkd_choice.by_weights(dkd_cells())
    assert dkd_choice.choose(cells) == (2.0, 8.0)  # all tie at 0.9; the last has the least cross entropy
    cells[0.5, 4.0][0]["validation"] |= {"top1": 0.91}
    assert dkd_choice.choose(cells) == (0.5, 4.0)
    for metrics in cells.values():
        metrics[0]["test"] = dict.fromkeys(metrics[0]["test"], 0.0)
    assert dkd_choice.choose(cells) == (0.5, 4.0)


def test_the_heatmap_writes_every_value():
    panel = dkd_heatmap.draw(dkd_choice.by_weights(dkd_cells()), "digits").axes[0]
    assert {text.get_text() for text in panel.texts} == {"80.0", "81.0", "82.0", "83.0"}


def test_layers_are_put_in_the_order_in_which_they_run():
    import torch

    from kdq.models.resnet import build

    for architecture in ("resnet18", "resnet50"):
        flat = {"mean": [0.0], "std": [1.0]}
        network = build(architecture, classes=10, channels=1, stem="cifar", width=0.05, **flat).eval()
        ran = []
        for name, module in network.named_modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.register_forward_hook(lambda *_, name=name, ran=ran: ran.append(name))
        network(torch.zeros(1, 1, 8, 8))
        ordered = layer_errors.in_order_of_execution([{"layer": name} for name in sorted(ran)])
        assert [layer["layer"] for layer in ordered] == ran


def test_layer_errors_are_means_over_seeds_of_what_the_metrics_say():
    cells = [cell("teacher/rtn,bits=2", seed, keys={"bits": 2}, errors=(0.25 + 0.5 * seed, 0.5)) for seed in (0, 1)]
    table = layers.rows(cells)
    assert layer_errors.series(table) == {("teacher", 2, "rtn"): [0.5, 0.5]}
    (panel,) = layer_errors.draw([*table, {"dataset": "cifar10"}], "digits").axes
    assert list(panel.lines[0].get_ydata()) == [0.5, 0.5]


def test_layer_errors_of_a_budget_have_a_column_of_their_mean_bits():
    table = layers.rows([budgeted(widths=(2, 3, 2, 3), budget=2.5), budgeted(seed=1, widths=(3, 2, 3, 2), budget=2.5)])
    assert list(layer_errors.series(table)) == [("teacher", 2.5, "gpfq,budget")]
    assert layer_errors.draw(table, "digits").axes[0].get_title() == "2.5 bits"


def test_sensitivity_is_the_mean_over_seeds_a_panel_a_network_and_quantizer():
    table = [row | {"kl": row["kl"] * (1 + row["seed"])} for row in alone()]
    grids = sensitivity.grids(table)
    layers, bits, grid = grids["teacher/kd/rtn"]
    assert (list(grids), layers, bits) == (["teacher/gpfq", "teacher/kd/rtn"], list(LAYERS), [2, 3, 4])
    assert grid.tolist() == [[0.75 * 4.0**-b] * 4 for b in bits]
    panels = sensitivity.draw(table, "digits").axes[:2]
    assert [panel.get_title() for panel in panels] == ["teacher, each layer by gpfq", "teacher/kd, each layer by rtn"]
    assert len({(panel.images[0].norm.vmin, panel.images[0].norm.vmax) for panel in panels}) == 1


@pytest.mark.parametrize("value", [0.0, 1e-3])
def test_sensitivity_is_drawn_where_nothing_differs(value):
    figure = sensitivity.draw([row | {"kl": value} for row in alone()], "digits")
    assert all(not panel.images[0].get_array().mask.any() for panel in figure.axes[:2])


def test_labels_are_short_where_that_is_clear():
    names = style.labels(["teacher", "teacher/kd", "hard/kd", "teacher/dkd,alpha=2,beta=4"])
    assert list(names.values()) == ["teacher", "teacher/kd", "hard/kd", "dkd, alpha=2, beta=4"]


def test_many_networks_and_quantizers_all_look_different():
    looks = {tuple(style.of_network(index).values()) for index in range(56)}
    assert len(looks) == 56


def test_the_axis_of_accuracy_has_ticks_whatever_the_range():
    for low, high in ((0, 100), (10, 95), (91.2, 92.9), (97.2, 97.5), (98, 99.9), (90, 90), (0, 0), (100, 100)):
        with style.styled():
            panel = style.new_figure(4, 3).subplots()
            panel.plot([0, 1], [low, high])
            style.accuracy_axis([panel])
        bottom, top = panel.get_ylim()
        assert bottom <= low and top >= high - 1e-9
        assert sum(bottom <= tick <= top for tick in panel.get_yticks()) >= 3


def many_quantizers(networks=("teacher", "teacher/kd"), count=14):
    """A study with more quantizers than there are lines or fillings."""
    cells = study((0,))
    for network in networks:
        for shares in range(count):
            for bits in (2, 3, 4):
                recipe = f"{network}/gpfq,bits={bits},images={shares + 1}"
                keys = {"bits": bits, "images": shares + 1}
                cells.append(cell(recipe, 0, 0.5 + 0.1 * bits - 0.01 * shares, keys, 400 + shares, [0.1] * 4))
    return summary.summarize(table.rows(cells, KINDS))


@pytest.mark.parametrize("networks", [("teacher",), ("teacher", "teacher/kd")])
@pytest.mark.parametrize("module", [accuracy_vs_bits, accuracy_vs_bytes])
def test_the_legend_of_many_quantizers_is_whole(module, networks):
    figure = module.draw(many_quantizers(networks), "digits")
    figure.draw_without_rendering()
    (legend,) = figure.legends
    found, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= found.x0 and found.x1 <= whole.x1 and whole.y0 <= found.y0 and found.y1 <= whole.y1


def test_the_points_of_many_quantizers_stay_at_their_bits_and_look_unlike():
    panel = accuracy_vs_bits.draw(many_quantizers(("teacher",)), "digits").axes[0]
    ticks = {label.get_text(): place for label, place in zip(panel.get_xticklabels(), panel.get_xticks(), strict=True)}
    lines = [line for line in panel.lines if len(line.get_xdata()) == 3 and line.get_marker() in style.MARKERS]
    assert len(lines) == 14
    for line in lines:
        for bits, x in zip("234", line.get_xdata(), strict=True):
            assert abs(x - ticks[bits]) < 0.3
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}
    assert len(looks) == len(lines)
