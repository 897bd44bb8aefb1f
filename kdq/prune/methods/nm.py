"""N:M sparsity: of every M weights in a row of inputs the N largest are left, a form that hardware can multiply.

Source: Mishra et al., Accelerating sparse deep neural networks, 2021, arXiv:2104.08378: 2:4, along the input channels.
"""

import torch

from kdq.errors import UserError
from kdq.prune.keys import Pruning
from kdq.prune.method import Pruner
from kdq.recipe.vocabulary import Annotated, Field


class Parameters(Pruning):
    n: Annotated[int, Field(ge=1, le=15, description="weights that are left of every `m`")] = 2
    m: Annotated[
        int,
        Field(
            ge=2,
            le=16,
            description="input channels in a group, from the first on; layers with no multiple of it are left as they "
            "are, such as depthwise ones and often the first",
        ),
    ] = 4

    def inconsistency(self) -> str:
        if self.n >= self.m:
            return f"n: found {self.n} beside m={self.m}, expected fewer"
        return super().inconsistency()


class NM(Pruner):
    """Prune in groups of ``m`` input channels, at each position of a kernel; other layers stay as they are."""

    def masks(self, weights, left, share):
        chosen = {}
        for name, weight in weights.items():
            if weight.shape[1] % self.keys.m:
                self.log(
                    f"{name}: is not pruned, its {weight.shape[1]} input channels are no multiple of {self.keys.m}"
                )
                continue
            scores = torch.where(left[name], weight.abs(), -1.0)
            chosen[name] = largest_of_groups(scores, self.keys.n, self.keys.m)
        if not chosen:
            raise UserError(f"nm: m: found {self.keys.m}, of which no layer's input channels are a multiple")
        return chosen


def largest_of_groups(scores: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Return the mask of the ``n`` largest of every ``m`` scores along dimension 1, of equal ones the first."""
    groups = scores.movedim(1, -1).unflatten(-1, (-1, m))
    places = groups.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return (places < n).flatten(-2).movedim(-1, 1)
