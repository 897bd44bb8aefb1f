"""The table of deployment, its figures, and the last words of a run: from files of latency as the workflow has them."""

import pytest

from kdq.errors import UserError
from kdq.provenance.files import write_json
from kdq.report import fastest
from kdq.report import latency as latency_file
from kdq.report.figures import accuracy_vs_bit_operations, accuracy_vs_milliseconds, style
from kdq.report.tables import cells as table
from kdq.report.tables import deployment, summary
from tests.report.cells import KINDS, cell, latency, records, times_of

SEEDS = (0, 1)
ROOT, STUDENT = "teacher", "teacher/kd"
EIGHT, FOUR, ALONE = (f"{STUDENT}/gpfq{keys},bits=4" for keys in (",activations=8", ",activations=4", ""))
# test accuracy of the file, validation accuracy, ms
MODELS = {
    ROOT: (0.96, 0.96, 8.0),
    STUDENT: (0.93, 0.93, 4.0),
    EIGHT: (0.925, 0.926, 1.0),
    FOUR: (0.90, 0.90, 0.97),
    ALONE: (0.935, 0.929, 4.0),
}


def metrics():
    made = []
    for recipe, (_, validation, _) in MODELS.items():
        bits = 8 if recipe == EIGHT else 4 if recipe == FOUR else 32
        keys = {"bits": 4} | ({"activations": bits} if bits < 32 else {})
        errors = [0.1] if "gpfq" in recipe else ()
        for seed in SEEDS:
            part = {"top1": validation, "cross_entropy": 1 - validation}
            made.append(cell(recipe, seed, 0.5, keys if errors else {}, 1000, errors, validation=part))
    return made


def latencies(bfloat16_ms=2.0, **changes):
    """Each float network in bfloat16 takes half its time."""
    made = []
    for recipe, (test, _, ms) in MODELS.items():
        float_ms = None if recipe in (ROOT, STUDENT) else 4.0
        made += [latency(recipe, seed, ms, float_ms, bfloat16_ms, top1=test, **changes) for seed in SEEDS]
    return made


def parsed(values):
    return [latency_file.Latency(**latency) for latency in values]


def frame(values=None):
    return deployment.rows(parsed(values or latencies()), table.rows(metrics(), KINDS))


def row_of(rows, recipe, runtime):
    return next(row for row in records(rows) if (row["recipe"], row["runtime"]) == (recipe, runtime))


ZERO = times_of("1", {"model": 1.0}) | {"milliseconds": {"model": {"median": 0.0, "least": 1.0}}}


