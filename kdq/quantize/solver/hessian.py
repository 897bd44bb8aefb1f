"""The Hessian of a layer's squared error, X~'X~, for the quantizers that after every weight correct all later ones."""

import torch

from kdq.errors import UserError


def ridge(gram, damping) -> torch.Tensor:
    """What to add to the diagonal of ``gram`` (g, d, d), as (g, d): ``damping`` times its mean; 1 more for dead inputs.

    As if X and X~ both had d more rows, a multiple of the identity, which hold the weights near where they were.
    """
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    return damping * diagonal.mean(-1, keepdim=True) + (diagonal == 0)


def upper_factor(hessian) -> torch.Tensor:
    """The upper triangle R (g, d, d) with R R' = ``hessian``; raises UserError where it is not positive definite.

    For e = q - w, e'He = ||R'e||^2 = sum_t (R_tt e_t + sum_{j < t} R_jt e_j)^2: term t is what no later weight can
    make up for. R is the inverse of the Cholesky factor of H^-1 that is usual here, found without an inverse.
    """
    # A Cholesky factor is a lower triangle; with the inputs in reverse it is this upper one.
    factor, failed = torch.linalg.cholesky_ex(hessian.flip(-1, -2))
    if failed.any():
        raise UserError(
            "damping: too small for calibration inputs whose Gram matrix is singular, expected a larger one"
        )
    return factor.flip(-1, -2)


def input_order(gram, name) -> torch.Tensor:
    """The inputs (g, d) in the order in which to quantize them: as they are, or those of the largest energy first."""
    energy = gram.diagonal(dim1=-2, dim2=-1)
    if name == "natural":
        return torch.arange(energy.shape[-1], device=gram.device).expand_as(energy)
    return energy.argsort(dim=-1, descending=True, stable=True)


def reordered(gram, order) -> torch.Tensor:
    """A matrix (g, d, d) between inputs, with the inputs in ``order`` (g, d)."""
    return gram.take_along_dim(order[:, :, None], 1).take_along_dim(order[:, None, :], 2)
