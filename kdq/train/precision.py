"""The precision that a job trains in, as its result records it, and that of the models it starts from.

`auto` depends on the machine: on a cluster of unlike nodes a teacher may have been trained in bfloat16 and its student
in float32. Both are sound, but then their difference is not the method's alone.
"""

import torch

from kdq.provenance.files import read_header
from kdq.provenance.formats import MODEL
from kdq.train.device import compute_dtype

ROLES = ("parent", "teacher")


def precision_name(precision: str, device: torch.device) -> str:
    """Return ``bfloat16`` or ``float32`` for the key ``precision``."""
    return str(compute_dtype(precision, device)).removeprefix("torch.")


def log_other_precisions(inputs: dict[str, str], precision: str, log) -> None:
    """Log a line for each model among ``inputs``, paths by role, that was trained in another ``precision``."""
    for path in dict.fromkeys(inputs[role] for role in ROLES if role in inputs):
        made_by = read_header(path, MODEL).get("provenance", {})
        if made_by.get("precision", precision) != precision:
            log(
                f"{path}: trained in {made_by['precision']} ({made_by['device']}), this job trains in {precision}; "
                "the key precision sets one for all"
            )
