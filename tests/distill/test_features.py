"""Methods that compare features: laws, the published implementations' values, numbers at the edge, and learning."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from kdq.data.batches import Batch
from kdq.distill import losses
from kdq.distill.method import Outputs
from kdq.distill.methods import at, pkt, rkd, sp
from kdq.distill.stage import distill
from kdq.train.settings import Network, Training
from kdq.train.stage import train_root

SEEDS = st.integers(0, 10**6)
LOSSES = {
    "at": lambda s, t: losses.attention_transfer([s], [t]),
    "at, as in the paper": lambda s, t: losses.attention_transfer([s], [t], norm="paper"),
    "rkd": lambda s, t: losses.rkd(s.flatten(1), t.flatten(1), 25, 50),
    "sp": losses.sp,
    "pkt": losses.pkt,
}


def feature(seed: int, shape=(6, 3, 4, 4), dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def embedding(seed: int, rows: int = 8, width: int = 5):
    return feature(seed, (rows, width))


def rotation(seed: int, width: int):
    return torch.linalg.qr(feature(seed, (width, width)))[0]


def gradient(loss, student):
    student = student.clone().requires_grad_()
    return torch.autograd.grad(loss(student), student)[0]


class TestPublishedValues:
    CASES = {
        "rkd_distance25_angle50": lambda s, t: losses.rkd(s, t, 25, 50),
        "sp": losses.sp,
        "pkt": losses.pkt,
    }

    def check(self, golden, name, loss, student):
        # published PKT adds 1e-7 to each norm, which the seventh digit shows
        close = {"rtol": 1e-9, "atol": 1e-9 if name == "pkt" else 1e-11}
        torch.testing.assert_close(loss(student), golden[name].squeeze(), **close)
        torch.testing.assert_close(gradient(loss, student), golden[f"{name}_grad"], **close)

    @pytest.mark.parametrize("name", CASES)
    def test_on_embeddings(self, golden, name):
        teacher = golden["teacher_embedding"]
        self.check(golden, name, lambda student: self.CASES[name](student, teacher), golden["student_embedding"])

    def test_attention_transfer(self, golden):
        students, teachers = ([golden[f"{side}_feature_{i}"] for i in range(3)] for side in ("student", "teacher"))
        self.check(
            golden, "at_p2", lambda first: losses.attention_transfer([first, *students[1:]], teachers), students[0]
        )


class TestSignatures:
    def test_names_of_the_arguments_stay(self):
        functions = (losses.rkd, losses.attention_transfer)
        names = {function.__name__: list(inspect.signature(function).parameters) for function in functions}
        assert names["rkd"] == ["student_embedding", "teacher_embedding", "distance_weight", "angle_weight"]
        assert names["attention_transfer"][:2] == ["student_features", "teacher_features"]


@pytest.mark.parametrize("name", LOSSES)
class TestLaws:
    @given(seed=SEEDS)
    def test_equality_costs_nothing(self, name, seed):
        z = feature(seed)
        assert LOSSES[name](z, z).abs() < 1e-12
        assert gradient(lambda s: LOSSES[name](s, z), z).abs().max() < 1e-8

    @given(seed=SEEDS)
    def test_difference_costs(self, name, seed):
        assert LOSSES[name](feature(seed), feature(seed + 1)) > 1e-6

    @given(seed=SEEDS, scales=st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)))
    def test_scale_changes_nothing(self, name, seed, scales):
        s, t = feature(seed), feature(seed + 1)
        torch.testing.assert_close(LOSSES[name](scales[0] * s, scales[1] * t), LOSSES[name](s, t))

    @given(seed=SEEDS)
    def test_order_of_the_batch_does_not_matter(self, name, seed):
        s, t = feature(seed), feature(seed + 1)
        torch.testing.assert_close(LOSSES[name](s.flip(0), t.flip(0)), LOSSES[name](s, t))

    def test_channels_may_differ(self, name):
        assert LOSSES[name](feature(0), feature(1, (6, 7, 4, 4))) > 0

    def test_gradient_is_that_of_finite_differences(self, name):
        t = feature(1)
        assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, t), feature(0).requires_grad_())


class TestAttention:
    @given(SEEDS, st.floats(1e-3, 1e3))
    def test_scale_and_sign_of_each_image_and_order_of_channels_change_nothing(self, seed, scale):
        s, t = feature(seed), feature(seed + 1)
        changed = torch.cat([-scale * s[:1], s[1:]])[:, [2, 0, 1]]
        torch.testing.assert_close(LOSSES["at"](changed, t), LOSSES["at"](s, t))

    @pytest.mark.parametrize("power", [1.0, 2.0, 3.0, 4.0])
    def test_power(self, power):
        s, t = feature(0), feature(1)
        maps = [F.normalize(side.abs().pow(power).mean(1).flatten(1)) for side in (s, t)]
        torch.testing.assert_close(losses.attention_transfer([s], [t], power), F.mse_loss(*maps))
        torch.testing.assert_close(at.attention_map(s, power), maps[0])

    def test_both_norms_of_one_difference(self):
        """Of maps of norm 1 with nothing in common: sqrt(2) is their L2 distance, 2 / elements their mean square."""
        s = torch.zeros(1, 1, 2, 2)
        t = s.clone()
        s[..., 0, 0] = t[..., 1, 1] = 3.0
        assert losses.attention_transfer([s, s], [t, t]).item() == pytest.approx(2 * 2 / 4)
        assert losses.attention_transfer([s, s], [t, t], norm="paper").item() == pytest.approx(2 * 2**0.5)
        with pytest.raises(ValueError, match="norm: found 'max'"):
            losses.attention_transfer([s], [t], norm="max")

    @pytest.mark.parametrize("size", [(4, 4), (3, 5), (7, 2), (1, 1)])
    def test_the_larger_is_pooled_to_the_smaller(self, size):
        s, t = feature(0, (2, 3, 8, 8)), feature(1, (2, 3, *size))
        pooled = losses.attention_transfer([F.adaptive_avg_pool2d(s, size)], [t])
        torch.testing.assert_close(losses.attention_transfer([s], [t]), pooled)
        torch.testing.assert_close(losses.attention_transfer([t], [s]), pooled)

    def test_each_feature_has_its_partner(self):
        with pytest.raises(ValueError):
            losses.attention_transfer([feature(0)], [feature(0), feature(1)])


class TestRelations:
    @given(SEEDS)
    def test_rotation_and_translation_change_nothing(self, seed):
        s, t = embedding(seed), embedding(seed + 1, width=7)
        moved = 3 * s @ rotation(seed, 5) + 10 * embedding(seed + 2, 1), t @ rotation(seed, 7) - 100
        for term, expected in zip(rkd.rkd_terms(*moved), rkd.rkd_terms(s, t), strict=True):
            torch.testing.assert_close(term, expected)

    def test_terms_as_defined(self):
        """Distances and all angles written out, embedding by embedding."""
        found, expected = rkd.rkd_terms(embedding(0), embedding(1)), []
        distances = [torch.cdist(z, z) for z in (embedding(0), embedding(1))]
        expected.append(F.smooth_l1_loss(*(d / (d.sum() / (8 * 7)) for d in distances)))
        edges = [F.normalize(z[None] - z[:, None], dim=2) for z in (embedding(0), embedding(1))]
        expected.append(F.smooth_l1_loss(*(e @ e.mT for e in edges)))
        torch.testing.assert_close(torch.stack(found), torch.stack(expected))

    def test_terms_are_weighted_apart(self):
        s, t = embedding(0), embedding(1)
        distance, angle = rkd.rkd_terms(s, t)
        torch.testing.assert_close(losses.rkd(s, t, 3, 5), 3 * distance + 5 * angle)

    def test_the_chunks_do_not_matter(self, monkeypatch):
        s, t = embedding(0), embedding(1)
        whole = rkd.rkd_terms(s, t)[1], gradient(lambda s: rkd.rkd_terms(s, t)[1], s)
        for elements in (1, 3 * 8**2, 5 * 8**2):
            monkeypatch.setattr(rkd, "CHUNK_ELEMENTS", elements)
            chunked = rkd.rkd_terms(s, t)[1], gradient(lambda s: rkd.rkd_terms(s, t)[1], s)
            torch.testing.assert_close(chunked, whole)

    def test_both_sides_have_a_gradient(self):
        inputs = embedding(0).requires_grad_(), embedding(1).requires_grad_()
        assert torch.autograd.gradcheck(lambda s, t: losses.rkd(s, t, 25, 50), inputs)

    def test_memory_grows_as_the_square_of_the_batch(self, monkeypatch):
        """What the graph holds at its peak, also while the gradient is made, in elements."""
        held = peak = 0

        class Held:
            def __init__(self, tensor):
                nonlocal held, peak
                self.tensor, held = tensor, held + tensor.numel()
                peak = max(peak, held)

            def __del__(self):
                nonlocal held
                held -= self.tensor.numel()

        def peak_of(rows):
            nonlocal peak
            peak = held
            s, t = embedding(0, rows).requires_grad_(), embedding(1, rows)
            with torch.autograd.graph.saved_tensors_hooks(Held, lambda kept: kept.tensor):
                losses.rkd(s, t, 25, 50).backward()
            assert held == 0
            return peak

        monkeypatch.setattr(rkd, "CHUNK_ELEMENTS", 1)  # one anchor at a time from the smallest batch on
        small, large = peak_of(24), peak_of(48)
        assert 0 < large < 4.4 * small  # 8 times, if triplets were kept

    def test_single_precision_is_enough(self):
        """Small differences of large embeddings keep their digits."""
        s, t = (100 + 0.1 * feature(seed, (16, 32), torch.float32) for seed in (0, 1))
        exact = gradient(lambda s: losses.rkd(s, t.double(), 25, 50), s.double())
        found = gradient(lambda s: losses.rkd(s, t, 25, 50), s)
        torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5 * exact.abs().max().item())

    def test_coincident_embeddings_have_no_direction(self):
        """The published code divides their difference, zero, by 1e-12: a gradient of that size."""
        s, t = embedding(0), embedding(1)
        s[3] = s[5]
        found = gradient(lambda s: losses.rkd(s, t, 25, 50), s)
        apart = gradient(lambda s: losses.rkd(s, t, 25, 50), embedding(0))
        assert found.abs().max() < 10 * apart.abs().max()

    def test_one_image_has_no_relations(self):
        s = embedding(0, 1).requires_grad_()
        loss = losses.rkd(s, embedding(1, 1), 25, 50)
        loss.backward()
        assert loss == 0 and not s.grad.any()


class TestSimilarities:
    @given(SEEDS)
    def test_rotation_changes_nothing(self, seed):
        s, t = embedding(seed), embedding(seed + 1)
        turned = -s @ rotation(seed, 5)
        torch.testing.assert_close(losses.sp(turned, t), losses.sp(s, t))
        torch.testing.assert_close(losses.pkt(turned, t), losses.pkt(s, t))

    @given(SEEDS, st.floats(1e-3, 1e3))
    def test_neighbours_ignore_the_scale_of_each_row(self, seed, scale):
        s, t = embedding(seed), embedding(seed + 1)
        scaled = torch.cat([scale * s[:1], s[1:]])
        torch.testing.assert_close(losses.pkt(scaled, t), losses.pkt(s, t))

    @given(SEEDS)
    def test_rows_of_similarities(self, seed):
        s = embedding(seed)
        torch.testing.assert_close(sp.similarities(s).norm(dim=1), torch.ones(8, dtype=torch.float64))
        found = pkt.neighbours(s)
        torch.testing.assert_close(found.sum(1), torch.ones(8, dtype=torch.float64))
        assert found.min() >= 0 and (found.argmax(1) == torch.arange(8)).all()


def extreme(name: str, dtype):
    """Features (4, 8, 2, 2) at the edge: of the dtype's range, without differences, opposite, or partly dead."""
    plain = feature(7, (4, 8, 2, 2), torch.float32).clamp(-2, 2)
    dead = plain.clone()
    dead[1] = 0
    opposite = torch.cat([plain[:2], -plain[:2]])
    largest = torch.finfo(dtype).max / 4
    values = {
        "zero": 0 * plain,
        "one": 1 + 0 * plain,
        "opposite": opposite,
        "dead image": dead,
        "large": plain * largest,
        "small": plain * torch.finfo(dtype).tiny ** 0.5,
        "uneven": torch.cat([plain[:1] * largest, plain[1:]]),
    }
    return values[name].to(dtype)


