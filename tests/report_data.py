"""A made-up study on disk, the same for the same arguments: what the report tests read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from torchstudy.analysis.tables import frame, write_table
from torchstudy.records import SECONDS
from torchstudy.schemas import (
    CONFIRMATION_COLUMNS,
    EPOCH_COLUMNS,
    PREDICTION_COLUMNS,
    TRIAL_COLUMNS,
)
from torchstudy.seeds import derive

START = datetime(2026, 11, 1, 9, tzinfo=UTC)
CLASSES = [str(digit) for digit in range(10)]
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">'`${1}`é漢\u2028%{x}<b>"

LEVELS = {"CNN": 0.985, "Transfer": 0.968, "AutoencoderProbe": 0.93}
SPACES: dict[str, dict[str, Any]] = {
    "CNN": {
        "width": {"type": "int", "low": 8, "high": 64, "scale": "log", "default": 16},
        "norm": {"type": "choice", "values": ["none", "batch"], "default": "batch"},
        "norm_momentum": {
            "type": "float",
            "low": 0.01,
            "high": 0.5,
            "scale": "linear",
            "default": 0.1,
            "when": {"norm": "batch"},
        },
    },
    "Transfer": {
        "unfreeze": {"type": "int", "low": 0, "high": 4, "scale": "linear", "default": 0},
        "pretrained": {"type": "choice", "values": [True, False], "default": True},
    },
    "AutoencoderProbe": {
        "latent": {"type": "int", "low": 4, "high": 128, "scale": "log", "default": 32},
    },
}
LEARNING_RATE = {"type": "float", "low": 1e-4, "high": 1e-1, "scale": "log", "default": 1e-3}
PARTS = {  # shares of a training's time: load, augment, forward ... other; the rest is its start
    "CNN": (0.02, 0.05, 0.27, 0.34, 0.06, 0.08, 0.01, 0.02),
    "Transfer": (0.19, 0.07, 0.21, 0.16, 0.05, 0.11, 0.01, 0.03),
    "AutoencoderProbe": (0.03, 0.0, 0.11, 0.13, 0.05, 0.37, 0.02, 0.04),
}
IDLE = {"busy": 338.8, "computing": 0.9, "results": 0.3}
FIXED: dict[str, Any] = {"patience": 10, "beta1": 0.9, "schedule": "one-cycle", "crop": 0.0}
FAILURES = {
    "diverged": "the training loss was nan in epoch {epoch}",
    "crashed": "RuntimeError: mat1 and mat2 shapes cannot be multiplied ({epoch}x64 and 32x10)",
    "timed_out": "took longer than 60 s",
    "out_of_memory": "the worker used more than 2.0 GiB",
}


@dataclass(frozen=True, kw_only=True)
class Made:
    """What to make: names and numbers of a study that never ran."""

    families: Sequence[str] = ("CNN", "Transfer", "AutoencoderProbe")
    trials: int = 20
    epochs: int = 27
    metric: str = "accuracy"
    confirm: bool = True
    predict: bool = True
    state: str = "finished"
    fail_all: bool = False
    hostile: bool = False
    fixed: bool = False  # whether spaces also have hyperparameters of a single value
    gap: float = 0.0  # added to the first family's accuracy
    items: int = 270
    timed: bool = True  # whether the parts of epochs were measured


def write_study(folder: Path, made: Made | None = None) -> Path:
    """Write the tables and `study.json` of a made-up study; the folder."""
    made = made or Made()
    trials, epochs, confirmation = [], [], []
    for family in made.families:
        own = [_trial(made, family, number) for number in range(made.trials)]
        trials += own
        for trial in own:
            epochs += _epochs(made, trial, int(trial["seed"]), 1.0)
        usable = [trial for trial in own if trial["status"] == "completed"]
        if made.confirm and usable:
            confirmation += _confirmation(made, family, usable[:4], epochs)
            if made.predict:
                _predict(folder, made, family, confirmation)
    value = {f"best_valid_{made.metric}": "float64"}
    write_table(frame(trials, {**TRIAL_COLUMNS, **value}), folder / "trials")
    write_table(frame(epochs, EPOCH_COLUMNS), folder / "epochs")
    if made.confirm:
        write_table(frame(confirmation, CONFIRMATION_COLUMNS), folder / "confirmation")
    (folder / "study.json").write_text(json.dumps(_summary(made)), encoding="utf-8")
    return folder


def shown(made: Made, name: str) -> str:
    """The name a family has in the tables."""
    return f"{name}{HOSTILE}" if made.hostile else name


def _level(made: Made, family: str) -> float:
    gap = made.gap if family == made.families[0] else 0.0
    return min(LEVELS[family] + gap, 0.999)


def _rng(*path: str | int) -> np.random.Generator:
    return np.random.default_rng(derive(11, *path))


def _trial(made: Made, family: str, number: int) -> dict[str, Any]:
    rng = _rng(family, number)
    rate = 1e-3 if number == 0 else float(10 ** rng.uniform(-4, -1))
    status = _status(made, rng, number, rate)
    epochs = {"completed": made.epochs, "stopped": 3 * 3 ** (number % 2)}.get(status, 2)
    epochs = min(epochs, made.epochs)
    error = (1 - _level(made, family)) * (1 + 0.25 * abs(np.log10(rate) + 2.4) ** 2)
    best = float(1 - error * rng.uniform(1.0, 1.5) * (made.epochs / epochs) ** 0.7)
    started = START + timedelta(seconds=60 * number + len(family))
    seconds = float(epochs * rng.uniform(0.2, 0.5))
    is_over = status not in ("running", "paused")
    has_value = status in ("completed", "stopped", "paused")
    reason = FAILURES.get(status, "").format(epoch=epochs + number)
    row: dict[str, Any] = {
        "study": "digits",
        "family": shown(made, family),
        "trial": number,
        "status": status,
        "reason": reason + (HOSTILE * 40 if made.hostile and reason else ""),
        "diagnosis": f"{reason}: try a smaller learning rate" if status == "diverged" else None,
        "origin": "recipe" if number == 0 else "sobol" if number < 6 else "model",
        "seed": derive(0, family, number),
        "epochs": epochs,
        "best_epoch": max(1, epochs - number % 4),
        "parameters": int(rng.integers(5_000, 90_000)),
        "seconds": seconds,
        "started": started.isoformat(),
        "finished": (started + timedelta(seconds=seconds)).isoformat() if is_over else None,
        "worker": "host:1",
        **_timed(made, family, seconds),
        **_config(family, number, rate, rng),
        **({f"config.{name}": value for name, value in FIXED.items()} if made.fixed else {}),
    }
    if made.hostile:
        row[f"config.{HOSTILE}"] = "=1+1" + HOSTILE
    if has_value:
        value = best if made.metric == "accuracy" else 3.0 * (1 - best)
        row[f"best_valid_{made.metric}"] = value
        row[f"valid_{made.metric}"] = value
        if family == "AutoencoderProbe":
            row["valid_reconstruction_error"] = 0.02 + 0.01 * rng.random()
    return row


def _timed(made: Made, family: str, seconds: float) -> dict[str, Any]:
    """What the trial's parts took, in which precision."""
    if not made.timed:
        return {}
    parts = zip(SECONDS, PARTS[family], strict=True)
    precision = "bf16" if family == "Transfer" else "fp32"
    return {"precision": precision, **{name: share * seconds for name, share in parts}}


