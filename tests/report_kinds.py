"""Made-up studies that are no plain classification: numbers, restored images, codes, a GAN."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.report_data import START

from torchstudy.analysis.tables import frame, write_table
from torchstudy.schemas import (
    CONFIRMATION_COLUMNS,
    EPOCH_COLUMNS,
    PREDICTION_COLUMNS,
    TRIAL_COLUMNS,
)
from torchstudy.seeds import derive

Row = dict[str, Any]
Pixels = NDArray[np.float64]

ITEMS = 120  # of the valid, select and test split each
SIDE = 12  # pixels
GALLERY_EPOCHS = (0, 1, 2, 4, 8, 16)
CLASSES = ["shirt", "shoe", "bag", "coat"]
FIXED = {
    "convolutions": 1,
    "padding": "same",
    "stride": 1,
    "global_pooling": "none",
    "beta1": 0.9,
    "beta2": 0.999,
    "warm_up": 0.0,
    "gradient_clipping": 0.0,
    "label_smoothing": 0.0,
    "class_weights": "none",
    "init": "default",
    "patience": 10,
    "crop": 0.0,
    "rotation": 0.0,
    "horizontal_flip": 0.0,
    "brightness": 0.0,
}
VARYING: dict[str, Row] = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 0.1, "scale": "log", "default": 3e-3},
    "width": {"type": "int", "low": 8, "high": 64, "scale": "log", "default": 16},
    "activation": {"type": "choice", "values": ["relu", "gelu"], "default": "relu"},
}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of study: its families with the value that each can reach, and what they leave."""

    families: dict[str, float]
    metric: str
    direction: str
    start: float  # of the metric, before training
    others: dict[str, float] = field(default_factory=dict)  # further metrics, near which values
    goal: str = "prediction"
    data: Row = field(default_factory=dict)
    code: int = 0


IMAGES = {"channels": 1, "height": SIDE, "width": SIDE, "classes": CLASSES, "target": "class"}
KINDS = {
    "regression": Kind(
        families={"MLP": 0.79, "LinearModel": 0.76, "MultiInput": 0.74},
        metric="r2",
        direction="maximize",
        start=-1.5,
        others={"mse": 0.19, "mae": 0.33, "loss": 0.21},
        data={
            "task": "regression",
            "target": "log price",
            "channels": 3,
            "height": 128,
            "width": 128,
            "views": 4,
            "columns": ["bedrooms", "area", "zipcode"],
            "classes": [],
        },
    ),
    "denoise": Kind(
        families={"Denoiser": 24.3},
        metric="psnr",
        direction="maximize",
        start=11.0,
        others={
            "ssim": 0.86,
            "psnr_gain": 11.9,
            "noisy_psnr": 12.4,
            "noisy_ssim": 0.31,
            "median_psnr": 17.2,
            "loss": 0.0041,
        },
        goal="reconstruction",
        data=IMAGES,
    ),
    "codes": Kind(
        families={"Autoencoder": 0.0215},
        metric="reconstruction_error",
        direction="minimize",
        start=0.2,
        others={"pca_error": 0.0461, "pca_ratio": 0.47, "loss": 0.0215},
        goal="reconstruction",
        data=IMAGES,
        code=2,
    ),
    "gan": Kind(
        families={"GAN": 0.61},
        metric="generation_distance",
        direction="minimize",
        start=6.0,
        others={
            "guarded_distance": 0.6,
            "kernel_distance": 0.58,
            "frechet_distance": 41.0,
            "coverage": 0.42,
            "real_score": 0.6,
            "fake_score": 0.38,
        },
        goal="generation",
        data=IMAGES,
    ),
}


def write_kind(
    folder: Path, name: str, *, trials: int = 10, epochs: int = 16, code: int | None = None
) -> Path:
    """Write everything that a finished study of this kind leaves; the folder.

    `code` changes how many numbers a code has. Trials of the last family have no recipe.
    """
    kind = KINDS[name]
    code = kind.code if code is None else code
    tables: dict[str, list[Row]] = {"trials": [], "epochs": [], "confirmation": []}
    last = list(kind.families)[-1]
    for family, level in kind.families.items():
        is_without = len(kind.families) > 1 and family == last
        own = [
            _trial(name, family, number, epochs, level, is_without=is_without)
            for number in range(trials)
        ]
        best = max(own, key=lambda row: _sign(kind) * row.get(f"best_valid_{kind.metric}", np.nan))
        fresh = [_fresh(kind, best, replicate) for replicate in range(3)]
        tables["trials"] += own
        tables["confirmation"] += fresh
        tables["epochs"] += [row for trial in own for row in _epochs(kind, name, trial)]
        place = folder / "evidence" / family
        place.mkdir(parents=True, exist_ok=True)
        _write_answers(place, kind, fresh, code)
        if kind.goal != "prediction":
            np.savez(place / "gallery.npz", **_gallery(name))
    value = {f"best_valid_{kind.metric}": "float64"}
    write_table(frame(tables["trials"], {**TRIAL_COLUMNS, **value}), folder / "trials")
    write_table(frame(tables["epochs"], EPOCH_COLUMNS), folder / "epochs")
    write_table(frame(tables["confirmation"], CONFIRMATION_COLUMNS), folder / "confirmation")
    summary = json.dumps(_summary(kind, name, trials, epochs))
    (folder / "study.json").write_text(summary, encoding="utf-8")
    return folder


