"""Simulated searches: 12 hyperparameters of which some matter, proposals near the best, rungs.

Half of the configurations are spread at random and half lie near the best tenth so far, as a
model-based search proposes them: a hyperparameter without any effect is then tried mostly beside
good learning rates. A third of the trials goes on from 3 epochs to 9 and a third of those to 27;
one in ten is trained to the end at once.
"""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from torchstudy.analysis.tables import Results, frame
from torchstudy.domains import Choice, Float, Int
from torchstudy.schemas import CONFIRMATION_COLUMNS, EPOCH_COLUMNS, TRIAL_COLUMNS
from torchstudy.space import Config, SearchSpace

RUNGS = (3, 9, 27)
GAIN = 0.6  # of the logarithm of epochs, in the logarithm of the error
SPACE = SearchSpace(
    {
        "learning_rate": Float(1e-4, 1e-1, log=True),
        "weight_decay": Float(1e-6, 1e-1, log=True),
        "dropout": Float(0.0, 0.5),
        "label_smoothing": Float(0.0, 0.2),
        "width": Int(8, 64, log=True),
        "depth": Int(1, 3),
        "batch_size": Int(16, 512, log=True),
        "optimizer": Choice("adamw", "adam", "sgd"),
        "momentum": Float(0.5, 0.99, when={"optimizer": "sgd"}),
        "activation": Choice("relu", "gelu", "silu", "leaky-relu"),
        "schedule": Choice("constant", "cosine", "one-cycle"),
        "batch_norm": Choice(True, False),
    }
)


def simulated(
    seed: int,
    *,
    trials: int = 40,
    matters: Collection[str] = ("learning_rate",),
    noise: float = 0.3,
    is_adaptive: bool = True,
    name: str = "CNN",
) -> Results:
    """Results of one search; only the hyperparameters in `matters` change anything.

    `learning_rate` moves the error by a factor of up to 10, best at 7e-3; `weight_decay` by up to
    2, `optimizer` by up to 1.7, and `together` makes the best weight decay follow the learning
    rate. `noise` is the standard deviation of the logarithm of the error between seeds.
    """
    generator = np.random.default_rng([seed, trials])
    configs: list[Config] = []
    errors: list[list[float]] = []
    for number in range(trials):
        spread = number < trials // 2 or not is_adaptive
        first = [error[0] for error in errors]
        configs.append(
            SPACE.sample(generator) if spread else _near(configs, first, generator)
        )  # fmt: skip
        errors.append(_errors(configs[-1], matters, noise, generator))
    return results_of(configs, errors, generator, name)


def results_of(
    configs: Sequence[Config],
    errors: Sequence[Sequence[float]],
    generator: np.random.Generator,
    name: str = "CNN",
    space: SearchSpace = SPACE,
) -> Results:
    """Results of trials with these errors after each rung, promoted by successive halving."""
    rungs = _reached(np.array(errors), generator)
    rows, epochs = [], []
    for number, (config, rung) in enumerate(zip(configs, rungs, strict=True)):
        values = [1 - error for error in errors[number][: rung + 1]]
        keys = {"study": "made", "family": name, "trial": number, "seed": number}
        rows.append(
            {
                **keys,
                "status": "completed" if rung == len(RUNGS) - 1 else "stopped",
                "origin": "sobol" if number < len(configs) // 2 else "model",
                "epochs": RUNGS[rung],
                "seconds": float(RUNGS[rung]),
                "best_valid_accuracy": max(values),
                **{f"config.{key}": value for key, value in config.items()},
            }
        )
        for epoch, value in zip(RUNGS, values, strict=False):
            epochs.append({**keys, "epoch": epoch, "valid_accuracy": value})
    objective = {"metric": "accuracy", "direction": "maximize"}
    return Results(
        trials=frame(rows, {**TRIAL_COLUMNS, "best_valid_accuracy": "float64"}),
        epochs=frame(epochs, {**EPOCH_COLUMNS, "valid_accuracy": "float64"}),
        confirmation=frame([], CONFIRMATION_COLUMNS),
        summary={
            "study": "made",
            "objective": objective,
            "families": {name: {"space": space.describe()}},
        },
        predictions={},
        folder=Path("nowhere"),
    )


def together(*several: Results) -> Results:
    """One study of several families."""
    first = several[0]
    families: dict[str, Any] = {}
    for one in several:
        families |= one.summary["families"]
    return Results(
        trials=pd.concat([one.trials for one in several], ignore_index=True),
        epochs=pd.concat([one.epochs for one in several], ignore_index=True),
        confirmation=first.confirmation,
        summary=first.summary | {"families": families},
        predictions={},
        folder=first.folder,
    )


def _near(
    configs: Sequence[Config], errors: Sequence[float], generator: np.random.Generator
) -> Config:
    best = np.argsort(errors)[: max(2, len(errors) // 10)]
    centre = np.array(SPACE.to_unit(configs[int(generator.choice(best))]))
    isolated = generator.random(len(centre)) < 0.1
    moved = centre + 0.12 * generator.standard_normal(len(centre))
    moved = np.where(isolated, generator.random(len(centre)), moved)
    return SPACE.from_unit([float(place) for place in np.clip(moved, 0, 1)])


def _errors(
    config: Config, matters: Collection[str], noise: float, generator: np.random.Generator
) -> list[float]:
    """The best error so far after each rung."""
    level = math.log(0.05) + noise * generator.standard_normal()
    rate = math.log10(float(config["learning_rate"]))
    decay = math.log10(float(config["weight_decay"]))
    if "learning_rate" in matters:
        level += 0.7 * (rate + 2.15) ** 2
    if "weight_decay" in matters:
        level += 0.2 * abs(decay + 4)
    if "optimizer" in matters:
        level += {"adamw": 0.0, "adam": 0.2, "sgd": 0.5}[str(config["optimizer"])]
    if "together" in matters:
        level += 0.5 * abs(decay + 3.5 - 1.5 * (rate + 2.5))
    found = [
        min(0.9, math.exp(level + GAIN * math.log(27 / epoch) + 0.1 * generator.standard_normal()))
        for epoch in RUNGS
    ]
    return [min(found[: place + 1]) for place in range(len(found))]


def _reached(
    errors: npt.NDArray[np.float64], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    rungs = np.zeros(len(errors), dtype=np.int64)
    inside = np.arange(len(errors))
    for rung in range(1, len(RUNGS)):
        kept = max(1, len(inside) // 3)
        inside = inside[np.argsort(errors[inside, rung - 1], kind="stable")[:kept]]
        rungs[inside] = rung
    at_once = generator.random(len(errors)) < 0.1
    at_once[0] = True
    return np.where(at_once, len(RUNGS) - 1, rungs)
