"""The bound that keeps an activation on large inputs from having all four scalars of ReLU."""

from kdq.retrain.random_features.conjugate_kernel import Scalars


def least_tau_squared(scalars: Scalars, tau: float) -> float:
    """Return the least variance of any activation with the ``d1`` and ``d2`` of ``scalars`` at ``tau``.

    In the orthonormal Hermite polynomials of xi its first two coefficients are d1 tau and d2 tau^2 / sqrt(2), and the
    squares of all of them add up to the variance.
    """
    return (scalars.d1 * tau) ** 2 + (scalars.d2 * tau**2) ** 2 / 2
