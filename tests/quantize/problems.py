"""Layers to quantize, small enough for a loop over columns on the inputs themselves, and the published code's."""

from pathlib import Path
from types import SimpleNamespace

import numpy
import torch

GOLDEN = Path(__file__).parent.parent / "golden" / "gpfq.npz"


def problem(seed, rows, inputs, samples, drift=0.1, dead=()):
    """A weight (N, d), and inputs (m, d) of the float and of the quantized network, those numbered ``dead`` zero."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    analog = (normal(samples, inputs) + 0.3).relu()
    quantized = (analog + drift * normal(samples, inputs)).relu()
    quantized[:, list(dead)] = 0
    return normal(rows, inputs), analog, quantized


def correlated(seed, rows, inputs, samples, drift=0.1):
    """As :func:`problem`, with inputs that mix a few sources, as those of a layer do."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    analog = (normal(samples, 6) @ normal(6, inputs) / 2 + normal(samples, inputs)).relu()
    return normal(rows, inputs), analog, (analog + drift * normal(samples, inputs)).relu()


def path(weight, analog, quantized, step, rounding):
    """The published loop over columns on the inputs themselves, weight (N, d), inputs (m, d), step (N,), in float64.

    ``rounding`` makes levels, in steps, of the numbers (N,) that would be best for the next column.
    """
    levels = torch.zeros_like(weight)
    residual = weight.new_zeros(weight.shape[0], analog.shape[0])
    for t in range(weight.shape[1]):
        residual += weight[:, t, None] * analog[:, t]
        length = quantized[:, t] @ quantized[:, t]
        if length > 0:
            levels[:, t] = rounding(residual @ quantized[:, t] / length / step)
        residual -= (levels[:, t] * step)[:, None] * quantized[:, t]
    return levels


def gram_matrices(analog, quantized):
    """(cross, gram) = (X~'X, X~'X~)."""
    return quantized.mT @ analog, quantized.mT @ quantized


def squared_errors(weight, analog, quantized, codes, step):
    """||X w - X~ q||^2 of every row; ``codes`` may have alphabets in front, as ``step`` then has."""
    decoded = codes.double() * step[..., None]
    return (analog @ weight.mT - quantized @ decoded.mT).square().sum(-2)


def golden(case):
    """A case of the published code: tensors with their groups in front, and what it was called with."""
    with numpy.load(GOLDEN) as every:
        values = {name.split("/")[1]: every[name] for name in every if name.startswith(f"case{case}/")}
    groups = int(values["groups"])
    weight = torch.tensor(values["weight"])
    inputs = (torch.tensor(values[f"{kind}_input"]) for kind in ("analog", "quantized"))
    return SimpleNamespace(
        weight=weight.unflatten(0, (groups, -1)),
        inputs=tuple(kind.unflatten(1, (groups, -1)).movedim(1, 0) for kind in inputs),
        expected=torch.tensor(values["expected"]).unflatten(0, (groups, -1)),
        radius=weight.abs().quantile(float(values["percentile"]), dim=1).mean(),
        **{name: float(values[name]) for name in ("error", "scalar", "threshold")},
        max_code=int(values["max_code"]),
        regularizer=str(values["regularizer"]),
    )
