"""The ONNX file of a cell: exported, scored, refused; its record; images as cameras give them."""

import json

import onnx
import onnxruntime
import pytest
import torch

from kdq.data.prepared import Prepared, Split
from kdq.deploy import export, exportable, record
from kdq.deploy.graph_nodes import FLOAT32_NCHW, UINT8_NHWC
from kdq.deploy.onnx_file import metadata_of, read, to_onnx
from kdq.errors import UserError
from kdq.models.file import to_network
from kdq.provenance.files import sha256, write_json
from kdq.study import products
from kdq.study.config import read_study
from kdq.workflow import targets
from tests.deploy.conftest import images

CELL = {"dataset": "digits", "seed": 0, "recipe": "hard/rtn"}
FORMS = (FLOAT32_NCHW, UINT8_NHWC)


def data_of(classes: str) -> Prepared:
    part = Split(images(200), torch.randint(0, 7, (200,), generator=torch.Generator().manual_seed(0)))
    return Prepared(part, part, part, list(classes), [0.5] * 3, [0.5] * 3, "digits", {}, 0)


@pytest.fixture(scope="module")
def prepared():
    return data_of("abcdefg")


@pytest.fixture(scope="module")
def file(model_of):
    file = model_of(bits=4, activations=8)
    file.header.update(CELL, keys={"bits": 4}, provenance={"code": "c"})
    return file


@pytest.mark.parametrize("form", FORMS)
class TestExport:
    @pytest.fixture
    def path(self, file, prepared, form, tmp_path):
        export.export(file, "model.safetensors", tmp_path / "model.onnx", prepared, "d1gest", form)
        return tmp_path / "model.onnx"

    def test_its_metadata_tell_what_it_is(self, path):
        metadata = metadata_of(read(path))
        assert metadata["recipe"] == "hard/rtn" and metadata["classes"] == list("abcdefg")
        assert metadata["keys"] == {"bits": 4} and metadata["provenance"] == {"code": "c"}
        assert metadata["model_sha256"] == "d1gest"

    def test_its_score_is_that_of_what_it_predicts(self, path, prepared):
        predicted = export.run(path, prepared.test.images).argmax(1)
        facts = export.score(path, prepared.test, predicted.to(torch.int16))
        assert facts["images"] == 200 and facts["agreement"] == 1
        assert facts["top1"] == pytest.approx(float((predicted == prepared.test.labels).double().mean()))
        changed = predicted.clone()
        changed[:20] += 1
        assert export.score(path, prepared.test, changed)["agreement"] == 0.9

    def test_it_predicts_what_the_model_does(self, path, file, prepared):
        with torch.no_grad():
            ours = to_network(file)(prepared.test.images.float() / 255)
        assert (export.run(path, prepared.test.images) - ours).norm() < 0.05 * ours.norm()

    def test_its_input(self, path, prepared, form):
        facts = export.input_of(prepared.test.images, form)
        (given,) = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs()
        kinds = {"tensor(float)": ("float32", [3, 16, 16]), "tensor(uint8)": ("uint8", [16, 16, 3])}
        assert (facts["type"], facts["shape"]) == kinds[given.type]
        assert given.shape == (["N", 3, "H", "W"] if form == FLOAT32_NCHW else ["N", "H", "W", 3])


def test_images_of_cameras_give_the_same_logits(file, prepared, tmp_path):
    logits = []
    for form in FORMS:
        onnx.save(to_onnx(file, "m", {}, form), tmp_path / form)
        logits.append(export.run(tmp_path / form, prepared.test.images, optimized=False))
    assert torch.allclose(*logits, rtol=1e-4, atol=1e-4)


def test_a_model_of_other_classes_is_refused(file, tmp_path):
    with pytest.raises(UserError, match=r"m: a network of 7 classes, the data set 'digits' has 2"):
        export.export(file, "m", tmp_path / "model.onnx", data_of("ab"), "d")
    assert not list(tmp_path.iterdir())


