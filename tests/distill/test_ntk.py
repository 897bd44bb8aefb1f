"""Matching tangent kernels: the estimator, the alignment, and what the method leaves alone."""

import copy
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from kdq.data.batches import Batch
from kdq.distill.methods import kd, ntk
from kdq.distill.stage import distill
from kdq.distill.task import Distillation
from kdq.distill.teacher import Teacher
from kdq.errors import UserError
from kdq.models.fold import fold_batchnorm
from kdq.train import checkpoint as checkpoints
from kdq.train.stage import train_root

KEYS = {"temperature": 4.0, "label_weight": 0.1, "distillation_weight": 0.9, "ntk_weight": 1.0}
KEYS |= {"every": 3, "probes": 4, "samples": 8, "parameters": "last"}


def batch(seed=0, rows=8, size=8) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(rows, 1, size, size, generator=generator)
    return Batch(images, torch.randint(0, 10, (rows,), generator=generator), torch.arange(rows), 1)


def moved(network: nn.Module, seed=0) -> nn.Module:
    """Running statistics and scales of BatchNorm unlike fresh ones, of which some are 0."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data):
                tensor.uniform_(-0.1, 0.1)
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 1.5)
    return network


def jacobian(outputs, parameters) -> torch.Tensor:
    """(M, C, P) by reverse mode, an output at a time."""
    rows = []
    for output in outputs.flatten():
        gradients = torch.autograd.grad(output, parameters, retain_graph=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(rows).view(*outputs.shape, -1)


def psd(seed, rows=6, rank=4) -> torch.Tensor:
    factor = torch.randn(rows, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return factor @ factor.T


@pytest.fixture
def tiny():
    """A network of every kind of layer of ours in float64, its images, and its parameters."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8, 3))
    network = moved(network).double().eval()
    return network, torch.rand(5, 1, 4, 4, dtype=torch.float64), dict(network.named_parameters())


class TestTangentKernel:
    def test_a_basis_of_probes_gives_the_exact_kernel(self, tiny):
        """For v_j = sqrt(P) e_j, the mean of (J v_j)(J v_j)^T is J J^T; the outputs are summed over."""
        network, images, parameters = tiny
        exact = jacobian(network(images), list(parameters.values())).flatten(1)
        count = exact.shape[1] // 3
        basis = count**0.5 * torch.eye(count, dtype=torch.float64)
        sizes = [parameter.numel() for parameter in parameters.values()]
        probes = {
            name: part.reshape(count, *parameters[name].shape)
            for name, part in zip(parameters, basis.split(sizes, 1), strict=True)
        }
        found = ntk.tangent_kernel(lambda values: functional_call(network, values, (images,)), parameters, probes)
        torch.testing.assert_close(found, exact @ exact.T)

    @pytest.mark.parametrize("part", ["last", "all"])
    def test_unbiased_within_statistical_bounds(self, build, part):
        """Isserlis: k Var Theta_ij = sum_cd G_ic,id G_jc,jd + G_ic,jd G_jc,id for G = J J^T and normal probes."""
        network, images, probes = moved(build()).eval().double(), batch(rows=4).images.double(), 200
        last = network.tail_parameters()
        chosen = [value for name, value in network.named_parameters() if part == "all" or name in last]
        exact = jacobian(network(images), chosen)
        gram = torch.einsum("icp,jdp->icjd", exact, exact)
        wanted = torch.einsum("icjc->ij", gram)
        variance = torch.einsum("icid,jcjd->ij", gram, gram) + torch.einsum("icjd,jcid->ij", gram, gram)
        method = ntk.NTK(ntk.Parameters(parameters=part, probes=probes))
        method.generator = torch.Generator().manual_seed(0)
        estimates = torch.stack([method._kernel(network, images).detach() for _ in range(10)])
        deviations = (estimates - wanted) / (variance / probes).sqrt()
        assert (deviations.mean(0) * 10**0.5).abs().max() < 4, "the mean of all estimates"
        assert 0.5 < deviations.square().mean() < 2, "one estimate's error is what theory says"

    def test_linear_in_the_kernel_of_the_parameters(self, tiny):
        """Of a linear layer alone it is X X^T + 1 times the outputs, and twice the probe is four times the kernel."""
        network, images, parameters = tiny
        last = {name: parameters[name] for name in ("4.weight", "4.bias")}
        generator = torch.Generator().manual_seed(0)
        probes = {
            name: torch.randn(4000, *value.shape, generator=generator, dtype=torch.float64)
            for name, value in last.items()
        }

        def function(values):
            return functional_call(network, values, (images,))

        found = ntk.tangent_kernel(function, last, probes)
        inputs = network[:4](images)
        torch.testing.assert_close(found, 3 * (inputs @ inputs.T + 1), rtol=0.1, atol=0.05)
        double = ntk.tangent_kernel(function, last, {name: 2 * probe for name, probe in probes.items()})
        torch.testing.assert_close(double, 4 * found)

    def test_half_precision_is_widened(self):
        weight = {"weight": torch.randn(3, 4, dtype=torch.bfloat16)}
        images = torch.randn(5, 4, dtype=torch.bfloat16)
        probes = {"weight": torch.randn(2, 3, 4, dtype=torch.bfloat16)}
        assert ntk.tangent_kernel(lambda values: images @ values["weight"].mT, weight, probes).dtype == torch.float32


