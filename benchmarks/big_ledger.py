"""A ledger as large as a long study leaves it, built directly: what the benchmarks of size read.

    python benchmarks/big_ledger.py REPORTS [--trials 10000] [--epochs 81]

REPORTS gets `studies.sqlite` with one finished study, `big`: three families on digits with as many
trials in all as asked for. Half of them stopped after a third of the epochs, 44% ran to the end, 4%
diverged and 2% crashed early, so that 10,000 trials of at most 81 epochs have 500,000 epoch rows;
the three best of each family are confirmed with three seeds. Configurations are drawn from the
families' own spaces, and a row holds the columns that a real training writes. Same arguments, same
numbers.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert

from torchstudy import CNN, MLP, LinearModel, Study
from torchstudy.data.dataset import prepare
from torchstudy.execution import finishing, schema
from torchstudy.execution.confirm import candidates, chosen_number, confirmation_seeds
from torchstudy.execution.ledger import Ledger
from torchstudy.records import Training, TrainingKey
from torchstudy.seeds import derive

NAME = "big"
FAMILIES = (CNN, MLP, LinearModel)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
CHUNK = 20_000  # rows of one statement
TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "studies/big.py", line 31, in build\n    return nn.Linear(0, 10)\n'
    "RuntimeError: mat1 and mat2 shapes cannot be multiplied (128x512 and 0x10)"
)


def study_of(trials: int, epochs: int) -> Study:
    """The study whose results are made up: `trials` in all, shared by the families."""
    return Study(
        data="digits",
        families=FAMILIES,
        maximize="accuracy",
        trials=math.ceil(trials / len(FAMILIES)),
        epochs=epochs,
        confirm=(3, 3),
        name=NAME,
    )


def build(reports: Path, *, trials: int = 10_000, epochs: int = 81) -> Study:
    """Write `studies.sqlite` into `reports`, a folder without one; the study that it holds."""
    study = study_of(trials, epochs)
    reports.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(f"sqlite:///{reports / 'studies.sqlite'}")
    data = prepare(study.images, seed=study.seed)
    ledger.claim(NAME, {**study.describe(), "fingerprint": data.spec.fingerprint})
    ledger.describe(NAME, finishing.summary(study, data, num_workers=2))
    generator = np.random.default_rng(0)
    _write(ledger, "trials", _trials(study, trials, generator))
    searched = list(_searched(study, trials, generator))
    _write(ledger, "trainings", (row for row, _ in searched))
    _write(ledger, "epochs", (row for own, curve in searched for row in _epochs(own, curve)))
    confirmed = list(_confirmed(study, ledger.trainings(NAME, "search"), generator))
    _write(ledger, "trainings", (row for row, _ in confirmed))
    _write(ledger, "epochs", (row for own, curve in confirmed for row in _epochs(own, curve)))
    _read_test(study, ledger, generator)
    ledger.release(NAME, "finished")
    ledger.close()
    return study


def _numbers(trials: int) -> Iterator[tuple[type[Any], int]]:
    """Every trial by family and number, the families in turn."""
    for place in range(trials):
        yield FAMILIES[place % len(FAMILIES)], place // len(FAMILIES)


def _trials(study: Study, trials: int, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    spaces = {family: study.space_of(family) for family in FAMILIES}
    for family, number in _numbers(trials):
        config = spaces[family].sample(generator) if number else spaces[family].recipe
        yield {
            "study": NAME,
            "family": family.__name__,
            "number": number,
            "config": json.dumps(config),
            "origin": ("sobol" if number < 10 else "model") if number else "recipe",
            "proposed": BEGAN.isoformat(),
        }


def _searched(
    study: Study, trials: int, generator: np.random.Generator
) -> Iterator[tuple[dict[str, Any], np.ndarray[Any, Any]]]:
    """The search's trainings, each with its accuracy after every epoch."""
    for place, (family, number) in enumerate(_numbers(trials)):
        name, fate = family.__name__, generator.random()
        seed = derive(study.seed, name, number, "search")
        status, reason, last = "completed", "", study.epochs
        if number and fate < 0.5:
            status, last = "stopped", math.ceil(study.epochs / 3)
        elif number and fate < 0.54:
            status, last = "diverged", min(5, study.epochs)
            reason = f"training loss was not finite in epoch {last}, first seen in 1.weight"
        elif number and fate < 0.56:
            status, reason, last = "crashed", TRACEBACK, 0
        began = BEGAN + timedelta(seconds=20 * place)
        yield _training(
            TrainingKey(family=name, number=number, seed=seed),
            ("search", status, reason, began),
            _curve(last, generator),
            generator,
        )


def _confirmed(
    study: Study, searched: list[Training], generator: np.random.Generator
) -> Iterator[tuple[dict[str, Any], np.ndarray[Any, Any]]]:
    """Fresh trainings of the best configurations."""
    assert study.confirm is not None
    count, num_seeds = study.confirm
    began = BEGAN + timedelta(seconds=20 * len(searched))
    for family in FAMILIES:
        own = [training for training in searched if training.trial.family == family.__name__]
        for trial in candidates(own, study.objectives, count):
            for seed in confirmation_seeds(study.seed, num_seeds):
                key = TrainingKey(family=family.__name__, number=trial.number, seed=seed)
                row, curve = _training(
                    key,
                    ("confirmation", "completed", "", began),
                    _curve(study.epochs, generator),
                    generator,
                )
                metrics = json.loads(row["metrics"])
                row["metrics"] = json.dumps({**metrics, "select_accuracy": float(curve.max())})
                yield row, curve


