"""Whether confidence is to be believed: one temperature for it, and the error with and without.

Guo et al. 2017, "On calibration of modern neural networks": logits are divided by one number that
is fitted where neither weights nor hyperparameters were, and no answer changes by it.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from torchstudy.errors import StudyError
from torchstudy.files import write_json

if TYPE_CHECKING:
    import pandas as pd  # which a worker does not need

    from torchstudy.analysis.tables import Results

FILE = "calibration.json"
BINS = 15  # of equal width, as in Guo et al. 2017
COLDEST, HOTTEST = 0.1, 10.0  # temperatures; beyond them a likelihood is flat, or the split is odd
BLOCK = 2**22  # probabilities at once in double precision: of 50,000 items, 1,000 each
HALVINGS = 24  # of that range, on a log scale: to 3 in 10 million
LEAST = float(np.finfo(np.float32).tiny)  # what probabilities of 32 bits become 0 below
FOLDS = 5  # of select, where it both fits a temperature and judges it
DRAWS = 200  # of answers, to know the error of a model whose confidence is right

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """The most likely temperature on a split, and what it does to the mean likelihood there."""

    value: float
    items: int
    nll_before: float
    nll_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """`calibration.json`: the temperature of one model, and what it does on the test split.

    `items` and `select_nll_...` are of the split that it was fitted on; `ece` is the expected
    calibration error, `nll` the mean negative log likelihood. A model that nothing confirmed has
    read no test split (0 `test_items`, None): `select_ece_after` is of temperatures that were
    fitted without the item that each is of (`crossfitted`).
    """

    temperature: float
    items: int
    trial: int
    seed: int
    test_items: int
    test_ece_before: float | None
    test_ece_after: float | None
    test_nll_before: float | None
    test_nll_after: float | None
    select_nll_before: float
    select_nll_after: float
    select_ece_before: float | None = None
    select_ece_after: float | None = None


def fitted(probabilities: NDArray[np.floating], targets: NDArray[np.int64]) -> Temperature | None:
    """The temperature under which the targets (items,) are most likely; (items, classes).

    None where there is none to find: no item, one class only, numbers that are not finite, and
    where every answer is right, as the likelihood then grows without end towards certainty.
    """
    if len(targets) == 0 or len(np.unique(targets)) < 2 or not np.isfinite(probabilities).all():
        return None
    if (probabilities.argmax(axis=1) == targets).all():
        return None
    # The loss is convex in 1 / temperature, so its slope changes sign once. SciPy would find the
    # place as well, but takes a worker half a second to import.
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if _is_too_cold(probabilities, targets, middle) else (low, middle)
        )
    value = math.exp((low + high) / 2)
    return Temperature(
        value=value,
        items=len(targets),
        nll_before=nll(probabilities, targets),
        nll_after=nll(probabilities, targets, value),
    )


def crossfitted(
    probabilities: NDArray[np.floating], targets: NDArray[np.int64]
) -> NDArray[np.floating]:
    """The confidence of each item at the temperature of the other folds (items,).

    Folds are drawn, the same ones every time. Where the others have no temperature to find, it is
    1.
    """
    fold = np.random.default_rng(0).permutation(len(targets)) % FOLDS
    found: NDArray[np.floating] = probabilities.max(axis=1)
    for own in (fold == number for number in range(min(FOLDS, len(targets)))):
        if fit := fitted(probabilities[~own], targets[~own]):
            found[own] = tempered(probabilities[own], fit.value).max(axis=1)
    return found


def tempered(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.floating]:
    """The probabilities (items, classes) at a temperature; the largest stays the largest."""
    scaled = np.empty_like(probabilities)
    for block in _blocks(probabilities):
        scaled[block] = np.exp(_log_tempered(probabilities[block], temperature))
    top = probabilities.argmax(axis=1)
    # Rounded to 32 bits, two nearly equal ones may become one, and the first of them the answer.
    tied = np.flatnonzero(scaled.argmax(axis=1) != top)
    scaled[tied, top[tied]] = np.nextafter(scaled[tied, top[tied]], scaled.dtype.type(2))
    return scaled


def nll(
    probabilities: NDArray[np.floating], targets: NDArray[np.int64], temperature: float = 1.0
) -> float:
    """The mean negative log likelihood of the targets at a temperature; NaN without items."""
    if len(targets) == 0:
        return math.nan
    total = 0.0
    for block in _blocks(probabilities):
        logs = _log_tempered(probabilities[block], temperature)
        total -= float(_at(logs, targets[block]).sum())
    return total / len(targets)


def reliability(
    confidence: Floats, is_correct: NDArray[np.bool_], bins: int = BINS
) -> "pd.DataFrame":
    """One row per bin of confidence that has items: low, high, items, confidence, accuracy.

    Bins have equal width and hold their upper end; confidence and accuracy are means.
    """
    import pandas as pd

    place = _bins(confidence, bins)
    table = pd.DataFrame({"bin": place, "confidence": confidence, "accuracy": is_correct})
    grouped = table.astype({"accuracy": "float64"}).groupby("bin")
    found = grouped.mean()
    found.insert(0, "items", grouped.size())
    found.insert(0, "high", (found.index + 1) / bins)
    found.insert(0, "low", found.index / bins)
    return found.reset_index(drop=True)


def expected_error(confidence: Floats, is_correct: NDArray[np.bool_], bins: int = BINS) -> float:
    """The expected calibration error: how far confidence and accuracy lie apart in a bin, on mean.

    NaN without items.
    """
    if len(confidence) == 0:
        return math.nan
    gaps = np.bincount(_bins(confidence, bins), confidence - is_correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def expected_noise(confidence: Floats, bins: int = BINS) -> float:
    """The expected calibration error on these items of a model whose confidence is right.

    The mean over `DRAWS` draws of right and wrong answers, the same ones every time.
    """
    generator = np.random.default_rng(0)
    draws = (generator.random(len(confidence)) < confidence for _ in range(DRAWS))
    return float(np.mean([expected_error(confidence, drawn, bins) for drawn in draws]))


def write_calibration(folder: Path, calibration: Calibration | None) -> None:
    """Write `calibration.json` beside a saved model, or see to it that there is none."""
    if calibration is None:
        (folder / FILE).unlink(missing_ok=True)
    else:
        write_json(folder / FILE, asdict(calibration))


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration of the model saved in a folder, None if it has none.

    Raises StudyError where the file is damaged.
    """
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        own = [
            field
            for field in fields(Calibration)
            if field.default is MISSING or field.name in found
        ]
        known = {field.name: found[field.name] for field in own}
        temperature = float(known["temperature"])
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise StudyError(_damaged(path, f"{type(error).__name__}: {error}")) from None
    if not COLDEST <= temperature <= HOTTEST:
        raise StudyError(_damaged(path, f"a temperature of {temperature:g}"))
    return Calibration(**known)