def _status(made: Made, rng: np.random.Generator, number: int, rate: float) -> str:
    if made.fail_all:
        return "crashed" if number % 2 else "diverged"
    if number == 0:
        return "completed"
    if made.state == "running" and number >= made.trials - 2:
        return "running"
    if rate > 0.03:
        return "diverged"
    draw = rng.random()
    if draw < 0.06:
        return str(rng.choice(["crashed", "timed_out", "out_of_memory"]))
    return "completed" if draw < 0.6 else "stopped"


def _config(family: str, number: int, rate: float, rng: np.random.Generator) -> dict[str, Any]:
    config: dict[str, Any] = {"config.learning_rate": rate}
    config["config.optimizer"] = "adamw" if number == 0 else str(rng.choice(["sgd", "adamw"]))
    if family == "CNN":
        config["config.width"] = 16 if number == 0 else int(rng.integers(8, 65))
        config["config.norm"] = "batch" if number == 0 else str(rng.choice(["none", "batch"]))
        if config["config.norm"] == "batch":
            config["config.norm_momentum"] = 0.1 if number == 0 else float(rng.uniform(0.01, 0.5))
    if family == "Transfer":
        config["config.unfreeze"] = 0 if number == 0 else int(rng.integers(0, 5))
        config["config.pretrained"] = True if number == 0 else bool(rng.random() < 0.5)
    if family == "AutoencoderProbe":
        config["config.latent"] = 32 if number == 0 else int(rng.integers(4, 129))
    return config


