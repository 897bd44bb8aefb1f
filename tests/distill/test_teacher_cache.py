"""The cached logits of a teacher: the same as computed beside the student, and never those of something else."""

import importlib
import itertools
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import kdq
from kdq.data.batches import Batch, view_count
from kdq.distill import cached_logits
from kdq.distill.cached_logits import FORMAT
from kdq.distill.stage import distill
from kdq.distill.task import Distillation
from kdq.distill.teacher import CachedTeacher
from kdq.distill.teacher_cache import logits_of_views
from kdq.errors import UserError
from kdq.provenance.files import write_tensors
from kdq.recipe.grammar import Grammar
from kdq.recipe.stages import find_stages
from kdq.study.config import read_study
from kdq.train import checkpoint as checkpoints

VIEWS = {"crop": 1, "flip": True}
PLACE = {"dtype": torch.float32, "device": torch.device("cpu"), "log": print}


@pytest.fixture(scope="module")
def logits(few, build):
    """Of all 18 views of the 160 images, by the teacher that the trainings have."""
    return logits_of_views(build(seed=1), few, **VIEWS, **PLACE, batch_size=64)


@pytest.fixture
def train(few, build, training_keys, tmp_path):
    """Train from a fixed teacher as a job does, its logits cached where they are given."""
    number = itertools.count()

    def train(name="kd", teacher_logits=None, checkpoint=None, teacher=1, **changes):
        own = importlib.import_module(f"kdq.distill.methods.{name}").Parameters().model_dump()
        parent = build(seed=teacher)
        return distill(
            few,
            parent,
            f"kdq.distill.methods.{name}",
            {**training_keys(**VIEWS, **changes), **own},
            seed=0,
            threads=1,
            checkpoint=checkpoint or tmp_path / f"{next(number)}.pt",
            identity="run",
            log=print,
            teacher=None if teacher_logits is None else CachedTeacher(parent, PLACE["device"], teacher_logits),
        )

    return train


def equal_weights(one, other) -> bool:
    states = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_each_view_has_the_logits_of_its_image(few, build, logits):
    """Against padding, cropping and mirroring by hand, at row 2 and column 0 of the offsets."""
    assert logits.shape == (view_count(**VIEWS), 160, 10) and logits.dtype == torch.float16
    padded = F.pad(few.train.images.float() / 255, (1,) * 4)
    with torch.no_grad():
        expected = build(seed=1).eval()(padded[..., 2:10, 0:8].flip(3))
    torch.testing.assert_close(logits[(1 * 3 + 2) * 3 + 0].float(), expected, rtol=1e-3, atol=1e-4)


def test_a_logit_beyond_float16_is_refused(few, build):
    teacher = build(seed=1)
    teacher.fc.weight.data *= 1e9
    with pytest.raises(UserError, match="view 0: the teacher gives a logit that float16 can't hold"):
        logits_of_views(teacher, few, **VIEWS, **PLACE)


class TestTraining:
    @pytest.mark.parametrize("name", ["kd", "dkd"])
    def test_same_crops_and_the_same_terms_to_rounding(self, train, logits, name, monkeypatch):
        seen, forward = [], Distillation.forward

        def spy(task, batch):
            step = forward(task, batch)
            seen.append((batch.images, torch.stack([term.detach() for term in step.terms.values()])))
            return step

        monkeypatch.setattr(Distillation, "forward", spy)
        train(name, epochs=1)
        train(name, logits, epochs=1)
        assert len(seen) == 10
        for (images, terms), (same_images, same_terms) in zip(seen[:5], seen[5:], strict=True):
            assert torch.equal(images, same_images)
            torch.testing.assert_close(same_terms, terms, rtol=2e-3, atol=2e-4)

    def test_the_logits_are_the_files_and_not_the_teachers(self, train, logits):
        first, second = (train(teacher_logits=logits, teacher=seed, epochs=1) for seed in (1, 2))
        assert equal_weights(first, second)
        assert not equal_weights(first, train(teacher_logits=logits.flip(2), epochs=1))

    def test_resumed_the_same_bytes(self, train, logits, tmp_path, monkeypatch):
        save = checkpoints.save

        def keep(path, state):
            save(path, state)
            shutil.copy(path, tmp_path / f"after-{state['epoch']}")

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "save", keep)
            whole = train(teacher_logits=logits, epochs=3)
        torch.manual_seed(99)  # whatever happened before in this process
        assert equal_weights(train(teacher_logits=logits, epochs=3, checkpoint=tmp_path / "after-1"), whole)

    def test_images_that_are_no_views_are_never_looked_up(self, build, logits):
        batch = Batch(torch.zeros(2, 1, 8, 8), torch.arange(2), torch.arange(2), 1)
        with pytest.raises(ValueError, match="no views"):
            CachedTeacher(build(seed=1), None, logits).outputs(batch)


