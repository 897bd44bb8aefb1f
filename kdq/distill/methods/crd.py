"""Contrastive representation distillation: the student's embedding is close to the teacher's embedding of the same
image and far from those of images of other classes.

Source: Tian, Krishnan and Isola, Contrastive Representation Distillation, ICLR 2020, arXiv:1910.10699.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.distill.divergence import match
from kdq.distill.method import Method, Outputs
from kdq.errors import UserError
from kdq.recipe.vocabulary import (
    Annotated,
    Base,
    ClassVar,
    Field,
    NonNegative,
    PositiveInt,
    ProperFraction,
    Temperature,
)


class Parameters(Base):
    refuses: ClassVar = {
        "mixup": "CRD compares an image with those of other classes, and a mixed image has two classes"
    }
    weight: Annotated[NonNegative, Field(description="weight of the contrast, both directions together")] = 0.8
    negatives: Annotated[
        PositiveInt,
        Field(description="images of other classes that each image is compared with; at most as many as there are"),
    ] = 16384
    dimensions: Annotated[int, Field(ge=1, le=8192, description="width of the two embeddings that are compared")] = 128
    temperature: Annotated[Temperature, Field(description="divides the cosine of two embeddings")] = 0.07
    bank_momentum: Annotated[
        ProperFraction,
        Field(description="share that an embedding in the memory banks keeps when its image comes again"),
    ] = 0.5
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 1.0
    kd_weight: Annotated[
        NonNegative, Field(description="weight of the match of the logits besides; 1 is the published CRD+KD")
    ] = 0.0
    kd_temperature: Annotated[Temperature, Field(description="softens both predictions in the match of the logits")] = (
        4.0
    )

    @classmethod
    def reads(cls, keys: dict) -> str:
        return "the embedding"


def nce(positive: Tensor, negatives: Tensor, noise: float) -> Tensor:
    """Return the loss of telling pairs of one image from pairs of two: a scalar, at least 0, mean over the batch.

    ``positive`` (B,) and ``negatives`` (B, N) hold log P, the model's log density of each pair; ``noise`` = K / M for
    K negatives per image out of M images. Equation: mean_b [- log P+ / (P+ + noise) - sum_k log noise / (P-_k + noise)]
    (arXiv:1910.10699, section 3). A negative with log P = -inf adds nothing, so that a mask can select the negatives.
    """
    wide = torch.promote_types(positive.dtype, torch.float32)
    positive, negatives = (scores.to(wide) - math.log(noise) for scores in (positive, negatives))
    return -(F.logsigmoid(positive) + F.logsigmoid(-negatives).sum(1)).mean()


def draw_negatives(
    labels: Tensor, batch_labels: Tensor, count: int, largest: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw ``count`` images of other classes for each image of a batch, without replacement.

    ``labels`` (M,) are those of all images, ``batch_labels`` (B,) those of the batch, ``largest`` is the size of the
    largest class, with ``count`` + ``largest`` <= M. Return ``candidates`` (count + largest,), indices of images, and
    ``drawn`` (B, count + largest), true at the candidates that are the image's negatives: ``count`` per row.

    Every row takes the first images of other classes in one random order of all images: for a single image that is a
    uniform draw, and one gather serves the whole batch.
    """
    candidates = torch.randperm(len(labels), generator=generator, device=labels.device)[: count + largest]
    differs = labels[candidates] != batch_labels[:, None]
    return candidates, differs & (differs.cumsum(1) <= count)