def _epochs(made: Made, trial: dict[str, Any], seed: int, final: float) -> list[dict[str, Any]]:
    rng = _rng(trial["family"], trial["trial"], seed)
    rows = []
    target = trial.get(f"best_valid_{made.metric}", float("nan"))
    for epoch in range(1, int(trial["epochs"]) + 1):
        error = (1 - target if made.metric == "accuracy" else target) * final
        now = error * (1 + 9 * np.exp(-epoch / 3)) * float(np.exp(0.05 * rng.standard_normal()))
        now = min(now, 0.9) if made.metric == "accuracy" else now
        rows.append(
            {
                "study": "digits",
                "family": trial["family"],
                "trial": trial["trial"],
                "seed": seed,
                "epoch": epoch,
                "seconds": 0.3,
                "finished": (START + timedelta(seconds=epoch)).isoformat(),
                "train_loss": 3 * now,
                "valid_loss": 3.3 * now,
                "learning_rate": trial["config.learning_rate"],
                "grad_norm": 1.0,
                **{name: trial[name] / trial["epochs"] for name in SECONDS if name in trial},
                f"valid_{made.metric}": 1 - now if made.metric == "accuracy" else now,
            }
        )
    return rows


def _confirmation(
    made: Made, family: str, usable: list[dict[str, Any]], epochs: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    rows = []
    best = max(usable, key=lambda trial: trial[f"best_valid_{made.metric}"])
    for trial in usable:
        for replicate in range(3):
            seed = derive(0, family, int(trial["trial"]), "confirm", replicate)
            rng = _rng(family, int(trial["trial"]), replicate)
            score = trial[f"best_valid_{made.metric}"] - 0.004 + 0.002 * rng.standard_normal()
            epochs += _epochs(made, trial, seed, 1.1)
            row = {
                **{name: trial[name] for name in CONFIRMATION_COLUMNS if name in trial},
                "seed": seed,
                "status": "completed",
                "reason": "",
                "chosen": trial is best,
                f"select_{made.metric}": score,
            }
            if trial is best:
                row[f"test_{made.metric}"] = score
            rows.append(row)
    return rows


def _predict(folder: Path, made: Made, family: str, confirmation: list[dict[str, Any]]) -> None:
    rng = _rng("items")
    difficulty, targets = rng.random(made.items), rng.integers(0, 10, made.items)
    own = [row for row in confirmation if row["family"] == shown(made, family) and row["chosen"]]
    rows = []
    for row in own:
        noise = _rng(family, row["seed"]).random(made.items)
        error = 1 - row[f"test_{made.metric}"] if made.metric == "accuracy" else 0.05
        hard = np.argsort(-(difficulty + 0.2 * noise))[: round(error * made.items)]
        correct = np.ones(made.items, dtype=bool)
        correct[hard] = False
        if made.metric == "accuracy":
            row["test_accuracy"] = float(correct.mean())
        for item in range(made.items):
            target = int(targets[item])
            guess = target if correct[item] else (target + 1) % 10
            rows.append(
                {
                    "split": "test",
                    "seed": row["seed"],
                    "item": item,
                    "name": f"{item}.png",
                    "target": str(target),
                    "predicted": str(guess),
                    "confidence": 0.9,
                    "is_correct": bool(correct[item]),
                }
            )
    if not made.hostile:  # a path cannot hold such a name
        write_table(frame(rows, PREDICTION_COLUMNS), folder / "evidence" / family / "predictions")


def _summary(made: Made) -> dict[str, Any]:
    families = {}
    for family in made.families:
        space = {"learning_rate": LEARNING_RATE, **SPACES[family]}
        if made.fixed:
            space |= {
                name: {"type": "choice", "values": [value], "default": value}
                for name, value in FIXED.items()
            }
        if made.hostile:
            space[HOSTILE] = {"type": "choice", "values": [HOSTILE], "default": HOSTILE}
        families[shown(made, family)] = {
            "description": f"{family} for small images, built for this test."
            + (HOSTILE if made.hostile else ""),
            "space": space,
            "notes": ["The recipe's learning rate was clipped into its narrowed range."],
            "metrics": [made.metric, "loss"],
            "exhausted": False,
        }
    direction = "maximize" if made.metric == "accuracy" else "minimize"
    return {
        "study": f"digits{HOSTILE}" if made.hostile else "digits",
        "objective": {"metric": made.metric, "direction": direction},
        "families": families,
        "budget": {
            "trials": made.trials,
            "epochs": made.epochs,
            "minutes": None,
            "confirm": [3, 3] if made.confirm else None,
        },
        "seed": 0,
        "data": {
            "source": "digits",
            "channels": 1,
            "height": 8,
            "width": 8,
            "classes": [*CLASSES[:9], HOSTILE] if made.hostile else CLASSES,
            "splits": {"train": 987, "valid": 270, "select": 270, "test": made.items},
            "fingerprint": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
            "notes": ["1797 images, split by class."],
        },
        "versions": {"torchstudy": "0.1.0", "python": "3.11.7", "torch": "2.15.0"},
        "machine": {
            "processor": "x86_64",
            "cores": 2,
            "memory_gib": 24,
            "system": "Linux",
            "workers": 2,
        },
        "state": made.state,
        **({"idle": IDLE} if made.timed else {}),
    }