class TestFile:
    MADE_FOR = {**VIEWS, "precision": "torch.float32", "data": "d" * 64, "teacher": "t" * 64}

    @pytest.fixture
    def path(self, tmp_path, logits):
        write_tensors(tmp_path / "views", {"logits": logits}, {"format": FORMAT, **self.MADE_FOR})
        return tmp_path / "views"

    def test_round_trip(self, path, few, logits):
        assert torch.equal(cached_logits.read(path, few, **self.MADE_FOR), logits)

    @pytest.mark.parametrize(
        "changes",
        [{"data": "e" * 64}, {"teacher": "e" * 64}, {"crop": 2}, {"flip": False}, {"precision": "torch.bfloat16"}],
        ids=lambda changes: next(iter(changes)),
    )
    def test_made_for_something_else(self, path, few, changes):
        with pytest.raises(UserError, match=rf"views: {next(iter(changes))} is .*, expected .*; remove the file"):
            cached_logits.read(path, few, **{**self.MADE_FOR, **changes})

    def test_made_on_a_machine_where_auto_is_another_precision(self, path, few):
        with pytest.raises(UserError, match="on unlike machines with another value of the key precision than auto$"):
            cached_logits.read(path, few, **{**self.MADE_FOR, "precision": "torch.bfloat16"})

    def test_of_another_shape(self, path, few, logits):
        write_tensors(path, {"logits": logits[:, :99]}, {"format": FORMAT, **self.MADE_FOR})
        with pytest.raises(UserError, match=r"views: holds .*expected float16 logits \(18, 160, 10\)"):
            cached_logits.read(path, few, **self.MADE_FOR)

    def test_foreign(self, path, few, logits):
        write_tensors(path, {"logits": logits}, {"format": "kdq-model/1", **self.MADE_FOR})
        with pytest.raises(UserError, match="views: format 'kdq-model/1', expected"):
            cached_logits.read(path, few, **self.MADE_FOR)

    @pytest.mark.parametrize("kept", [0, 7, 300, 20_000])
    def test_truncated(self, path, few, kept):
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(UserError, match="views: not a readable safetensors file"):
            cached_logits.read(path, few, **self.MADE_FOR)


class TestRefusals:
    """In one line, when the recipe is planned."""

    def grammar(self, package=Path(kdq.__file__).parent, student=None) -> Grammar:
        return Grammar(find_stages(package), {"teacher": {}, "student": student or {}}, {})

    @pytest.mark.parametrize("name", ["kd", "dkd"])
    def test_methods_of_logits_take_it(self, name):
        grammar = self.grammar()
        recipe = grammar.parse(f"teacher/{name},teacher_cache=true")
        assert grammar.resolve(recipe.last)["teacher_cache"] is True
        assert grammar.resolve(grammar.parse(f"teacher/{name}").last)["teacher_cache"] is False

    @pytest.mark.parametrize(
        ("stage", "reason"),
        [
            ("kd,mixup=1,teacher_cache=true", "teacher_cache: found True beside mixup=1.0: .* not of mixed images"),
            ("dkd,cutout=4,teacher_cache=true", "teacher_cache: found True beside cutout=4: .* not of cut out squares"),
            ("mixup,teacher_cache=true", "teacher_cache: found True: the method needs more of the teacher than"),
        ],
    )
    def test_what_changes_the_images(self, stage, reason):
        with pytest.raises(UserError, match=reason) as error:
            self.grammar().parse(f"teacher/{stage}")
        assert "\n" not in str(error.value)

    def test_a_default_of_the_config_too(self):
        grammar = self.grammar(student={"cutout": 8})
        recipe = grammar.parse("teacher/kd,teacher_cache=true")
        with pytest.raises(UserError, match="stage 'kd,teacher_cache=true': .* beside cutout=8"):
            grammar.resolve(recipe.last)

    def test_before_the_study_is_planned(self):
        values = {"datasets": ["digits"], "seeds": [0], "recipes": ["teacher/dkd,teacher_cache=true"]}
        read_study(values, Path(kdq.__file__).parent)
        with pytest.raises(UserError, match="config: stage 'dkd,teacher_cache=true': .* beside cutout=8"):
            read_study({**values, "student": {"cutout": 8}}, Path(kdq.__file__).parent)

    def test_a_method_that_does_not_say_that_logits_are_enough(self, tmp_path):
        shutil.copytree(Path(kdq.__file__).parent / "roots", tmp_path / "kdq/roots")
        (tmp_path / "kdq/distill/methods").mkdir(parents=True)
        (tmp_path / "kdq/distill/methods/hint.py").write_text("class Parameters(Base):\n    pass\n")
        with pytest.raises(UserError, match="teacher_cache: found True: the method needs more of the teacher"):
            self.grammar(tmp_path / "kdq").parse("teacher/hint,teacher_cache=true")

    def test_a_method_with_conflicts_of_its_own(self, tmp_path):
        shutil.copytree(Path(kdq.__file__).parent / "roots", tmp_path / "kdq/roots")
        (tmp_path / "kdq/distill/methods").mkdir(parents=True)
        (tmp_path / "kdq/distill/methods/hint.py").write_text(
            "class Parameters(Base):\n    logits_only: ClassVar = True\n    weight: Positive = 1.0\n"
            "    conflicts: ClassVar = {('weight', 'mixup'): 'hints of mixed images are not weighed'}\n"
        )
        for pair, reason in {
            ("weight=2", "mixup=1"): "not weighed",
            ("mixup=1", "teacher_cache=true"): "mixed",
        }.items():
            with pytest.raises(UserError, match=reason):
                self.grammar(tmp_path / "kdq").parse(f"teacher/hint,{','.join(pair)}")