class TestAlignment:
    @given(st.integers(0, 10**6), st.floats(1e-3, 1e3))
    def test_one_at_equality_whatever_the_scale(self, seed, scale):
        kernel = psd(seed)
        torch.testing.assert_close(ntk.cka(kernel, scale * kernel), torch.ones((), dtype=torch.float64))

    @given(st.integers(0, 10**6))
    def test_symmetric_and_between_zero_and_one(self, seed):
        kernel, other = psd(seed), psd(seed + 1)
        found = ntk.cka(kernel, other)
        assert 0 <= found < 1
        torch.testing.assert_close(ntk.cka(other, kernel), found)

    @given(st.integers(0, 10**6))
    def test_centred(self, seed):
        """A kernel of functions that differ by a constant is the same kernel."""
        kernel, other = psd(seed), psd(seed + 1)
        shift = torch.randn(6, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        torch.testing.assert_close(ntk.cka(kernel + shift + shift.T, other), ntk.cka(kernel, other))

    @given(st.integers(0, 10**6))
    def test_rotation_and_scale_of_the_outputs_change_nothing(self, seed):
        generator = torch.Generator().manual_seed(seed)
        products = torch.randn(7, 6, 3, generator=generator, dtype=torch.float64)  # probes, images, outputs
        rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
        plain, turned = (p.transpose(0, 1).flatten(1) for p in (products, 5 * products @ rotation))
        other = psd(seed)
        torch.testing.assert_close(ntk.cka(turned @ turned.T, other), ntk.cka(plain @ plain.T, other))

    @given(st.integers(0, 10**6))
    def test_order_of_the_images_does_not_matter(self, seed):
        kernel, other = psd(seed), psd(seed + 1)
        order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
        found = ntk.cka(kernel[order][:, order], other[order][:, order])
        torch.testing.assert_close(found, ntk.cka(kernel, other))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
    @pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e30])
    def test_finite_in_float32_at_the_edge(self, dtype, scale):
        kernel = (scale * psd(0)).to(dtype).clamp(-6e4, 6e4).requires_grad_()
        found = ntk.cka(kernel, psd(1).to(dtype))
        found.backward()
        assert found.dtype == torch.float32 and found.isfinite() and kernel.grad.isfinite().all()

    def test_kernels_without_variation_are_not_aligned(self):
        assert ntk.cka(torch.ones(4, 4), psd(0, 4)) == 0


