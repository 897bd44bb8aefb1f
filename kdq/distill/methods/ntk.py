"""Distillation that matches neural tangent kernels: the student's outputs move together where the teacher's do.

The tangent kernel of images i and j is Theta_ij = sum_c <grad f_c(x_i), grad f_c(x_j)>, the gradients taken by the
parameters: how far a step of gradient descent on image j moves the outputs for image i. The two networks differ in the
number of their parameters, so the kernels are compared by centred alignment, which ignores scale. The idea is that of
Neural Tangent Transfer (Liu and Zenke, ICML 2020, arXiv:2006.08228), which matches the kernels of one architecture by
their Frobenius distance before training; the estimate by probes, the alignment and the sum with distillation are
choices made here.

Theta is that of the parameters as they stand, one probe's variance for every number: another parametrisation of the
same function has another kernel. The teacher arrives with its BatchNorms folded into its convolutions
(``kdq.models.fold``), and its kernel is that of the folded weights, while the student's BatchNorms have parameters of
their own.
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
from kdq.recipe.vocabulary import Annotated, Field, Literal, NonNegative, Positive, PositiveInt

LAST = ("layer4.", "fc.")


class Parameters(Logits):
    temperature: Annotated[Positive, Field(description="softens both predictions: softmax(logits / temperature)")] = 4.0
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 0.1
    distillation_weight: Annotated[NonNegative, Field(description="weight of the match with the teacher")] = 0.9
    ntk_weight: Annotated[
        NonNegative, Field(description="weight of 1 - CKA of the tangent kernels, in the steps that estimate them")
    ] = 1.0
    every: Annotated[PositiveInt, Field(description="the kernels are matched in the first of so many steps")] = 4
    probes: Annotated[PositiveInt, Field(description="random directions that a kernel is estimated from")] = 16
    samples: Annotated[int, Field(ge=2, description="images of the batch that the kernels are taken on")] = 32
    parameters: Annotated[
        Literal["last", "all"],
        Field(description="parameters of the kernels: of the last stage and the classifier, or all"),
    ] = "last"


def tangent_kernel(function, parameters: dict[str, Tensor], probes: dict[str, Tensor]) -> Tensor:
    """Estimate of the tangent kernel summed over outputs, (M, M): 1/k sum_j (J v_j)(J v_j)^T.

    ``function`` maps a dict of tensors like ``parameters`` to outputs (M, ...), J is its Jacobian at ``parameters``;
    ``probes`` holds for each of these k directions v_j, (k, *shape). For v_j of mean 0 and covariance I the estimate is
    unbiased. J v_j is computed forward, all directions beside one evaluation of ``function``, and the result can be
    differentiated by whatever ``function`` and ``parameters`` depend on; of a network of ReLUs it is piecewise smooth,
    and the gradient does not see its jumps. float32 at least.
    """

    def along(probe):
        return jvp(function, (parameters,), (probe,))[1]

    products = vmap(along)(probes)
    products = products.to(torch.promote_types(products.dtype, torch.float32)).transpose(0, 1).flatten(1)
    return products @ products.mT / len(next(iter(probes.values())))


def cka(kernel: Tensor, other: Tensor) -> Tensor:
    """Centred kernel alignment <H K H, H L H> / (||H K H|| ||H L H||) (Frobenius), H = I - 1/M: a scalar.

    ``kernel`` and ``other`` (M, M), symmetric. For positive semidefinite kernels between 0 and 1, and 1 where one is
    a multiple of the other up to constants in rows and columns; it does not change with the scale of a kernel, hence
    neither with scale or rotation of the outputs that it is made of. 0 where a centred kernel is 0. Computed in
    float32 at least. Source: Cortes, Mohri and Rostamizadeh, arXiv:1203.0550.

    Of estimates it is smaller than of the kernels: noise makes both norms larger, and not the product.
    """
    kernel, other = _centred(kernel), _centred(other)
    norms = torch.stack([kernel.norm(), other.norm()])
    # what is left of a constant kernel is rounding: neither value nor gradient
    norms = norms.masked_fill(norms < torch.finfo(norms.dtype).eps, torch.inf)
    return (kernel * other).sum() / norms.prod()


def _centred(kernel: Tensor) -> Tensor:
    """H K H for K scaled to a largest entry of 1, so that no square leaves the range of float32."""
    kernel = kernel.to(torch.promote_types(kernel.dtype, torch.float32))
    largest = kernel.detach().abs().max()
    kernel = kernel / torch.where(largest > 0, largest, 1)
    kernel = kernel - kernel.mean(0, keepdim=True)
    return kernel - kernel.mean(1, keepdim=True)


class NTK(Method):
    """``kd``, and in every ``every``-th step ``ntk_weight`` (1 - CKA) of the tangent kernels.

    In the other steps the term is 0; its mean over an epoch, in the history, counts them too. While the kernels are
    taken the student is in eval mode: the kernel of an image does not depend on the batch, and no statistic changes.
    Autocast is off, as the products of probes are sums of millions of terms. On images as small as the digits, 8x8, an
    epoch takes some 2.5 times the processor time of ``kd``, with ``parameters=all`` some 5.5 times.
    """

    steps = 0

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)

    def view(self, batch: Batch, generator: torch.Generator) -> Batch:
        self.generator = generator  # the task's: seeded for the run, and part of its checkpoint
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
                wanted = self._kernel(teacher, images)
            training = student.training
            student.eval()
            found = self._kernel(student, images)
            student.train(training)
            return {"ntk": self.keys.ntk_weight * (1 - cka(found, wanted))}

    def _kernel(self, network: nn.Module, images: Tensor) -> Tensor:
        """The estimated kernel of a network in eval mode on ``images``, from probes of its own."""
        parameters = dict(network.named_parameters())
        if self.keys.parameters == "last":
            parameters = {name: value for name, value in parameters.items() if name.startswith(LAST)}
        if not parameters:
            raise UserError(
                f"ntk: parameters: found 'last', and {type(network).__name__} has none named {LAST[0]}* or {LAST[1]}*, "
                "expected 'all'"
            )
        # drawn on the device: some hundred million numbers for a network of full width
        generator = torch.Generator(images.device)
        generator.manual_seed(int(torch.randint(2**62, (), generator=self.generator)))
        draw = {"device": images.device, "generator": generator}
        probes = {
            name: torch.randn(self.keys.probes, *value.shape, **draw).to(value.dtype)
            for name, value in parameters.items()
        }
        return tangent_kernel(lambda values: functional_call(network, values, (images,)), parameters, probes)