class TestAtTheEdge:
    NAMES = ("zero", "one", "opposite", "dead image", "large", "small", "uneven")

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
    @pytest.mark.parametrize("name", LOSSES)
    def test_value_and_gradient_are_finite(self, name, dtype):
        for student in self.NAMES:
            for teacher in self.NAMES:
                s = extreme(student, dtype).requires_grad_()
                loss = LOSSES[name](s, extreme(teacher, dtype))
                loss.backward()
                assert loss.isfinite() and s.grad.isfinite().all(), (student, teacher)

    @pytest.mark.parametrize("name", LOSSES)
    def test_a_dead_image_does_not_blow_up_the_gradient(self, name):
        s, t = extreme("dead image", torch.float32), extreme("one", torch.float32)
        assert gradient(lambda s: LOSSES[name](s, t), s).abs().max() < 100

    @pytest.mark.parametrize("name", LOSSES)
    def test_half_precision_is_widened_and_autocast_changes_nothing(self, name):
        s, t = feature(0, dtype=torch.bfloat16), feature(1, (6, 3, 2, 2), torch.bfloat16)
        expected = LOSSES[name](s.float(), t.float())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = LOSSES[name](s, t), LOSSES[name](s.float(), t.float())
        assert found[0].dtype == torch.float32
        assert torch.equal(found[0], expected) and torch.equal(found[1], expected)


