"""A Gaussian process over (configuration, epoch): what is known, fitted in milliseconds.

With x a configuration's features, t = log(epoch) / log(last epoch) and M the Matern-5/2 kernel,

    k((x, t), (x', t')) = s1 M(x, x') + s2 M(sqrt(r) x, sqrt(r) x') M(t, t') + c + b (1-t)(1-t')

The first term is what all epochs of a configuration share, the second how its curve differs, the
last two the mean curve of all configurations, whose level and slope are integrated out (Rasmussen
and Williams, "Gaussian Processes for Machine Learning", 2006, 2.7). All hyperparameters have
priors and are fitted by the gradient of the posterior density in closed form: a general library
takes five to ten times as long for the same.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg as linalg
from numpy.typing import NDArray
from scipy.optimize import minimize

from torchstudy.search.cube import Array

LEVEL = 1.0  # c, the prior variance of the mean at the last epoch; values are standardised
SLOPE = 4.0  # b, that of its rise from the first epoch to the last
ITERATIONS = 40
MOST_FITTED = 200  # observations that the hyperparameters are fitted to: a second grows with n^3
JITTER = 1e-8
MEAN, SPREAD, LOW, HIGH = range(4)
# Each as the logarithm: mean and standard deviation of its prior, lowest and highest value.
LENGTH = (-0.7, 1.0, -4.0, 4.0)  # of the cube; the mean grows with the root of the dimension
REST = {
    "shared": (0.0, 1.0, -5.0, 5.0),
    "own": (-1.0, 1.5, -7.0, 4.0),
    "noise": (-5.0, 1.5, -9.0, 1.0),
    "epochs": (-0.5, 0.7, -3.0, 2.0),
    "ratio": (0.0, 1.0, -3.0, 3.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """The hyperparameters: `length` of every axis (d,), of `epochs`, and variances."""

    length: Array
    shared: float
    own: float
    noise: float
    epochs: float
    ratio: float

    @classmethod
    def of(cls, logarithms: Array) -> "Scales":
        """From the logarithms, in the order of the fields, (d + 5,)."""
        values = np.exp(logarithms)
        names = list(REST)
        rest = {
            name: float(value) for name, value in zip(names, values[-len(names) :], strict=True)
        }
        return cls(length=values[: -len(names)], **rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Observations: features (n, m), the axis of each column (m,), t (n,) and values y (n,)."""

    features: Array
    axes: NDArray[np.int64]
    times: Array
    values: Array

    def chosen(self, rows: NDArray[np.intp]) -> "Data":
        """The observations in these rows."""
        return Data(
            features=self.features[rows],
            axes=self.axes,
            times=self.times[rows],
            values=self.values[rows],
        )