def _read_test(study: Study, ledger: Ledger, generator: np.random.Generator) -> None:
    """A reading of the test split for the chosen configuration of each family."""
    for family in FAMILIES:
        own = [t for t in ledger.trainings(NAME, "confirmation") if t.key.family == family.__name__]
        chosen = chosen_number(own, study.objective)
        for training in own:
            if training.trial.number == chosen:
                score = training.metrics["select_accuracy"] - 0.02 * generator.random()
                ledger.add_test(NAME, training.key, {"test_accuracy": score})


def _training(
    key: TrainingKey,
    standing: tuple[str, str, str, datetime],
    curve: "np.ndarray[Any, Any]",
    generator: np.random.Generator,
) -> tuple[dict[str, Any], "np.ndarray[Any, Any]"]:
    """The ledger's row of a training, and the accuracy after every epoch."""
    purpose, status, reason, began = standing
    seconds = 0.2 * len(curve) + 1.0
    metrics = {"flops": 6.3e5, "memory": 1.03e5, "latency_p50": 0.0957, "latency_p95": 0.1988}
    if len(curve) and status != "diverged":
        metrics = {"valid_accuracy": float(curve.max()), "valid_loss": 0.4, **metrics}
    return {
        "study": NAME,
        "family": key.family,
        "number": key.number,
        "seed": key.seed,
        "purpose": purpose,
        "status": status,
        "attempt": 1,
        "reason": reason,
        "epochs": len(curve),
        "best_epoch": int(curve.argmax()) + 1 if len(curve) else 0,
        "parameters": int(generator.integers(1_000, 200_000)),
        "seconds": seconds,
        "started": began.isoformat(),
        "finished": (began + timedelta(seconds=seconds)).isoformat(),
        "worker": "host:1",
        "metrics": json.dumps(metrics),
        "tested": "",
        "losses": 0,
        "environment": "0badc0de",
    }, curve


def _curve(length: int, generator: np.random.Generator) -> "np.ndarray[Any, Any]":
    """Accuracies that rise and settle, in 270ths as 270 validation images give them."""
    top, pace = generator.uniform(0.5, 0.99), generator.uniform(2, 12)
    rising = top * (1 - np.exp(-np.arange(1, length + 1) / pace))
    noisy = rising + generator.normal(0, 0.01, length)
    return np.round(np.clip(noisy, 0.1, 1.0) * 270) / 270


def _epochs(row: dict[str, Any], curve: "np.ndarray[Any, Any]") -> Iterator[dict[str, Any]]:
    """The epoch rows of a training, as its worker tells them."""
    generator = np.random.default_rng(row["seed"])
    noise = generator.random((len(curve), 8)).tolist()
    began = datetime.fromisoformat(row["started"])
    key = {name: row[name] for name in ("study", "family", "number", "seed")}
    for epoch, (score, drawn) in enumerate(zip(curve.tolist(), noise, strict=True), start=1):
        told = {
            "epoch": epoch,
            "seconds": 0.2 + 0.01 * drawn[0],
            "finished": (began + timedelta(seconds=0.2 * epoch)).isoformat(),
            "train_loss": 2.3 * (1.05 - score) + 0.01 * drawn[1],
            "valid_loss": 2.3 * (1.1 - score) + 0.01 * drawn[2],
            "learning_rate": 0.003 * (1 - epoch / (len(curve) + 1)),
            "grad_norm": 1 + drawn[3],
            "metrics": {"accuracy": score},
            "measured": {
                "health_gradient_ratio": 0.1 + 0.1 * drawn[4],
                "health_gradient_max": 2 + drawn[5],
                "health_update_ratio": 0.01 + 0.01 * drawn[6],
                "health_dead_share": 0.1 * drawn[7],
                "health_first_loss": 2.583,
            },
            "parts": {
                "seconds_load": 0.001 + 0.001 * drawn[1],
                "seconds_augment": 0.0,
                "seconds_forward": 0.05 + 0.01 * drawn[2],
                "seconds_backward": 0.08 + 0.01 * drawn[3],
                "seconds_step": 0.01 + 0.001 * drawn[4],
                "seconds_evaluate": 0.02 + 0.001 * drawn[5],
                "seconds_checkpoint": 0.005 + 0.001 * drawn[6],
                "seconds_other": 0.01 + 0.001 * drawn[7],
            },
            "precision": "fp32",
        }
        yield {
            **key,
            "epoch": epoch,
            "attempt": 1,
            "seconds": told["seconds"],
            "row": json.dumps(told),
        }


def _write(ledger: Ledger, table: str, rows: Iterator[dict[str, Any]]) -> None:
    """Insert rows by the chunk: a transaction each would take hours."""
    target = schema.metadata.tables[table]
    chunk: list[dict[str, Any]] = []
    with ledger.database.writing() as connection:
        for row in rows:
            chunk.append(row)
            if len(chunk) == CHUNK:
                connection.execute(insert(target), chunk)
                chunk.clear()
        if chunk:
            connection.execute(insert(target), chunk)


def main() -> None:
    """Build one and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reports", type=Path)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=81)
    options = parser.parse_args()
    began = time.perf_counter()
    build(options.reports, trials=options.trials, epochs=options.epochs)
    path = options.reports / "studies.sqlite"
    with_seconds = f"{time.perf_counter() - began:.1f} s"
    print(f"{path}: {path.stat().st_size / 2**20:.0f} MiB in {with_seconds}")


if __name__ == "__main__":
    main()