class TestTable:
    def test_one_row_per_cell_and_runtime_with_what_the_table_of_cells_has(self):
        rows = frame()
        of_quantized = rows[rows.recipe == EIGHT]
        assert of_quantized.runtime.tolist() == ["onnxruntime", "openvino"] * 2
        row = row_of(rows, EIGHT, "onnxruntime")
        expected = {"quantizer": "gpfq,activations=8", "bits": 4, "activation_bits": 8, "bit_operations": 32_000}
        expected |= {"network": STUDENT, "validation_top1": 0.926, "test_top1": 0.5, "onnx_test_top1": 0.925}
        expected |= {"onnx_bytes": 700, "onnx_agreement": 0.995, "file_bytes": 1000, "busy": None}
        assert {name: row[name] for name in expected} == expected

    def test_times_and_paired_speedups_at_both_batches(self):
        row = row_of(frame(), EIGHT, "openvino")
        assert (row["latency_ms"], row["latency_ms_least"], row["float_ms"]) == (0.5, 0.45, 2.0)
        assert (row["images_per_second"], row["images_per_second_most"]) == (4000, 4400)
        found = [row[f"speedup_float{end}"] for end in ("", "_least", "_most", "_batch128", "_batch128_least")]
        assert found == pytest.approx([4.0, 3.6, 4.4, 6.0, 5.4])
        assert row["speedup_root"] is None

    def test_times_with_all_threads_stand_beside_those_with_one(self):
        made = [latency(EIGHT, ms=1.0, float_ms=4.0), latency(ROOT, ms=4.0)]
        for times in (values["runtimes"]["onnxruntime"] for values in made):
            times["all_threads"] = {"threads": 8} | {
                name: times[name] for name in ("milliseconds", "images_per_second", "speedups")
            }
        names = ("all_threads", "latency_ms_all_threads", "images_per_second_all_threads")
        ratio = "speedup_float_batch128_all_threads"
        row = row_of(frame(made), EIGHT, "onnxruntime")
        assert [row[name] for name in names] == [8, 1.0, 2000] and row[ratio] == row["speedup_float_batch128"] == 6
        assert row_of(frame(made), ROOT, "onnxruntime")[ratio] is None
        assert row_of(frame(made), EIGHT, "openvino")["all_threads"] is None

    def test_bfloat16_is_that_of_the_same_runtime_alone(self):
        row = row_of(frame(), EIGHT, "openvino")
        assert row["bfloat16_ms"] == 1.0
        assert [row[f"speedup_bfloat16{end}"] for end in ("", "_least", "_most")] == pytest.approx([2.0, 1.8, 2.2])
        row = row_of(frame(), EIGHT, "onnxruntime")
        assert all(row[name] is None for name in row if "bfloat16" in name)

    def test_without_bfloat16_the_columns_are_empty(self):
        for row in records(frame(latencies(bfloat16_ms=None))):
            assert all(row[name] is None for name in row if "bfloat16" in name)

    def test_a_float_network_is_compared_with_its_own_bfloat16(self):
        row = row_of(frame(), STUDENT, "openvino")
        assert (row["float_ms"], row["bfloat16_ms"], row["speedup_bfloat16"]) == (2.0, 1.0, 0.5)
        assert row["speedup_float"] is None
        # PyTorch has no row but that of a float network, which alone it ran
        rows = frame()
        assert set(rows.recipe[rows.runtime == "torch"]) == {ROOT, STUDENT}

    def test_a_busy_machine_has_one_row_without_numbers(self, tmp_path):
        reason = "too busy: onnxruntime took 2.31 times its processor time"
        rows = frame([made | {"busy": reason, "runtimes": {}} for made in latencies()])
        deployment.SCHEMA.write(tmp_path / "a.csv", rows)
        read = records(deployment.SCHEMA.read(tmp_path / "a.csv"))
        assert len(read) == len(MODELS) * len(SEEDS)
        for row in read:
            numbers = [name for name in row if "_ms" in name or "speedup" in name or "per_second" in name]
            assert len(numbers) == 27 and all(row[name] is None for name in (*numbers, "runtime", "version"))
            assert row["busy"] == reason and row["onnx_bytes"] == 700
        assert deployment.machines(rows) == ["10 cells without times: too busy"]

    def test_several_processors_are_told(self):
        assert deployment.machines(frame()) == []
        made = latencies()
        made[0]["processor"] = {"name": "Intel Xeon"}
        told = deployment.machines(frame(made))
        assert (
            len(told) == 2
            and told[1] == "times of 1 cells are from Intel Xeon, threads: 1, and not comparable with others"
        )

    def test_a_cell_that_the_table_lacks(self):
        with pytest.raises(UserError, match="^table.csv: no row of digits, seed 7, teacher"):
            frame([latency("teacher", 7)])


class TestFile:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / f"results/digits/seed=0/{EIGHT}/latency.json"

    def test_reads_back(self, path):
        write_json(path, latency(EIGHT, ms=1.5))
        assert latency_file.read(path).runtimes["onnxruntime"].milliseconds["model"].median == 1.5

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"seed": 1}, "seed: found 1, expected 0 as in the path"),
            ({"recipe": ALONE}, "recipe: found"),
            ({"onnx": {"bytes": 0, "test": {"top1": 1.0, "agreement": 1.0}}}, "onnx.bytes: .*, found 0"),
            ({"onnx": {"bytes": 7, "test": {"top1": 1.5, "agreement": 1.0}}}, "onnx.test.top1: .*, found 1.5"),
            ({"runtimes": {"openvino": {}}}, "runtimes.openvino.milliseconds: field required"),
            ({"runtimes": {"a": ZERO}}, "runtimes.a.milliseconds.model.median: .*, found 0.0"),
        ],
    )
    def test_one_line_names_what_is_wrong(self, path, changes, message):
        write_json(path, latency(EIGHT) | changes)
        with pytest.raises(UserError, match=f"^{path}: {message}") as error:
            latency_file.read(path)
        assert "\n" not in str(error.value)


def drawn(panel):
    return {(round(float(x), 6), round(float(y), 6)) for line in panel.lines for x, y in line.get_xydata()}


def legend_of(figure):
    return " ".join(text.get_text() for text in figure.legends[0].get_texts())