@dataclass(frozen=True, slots=True)
class Process:
    """A Gaussian process that has seen `data`."""

    data: Data
    scales: Scales
    root: Array  # of the covariance of the values: lower triangular, (n, n)
    weights: Array  # the inverse of the covariance times the values, (n,)

    @classmethod
    def seeing(cls, data: Data, scales: Scales) -> "Process":
        """The process with given hyperparameters."""
        covariance = _covariance(data, data, scales)
        covariance[np.diag_indices_from(covariance)] += scales.noise + JITTER
        root = linalg.cholesky(covariance, lower=True, check_finite=False)
        return cls(data, scales, root, linalg.cho_solve((root, True), data.values))

    def predicted(self, features: Array, times: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the noiseless values at (n, m) features and (n,) times."""
        asked = Data(features=features, axes=self.data.axes, times=times, values=times)
        between = _covariance(asked, self.data, self.scales)
        explained = linalg.solve_triangular(self.root, between.T, lower=True, check_finite=False)
        slopes = (1.0 - times) ** 2 * SLOPE
        total = self.scales.shared + self.scales.own + LEVEL + slopes
        variance = np.maximum(total - (explained**2).sum(axis=0), 1e-12)
        return between @ self.weights, np.sqrt(variance)

    def believing(self, features: Array, times: Array) -> "Process":
        """The process once what it expects at these points has been observed (kriging believer).

        Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to parallelize optimization",
        2010: the mean stays, the uncertainty nearby shrinks.
        """
        mean, _ = self.predicted(features, times)
        data = Data(
            features=np.concatenate([self.data.features, features]),
            axes=self.data.axes,
            times=np.concatenate([self.data.times, times]),
            values=np.concatenate([self.data.values, mean]),
        )
        return Process.seeing(data, self.scales)

    def inverse(self) -> Array:
        """Of the covariance of the values, (n, n)."""
        found: Array = linalg.cho_solve((self.root, True), np.eye(len(self.root)))
        return found

    def held_out(
        self, groups: NDArray[np.intp], rows: NDArray[np.intp], inverse: Array | None = None
    ) -> Array:
        """The standardised error of each of these rows, predicted without its whole group.

        From the `inverse` of one covariance, made if it is not given: Rasmussen and Williams, 2006,
        5.4.2, in blocks.
        """
        inverse = self.inverse() if inverse is None else inverse
        errors = []
        for row in rows:
            block = np.flatnonzero(groups == groups[row])
            covariance = np.linalg.inv(inverse[np.ix_(block, block)])
            place = int(np.flatnonzero(block == row)[0])
            error = covariance[place] @ self.weights[block]
            errors.append(error / np.sqrt(covariance[place, place]))
        return np.array(errors)


def fitted(data: Data) -> Scales:
    """The most probable hyperparameters of the observations; deterministic."""
    count = int(data.axes.max(initial=-1)) + 1
    length = (LENGTH[MEAN] + 0.25 * np.log(max(count, 1)), *LENGTH[SPREAD:])
    priors = np.array([*[length] * count, *REST.values()])
    gaps = _gaps(data, count)
    lags = (data.times[:, None] - data.times[None]) ** 2
    found = minimize(
        _loss,
        priors[:, MEAN],
        args=(data, gaps, lags, priors),
        jac=True,
        method="L-BFGS-B",
        bounds=priors[:, LOW:],
        options={"maxiter": ITERATIONS},
    )
    return Scales.of(found.x)


def _gaps(data: Data, count: int) -> Array:
    """The squared distance of every two observations along every axis, (d, n * n)."""
    size = len(data.values)
    gaps = np.zeros((count, size * size))
    for column, axis in zip(data.features.T, data.axes, strict=True):
        gaps[axis] += ((column[:, None] - column[None]) ** 2).ravel()
    return gaps


def _loss(
    logarithms: Array, data: Data, gaps: Array, lags: Array, priors: Array
) -> tuple[float, Array]:
    """The negative logarithm of the posterior density, but for a constant, and its gradient."""
    scales = Scales.of(logarithms)
    weights, size = scales.length**-2.0, len(data.values)
    distance = (weights @ gaps).reshape(size, size)
    shared, shared_slope = _matern(distance)
    own, own_slope = _matern(distance * scales.ratio)
    along, along_slope = _matern(lags / scales.epochs**2)
    covariance = scales.shared * shared + scales.own * own * along + _mean_part(data, data)
    covariance[np.diag_indices(size)] += scales.noise + JITTER
    errors = (logarithms - priors[:, MEAN]) / priors[:, SPREAD]
    try:
        root = linalg.cholesky(covariance, lower=True, check_finite=False)
    except linalg.LinAlgError:  # too close to singular: such scales are not to be chosen
        return 1e10, errors / priors[:, SPREAD]
    inverse, _ = linalg.lapack.dpotri(root, lower=True)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    solved = inverse @ data.values
    loss = 0.5 * data.values @ solved + np.log(root.diagonal()).sum() + 0.5 * errors @ errors
    outer = inverse - np.outer(solved, solved)
    by_distance = outer * (
        scales.shared * shared_slope + scales.own * scales.ratio * along * own_slope
    )
    gradient = np.array(
        [
            *(-weights * (gaps @ by_distance.ravel())),
            0.5 * scales.shared * (outer * shared).sum(),
            0.5 * scales.own * (outer * own * along).sum(),
            0.5 * scales.noise * outer.trace(),
            -scales.own / scales.epochs**2 * (outer * own * along_slope * lags).sum(),
            0.5 * scales.own * scales.ratio * (outer * along * own_slope * distance).sum(),
        ]
    )
    return float(loss), gradient + errors / priors[:, SPREAD]


def _covariance(some: Data, others: Data, scales: Scales) -> Array:
    weight = (1 / scales.length)[some.axes]
    distance = _squared(some.features * weight, others.features * weight)
    lags = ((some.times[:, None] - others.times[None]) / scales.epochs) ** 2
    own = _matern(distance * scales.ratio)[0] * _matern(lags)[0]
    return scales.shared * _matern(distance)[0] + scales.own * own + _mean_part(some, others)


def _mean_part(some: Data, others: Data) -> Array:
    """The covariance that comes of not knowing the mean curve."""
    return LEVEL + SLOPE * np.outer(1.0 - some.times, 1.0 - others.times)


def _squared(some: Array, others: Array) -> Array:
    """The squared distance of every row of `some` to every row of `others`."""
    products: Array = some @ others.T
    lengths = (some**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None]
    squared: Array = np.maximum(lengths - 2 * products, 0.0)
    return squared


def _matern(squared: Array) -> tuple[Array, Array]:
    """The Matern-5/2 kernel of squared scaled distances, and its derivative by them."""
    root = np.sqrt(5 * squared)
    decay = np.exp(-root)
    return (1 + root + root**2 / 3) * decay, -5 / 6 * (1 + root) * decay
