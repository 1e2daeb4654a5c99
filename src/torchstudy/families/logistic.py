"""Logistic regression by scikit-learn on standardised features, folded into one linear layer."""

import warnings

import torch
from torch import Tensor, nn


def fit_logistic(
    layer: nn.Linear, features: Tensor, targets: Tensor, *, regularisation: float, max_steps: int
) -> None:
    """Fit multinomial logistic regression and write it into `layer` (features -> classes).

    `features` is (items, features), `targets` (items,) with every class present; the penalty is
    `regularisation / 2 * |w|^2` for standardised features, against the summed log loss. The scaler
    is folded in: w' = w / s and b' = b - w' m for mean m and spread s.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    scaled = scaler.fit_transform(features.double().numpy())
    model = LogisticRegression(C=1.0 / regularisation, max_iter=max_steps)
    with warnings.catch_warnings():
        # An unfinished fit is a valid one, only less exact: its score says how good it is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaled, targets.numpy())
    weight = torch.from_numpy(model.coef_ / scaler.scale_)
    bias = torch.from_numpy(model.intercept_) - weight @ torch.from_numpy(scaler.mean_)
    if len(model.classes_) == 2:  # scikit-learn gives the second class's logit alone
        weight = torch.cat([torch.zeros_like(weight), weight])
        bias = torch.cat([torch.zeros_like(bias), bias])
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(-1e4)  # a class that was not seen is never predicted
        rows = torch.from_numpy(model.classes_)
        layer.weight[rows] = weight.float()
        layer.bias[rows] = bias.float()
