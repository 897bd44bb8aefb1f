"""The Hessian of a layer's squared error, X~'X~, for quantizers that after every weight correct all later ones."""

import torch

from kdq.errors import UserError


def ridge(gram, damping) -> torch.Tensor:
    """Return what to add to the diagonal of ``gram``, (g, d): ``damping`` times its mean; 1 more for dead inputs.

    It is as if X and X~ had d more rows, a multiple of the identity, which keep the weights near their values.
    """
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    return damping * diagonal.mean(-1, keepdim=True) + (diagonal == 0)


def upper_factor(hessian) -> torch.Tensor:
    """Return the upper triangle R (g, d, d) with R R' = ``hessian``; raise UserError if it is not positive definite.

    For e = q - w, e'He = ||R'e||^2 = sum_t (R_tt e_t + sum_{j < t} R_jt e_j)^2: no later weight can compensate
    term t. R is the inverse of the usual Cholesky factor of H^-1, computed without an inverse.
    """
    # A Cholesky factor is a lower triangle; with the inputs in reverse it is this upper one.
    factor, failed = torch.linalg.cholesky_ex(hessian.flip(-1, -2))
    if failed.any():
        raise UserError(
            "damping: too small for calibration inputs whose Gram matrix is singular, expected a larger one"
        )
    return factor.flip(-1, -2)


def input_order(gram, name) -> torch.Tensor:
    """Return the order of the inputs (g, d): as they are, or those of the largest energy first."""
    energy = gram.diagonal(dim1=-2, dim2=-1)
    if name == "natural":
        return torch.arange(energy.shape[-1], device=gram.device).expand_as(energy)
    return energy.argsort(dim=-1, descending=True, stable=True)


def reordered(gram, order) -> torch.Tensor:
    """Return a matrix (g, d, d) between inputs with the inputs in ``order`` (g, d)."""
    return gram.take_along_dim(order[:, :, None], 1).take_along_dim(order[:, None, :], 2)
