"""The logits in what a network of any library returns."""

from torch import Tensor

from kdq.errors import UserError


def logits_of(output) -> Tensor:
    """Return a tensor as it is, and the attribute ``logits`` of another object; raise UserError if it has none."""
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise UserError(f"the network returns {type(output).__name__}, expected logits, or an object with `logits`")
    return logits
