"""Magnitude pruning: the smallest weights are pruned, of the network or of each layer.

Sources: Han et al., Learning both weights and connections for efficient neural networks, NeurIPS 2015,
arXiv:1506.02626; gradually: Zhu and Gupta, To prune, or not to prune, 2017, arXiv:1710.01878.
"""

import torch

from kdq.prune.keys import Pruning, Sparsity
from kdq.prune.method import Pruner, lowest
from kdq.recipe.vocabulary import Annotated, Field, Literal


class Parameters(Sparsity, Pruning):
    scope: Annotated[
        Literal["network", "layer"],
        Field(description="the smallest weights of all layers together, or of each the same share"),
    ] = "network"


class Magnitude(Pruner):
    """Prune the smallest |w|, to a weight as many as asked for."""

    def masks(self, weights, left, share):
        # what is pruned already counts, and comes first
        scores = {name: torch.where(left[name], weight.abs(), -1.0).flatten() for name, weight in weights.items()}
        sparsity = share * self.keys.sparsity
        if self.keys.scope == "layer":
            flat = [lowest(score, round(sparsity * len(score))) for score in scores.values()]
        else:
            flat = lowest(torch.cat(list(scores.values())), round(sparsity * sum(map(len, scores.values()))))
            flat = flat.split([len(score) for score in scores.values()])
        return {name: mask.view_as(weights[name]) for name, mask in zip(weights, flat, strict=True)}
