"""Logistic and ridge regression by scikit-learn, folded into one linear layer."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from sklearn.preprocessing import StandardScaler

NEVER = -1e4  # logit of a class that was not seen: it is never predicted


def fit_logistic(
    layer: nn.Linear,
    features: Tensor,
    targets: Tensor,
    *,
    regularisation: float,
    max_steps: int,
    is_scaled: bool = False,
) -> None:
    """Fit multinomial logistic regression and write it into `layer` (features -> classes).

    `features` is (items, features), `targets` (items,) with at least two classes present; a layer
    with one output gets the logit of class 1 against class 0. The penalty is
    `regularisation / 2 * |w|^2` for standardised features, against the summed log loss; features
    that are scaled already (`is_scaled`) are taken as they are. The scaler is folded in:
    w' = w / s and b' = b - w' m for mean m and spread s.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scaler = _scaler(features, is_scaled)
    model = LogisticRegression(C=1.0 / regularisation, max_iter=max_steps)
    with warnings.catch_warnings():
        # An unfinished fit is a valid one, only less exact: its score says how good it is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaler.transform(_array(features)), targets.cpu().numpy())
    weight, bias = _folded(scaler, model.coef_, model.intercept_)
    if layer.out_features == 1:
        _write(layer, weight, bias)
        return
    if len(model.classes_) == 2:  # scikit-learn gives the second class's logit alone
        weight = torch.cat([torch.zeros_like(weight), weight])
        bias = torch.cat([torch.zeros_like(bias), bias])
    all_weights = torch.zeros(layer.weight.shape, dtype=weight.dtype)
    all_biases = torch.full(layer.bias.shape, NEVER, dtype=bias.dtype)
    seen = torch.from_numpy(model.classes_)
    all_weights[seen], all_biases[seen] = weight, bias
    _write(layer, all_weights, all_biases)


def fit_ridge(
    layer: nn.Linear,
    features: Tensor,
    targets: Tensor,
    *,
    regularisation: float,
    is_scaled: bool = False,
) -> None:
    """Fit ridge regression and write it into `layer` (features -> one number).

    The penalty is `regularisation * |w|^2` for standardised features, against the summed squared
    error of `targets` (items,); features that are scaled already are taken as they are.
    """
    from sklearn.linear_model import Ridge

    scaler = _scaler(features, is_scaled)
    model = Ridge(alpha=regularisation)
    model.fit(scaler.transform(_array(features)), _array(targets))
    _write(layer, *_folded(scaler, model.coef_[None], model.intercept_[None]))


def _array(values: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = values.double().cpu().numpy()
    return array


def _scaler(features: Tensor, is_scaled: bool) -> "StandardScaler":
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(with_mean=not is_scaled, with_std=not is_scaled)
    return scaler.fit(_array(features))


def _folded(scaler: "StandardScaler", weights: object, biases: object) -> tuple[Tensor, Tensor]:
    """The weights (outputs, features) and biases (outputs,) for features that are not scaled."""
    weight, bias = torch.as_tensor(weights), torch.as_tensor(biases)
    if scaler.scale_ is not None:
        weight = weight / torch.from_numpy(scaler.scale_)
    if scaler.mean_ is not None and scaler.with_mean:
        bias = bias - weight @ torch.from_numpy(scaler.mean_)
    return weight, bias


def _write(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
