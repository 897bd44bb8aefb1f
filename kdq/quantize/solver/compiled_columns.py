"""Columns of a forward substitution one by one, compiled: ten times as fast as three torch calls per column."""

import functools
import importlib.util

import numpy as np

# Number of weights from which it pays: Numba takes a third of a second to load, and a second to compile at its first
# use. The columns of smaller layers take less than that in all.
WEIGHTS = 2**18
TILE = 128  # rows at once: their z and codes of a block of 32 columns stay in the L1 cache


def pays(device, weights) -> bool:
    """Return whether to compile the columns of a layer with this number of weights."""
    return device.type == "cpu" and weights >= WEIGHTS and _has_numba()


def columns(z, codes, lower, reciprocal, bounds, start, of_nan) -> None:
    """Write the codes of a block of inputs from ``start`` on, rounded to the nearest within ``bounds``, two (g, 1, n).

    A z that is NaN has the code ``of_nan``.

    ``z`` and ``codes`` (g, d, n), ``lower`` (g, b, b) and ``reciprocal`` (g, d) as in
    :func:`kdq.quantize.solver.substitution.solve`, all float64 and of the CPU.
    """
    arrays = (numbers.contiguous().numpy() for numbers in (lower, reciprocal, *bounds))
    _function()(z.numpy(), codes.numpy(), *arrays, start, of_nan)


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _function():
    import numba  # not at the top: planning imports this module's users

    types = "void(f8[:,:,::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1], f8[:,:,::1], f8[:,:,::1], i8, f8)"
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        return numba.njit(types, cache=True, **options)(_columns)
    except Exception:  # no writable cache folder, or a damaged cache
        return numba.njit(types, **options)(_columns)


def _columns(z, codes, lower, reciprocal, low, high, start, of_nan):
    groups, _, rows = z.shape
    inputs = lower.shape[1]
    for group in range(groups):
        for first in range(0, rows, TILE):
            stop = min(first + TILE, rows)
            lowest, highest = low[group, 0][first:stop], high[group, 0][first:stop]
            for t in range(inputs):
                here, code = z[group, start + t][first:stop], codes[group, start + t][first:stop]
                row, s = lower[group, t], 0
                # Four codes at a time: a fourth of the reads and writes of z.
                while s + 4 <= t:
                    a, b, c, d = row[s], row[s + 1], row[s + 2], row[s + 3]
                    code_a, code_b = codes[group, start + s][first:stop], codes[group, start + s + 1][first:stop]
                    code_c, code_d = codes[group, start + s + 2][first:stop], codes[group, start + s + 3][first:stop]
                    for i in range(stop - first):
                        here[i] -= a * code_a[i] + b * code_b[i] + c * code_c[i] + d * code_d[i]
                    s += 4
                while s < t:
                    a, code_a = row[s], codes[group, start + s][first:stop]
                    for i in range(stop - first):
                        here[i] -= a * code_a[i]
                    s += 1
                scale = reciprocal[group, start + t]
                for i in range(stop - first):
                    z_and_half = here[i] * scale + 0.5
                    here[i] = z_and_half
                    level = np.floor(z_and_half)
                    level = lowest[i] if level < lowest[i] else level
                    level = highest[i] if level > highest[i] else level
                    code[i] = level if level == level else of_nan