def _rng(*path: str | int) -> np.random.Generator:
    return np.random.default_rng(derive(12, *path))


def _sign(kind: Kind) -> int:
    return 1 if kind.direction == "maximize" else -1


def _trial(
    name: str, family: str, number: int, epochs: int, level: float, *, is_without: bool
) -> Row:
    kind, rng = KINDS[name], _rng(name, family, number)
    is_recipe = number == 0 and not is_without
    rate = 3e-3 if is_recipe else float(10 ** rng.uniform(-4, -1))
    status = "diverged" if rate > 0.04 else "stopped" if number % 4 == 3 else "completed"
    trained = {"completed": epochs, "stopped": epochs // 4}.get(status, 2)
    shortfall = (0.02 + 0.05 * abs(np.log10(rate) + 2.3)) * rng.uniform(0.8, 1.2)
    value = level + (kind.start - level) * shortfall * (epochs / trained) ** 0.5
    row: Row = {
        "study": name,
        "family": family,
        "trial": number,
        "status": status,
        "reason": "the training loss was nan in epoch 2" if status == "diverged" else "",
        "origin": "recipe" if is_recipe else "sobol" if number < 5 else "model",
        "seed": derive(0, family, number),
        "epochs": trained,
        "best_epoch": trained,
        "parameters": int(rng.integers(50_000, 900_000)),
        "flops": float(rng.integers(1_000_000, 9_000_000)),
        "memory": float(rng.integers(300_000, 4_000_000)),
        "latency_p50": float(rng.uniform(0.4, 0.9)),
        "latency_p95": float(rng.uniform(0.9, 1.6)),
        "seconds": float(trained * rng.uniform(1.0, 2.0)),
        "started": START.isoformat(),
        "finished": START.isoformat(),
        "worker": "host:1",
        "diagnosis": _diagnosis(status, number, rng),
        "config.learning_rate": rate,
        "config.width": 16 if is_recipe else int(rng.integers(8, 65)),
        "config.activation": "relu" if is_recipe else str(rng.choice(["relu", "gelu"])),
        **{f"config.{fixed}": given for fixed, given in FIXED.items()},
    }
    if status != "diverged":
        row[f"best_valid_{kind.metric}"] = row[f"valid_{kind.metric}"] = float(value)
        for other, near in kind.others.items():
            row[f"valid_{other}"] = near * float(rng.uniform(0.98, 1.05))
    return row


def _diagnosis(status: str, number: int, rng: np.random.Generator) -> str | None:
    if status == "diverged":
        remedy = "try a smaller learning rate or gradient clipping"
        return f"the training loss was nan in epoch 2: {remedy}"
    if number % 5 != 2:
        return None
    return (
        f"since epoch 6 the validation loss rose from 0.41 to {rng.uniform(0.5, 0.9):.3g} while "
        "the training loss fell to 0.12: try augmentation, more weight decay, a smaller network "
        "or fewer epochs"
    )


def _epochs(kind: Kind, name: str, trial: Row) -> list[Row]:
    rng = _rng(name, trial["family"], trial["trial"], "epochs")
    final = trial.get(f"best_valid_{kind.metric}", float("nan"))
    rows = []
    for epoch in range(1, int(trial["epochs"]) + 1):
        left = float(np.exp(-3.5 * epoch / 16) * np.exp(0.1 * rng.standard_normal()))
        row: Row = {
            **{key: trial[key] for key in ("study", "family", "trial", "seed")},
            "epoch": epoch,
            "seconds": 1.5,
            "finished": START.isoformat(),
            "train_loss": 0.1 + left,
            "valid_loss": 0.12 + left,
            "learning_rate": trial["config.learning_rate"],
            "grad_norm": 1.0,
            f"valid_{kind.metric}": final + (kind.start - final) * left,
        }
        if name == "gan":
            row["train_loss_discriminator"] = 0.45 + 0.2 * left + 0.02 * rng.standard_normal()
            row["train_loss_generator"] = 1.4 - 0.5 * left + 0.05 * rng.standard_normal()
            row["valid_real_score"] = 0.62 + 0.2 * left
            row["valid_fake_score"] = 0.37 - 0.2 * left
        rows.append(row)
    return rows


def _fresh(kind: Kind, best: Row, replicate: int) -> Row:
    rng = _rng(best["family"], best["trial"], "fresh", replicate)
    spread = 0.01 * abs(kind.start - best[f"best_valid_{kind.metric}"])
    row = {
        **{name: best[name] for name in CONFIRMATION_COLUMNS if name in best},
        "seed": derive(0, best["family"], best["trial"], "confirm", replicate),
        "chosen": True,
    }
    for split in ("select", "test"):
        score = best[f"best_valid_{kind.metric}"] + spread * rng.standard_normal()
        row[f"{split}_{kind.metric}"] = float(score)
        for other, near in kind.others.items():
            row[f"{split}_{other}"] = near * float(rng.uniform(0.98, 1.05))
    return row


def _write_answers(place: Path, kind: Kind, fresh: list[Row], code: int) -> None:
    predictions: list[Row] = []
    codes: list[Row] = []
    targets = _rng("targets").normal(13.0, 0.6, ITEMS)
    groups = _rng("groups").integers(0, len(CLASSES), ITEMS)
    for row in fresh:
        rng = _rng(place.name, row["seed"])
        for item in range(ITEMS):
            shared = {"split": "test", "seed": row["seed"], "item": item, "name": f"{item}.png"}
            if kind.data.get("task") == "regression":
                error = float(0.28 * rng.standard_normal())
                pair = {"target_value": targets[item], "predicted_value": targets[item] + error}
                predictions.append({**shared, **{key: float(v) for key, v in pair.items()}})
            if code:
                angle = 2 * np.pi * groups[item] / len(CLASSES)
                centre = np.resize([3 * np.cos(angle), 3 * np.sin(angle)], code)
                values = centre + rng.standard_normal(code)
                numbered = {f"code_{n}": float(v) for n, v in enumerate(values, start=1)}
                codes.append({**shared, "target": CLASSES[groups[item]], **numbered})
    write_table(frame(predictions, PREDICTION_COLUMNS), place / "predictions")
    if codes:
        write_table(frame(codes, {}), place / "codes")


def _gallery(name: str) -> dict[str, NDArray[np.uint8]]:
    """Blobs that training makes out; arrays named "epoch/caption" of (items, 1, SIDE, SIDE)."""
    rng = _rng(name, "gallery")
    items = 16 if name == "gan" else 8
    axis = np.arange(SIDE)
    centres = rng.uniform(3, SIDE - 4, (items, 2))
    rows = np.exp(-((axis[None] - centres[:, :1]) ** 2) / 6)
    columns = np.exp(-((axis[None] - centres[:, 1:]) ** 2) / 12)
    clean = (rows[:, :, None] * columns[:, None, :])[:, None]
    noise = 0.3 * rng.standard_normal(clean.shape)
    gallery = {}
    for epoch in GALLERY_EPOCHS:
        blurred = clean + noise * np.exp(-epoch / 4)
        shown: dict[str, Pixels] = {
            "denoise": {"noisy": clean + noise, "restored": blurred, "clean": clean},
            "codes": {"original": clean, "reconstruction": blurred},
            "gan": {"samples": blurred},
        }[name]
        for caption, images in shown.items():
            gallery[f"{epoch}/{caption}"] = (images.clip(0, 1) * 255).round().astype(np.uint8)
    return gallery


def _summary(kind: Kind, name: str, trials: int, epochs: int) -> Row:
    space: dict[str, Row] = dict(VARYING)
    for fixed, given in FIXED.items():
        space[fixed] = {"type": "choice", "values": [given], "default": given}
    return {
        "study": name,
        "objective": {"metric": kind.metric, "direction": kind.direction},
        "families": {
            family: {
                "description": f"{family}, built for this test.",
                "space": space,
                "notes": [],
                "metrics": [kind.metric, *kind.others],
                "goal": kind.goal,
            }
            for family in kind.families
        },
        "budget": {"trials": trials, "epochs": epochs, "minutes": None, "confirm": [1, 3]},
        "seed": 0,
        "data": {
            "source": name,
            "views": 1,
            "columns": [],
            "task": "classification",
            "splits": {"train": 400, "valid": ITEMS, "select": ITEMS, "test": ITEMS},
            "fingerprint": "5f70bf18a086",
            "notes": [],
            **kind.data,
        },
        "versions": {"torchstudy": "0.1.0"},
        "machine": {"cores": 2},
        "state": "finished",
    }