class TestMethod:
    def task(self, build, seed=0, **keys) -> Distillation:
        method = ntk.NTK(ntk.Parameters(**{**KEYS, **keys}))
        teacher = fold_batchnorm(moved(build("resnet50", seed=1), 1))
        return Distillation(moved(build()), Teacher(teacher), method, batch().images[:2], batch().labels, seed=seed)

    def test_all_but_the_kernels_is_plain_distillation(self, build):
        task = self.task(build)
        plain = kd.KD(kd.Parameters())
        other = Distillation(copy.deepcopy(task.network), task.teacher, plain, batch().images[:2], batch().labels, 0)
        found, expected = task(batch()).terms, other(batch()).terms
        assert list(found) == ["cross_entropy", "distillation", "ntk"]
        assert all(torch.equal(found[name], expected[name]) for name in expected)

    def test_weighted_and_only_in_every_nth_step(self, build):
        found = [
            [self.weighted(task) for _ in range(7)]
            for task in (self.task(build), self.task(build, ntk_weight=5.0), self.task(build, ntk_weight=0.0))
        ]
        assert [value > 0 for value in found[0]] == [True, False, False, True, False, False, True]
        torch.testing.assert_close(torch.tensor(found[1]), 5 * torch.tensor(found[0]))
        assert found[2] == [0.0] * 7

    @staticmethod
    def weighted(task) -> float:
        return task(batch()).terms["ntk"].item()

    def test_between_zero_and_one_and_near_zero_for_the_teacher_itself(self, build):
        """As many probes as it takes: of two estimates of one kernel the alignment grows to 1."""
        network = moved(build())
        method = ntk.NTK(ntk.Parameters(**{**KEYS, "probes": 500}))
        task = Distillation(
            copy.deepcopy(network), Teacher(network), method, batch().images[:2], batch().labels, seed=0
        )
        assert 0 < task(batch()).terms["ntk"] < 0.1

    @pytest.mark.parametrize("part", ["last", "all"])
    def test_gradient_reaches_the_whole_student_and_only_it(self, build, part):
        task = self.task(build, parameters=part)
        for parameter in task.teacher.network.parameters():
            parameter.requires_grad_(True)  # even then
        task(batch()).terms["ntk"].backward()
        assert all(parameter.grad is None for parameter in task.teacher.network.parameters())
        gradients = {name: parameter.grad for name, parameter in task.network.named_parameters()}
        without = [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]
        assert without in ([], ["fc.bias"]), "the kernel does not depend on the last bias"

    @pytest.mark.parametrize("stem", ["cifar", "imagenet"])
    @pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
    def test_gradient_is_the_slope_of_the_loss(self, build, architecture, stem):
        """Reverse over forward mode through every layer that we have, against a difference quotient in float64."""
        size = 8 if stem == "cifar" else 32
        images = Batch(batch(rows=4, size=size).images.double(), *(batch(rows=4).labels,) * 2, 1)
        student, teacher = (moved(build(name, stem=stem)).double().eval() for name in (architecture, "resnet18"))
        generator = torch.Generator().manual_seed(5)
        direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in student.parameters()]

        def loss() -> torch.Tensor:
            method = ntk.NTK(ntk.Parameters(**{**KEYS, "parameters": "all"}))
            method.generator = torch.Generator().manual_seed(0)
            return method.network_losses(images, student, teacher)["ntk"]

        gradients = torch.autograd.grad(loss(), list(student.parameters()), allow_unused=True, materialize_grads=True)
        slope = sum((gradient * along).sum() for gradient, along in zip(gradients, direction, strict=True))
        step, values = 1e-8, []  # small: the kernel jumps where a ReLU or the pooling switches
        for sign in (1, -2):
            with torch.no_grad():
                for parameter, along in zip(student.parameters(), direction, strict=True):
                    parameter += sign * step * along
            values.append(loss().item())
        assert slope.item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3)

    @pytest.mark.parametrize("part", ["last", "all"])
    def test_probing_changes_no_buffer_and_no_mode(self, build, part):
        task = self.task(build, parameters=part)
        task.method.generator = torch.Generator().manual_seed(0)
        before = {key: value.clone() for key, value in task.network.state_dict().items()}
        task.method.network_losses(batch(), task.network, task.teacher.network)
        assert all(torch.equal(value, before[key]) for key, value in task.network.state_dict().items())
        assert all(module.training for module in task.network.modules())
        assert not any(module.training for module in task.teacher.network.modules())

    def test_float32_under_autocast(self, build):
        """The very value that it has without autocast."""
        plain, under = self.task(build), self.task(build)
        expected = plain(batch()).terms["ntk"]
        under.network.load_state_dict(plain.network.state_dict())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = under(batch()).terms
        assert all(term.dtype == torch.float32 for term in found.values())
        images, generator = batch(), torch.Generator().manual_seed(0)
        for task in (plain, under):
            task.method.steps, task.method.generator = 0, generator.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = under.method.network_losses(images, under.network, under.teacher.network)["ntk"]
        generator.manual_seed(0)
        expected = plain.method.network_losses(images, under.network, plain.teacher.network)["ntk"]
        assert found.dtype == torch.float32 and torch.equal(found, expected)

    def test_probes_differ_from_step_to_step_and_follow_the_seed(self, build):
        runs = []
        for seed in (0, 0, 1):
            task = self.task(build, seed=seed, every=1)
            task.network.eval()  # so that the kernels do not move
            runs.append([self.weighted(task) for _ in range(2)])
        assert runs[0] == runs[1] and runs[0] != runs[2]
        assert runs[0][0] != runs[0][1]

    def test_a_network_of_other_names(self, build):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        method = ntk.NTK(ntk.Parameters())
        task = Distillation(network, Teacher(network), method, batch().images[:2], batch().labels, seed=0)
        with pytest.raises(UserError, match="parameters: found 'last', .* expected 'all'"):
            task(batch())


