"""What ails a training, told from its epoch rows, and what would help."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from torchstudy.analysis.tables import numbers
from torchstudy.records import Status

# Healthy nets below: 22 kinds on 8 px digits, 20 seeds each, 8 to 40 epochs.
# Healthy training losses stay within 1.03 of their start; a test for numbers that are not finite
# caught 2 of 10 trainings that passed 3 times the start.
EXPLODED = 3.0
RETURNED = 0.5  # of the start: a loss that came back below it has done no lasting harm
DEAD = 0.95  # of the worst ReLU layer; healthy at most 0.53, even when over-trained
SATURATED = 0.95  # of the worst tanh layer; healthy at most 0.58, after 40 epochs
VANISHING = 1e-3  # healthy at least 0.09; 12 sigmoid layers 1e-10
RECENT = 3  # epochs in a row that must agree, as far as there are so many
GAP = 0.3  # of the start loss; healthy at most 0.21, 60% random labels learned by heart 0.46 to 1.6
RISE = 1.1  # of the lowest validation loss; random labels learned by heart 1.2 to 3.1
COMPARABLE = 1.5  # of the start: a validation loss that begins above is another kind of loss
UNLEARNED = 0.97  # of the start, which the training loss never fell below; healthy at most 0.85
SETTLED = 3  # epochs before it is said that something has not happened
SLOW = 1e-4  # weight change in a step; healthy 1e-2 to 7e-2 in the first epochs
# Coverage of a DCGAN: 0.14 after 5 epochs, 0.03 for ten repeated images; of real images 0.97.
COVERED = 0.05
# One class alone covers 0.12, but its kernel distance is 4.2; 0.3 after 5 epochs.
PARTLY_COVERED, FAR = 0.2, 1.0
# Mean probability that the discriminator gives to what is true. Small GANs on stripes: 0.6 in a
# balanced one, 0.93 to 1 where the discriminator learns 100 times faster, 0.999 at 3000 times.
CERTAIN = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What ails a training, in one word and in one sentence that ends with a remedy."""

    name: str
    sentence: str


def diagnose(
    epochs: pd.DataFrame, *, status: str = "completed", reason: str = ""
) -> Diagnosis | None:
    """What ails one training, from its epoch rows alone (in order); None for a healthy one.

    The most serious finding is told, causes before what follows from them. Columns may be missing
    or NaN: what was not measured is not judged.
    """
    if status == Status.DIVERGED.value:
        said = reason or "a number was not finite"
        return Diagnosis(name="exploding", sentence=f"{said}: {CALMER}")
    if "epoch" not in epochs:
        epochs = epochs.assign(epoch=range(1, len(epochs) + 1))
    current = _current_phase(epochs)
    for name, examine in EXAMINATIONS.items():
        if name in AT_THE_END and status != Status.COMPLETED.value:
            continue
        if sentence := examine(current):
            return Diagnosis(name=name, sentence=sentence)
    return None


