"""What ails a training, told from its epoch rows, and what would help."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from torchstudy.records import UNTRAINED, Status

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


@dataclass(frozen=True, slots=True)
class Curves:
    """The epochs of one training by column: `numbers[k]` of a column belongs to `epochs[k]`."""

    epochs: Sequence[int]
    numbers: Mapping[str, Sequence[float]]
    _known: dict[str, Curve] = field(default_factory=dict, repr=False)

    def measured(self, column: str) -> Curve:
        """The finite values of a column by epoch, in order; none without such a column."""
        if column not in self._known:
            numbers = self.numbers.get(column, ())
            pairs = zip(self.epochs, numbers, strict=False)
            are_finite = math.isfinite(sum(numbers))  # a sum of finite numbers may not be, either
            self._known[column] = (
                dict(pairs)
                if are_finite
                else {at: value for at, value in pairs if math.isfinite(value)}
            )
        return self._known[column]

    def recent(self, column: str) -> list[float]:
        """The last values of a column, as many as must agree."""
        backwards = filter(math.isfinite, reversed(self.numbers.get(column, ())))
        return list(itertools.islice(backwards, RECENT))[::-1]

    def since(self, place: int) -> "Curves":
        """The epochs from the place `place` on."""
        if place == 0:
            return self
        numbers = {name: values[place:] for name, values in self.numbers.items()}
        return Curves(self.epochs[place:], numbers)


def diagnose(
    epochs: Sequence[Row], *, status: str = "completed", reason: str = ""
) -> Diagnosis | None:
    """What ails one training, from its epoch rows alone (in order); None for a healthy one.

    The most serious finding is told, causes before what follows from them. Columns may be missing
    or NaN: what was not measured is not judged. Rows without `epoch` are numbered from 1.
    """
    return _diagnosed(_curves_of(epochs), status, reason)


def _diagnosed(curves: Curves, status: str, reason: str) -> Diagnosis | None:
    if status == Status.DIVERGED.value:
        said = reason or "a number was not finite"
        if UNTRAINED in said:
            return Diagnosis(name="broken", sentence=f"{said}: {UNBUILT}")
        return Diagnosis(name="exploding", sentence=f"{said}: {CALMER}")
    if status == Status.CRASHED.value:
        said = reason.strip().rpartition("\n")[2] or "it crashed"
        return Diagnosis(name=CRASHED, sentence=f"{said}: {MENDED}")
    current = _current_phase(curves)
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
    curves = _curves_by_training(epochs)
    found = []
    for key in dict.fromkeys([*endings, *curves]):
        status, reason = endings.get(key, (Status.COMPLETED.value, ""))
        diagnosis = _diagnosed(curves.get(key, Curves((), {})), status, reason)
        if diagnosis:
            found.append((*key, diagnosis.name, diagnosis.sentence))
    return pd.DataFrame(found, columns=[*KEYS, "name", "sentence"])


def _curves_of(rows: Sequence[Row]) -> Curves:
    epochs = [int(row.get("epoch", at)) for at, row in enumerate(rows, start=1)]
    names = dict.fromkeys(name for row in rows for name in row)
    return Curves(epochs, {name: [_number(row.get(name)) for row in rows] for name in names})


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _curves_by_training(epochs: "pd.DataFrame") -> dict[tuple[Any, ...], Curves]:
    """The epochs of every training, in order."""
    from torchstudy.analysis.tables import numbers

    judged = [name for name in map(str, epochs.columns) if _is_judged(name)]
    order = epochs[[*KEYS, "epoch", *judged]].sort_values([*KEYS, "epoch"], kind="stable")
    keys = order[KEYS].reset_index(drop=True).drop_duplicates()  # the first row of each training
    named = zip(*(keys[name].tolist() for name in KEYS), strict=True)
    spans = itertools.pairwise([*keys.index.tolist(), len(order)])
    at = order["epoch"].tolist()
    columns = {name: numbers(order, name).tolist() for name in judged}
    return {
        key: Curves(at[begin:end], {name: values[begin:end] for name, values in columns.items()})
        for key, (begin, end) in zip(named, spans, strict=True)
    }


def _is_judged(column: str) -> bool:
    """Whether a column may tell something: text and times do not."""
    return column.startswith(("train_", "valid_", "health_"))


def _current_phase(curves: Curves) -> Curves:
    """The last rows in which the same phases trained: losses of other phases do not compare."""
    phases = [name for name in curves.numbers if name.startswith("train_loss_")]
    if not phases:
        return curves
    trained = [
        tuple(math.isnan(curves.numbers[name][place]) for name in phases)
        for place in range(len(curves.epochs))
    ]
    first = len(trained)
    while first and trained[first - 1] == trained[-1]:
        first -= 1
    return curves.since(first)


def _exploding(curves: Curves) -> str | None:
    losses = _train_losses(curves)
    if not losses:
        return None
    start, worst = _start(curves), max(losses, key=losses.__getitem__)
    if losses[worst] <= EXPLODED * start or _last(losses) <= RETURNED * start:
        return None
    return (
        f"the training loss was {start:.3g} at the start and {losses[worst]:.3g} in epoch "
        f"{worst}: {CALMER}"
    )


def _discriminator_wins(curves: Curves) -> str | None:
    real, fake = curves.recent("valid_real_score"), curves.recent("valid_fake_score")
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


def _collapse(curves: Curves) -> str | None:
    coverage = curves.recent("valid_coverage")
    distance = curves.recent("valid_kernel_distance")
    if len(curves.epochs) < SETTLED or not coverage:
        return None
    is_far = _all(value > FAR for value in distance)
    is_far = is_far and _all(value < PARTLY_COVERED for value in coverage)
    is_flagged = _all(value > 0 for value in curves.recent("valid_flagged"))
    if not is_far and not is_flagged and not _all(value < COVERED for value in coverage):
        return None
    return (
        f"generated images cover {coverage[-1]:.0%} of the real ones after {len(curves.epochs)} "
        "epochs, so they repeat each other, are of few kinds or like nothing real: try a smaller "
        "learning rate, less momentum (beta1 0.5) or more epochs"
    )


def _dead_units(curves: Curves) -> str | None:
    share = curves.recent("health_dead_share")
    if not _all(value > DEAD for value in share):
        return None
    return (
        f"{share[-1]:.0%} of the units of a ReLU layer are 0 for every image of a batch: try "
        "a smaller learning rate, normalisation, or leaky-relu or gelu instead of relu"
    )


def _saturation(curves: Curves) -> str | None:
    share = curves.recent("health_saturated_share")
    if not _all(value > SATURATED for value in share):
        return None
    return (
        f"{share[-1]:.0%} of the outputs of a sigmoid or tanh layer are at their bounds, "
        "where gradients vanish: try a smaller learning rate, normalisation or smaller initial "
        "weights"
    )


def _vanishing_gradients(curves: Curves) -> str | None:
    ratio = curves.recent("health_gradient_ratio")
    if not _all(value < VANISHING for value in ratio):
        return None
    return (
        f"the gradient of the first layer is {ratio[-1]:.1g} times that of the last: try "
        "normalisation, relu or gelu, or fewer layers"
    )


def _no_learning(curves: Curves) -> str | None:
    losses = _train_losses(curves)
    if len(losses) < SETTLED or not curves.measured("health_first_loss"):
        return None
    least = min(losses.values())
    if least <= UNLEARNED * _start(curves):
        return None
    steps = curves.measured("health_update_ratio")
    is_slow = bool(steps) and max(steps.values()) < SLOW
    began, lowest = (f"{value:#.3g}".rstrip(".") for value in (_start(curves), least))
    return (
        f"the training loss began at {began} and was never below {lowest} "
        f"in {len(losses)} epochs: try a {'larger' if is_slow else 'smaller'} learning rate"
        + ("" if is_slow else ", or more capacity")
    )


def _overfitting(curves: Curves) -> str | None:
    """A validation loss well above both its own minimum and the training loss."""
    train = _train_losses(curves)
    valid = curves.measured("valid_reconstruction_error") or curves.measured("valid_loss")
    valid = {epoch: value for epoch, value in valid.items() if epoch in train}
    if not valid:
        return None
    start, lowest = _start(curves), min(valid, key=valid.__getitem__)
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


CRASHED = "crashed"
MENDED = "once the cause is mended, optimize run with --retry-crashed trains it again"
CALMER = "try a smaller learning rate or gradient clipping"
UNBUILT = (
    "no learning rate did that: look at that part of the network, its initial weights and loss"
)
EXAMINATIONS: dict[str, Callable[[Curves], str | None]] = {
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


def _train_losses(curves: Curves) -> Curve:
    """Training losses; none for a GAN, whose losses are a balance and tell no progress."""
    if curves.measured("valid_fake_score") or curves.measured("train_loss_generator"):
        return {}
    return curves.measured("train_loss")


def _start(curves: Curves) -> float:
    """The loss of the very first step; where it was not measured, of the first epoch."""
    first = curves.measured("health_first_loss") or curves.measured("train_loss")
    return next(iter(first.values()))


def _last(curve: Curve) -> float:
    return next(reversed(curve.values()))


def _all(holds: Iterable[bool]) -> bool:
    """Whether it holds everywhere, and there is something for it to hold."""
    found = list(holds)
    return bool(found) and all(found)
