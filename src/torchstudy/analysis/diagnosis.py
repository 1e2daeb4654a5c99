"""What ails a training, told from its epoch rows, and what would help."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from torchstudy.records import Status

if TYPE_CHECKING:
    import pandas as pd

Row: TypeAlias = Mapping[str, float]  # one epoch: numbers by column name; NaN counts as missing
Curve: TypeAlias = dict[int, float]  # the finite values of a column by epoch, in order

KEYS = ["family", "trial", "seed"]

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
    epochs: Sequence[Row], *, status: str = "completed", reason: str = ""
) -> Diagnosis | None:
    """What ails one training, from its epoch rows alone (in order); None for a healthy one.

    The most serious finding is told, causes before what follows from them. Columns may be missing
    or NaN: what was not measured is not judged. Rows without `epoch` are numbered from 1.
    """
    if status == Status.DIVERGED.value:
        said = reason or "a number was not finite"
        return Diagnosis(name="exploding", sentence=f"{said}: {CALMER}")
    current = _current_phase([{"epoch": at, **row} for at, row in enumerate(epochs, start=1)])
    for name, examine in EXAMINATIONS.items():
        if name in AT_THE_END and status != Status.COMPLETED.value:
            continue
        if sentence := examine(current):
            return Diagnosis(name=name, sentence=sentence)
    return None


def diagnoses(trials: "pd.DataFrame", epochs: "pd.DataFrame") -> "pd.DataFrame":
    """Every training with something to say: family, trial, seed, name, sentence.

    First those of `trials`, in their order, then further ones of `epochs` (confirmations).
    """
    import pandas as pd

    reasons = trials["reason"].fillna("").astype(str).tolist()
    keys = zip(*(trials[name].tolist() for name in KEYS), strict=True)
    endings = dict(zip(keys, zip(trials["status"].astype(str), reasons, strict=True), strict=True))
    rows = _rows_by_training(epochs)
    found = []
    for key in dict.fromkeys([*endings, *rows]):
        status, reason = endings.get(key, (Status.COMPLETED.value, ""))
        diagnosis = diagnose(rows.get(key, []), status=status, reason=reason)
        if diagnosis:
            found.append((*key, diagnosis.name, diagnosis.sentence))
    return pd.DataFrame(found, columns=[*KEYS, "name", "sentence"])


def _rows_by_training(epochs: "pd.DataFrame") -> dict[tuple[Any, ...], list[Row]]:
    """The rows of every training, in the order of their epochs."""
    from torchstudy.analysis.tables import numbers

    judged = [name for name in map(str, epochs.columns) if _is_judged(name)]
    columns = [numbers(epochs, name).tolist() for name in judged]
    keys = zip(*(epochs[name].tolist() for name in KEYS), strict=True)
    found: dict[tuple[Any, ...], list[Row]] = {}
    for key, values in zip(keys, zip(*columns, strict=True), strict=True):
        found.setdefault(key, []).append(dict(zip(judged, values, strict=True)))
    return {key: sorted(rows, key=lambda row: row["epoch"]) for key, rows in found.items()}


def _is_judged(column: str) -> bool:
    """Whether a column may tell something: text and times do not."""
    return column == "epoch" or column.startswith(("train_", "valid_", "health_"))


def _current_phase(epochs: Sequence[Row]) -> Sequence[Row]:
    """The last rows in which the same phases trained: losses of other phases do not compare."""
    first = len(epochs)
    while first and _phases(epochs[first - 1]) == _phases(epochs[-1]):
        first -= 1
    return epochs[first:]


def _phases(row: Row) -> set[str]:
    """The columns of the phases that took part in an epoch."""
    phases = (name for name in row if name.startswith("train_loss_"))
    return {name for name in phases if not math.isnan(row[name])}


def _exploding(epochs: Sequence[Row]) -> str | None:
    losses = _train_losses(epochs)
    if not losses:
        return None
    start, worst = _start(epochs), max(losses, key=losses.__getitem__)
    if losses[worst] <= EXPLODED * start or _last(losses) <= RETURNED * start:
        return None
    return (
        f"the training loss was {start:.3g} at the start and {losses[worst]:.3g} in epoch "
        f"{worst}: {CALMER}"
    )


def _discriminator_wins(epochs: Sequence[Row]) -> str | None:
    real, fake = _recent(epochs, "valid_real_score"), _recent(epochs, "valid_fake_score")
    is_sure = _all(value > CERTAIN for value in real) and _all(
        value < 1 - CERTAIN for value in fake
    )
    if not is_sure:
        return None
    return (
        f"the discriminator is sure of itself ({real[-1]:.3f} for real images, "
        f"{fake[-1]:.3f} for generated ones) and teaches the generator nothing: try a smaller "
        "learning rate or fewer channels for the discriminator, or label smoothing"
    )


def _collapse(epochs: Sequence[Row]) -> str | None:
    coverage = _recent(epochs, "valid_coverage")
    distance = _recent(epochs, "valid_kernel_distance")
    if len(epochs) < SETTLED or not coverage:
        return None
    is_far = _all(value > FAR for value in distance)
    is_far = is_far and _all(value < PARTLY_COVERED for value in coverage)
    is_flagged = _all(value > 0 for value in _recent(epochs, "valid_flagged"))
    if not is_far and not is_flagged and not _all(value < COVERED for value in coverage):
        return None
    return (
        f"generated images cover {coverage[-1]:.0%} of the real ones after {len(epochs)} "
        "epochs, so they repeat each other, are of few kinds or like nothing real: try a smaller "
        "learning rate, less momentum (beta1 0.5) or more epochs"
    )


def _dead_units(epochs: Sequence[Row]) -> str | None:
    share = _recent(epochs, "health_dead_share")
    if not _all(value > DEAD for value in share):
        return None
    return (
        f"{share[-1]:.0%} of the units of a ReLU layer are 0 for every image of a batch: try "
        "a smaller learning rate, normalisation, or leaky-relu or gelu instead of relu"
    )


def _saturation(epochs: Sequence[Row]) -> str | None:
    share = _recent(epochs, "health_saturated_share")
    if not _all(value > SATURATED for value in share):
        return None
    return (
        f"{share[-1]:.0%} of the outputs of a sigmoid or tanh layer are at their bounds, "
        "where gradients vanish: try a smaller learning rate, normalisation or smaller initial "
        "weights"
    )


def _vanishing_gradients(epochs: Sequence[Row]) -> str | None:
    ratio = _recent(epochs, "health_gradient_ratio")
    if not _all(value < VANISHING for value in ratio):
        return None
    return (
        f"the gradient of the first layer is {ratio[-1]:.1g} times that of the last: try "
        "normalisation, relu or gelu, or fewer layers"
    )


def _no_learning(epochs: Sequence[Row]) -> str | None:
    losses = _train_losses(epochs)
    if len(losses) < SETTLED or not _measured(epochs, "health_first_loss"):
        return None
    least = min(losses.values())
    if least <= UNLEARNED * _start(epochs):
        return None
    steps = _measured(epochs, "health_update_ratio")
    is_slow = bool(steps) and max(steps.values()) < SLOW
    return (
        f"the training loss began at {_start(epochs):.3g} and was never below {least:.3g} "
        f"in {len(losses)} epochs: try a {'larger' if is_slow else 'smaller'} learning rate"
        + ("" if is_slow else ", or more capacity")
    )


def _overfitting(epochs: Sequence[Row]) -> str | None:
    """A validation loss well above both its own minimum and the training loss."""
    train = _train_losses(epochs)
    valid = _measured(epochs, "valid_reconstruction_error") or _measured(epochs, "valid_loss")
    valid = {epoch: value for epoch, value in valid.items() if epoch in train}
    if not valid:
        return None
    start, lowest = _start(epochs), min(valid, key=valid.__getitem__)
    first, last = next(iter(valid)), next(reversed(valid))
    is_comparable = valid[first] <= COMPARABLE * start
    is_wide = valid[last] - train[last] > GAP * start
    has_risen = valid[last] > RISE * valid[lowest] and train[last] < train[lowest]
    if not (is_comparable and is_wide and has_risen):
        return None
    return (
        f"since epoch {lowest} the validation loss rose from {valid[lowest]:.3g} to "
        f"{valid[last]:.3g} while the training loss fell to {train[last]:.3g}: try "
        "augmentation, more weight decay, a smaller network or fewer epochs"
    )


CALMER = "try a smaller learning rate or gradient clipping"
EXAMINATIONS: dict[str, Callable[[Sequence[Row]], str | None]] = {
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


def _train_losses(epochs: Sequence[Row]) -> Curve:
    """Training losses; none for a GAN, whose losses are a balance and tell no progress."""
    if _measured(epochs, "valid_fake_score") or _measured(epochs, "train_loss_generator"):
        return {}
    return _measured(epochs, "train_loss")


def _start(epochs: Sequence[Row]) -> float:
    """The loss of the very first step; where it was not measured, of the first epoch."""
    first = _measured(epochs, "health_first_loss") or _measured(epochs, "train_loss")
    return next(iter(first.values()))


def _measured(epochs: Sequence[Row], column: str) -> Curve:
    """The finite values of a column by epoch, in order; none where there is no such column."""
    values = ((int(row["epoch"]), row.get(column)) for row in epochs)
    return {at: value for at, value in values if value is not None and math.isfinite(value)}


def _recent(epochs: Sequence[Row], column: str) -> list[float]:
    return list(_measured(epochs, column).values())[-RECENT:]


def _last(curve: Curve) -> float:
    return next(reversed(curve.values()))


def _all(holds: Iterable[bool]) -> bool:
    """Whether it holds everywhere, and there is something for it to hold."""
    found = list(holds)
    return bool(found) and all(found)