def diagnoses(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Every training with something to say: family, trial, seed, name, sentence.

    First those of `trials`, in their order, then further ones of `epochs` (confirmations).
    """
    keys = ["family", "trial", "seed"]
    endings = {
        tuple(row[:3]): (str(row[3]), "" if pd.isna(row[4]) else str(row[4]))
        for row in trials[[*keys, "status", "reason"]].itertuples(index=False)
    }
    rows = {tuple(key): part for key, part in _trainings(epochs, keys)}
    found = []
    for key in dict.fromkeys([*endings, *rows]):
        status, reason = endings.get(key, (Status.COMPLETED.value, ""))
        diagnosis = diagnose(rows.get(key, epochs.iloc[:0]), status=status, reason=reason)
        if diagnosis:
            found.append((*key, diagnosis.name, diagnosis.sentence))
    return pd.DataFrame(found, columns=[*keys, "name", "sentence"])


def _trainings(
    epochs: pd.DataFrame, keys: list[str]
) -> Iterator[tuple[tuple[Hashable, ...], pd.DataFrame]]:
    if epochs.empty:
        return
    for key, part in epochs.groupby(keys, sort=False):
        assert isinstance(key, tuple)
        yield key, part.sort_values("epoch")


def _current_phase(epochs: pd.DataFrame) -> pd.DataFrame:
    """The last rows in which the same phases trained: losses of other phases do not compare."""
    phases = [name for name in epochs.columns if str(name).startswith("train_loss_")]
    if not phases or epochs.empty:
        return epochs
    took_part = epochs[phases].notna()
    differs = (took_part != took_part.iloc[-1]).any(axis=1).to_numpy()
    first = int(np.flatnonzero(differs)[-1]) + 1 if differs.any() else 0
    return epochs.iloc[first:]


def _exploding(epochs: pd.DataFrame) -> str | None:
    losses = _train_losses(epochs)
    if losses.empty:
        return None
    start = _start(epochs)
    if losses.max() <= EXPLODED * start or losses.iloc[-1] <= RETURNED * start:
        return None
    return (
        f"the training loss was {start:.3g} at the start and {losses.max():.3g} in epoch "
        f"{losses.idxmax()}: {CALMER}"
    )


def _discriminator_wins(epochs: pd.DataFrame) -> str | None:
    real, fake = _recent(epochs, "valid_real_score"), _recent(epochs, "valid_fake_score")
    if not _all(real > CERTAIN) or not _all(fake < 1 - CERTAIN):
        return None
    return (
        f"the discriminator is sure of itself ({real.iloc[-1]:.3f} for real images, "
        f"{fake.iloc[-1]:.3f} for generated ones) and teaches the generator nothing: try a smaller "
        "learning rate or fewer channels for the discriminator, or label smoothing"
    )


def _collapse(epochs: pd.DataFrame) -> str | None:
    coverage = _recent(epochs, "valid_coverage")
    distance = _recent(epochs, "valid_kernel_distance")
    if len(epochs) < SETTLED:
        return None
    is_far = _all(distance > FAR) and _all(coverage < PARTLY_COVERED)
    is_flagged = _all(_recent(epochs, "valid_flagged") > 0)
    if not is_far and not is_flagged and not _all(coverage < COVERED):
        return None
    return (
        f"generated images cover {coverage.iloc[-1]:.0%} of the real ones after {len(epochs)} "
        "epochs, so they repeat each other, are of few kinds or like nothing real: try a smaller "
        "learning rate, less momentum (beta1 0.5) or more epochs"
    )


def _dead_units(epochs: pd.DataFrame) -> str | None:
    share = _recent(epochs, "health_dead_share")
    if not _all(share > DEAD):
        return None
    return (
        f"{share.iloc[-1]:.0%} of the units of a ReLU layer are 0 for every image of a batch: try "
        "a smaller learning rate, normalisation, or leaky-relu or gelu instead of relu"
    )


def _saturation(epochs: pd.DataFrame) -> str | None:
    share = _recent(epochs, "health_saturated_share")
    if not _all(share > SATURATED):
        return None
    return (
        f"{share.iloc[-1]:.0%} of the outputs of a sigmoid or tanh layer are at their bounds, "
        "where gradients vanish: try a smaller learning rate, normalisation or smaller initial "
        "weights"
    )


def _vanishing_gradients(epochs: pd.DataFrame) -> str | None:
    ratio = _recent(epochs, "health_gradient_ratio")
    if not _all(ratio < VANISHING):
        return None
    return (
        f"the gradient of the first layer is {ratio.iloc[-1]:.1g} times that of the last: try "
        "normalisation, relu or gelu, or fewer layers"
    )


def _no_learning(epochs: pd.DataFrame) -> str | None:
    losses = _train_losses(epochs)
    if len(losses) < SETTLED or _measured(epochs, "health_first_loss").empty:
        return None
    if losses.min() <= UNLEARNED * _start(epochs):
        return None
    steps = _measured(epochs, "health_update_ratio")
    is_slow = len(steps) > 0 and steps.max() < SLOW
    return (
        f"the training loss began at {_start(epochs):.3g} and was never below {losses.min():.3g} "
        f"in {len(losses)} epochs: try a {'larger' if is_slow else 'smaller'} learning rate"
        + ("" if is_slow else ", or more capacity")
    )


def _overfitting(epochs: pd.DataFrame) -> str | None:
    """A validation loss well above both its own minimum and the training loss."""
    rebuilt = _measured(epochs, "valid_reconstruction_error")
    valid = _measured(epochs, "valid_loss") if rebuilt.empty else rebuilt
    losses = pd.DataFrame({"train": _train_losses(epochs), "valid": valid}).dropna()
    if losses.empty:
        return None
    start, last = _start(epochs), losses.iloc[-1]
    lowest = losses.iloc[int(losses["valid"].to_numpy().argmin())]
    is_comparable = losses["valid"].iloc[0] <= COMPARABLE * start
    is_wide = last["valid"] - last["train"] > GAP * start
    has_risen = last["valid"] > RISE * lowest["valid"] and last["train"] < lowest["train"]
    if not (is_comparable and is_wide and has_risen):
        return None
    return (
        f"since epoch {lowest.name} the validation loss rose from {lowest['valid']:.3g} to "
        f"{last['valid']:.3g} while the training loss fell to {last['train']:.3g}: try "
        "augmentation, more weight decay, a smaller network or fewer epochs"
    )


CALMER = "try a smaller learning rate or gradient clipping"
EXAMINATIONS: dict[str, Callable[[pd.DataFrame], str | None]] = {
    "exploding": _exploding,
    "discriminator_wins": _discriminator_wins,
    "collapse": _collapse,
    "dead_units": _dead_units,
    "saturation": _saturation,
    "vanishing_gradients": _vanishing_gradients,
    "no_learning": _no_learning,
    "overfitting": _overfitting,
}
AT_THE_END = ("collapse",)  # a young generator covers nothing either


def _train_losses(epochs: pd.DataFrame) -> "pd.Series[float]":
    """Training losses; none for a GAN, whose losses are a balance and tell no progress."""
    if "valid_fake_score" in epochs or "train_loss_generator" in epochs:
        epochs = epochs.iloc[:0]
    return _measured(epochs, "train_loss")


def _start(epochs: pd.DataFrame) -> float:
    """The loss of the very first step; where it was not measured, of the first epoch."""
    first = _measured(epochs, "health_first_loss")
    return float((_measured(epochs, "train_loss") if first.empty else first).iloc[0])


def _measured(epochs: pd.DataFrame, column: str) -> "pd.Series[float]":
    """The finite values of a column by epoch, in order; none where there is no such column."""
    values = numbers(epochs, column).set_axis(epochs["epoch"])
    return values[np.isfinite(values)]


def _recent(epochs: pd.DataFrame, column: str) -> "pd.Series[float]":
    return _measured(epochs, column).iloc[-RECENT:]


def _all(holds: "pd.Series[bool]") -> bool:
    """Whether it holds everywhere, and there is something for it to hold."""
    return bool(len(holds) and holds.all())