def calibration_of(results: "Results", family: str) -> "tuple[Calibration, pd.DataFrame] | None":
    """The calibration of the family's saved model, and that model's answers where it was judged.

    That is the test split, or select where no test split was read; `after` is the confidence at
    the temperature there.
    """
    folders = {path.parent.name: path.parent for path in results.folder.glob(f"best/*/{FILE}")}
    table = results.predictions.get(family)
    if family not in folders or table is None:
        return None
    calibration = read_calibration(folders[family])
    assert calibration is not None
    split, column = ("test", "calibrated") if calibration.test_items else ("select", "crossfitted")
    is_own = (table["split"] == split) & (table["seed"] == calibration.seed)
    own = table[is_own.fillna(False).astype(bool) & table[column].notna()]
    own = own.assign(after=own[column]).reset_index(drop=True)
    return (calibration, own) if len(own) else None


def _is_too_cold(
    probabilities: NDArray[np.floating], targets: NDArray[np.int64], log_temperature: float
) -> bool:
    """Whether the loss still falls as the temperature rises."""
    slope = 0.0
    for block in _blocks(probabilities):
        logs = _log_tempered(probabilities[block], 1.0)
        shares = np.exp(_normalised(logs / math.exp(log_temperature)))
        slope += float((shares * logs).sum() - _at(logs, targets[block]).sum())
    return slope > 0


def _blocks(probabilities: NDArray[np.floating]) -> Iterator[slice]:
    """Rows that are computed with at once, so that many classes of many items fit in memory."""
    step = max(1, BLOCK // probabilities.shape[1])
    return (slice(start, start + step) for start in range(0, len(probabilities), step))


def _at(logs: Floats, targets: NDArray[np.int64]) -> Floats:
    """What each row has at its target."""
    found: Floats = logs[np.arange(len(targets)), targets]
    return found


def _log_tempered(probabilities: NDArray[np.floating], temperature: float) -> Floats:
    """The logarithms of the probabilities at a temperature, in double precision."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), LEAST))
    return _normalised(logs / temperature)


def _normalised(logs: Floats) -> Floats:
    """Logarithms of what adds up to 1, up to a constant in each row as given."""
    away: Floats = logs - logs.max(axis=1, keepdims=True)
    away -= np.log(np.exp(away).sum(axis=1, keepdims=True))
    return away


def _bins(confidence: Floats, bins: int) -> NDArray[np.int64]:
    places: NDArray[np.int64] = np.ceil(confidence * bins).astype(np.int64) - 1
    return places.clip(0, bins - 1)


def _damaged(path: Path, what: str) -> str:
    return f"{path} is damaged ({what}); `optimize run` of its study writes it again"