class TestRecord:
    @pytest.fixture
    def pair(self, tmp_path):
        folder = tmp_path / "results/digits/seed=0/hard/rtn"
        folder.mkdir(parents=True)
        path, file = folder / "model.onnx.json", folder / "model.onnx"
        file.write_bytes(b"graph")
        facts = {"input": {"type": "float32", "shape": [1, 8, 8]}, "bytes": 5}
        write_json(path, {**CELL, **facts, "outputs": {str(file): sha256(file)}})
        return path, file

    def test_describes_the_input(self, pair):
        assert record.described_input(pair[0], record.read(*pair)) == "float32,1,8,8"

    def test_of_another_file(self, pair):
        pair[1].write_bytes(b"grapf")
        with pytest.raises(UserError, match=r"model\.onnx: its content is not the one that model\.onnx\.json holds"):
            record.read(*pair)

    def test_of_another_cell(self, pair):
        facts = json.loads(pair[0].read_text()) | {"seed": 1}
        del facts["seal"]
        write_json(pair[0], facts)
        with pytest.raises(UserError, match="seed: found 1, expected 0"):
            record.read(*pair)

    def test_changed(self, pair):
        pair[0].write_text(pair[0].read_text().replace('"bytes": 5', '"bytes": 4'))
        with pytest.raises(UserError, match=r"model\.onnx\.json: corrupted"):
            record.read(*pair)

    def test_without_an_input(self, pair):
        with pytest.raises(UserError, match=r"model\.onnx\.json: holds no input"):
            record.described_input(pair[0], {})


class TestRefusals:
    """What has no ONNX form is refused before it is planned, if keys tell it."""

    @pytest.fixture
    def study(self, home):
        imported = {"source": "transformers", "folder": str(home)}
        recipes = ["teacher/kd/gpfq", "hard/gpfq,bits=8,levels=paper", "hard/ntklc"]
        values = {"datasets": ["digits"], "seeds": [0], "recipes": recipes, "latency": True}
        return read_study(values | {"stages": {"teacher": imported}}, home / "kdq")

    @pytest.mark.parametrize(
        ("recipe", "reason"),
        [
            ("teacher", ""),
            ("teacher/rtn", ""),
            ("hard", ""),
            ("teacher/kd", ""),
            ("teacher/kd/gpfq,bits=8", ""),
            ("teacher/kd/gpfq,bits=8,levels=paper", "codes of 9 bits"),
            ("teacher/kd/gpfq,bits=7,levels=paper", ""),
            ("teacher/kd/gpfq,bits=8,levels=paper/qat", "codes of 9 bits"),
            ("teacher/kd/gpfq,budget=8,levels=paper", ""),
            ("hard/ntklc", ""),
            ("hard/gpfq/ntklc", ""),
            ("hard/gpfq/qat", ""),
        ],
    )
    def test_a_recipe(self, study, recipe, reason):
        refusal = exportable.refusal(study.grammar.parse(recipe), study.grammar)
        assert (reason in refusal) if reason else not refusal
        for name in ("model.onnx", "model.onnx.json", "latency.json"):
            target = f"results/digits/seed=0/{recipe}/{name}"
            if reason:
                with pytest.raises(UserError, match=f"^{target}: .*{reason}"):
                    targets.check(target, study.grammar, ["digits"])
            else:
                targets.check(target, study.grammar, ["digits"])

    def test_latencies_are_asked_for_where_they_can_be(self, study):
        from kdq.report.contents import Contents

        timed = {path.split("/", 3)[3] for path in products.timed(study, Contents(study))}
        expected = ("teacher", "teacher/kd", "teacher/kd/gpfq", "hard", "hard/ntklc")
        assert timed == {f"{recipe}/latency.json" for recipe in expected}

    def test_latencies_are_those_of_the_first_seed(self, home):
        from kdq.report.contents import Contents
        from kdq.report.jobs import ReportJobs

        values = {"datasets": ["digits"], "seeds": [3, 4], "recipes": ["hard/rtn"], "latency": True}
        study = read_study(values, home / "kdq")
        latencies = products.timed(study, Contents(study))
        assert latencies == [f"results/digits/seed=3/{recipe}/latency.json" for recipe in ("hard", "hard/rtn")]
        assert ReportJobs(study, None).inputs("deployment") == latencies
        assert len(ReportJobs(study, None).inputs("table")) == 4

    def test_an_imported_root_is_timed_too(self, study):
        cell = products.Cell("digits", 0, "teacher/kd/gpfq")
        place = products.Place(study, cell, study.grammar.parse(cell.recipe))
        roles = {role: path(place) for role, path in products.TIMED.items()}
        assert roles["root_onnx"] == "results/digits/seed=0/teacher/model.onnx"
        assert roles["root_record"] == "results/digits/seed=0/teacher/model.onnx.json"
        assert roles["float_onnx"] == "results/digits/seed=0/teacher/kd/model.onnx"
        assert roles["network"] == "results/digits/seed=0/teacher/kd/model.safetensors"
