"""What a network loses by a quantization: its predictions for some images against those of the float network."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdq.data.batches import evaluation_batches
from kdq.models.logits import logits_of


@dataclass(frozen=True)
class Reference:
    """Predictions of the float network: ``log_probabilities`` (M, K) float64 for images with ``labels`` (M,)."""

    log_probabilities: Tensor
    labels: Tensor

    def losses(self, log_probabilities: Tensor) -> dict[str, float]:
        """Return the costs kl, loss and accuracy of other predictions (M, K) for the same images."""
        analog, quantized = self.log_probabilities, log_probabilities
        rows = torch.arange(len(analog))
        right, right_quantized = ((of.argmax(1) == self.labels).sum() for of in (analog, quantized))
        return {
            "kl": float(F.kl_div(quantized, analog, log_target=True, reduction="batchmean")),
            "loss": float((analog - quantized)[rows, self.labels].mean()),
            "accuracy": float(right - right_quantized) / len(analog),
        }


@torch.no_grad()
def log_probabilities(model: nn.Module, images: Tensor, device) -> Tensor:
    """Return the log of the predicted probabilities (M, K), float64 on the CPU, of images (M, C, H, W)."""
    logits = [logits_of(model(batch.to(device))).double().cpu() for batch in evaluation_batches(images)]
    return torch.cat(logits).log_softmax(1)
