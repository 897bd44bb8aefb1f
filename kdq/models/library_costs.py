"""What networks of timm and torchvision cost: a process of its own, since planning imports neither these nor torch.

``python -m kdq.models.library_costs`` reads a JSON list of networks from standard input, each ``keys``, as a stage's,
and ``size``, the ``classes``, ``channels`` and ``side`` of a data set. It writes a list of their counts, or of
``{"error": line}`` for a network that there is not.
"""

import json
import sys

from kdq.errors import UserError
from kdq.models import registry
from kdq.models.cost import counted
from kdq.models.networks.library import on_meta


def cost(keys: dict, size: dict) -> dict:
    """Return multiply-adds, activations and parameters for one image."""
    statistics = {"mean": [0.0] * size["channels"], "std": [1.0] * size["channels"]}
    network = on_meta(**registry.described(keys, **size, **statistics))
    return counted(network, size["channels"], size["side"])


def answer(network: dict) -> dict:
    try:
        return cost(**network)
    except UserError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    json.dump([answer(network) for network in json.load(sys.stdin)], sys.stdout)
