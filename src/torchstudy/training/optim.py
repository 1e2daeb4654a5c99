"""How a network is trained: the hyperparameters that all families share, optimizer and schedule."""

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from torch import nn, optim

from torchstudy.declaring import hyperparameters
from torchstudy.domains import Choice, Float, Int
from torchstudy.errors import SpaceError

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("constant", "cosine", "one-cycle")
STOPPINGS = ("no-improvement", "rises")
INITS = ("default", "kaiming", "xavier", "small-normal")
CLASS_WEIGHTS = ("none", "balanced")
REGRESSION = ("mse", "mae", "huber")
ONE_CYCLE_RISE = 0.3  # share of the steps in which one-cycle rises (Smith & Topin 2018, fastai)
FIRST_RATE = 1 / 25  # where a rise starts, as a share of the peak (same source)


@hyperparameters
class TrainingConfig:
    """The training hyperparameters, the same for every family.

    Fields without a range stay at their default unless a study opens them.
    """

    optimizer: str = Choice(*OPTIMIZERS, default="adamw")
    learning_rate: float = Float(1e-4, 1e-1, log=True, default=3e-3)
    momentum: float = Float(0.5, 0.99, default=0.9, when={"optimizer": "sgd"})
    beta1: float = 0.9  # of adam and adamw: memory of the gradient
    beta2: float = 0.999  # of adam and adamw: memory of its square
    weight_decay: float = Float(1e-6, 1e-1, log=True, default=1e-2)  # L2; decoupled with adamw
    batch_size: int = Int(16, 512, log=True, default=128)
    schedule: str = Choice(*SCHEDULES, default="one-cycle")
    warm_up: float = 0.0  # share of the steps in which constant and cosine rise to their peak
    gradient_clipping: float = 0.0  # largest norm of the whole gradient; 0 is off
    value_clipping: float = 0.0  # largest entry of the gradient; 0 is off
    label_smoothing: float = 0.0
    class_weights: str = "none"  # balanced: inverse to the frequency of the class
    regression_loss: str = "mse"  # mse, mae or huber, of standardised targets
    init: str = "default"  # kaiming, xavier or small-normal for layers not pretrained
    stopping: str = "no-improvement"  # or rises: of the validation loss, in a row
    patience: int = 10  # epochs without a better objective, or rises, before a training ends

    def __post_init__(self) -> None:
        limits = {
            **_one_of("optimizer", self.optimizer, OPTIMIZERS),
            "learning_rate must be above 0": self.learning_rate > 0,
            "momentum must be in [0, 1)": 0 <= self.momentum < 1,
            "beta1 must be in [0, 1)": 0 <= self.beta1 < 1,
            "beta2 must be in [0, 1)": 0 <= self.beta2 < 1,
            "weight_decay must be 0 or more": self.weight_decay >= 0,
            "batch_size must be at least 2": self.batch_size >= 2,
            **_one_of("schedule", self.schedule, SCHEDULES),
            "warm_up must be in [0, 1)": 0 <= self.warm_up < 1,
            "gradient_clipping must be 0 (off) or more": self.gradient_clipping >= 0,
            "value_clipping must be 0 (off) or more": self.value_clipping >= 0,
            "label_smoothing must be in [0, 1)": 0 <= self.label_smoothing < 1,
            **_one_of("class_weights", self.class_weights, CLASS_WEIGHTS),
            **_one_of("regression_loss", self.regression_loss, REGRESSION),
            **_one_of("init", self.init, INITS),
            **_one_of("stopping", self.stopping, STOPPINGS),
            "patience must be at least 1": self.patience >= 1,
        }
        if problems := [problem for problem, holds in limits.items() if not holds]:
            raise SpaceError(problems)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> dict[str, bool]:
    return {f"{name} must be one of {', '.join(known)}, not {value!r}": value in known}


def make_optimizer(
    parameters: Iterable[nn.Parameter],
    config: TrainingConfig,
    rate_factors: Mapping[nn.Parameter, float] = MappingProxyType({}),
) -> optim.Optimizer:
    """The optimizer over `parameters`; weight decay spares biases and normalisation scales.

    A parameter in `rate_factors` learns at that multiple of the learning rate.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            key = parameter.ndim >= 2, rate_factors.get(parameter, 1.0)
            groups.setdefault(key, []).append(parameter)
    given = [
        {
            "params": members,
            "weight_decay": config.weight_decay if is_decayed else 0.0,
            "rate_factor": factor,
        }
        for (is_decayed, factor), members in groups.items()
    ]
    rate, betas = config.learning_rate, (config.beta1, config.beta2)
    if config.optimizer == "sgd":
        return optim.SGD(given, lr=rate, momentum=config.momentum, nesterov=config.momentum > 0)
    if config.optimizer == "adam":
        return optim.Adam(given, lr=rate, betas=betas, fused=True)
    return optim.AdamW(given, lr=rate, betas=betas, fused=True)


def learning_rate_at(config: TrainingConfig, step: int, num_steps: int) -> float:
    """The learning rate of step `step` (from 0) of `num_steps`: a function, so that it resumes.

    Schedules are defined over the full length, whatever part of it is trained. `one-cycle` rises
    linearly from 1/25 of the peak in the first 30% and falls to 0 along a cosine; the others rise
    so in the first `warm_up` share of the steps, if any.
    """
    peak, done = config.learning_rate, step / max(num_steps, 1)
    rise = ONE_CYCLE_RISE if config.schedule == "one-cycle" else config.warm_up
    if done < rise:
        return peak * (FIRST_RATE + (1 - FIRST_RATE) * done / rise)
    if config.schedule == "constant":
        return peak
    done = (done - rise) / (1 - rise)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def set_learning_rate(optimizer: optim.Optimizer, rate: float) -> None:
    """Let the next step use `rate`, times each group's own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]
