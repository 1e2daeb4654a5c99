"""How a network is trained: the hyperparameters that all families share, optimizer and schedule."""

import math
from collections.abc import Iterable
from typing import cast

from torch import nn, optim

from torchstudy.declaring import hyperparameters
from torchstudy.domains import Choice, Float, Int
from torchstudy.errors import SpaceError

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("constant", "cosine", "one-cycle")
WARM_UP = 0.3  # share of the steps in which one-cycle rises (Smith & Topin 2018, fastai's default)
FIRST_RATE = 1 / 25  # where one-cycle starts, as a share of the peak (same source)


@hyperparameters
class TrainingConfig:
    """The training hyperparameters, the same for every family.

    Gradient clipping, label smoothing and patience stay at their default unless a study opens them.
    """

    optimizer: str = Choice(*OPTIMIZERS, default="adamw")
    learning_rate: float = Float(1e-4, 1e-1, log=True, default=3e-3)
    momentum: float = Float(0.5, 0.99, default=0.9, when={"optimizer": "sgd"})
    weight_decay: float = Float(1e-6, 1e-1, log=True, default=1e-2)
    batch_size: int = Int(16, 512, log=True, default=128)
    schedule: str = Choice(*SCHEDULES, default="one-cycle")
    gradient_clipping: float = 0.0  # largest norm of the whole gradient; 0 is off
    label_smoothing: float = 0.0
    patience: int = 10  # epochs without a better objective before a training ends

    def __post_init__(self) -> None:
        limits = {
            f"optimizer must be one of {', '.join(OPTIMIZERS)}": self.optimizer in OPTIMIZERS,
            "learning_rate must be above 0": self.learning_rate > 0,
            "momentum must be in [0, 1)": 0 <= self.momentum < 1,
            "weight_decay must be 0 or more": self.weight_decay >= 0,
            "batch_size must be at least 2": self.batch_size >= 2,
            f"schedule must be one of {', '.join(SCHEDULES)}": self.schedule in SCHEDULES,
            "gradient_clipping must be 0 (off) or more": self.gradient_clipping >= 0,
            "label_smoothing must be in [0, 1)": 0 <= self.label_smoothing < 1,
            "patience must be at least 1": self.patience >= 1,
        }
        if problems := [problem for problem, holds in limits.items() if not holds]:
            raise SpaceError(problems)


def make_optimizer(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> optim.Optimizer:
    """The optimizer over `parameters`; weight decay spares biases and normalisation scales."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate = config.learning_rate
    if config.optimizer == "sgd":
        return optim.SGD(groups, lr=rate, momentum=config.momentum, nesterov=config.momentum > 0)
    if config.optimizer == "adam":
        return optim.Adam(groups, lr=rate, fused=True)
    return optim.AdamW(groups, lr=rate, fused=True)


def learning_rate_at(config: TrainingConfig, step: int, num_steps: int) -> float:
    """The learning rate of step `step` (from 0) of `num_steps`: a function, so that it resumes.

    Schedules are defined over the full length, whatever part of it is trained. `one-cycle` rises
    linearly from 1/25 of the peak in the first 30% and falls to 0 along a cosine.
    """
    peak, done = config.learning_rate, step / max(num_steps, 1)
    if config.schedule == "constant":
        return peak
    if config.schedule == "one-cycle":
        if done < WARM_UP:
            return peak * (FIRST_RATE + (1 - FIRST_RATE) * done / WARM_UP)
        done = (done - WARM_UP) / (1 - WARM_UP)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def set_learning_rate(optimizer: optim.Optimizer, rate: float) -> None:
    """Let the next step use `rate`."""
    for group in cast("list[dict[str, object]]", optimizer.param_groups):
        group["lr"] = rate