class TestMilliseconds:
    def test_a_panel_per_runtime_with_every_model_at_the_accuracy_of_its_file(self):
        figure = accuracy_vs_milliseconds.draw(frame(), "digits")
        titles = [panel.get_title().replace("\n", " ") for panel in figure.axes]
        assert titles == [f"{name}, 1 thread, AMD EPYC 9B45" for name in ("onnxruntime 1.32.0", "openvino 2026.4.1")]
        for index, panel in enumerate(figure.axes):
            assert {(ms / 2**index, 100 * test) for test, _, ms in MODELS.values()} <= drawn(panel)
            assert panel.get_xscale() == "log"
        assert "2 seeds" in figure.get_suptitle()

    def test_the_front_is_chosen_on_validation_and_drawn_at_test(self):
        """Weights alone are better than the float student on the test part, not on validation, and so are not on it."""
        figure = accuracy_vs_milliseconds.draw(frame(), "digits")
        (front,) = [line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post"]
        # 0.97 ms of four bits is no quicker than 1 ms of eight
        assert front.get_xydata().tolist() == [[1.0, 92.5], [4.0, 93.0], [8.0, 96.0]]
        legend = legend_of(figure)
        assert "1 kd: gpfq, 4 bits, A8" in legend and "3 teacher: float" in legend

    def test_the_float_network_in_bfloat16_is_a_tick_at_its_own_time(self):
        figure = accuracy_vs_milliseconds.draw(frame(), "digits")
        ticks = [
            [line.get_xydata().tolist() for line in panel.lines if line.get_marker() == "|"] for panel in figure.axes
        ]
        assert ticks == [[], [[[1.0, 93.0]]]]
        assert "bfloat16, in the same runtime" in legend_of(figure).replace("\n", " ")
        figure = accuracy_vs_milliseconds.draw(frame(latencies(bfloat16_ms=None)), "digits")
        assert "bfloat16" not in legend_of(figure)

    def test_two_processors_are_never_in_one_panel(self):
        values = [made | {"processor": {"name": "Xeon"}} if made["seed"] else made for made in latencies()]
        figure = accuracy_vs_milliseconds.draw(frame(values), "digits")
        assert [panel.get_title().split(", ")[-1] for panel in figure.axes] == ["AMD EPYC 9B45"] * 2 + ["Xeon"] * 2

    def test_a_busy_machine_is_said(self):
        figure = accuracy_vs_milliseconds.draw(frame(latencies(busy="too busy")), "digits")
        assert figure.axes == [] and "digits: no model was timed" in figure.texts[0].get_text()

    def test_models_of_a_busy_moment_are_left_out(self):
        values = [made | {"busy": "x", "runtimes": {}} if made["recipe"] == ALONE else made for made in latencies()]
        panel = accuracy_vs_milliseconds.draw(frame(values), "digits").axes[0]
        assert (4.0, 93.5) not in drawn(panel) and (4.0, 93.0) in drawn(panel)


class TestBitOperations:
    def test_every_model_at_its_arithmetic_and_the_front_by_validation(self):
        rows = summary.summarize(table.rows(metrics(), KINDS))
        figure = accuracy_vs_bit_operations.draw(rows, "digits")
        (panel,) = figure.axes
        # 1000 MACs of 4 by 4, 4 by 8, 4 by 32 and 32 by 32 bits
        assert {(round(1e-9 * count, 6), 50.0) for count in (16e3, 32e3, 128e3, 1024e3)} <= drawn(panel)
        legend = legend_of(figure)
        names = ["1 kd: gpfq, 4 bits, A4", "2 kd: gpfq, 4 bits, A8", "3 kd: gpfq, 4 bits", "4 teacher: float"]
        assert all(name in legend for name in names) and "5 " not in legend

    def test_saved_twice_the_bytes_are_equal(self, tmp_path):
        rows = summary.summarize(table.rows(metrics(), KINDS))
        for name in ("a", "b"):
            figure = accuracy_vs_bit_operations.draw(rows, "digits")
            style.save(figure, tmp_path / f"{name}.png", tmp_path / f"{name}.svg")
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


class TestLastWords:
    def test_the_quickest_within_a_point_on_validation(self):
        (line,) = fastest.lines(frame())
        assert line == (
            f"digits: quickest within a point of its float network (validation): {EIGHT}, 0.5 ms an image in openvino "
            "(float 2, 1 in bfloat16), 700 bytes (float 700), test accuracy 92.50% (float 93.00%); seeds 0, 1"
        )

    def test_of_times_alike_the_smallest_file(self):
        values = latencies(runtimes={"onnxruntime": "1"}, bfloat16_ms=None)
        for made in values:
            if made["recipe"] == ALONE:
                made["runtimes"]["onnxruntime"]["milliseconds"]["model"]["median"] = 1.04
                made["onnx"]["bytes"] = 600
        assert f"{ALONE}, 1.04 ms an image in onnxruntime (float 4), 600 bytes" in fastest.lines(frame(values))[0]

    def test_the_seeds_that_were_timed_are_named(self):
        table = frame()
        table.loc[table.seed == 1, "latency_ms"] = float("nan")
        assert fastest.lines(table)[0].endswith("(float 93.00%); seed 0")

    def test_a_machine_that_was_too_busy_has_no_times(self):
        assert fastest.lines(frame().assign(latency_ms=float("nan"))) == []

    def test_none_is_near(self):
        values = [made for made in latencies() if made["recipe"] in (ROOT, STUDENT, FOUR)]
        assert fastest.lines(frame(values)) == []
