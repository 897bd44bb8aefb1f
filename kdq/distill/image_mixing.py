"""Mixed images: convex combinations of a batch's images, with one share per batch.

Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, arXiv:1710.09412.
"""

import torch
from torch import Tensor

from kdq.data.batches import Batch


def mix(images: Tensor, share: float) -> Tensor:
    """Return share x_i + (1 - share) x_(i-1) for images x (B, C, H, W): an image's partner is the one before it."""
    return torch.lerp(images.roll(1, 0), images, share)


def draw_share(concentration: float, generator: torch.Generator) -> float:
    """Draw a share of at least 1/2 from Beta(concentration, concentration): the larger part keeps its label."""
    # from two Gammas: torch's Beta distribution takes no generator, which a resumed run needs
    gammas = torch._standard_gamma(torch.full((2,), concentration, dtype=torch.float64), generator=generator)
    share = (gammas[0] / gammas.sum()).item()
    return max(share, 1 - share)


def mixed(batch: Batch, concentration: float, generator: torch.Generator) -> Batch:
    """Return the batch with mixed images, ``partner_labels`` and ``mixing``, the share of the images' first labels."""
    share = draw_share(concentration, generator)
    return batch.with_images(mix(batch.images, share), partner_labels=batch.labels.roll(1, 0), mixing=share)