class TestMethods:
    METHODS = {
        "at": (at.AttentionTransfer, {"power": 4.0, "norm": "paper"}),
        "sp": (sp.SimilarityPreserving, {}),
        "pkt": (pkt.PKT, {}),
        "rkd": (rkd.RKD, {"distance_weight": 2.0, "angle_weight": 3.0}),
    }

    LAYERS = ("layer1", "layer2", "layer3", "layer4")
    TAPS = {"at": LAYERS, "sp": LAYERS[-1:], "pkt": ("embedding",), "rkd": ("embedding",)}

    def outputs(self, seed):
        maps = {f"layer{i}": feature(seed + i, (4, 2 * i, 4, 4), torch.float32) for i in range(1, 5)}
        return Outputs(feature(seed, (4, 10), torch.float32), maps | {"embedding": maps["layer4"].mean((2, 3))})

    def read(self, name, outputs):
        """The outputs that a method gets: the features of its taps alone."""
        return Outputs(outputs.logits, {tap: outputs.features[tap] for tap in self.TAPS[name]})

    @pytest.mark.parametrize("name", METHODS)
    def test_weights_its_terms(self, name):
        kind, keys = self.METHODS[name]
        module = inspect.getmodule(kind)
        weights = {"label_weight": 0.3} | ({} if name == "rkd" else {"distillation_weight": 0.7})
        student, teacher = self.outputs(0), self.outputs(10)
        batch = Batch(torch.zeros(4, 1, 8, 8), torch.arange(4), torch.arange(4), 1)
        method = kind(module.Parameters(**keys, **weights))
        terms = method.losses(batch, self.read(name, student), self.read(name, teacher))
        torch.testing.assert_close(terms.pop("cross_entropy"), 0.3 * F.cross_entropy(student.logits, batch.labels))
        layers = [[side.features[f"layer{i}"] for i in range(1, 5)] for side in (student, teacher)]
        embeddings = [side.features["embedding"] for side in (student, teacher)]
        expected = {
            "at": lambda: 0.7 * losses.attention_transfer(*layers, power=4.0, norm="paper"),
            "sp": lambda: 0.7 * losses.sp(layers[0][-1], layers[1][-1]),
            "pkt": lambda: 0.7 * losses.pkt(*embeddings),
            "rkd": lambda: losses.rkd(*embeddings, 2.0, 3.0),
        }
        torch.testing.assert_close(sum(terms.values()), expected[name]())

    def test_defaults_are_the_published_benchmarks(self):
        assert at.Parameters().model_dump() == {
            **{"norm": "mean", "power": 2.0, "distillation_weight": 1000.0, "label_weight": 1.0}
        }
        assert rkd.Parameters().model_dump() == {"distance_weight": 25.0, "angle_weight": 50.0, "label_weight": 1.0}
        assert sp.Parameters().model_dump() == {"distillation_weight": 3000.0, "label_weight": 1.0}
        assert pkt.Parameters().model_dump() == {"distillation_weight": 30000.0, "label_weight": 1.0}


