"""Distillation that matches neural tangent kernels in addition to logits.

The tangent kernel of images i and j is Theta_ij = sum_c <grad f_c(x_i), grad f_c(x_j)>, with gradients with respect to
the parameters: how far a step of gradient descent on image j moves the outputs for image i. The two networks differ in
the number of parameters, so the kernels are compared by centred alignment, which ignores scale. The idea is that of
Neural Tangent Transfer (Liu and Zenke, ICML 2020, arXiv:2006.08228), which matches the kernels of one architecture by
their Frobenius distance before training; the estimate by probes, the alignment and the sum with distillation are
choices made here.

Theta depends on the parametrisation of a function: all parameters are probed with the same variance. The teacher's
BatchNorms are folded into its convolutions (``kdq.models.fold``) and its kernel is that of the folded weights, while
the student's BatchNorms have separate parameters.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap

from kdq.data.batches import Batch
from kdq.distill.divergence import match
from kdq.distill.keys import Logits
from kdq.distill.method import Method, Outputs
from kdq.distill.standardize import compared
from kdq.errors import UserError
from kdq.models.network import Network
from kdq.recipe.vocabulary import Annotated, Field, Literal, NonNegative, PositiveInt, Temperature


class Parameters(Logits):
    temperature: Annotated[
        Temperature, Field(description="softens both predictions: softmax(logits / temperature)")
    ] = 4.0
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 0.1
    distillation_weight: Annotated[NonNegative, Field(description="weight of the match with the teacher")] = 0.9
    ntk_weight: Annotated[
        NonNegative, Field(description="weight of 1 - CKA of the tangent kernels, in the steps that estimate them")
    ] = 1.0
    every: Annotated[PositiveInt, Field(description="the kernels are matched in the first of so many steps")] = 4
    probes: Annotated[int, Field(ge=1, le=4096, description="random directions that a kernel is estimated from")] = 16
    samples: Annotated[int, Field(ge=2, le=4096, description="images of the batch that the kernels are taken on")] = 32
    parameters: Annotated[
        Literal["last", "all"],
        Field(description="parameters of the kernels: of the last stage and the classifier, or all"),
    ] = "last"

    @classmethod
    def reads(cls, keys: dict) -> str:
        return "the parameters of the last stage" if keys["parameters"] == "last" else ""


def tangent_kernel(function, parameters: dict[str, Tensor], probes: dict[str, Tensor]) -> Tensor:
    """Return an estimate of the tangent kernel summed over outputs, (M, M): 1/k sum_j (J v_j)(J v_j)^T.

    ``function`` maps a dict of tensors like ``parameters`` to outputs (M, ...), J is its Jacobian at ``parameters``;
    ``probes`` holds k directions v_j for each of them, (k, *shape). For v_j of mean 0 and covariance I the estimate is
    unbiased. J v_j is computed in forward mode, all directions with one evaluation of ``function``. The result, in
    float32 or wider, is differentiable with respect to all that ``function`` and ``parameters`` depend on; for a
    network of ReLUs it is piecewise smooth, and the gradient ignores its jumps.
    """

    def along(probe):
        return jvp(function, (parameters,), (probe,))[1]

    products = vmap(along)(probes)
    products = products.to(torch.promote_types(products.dtype, torch.float32)).transpose(0, 1).flatten(1)
    return products @ products.mT / len(next(iter(probes.values())))


def cka(kernel: Tensor, reference: Tensor) -> Tensor:
    """Return the centred alignment <H K H, H L H> / (||H K H|| ||H L H||) (Frobenius), H = I - 1/M: a scalar.

    ``kernel`` and ``reference`` are (M, M), symmetric. Positive semidefinite kernels give 0 to 1, and 1 if one is a
    multiple of the other up to constants in rows and columns; the value does not depend on the scale of a kernel, nor
    on scale or rotation of the outputs that it is computed from. 0 if a centred kernel is 0. In float32 or wider.
    Source: Cortes, Mohri and Rostamizadeh, arXiv:1203.0550.

    Estimates give smaller values than the kernels themselves: noise increases both norms, but not the product.
    """
    kernel, reference = _centred(kernel), _centred(reference)
    norms = torch.stack([kernel.norm(), reference.norm()])
    # a constant kernel leaves only rounding errors, which get neither value nor gradient
    norms = norms.masked_fill(norms < torch.finfo(norms.dtype).eps, torch.inf)
    return (kernel * reference).sum() / norms.prod()


def _centred(kernel: Tensor) -> Tensor:
    """Return H K H for K scaled to a largest entry of 1, so that no square leaves the range of float32."""
    kernel = kernel.to(torch.promote_types(kernel.dtype, torch.float32))
    largest = kernel.detach().abs().max()
    kernel = kernel / torch.where(largest > 0, largest, 1)
    kernel = kernel - kernel.mean(0, keepdim=True)
    return kernel - kernel.mean(1, keepdim=True)


class NTK(Method):
    """``kd``, plus ``ntk_weight`` (1 - CKA) of the tangent kernels in every ``every``-th step.

    In the other steps the term is 0; its mean over an epoch, in the history, includes them. The student is in eval mode
    for its kernel, so that the kernel of an image does not depend on the batch and no statistic changes. Autocast is
    off, since the products of probes are sums of millions of terms. On images as small as the digits, 8x8, an epoch
    takes some 2.5 times the processor time of ``kd``, with ``parameters=all`` some 5.5 times.
    """

    steps = 0

    @property
    def period(self) -> int:
        return self.keys.every

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)

    def view(self, batch: Batch, generator: torch.Generator) -> Batch:
        self.generator = generator  # of the task: seeded for the run, and part of its checkpoint
        return super().view(batch, generator)

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        logits = compared(keys.standardize, student.logits, teacher.logits)
        return {
            "cross_entropy": keys.label_weight * self.label_loss(batch, student),
            "distillation": keys.distillation_weight * match(*logits, keys.temperature),
        }

    def network_losses(self, batch: Batch, student: nn.Module, teacher: nn.Module) -> dict[str, Tensor]:
        due = self.steps % self.keys.every == 0
        self.steps += 1
        if not due or not self.keys.ntk_weight:
            return {"ntk": batch.images.new_zeros(())}
        images = batch.images[: self.keys.samples]
        with torch.autocast(images.device.type, enabled=False):
            with torch.no_grad():
                teacher_kernel = self._kernel(teacher, images)
            training = student.training
            student.eval()
            student_kernel = self._kernel(student, images)
            student.train(training)
            return {"ntk": self.keys.ntk_weight * (1 - cka(student_kernel, teacher_kernel))}

    def _kernel(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return the estimated kernel of a network in eval mode on ``images``, from fresh probes."""
        last = self.keys.parameters == "last"
        if last and not isinstance(network, Network):
            raise UserError(
                f"ntk: parameters: found 'last', but the stages of {type(network).__name__} are unknown, expected 'all'"
            )
        parameters = network.tail_parameters() if last else dict(network.named_parameters())
        # drawn on the device: some hundred million numbers for a network of full width
        generator = torch.Generator(images.device)
        generator.manual_seed(int(torch.randint(2**62, (), generator=self.generator)))
        draw = {"device": images.device, "generator": generator}
        probes = {
            name: torch.randn(self.keys.probes, *value.shape, **draw).to(value.dtype)
            for name, value in parameters.items()
        }
        return tangent_kernel(lambda values: functional_call(network, values, (images,)), parameters, probes)