class TestTraining:
    @pytest.fixture
    def train(self, few, build, training_keys, tmp_path):
        def train(checkpoint="checkpoint.pt", **changes):
            keys = {**KEYS, **training_keys(**changes)}
            places = {"checkpoint": tmp_path / checkpoint, "identity": "run", "log": print}
            return distill(few, moved(build(seed=1)), "kdq.distill.methods.ntk", keys, seed=0, threads=1, **places)

        return train

    def test_resumed_in_the_middle_of_its_count(self, train, tmp_path, monkeypatch):
        """Five steps an epoch, kernels in every third: count and probes go on where they were."""
        original = checkpoints.save

        def keep(path, state):
            original(path, state)
            shutil.copy(path, tmp_path / f"after-{state['epoch']}.pt")

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "save", keep)
            whole = train(epochs=3)
        for epoch in (1, 2):
            torch.manual_seed(99)
            again = train(f"after-{epoch}.pt", epochs=3)
            expected = whole.network.state_dict()
            assert all(torch.equal(value, expected[key]) for key, value in again.network.state_dict().items())
            assert [row["loss_ntk"] for row in again.history] == [row["loss_ntk"] for row in whole.history]

    @pytest.mark.slow
    def test_digits_are_learnt_and_the_kernels_come_closer(self, digits, training_keys, tmp_path):
        places = {"seed": 0, "threads": 1, "identity": "run", "log": print}
        keys = training_keys(epochs=5, learning_rate=0.05, schedule="onecycle", width=0.125)
        root = {**keys, "label_smoothing": 0.0}
        teacher = train_root(digits, root, checkpoint=tmp_path / "teacher.pt", **places).network
        keys = {**KEYS, **keys, "every": 2, "samples": 16}
        history = distill(
            digits, teacher, "kdq.distill.methods.ntk", keys, checkpoint=tmp_path / "ntk.pt", **places
        ).history
        assert max(row["validation_accuracy"] for row in history) > 0.7
        assert history[-1]["loss_ntk"] < 0.9 * history[0]["loss_ntk"]
        assert history[-1]["loss_distillation"] < history[0]["loss_distillation"]