class CRD(Method):
    """Contrast each network's embeddings with a memory bank of the other's embeddings of all M training images.

    Unlike the published code, which draws negatives per image and gathers B (K + 1) embeddings per bank (1.1 GB at
    B = 128, K = 16384), the images of a batch share one draw (see :func:`draw_negatives`): each image's negatives have
    the same distribution, so the expected loss is the same. With n images in the largest class a step takes (K + n)
    embeddings per bank and a few matrices B x (K + n): on CIFAR-100, M = 45,000, some 9 MB each. The banks take
    8 M ``dimensions`` bytes (46 MB there), in memory and in the checkpoint.
    """

    features = ("embedding",)

    def build(self, student: Outputs, teacher: Outputs, training_labels: Tensor) -> None:
        images, dimensions = len(training_labels), self.keys.dimensions
        self.largest = int(training_labels.bincount().max())
        if self.largest == images:
            raise UserError(
                "crd: found training images of 1 class, expected at least 2: negatives are of other classes"
            )
        self.count = min(self.keys.negatives, images - self.largest)
        self.student_embedder, self.teacher_embedder = (
            nn.Linear(side.features["embedding"].shape[1], dimensions) for side in (student, teacher)
        )
        self.register_buffer("labels", training_labels, persistent=False)
        for bank in ("student_bank", "teacher_bank"):
            self.register_buffer(bank, F.normalize(torch.randn(images, dimensions), dim=1))
        self._log_partitions: list[float] | None = None  # of the two directions, fixed by the first batch
        seed = torch.randint(2**62, ()).item()  # from the run's seed, but a stream separate from that of the batches
        self._generator = torch.Generator(student.logits.device).manual_seed(seed)

    def get_extra_state(self) -> dict:
        return {"generator": self._generator.get_state(), "log_partitions": self._log_partitions}

    def set_extra_state(self, state: dict) -> None:
        self._generator.set_state(state["generator"])
        self._log_partitions = state["log_partitions"]

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        terms = {
            "cross_entropy": keys.label_weight * self.label_loss(batch, student),
            "contrast": keys.weight * self._contrast(batch, student, teacher),
        }
        if keys.kd_weight:
            terms["distillation"] = keys.kd_weight * match(student.logits, teacher.logits, keys.kd_temperature)
        return terms

    def _contrast(self, batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
        """Return the sum of both directions; the banks are updated with the batch's embeddings."""
        # a cosine in bfloat16 is off by 1/512: after division by 0.07 and exp by a few per cent
        with torch.autocast(batch.images.device.type, enabled=False):
            student_embedding = F.normalize(self.student_embedder(student.features["embedding"].float()), dim=1)
            teacher_embedding = F.normalize(self.teacher_embedder(teacher.features["embedding"].float()), dim=1)
            candidates, drawn = draw_negatives(self.labels, batch.labels, self.count, self.largest, self._generator)
            directions = (student_embedding, self.teacher_bank), (teacher_embedding, self.student_bank)
            scores = [self._scores(*direction, batch.indices, candidates, drawn) for direction in directions]
            images = len(self.labels)
            if self._log_partitions is None:
                self._log_partitions = [_log_mean_exp(*direction) + math.log(images) for direction in scores]
            loss = sum(
                nce(positive - log_partition, negatives - log_partition, self.count / images)
                for (positive, negatives), log_partition in zip(scores, self._log_partitions, strict=True)
            )
            self._remember(self.student_bank, batch.indices, student_embedding)
            self._remember(self.teacher_bank, batch.indices, teacher_embedding)
        return loss

    def _scores(self, embedding: Tensor, bank: Tensor, indices: Tensor, candidates: Tensor, drawn: Tensor):
        """Return cosine / temperature of pairs of one image (B,) and of two (B, N), the latter -inf if not drawn."""
        positive = (embedding * bank[indices]).sum(1) / self.keys.temperature
        negatives = embedding @ bank[candidates].T / self.keys.temperature
        return positive, negatives.masked_fill(~drawn, -math.inf)

    @torch.no_grad()
    def _remember(self, bank: Tensor, indices: Tensor, embedding: Tensor) -> None:
        bank[indices] = F.normalize(torch.lerp(embedding, bank[indices], self.keys.bank_momentum), dim=1)


def _log_mean_exp(positive: Tensor, negatives: Tensor) -> float:
    """Return the log of the mean of exp(score) over all pairs of a batch; entries of -inf are no pairs."""
    scores = torch.cat([positive.flatten(), negatives.flatten()]).detach()
    return (scores.logsumexp(0) - scores.isfinite().sum().log()).item()
