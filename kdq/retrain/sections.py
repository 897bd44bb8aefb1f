"""A network as consecutive functions: its blocks, distributed in order."""

from collections.abc import Callable
from functools import partial, reduce
from itertools import pairwise

from torch import Tensor

from kdq.errors import UserError
from kdq.models.network import Network

Section = Callable[[Tensor], Tensor]


def sections(network: Network, count: int) -> list[Section]:
    """Return ``count`` functions whose composition is the network: images (B, C, H, W) in [0, 1] to logits.

    Numbers of blocks per section differ by at most one. The first section includes the stem, the last the pooling and
    the classifier. Raise UserError if there are more sections than blocks.
    """
    blocks = list(network.blocks)
    if not 1 <= count <= len(blocks):
        raise UserError(f"sections: found {count}, expected 1 to {len(blocks)}, the blocks of the network")
    ends = [round(part * len(blocks) / count) for part in range(count + 1)]
    parts = [blocks[start:stop] for start, stop in pairwise(ends)]
    parts[0].insert(0, network.enter)
    parts[-1].append(network.head)
    return [partial(reduce, lambda x, function: function(x), part) for part in parts]