@pytest.fixture(scope="module")
def teacher(few, tmp_path_factory):
    """A small network that has learnt the few digits."""
    small = {"width": 0.125, "epochs": 15, "batch_size": 32, "schedule": "onecycle", "crop": 1, "flip": False}
    keys = {**Network().model_dump(), **Training().model_dump(), **small, "label_smoothing": 0.0}
    checkpoint = tmp_path_factory.mktemp("teacher") / "checkpoint.pt"
    return train_root(few, keys, seed=1, threads=1, checkpoint=checkpoint, identity="", log=print).network


class TestLearning:
    @pytest.mark.parametrize("name", ["at", "rkd", "sp", "pkt"])
    def test_digits_are_learnt_from_the_teacher(self, name, few, teacher, training_keys, tmp_path):
        """Far above chance, which is 0.1, and the features come closer to the teacher's."""
        keys = training_keys(epochs=15, width=0.125, schedule="onecycle", learning_rate=0.05)
        places = {"checkpoint": tmp_path / "checkpoint.pt", "identity": "", "log": print}
        history = distill(few, teacher, f"kdq.distill.methods.{name}", keys, seed=0, threads=1, **places).history
        columns = [key for key in history[0] if key.startswith("loss_") and key != "loss_cross_entropy"]
        assert columns == (["loss_distance", "loss_angle"] if name == "rkd" else ["loss_distillation"])
        assert sum(history[-1][key] for key in columns) < 0.6 * sum(history[0][key] for key in columns)
        assert max(row["validation_accuracy"] for row in history) > 0.3
