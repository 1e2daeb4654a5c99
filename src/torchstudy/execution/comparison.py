"""How nearly two trainings agree: every number of their epochs, and how they ended."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torchstudy.execution.placing import CAPACITY, MEMORY
from torchstudy.records import LATENCIES, Epoch, Outcome

ENOUGH_DIGITS = 3  # fewer, and two numbers are called different
MEASURED = (*LATENCIES, MEMORY, CAPACITY)  # of the machine at that moment, not of the training
SAME = math.inf  # digits of numbers that are bit for bit the same
EXACT = "bit for bit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One column of numbers, recorded and replayed, where they differ most.

    `epochs` is how many epochs were compared, 0 for a number of the outcome, and `epoch` the one
    shown: the last where all agree. `digits` counts those that agree everywhere, of the largest
    number in the column: `inf` where every bit does, and 0 where a number is there in one alone.
    """

    name: str
    epochs: int
    epoch: int
    recorded: float
    replayed: float
    digits: float

    @property
    def difference(self) -> float:
        """The largest difference, NaN where one of the numbers is missing."""
        is_same = self.digits == SAME
        return 0.0 if is_same else abs(self.recorded - self.replayed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something about a training that is no measurement: recorded, and replayed."""

    name: str
    recorded: str
    replayed: str

    @property
    def is_same(self) -> bool:
        """Whether nothing has changed."""
        return self.recorded == self.replayed


def level_of(measures: Sequence[Measure], facts: Sequence[Fact]) -> str:
    """`bit for bit`, `equal to 5 digits` or `different` (fewer than three, or ended otherwise)."""
    if not all(fact.is_same for fact in facts):
        return "different"
    digits = min((measure.digits for measure in measures), default=SAME)
    if digits == SAME:
        return EXACT
    return f"equal to {digits:.0f} digits" if digits >= ENOUGH_DIGITS else "different"


def compared_epochs(recorded: Sequence[Epoch], replayed: Sequence[Epoch]) -> list[Measure]:
    """One measure for each column of the epochs that both have; seconds are left out."""
    pairs = [(a.values(), b.values()) for a, b in zip(recorded, replayed, strict=False)]
    names = dict.fromkeys(name for pair in pairs for values in pair for name in values)
    return [
        _measure(
            name, [(a.get(name, math.nan), b.get(name, math.nan)) for a, b in pairs], len(pairs)
        )
        for name in names
    ]


def compared_metrics(recorded: Mapping[str, float], replayed: Mapping[str, float]) -> list[Measure]:
    """One measure for each metric of the outcome but those of the machine's speed and memory.

    Validation metrics are those of the best epoch: `best_valid_accuracy`. The test split is read
    once, in the run itself: what it gave is not compared.
    """
    names = [name for name in dict.fromkeys([*recorded, *replayed]) if name not in MEASURED]
    return [
        _measure(
            f"best_{name}" if name.startswith("valid_") else name,
            [(recorded.get(name, math.nan), replayed.get(name, math.nan))],
            0,
        )
        for name in names
        if not name.startswith("test_")
    ]


def compared_endings(recorded: Outcome, replayed: Outcome) -> list[Fact]:
    """How two trainings ended; of a traceback the last line, as paths and lines may differ."""
    return [
        Fact(name="status", recorded=str(recorded.status), replayed=str(replayed.status)),
        Fact(name="reason", recorded=_last_line(recorded), replayed=_last_line(replayed)),
        *(
            Fact(
                name=name.replace("_", " "),
                recorded=str(getattr(recorded, name)),
                replayed=str(getattr(replayed, name)),
            )
            for name in ("epochs", "best_epoch", "parameters")
        ),
    ]


def _measure(name: str, pairs: Sequence[tuple[float, float]], epochs: int) -> Measure:
    scale = max((abs(x) for pair in pairs for x in pair if math.isfinite(x)), default=0.0)
    digits = [_digits(*pair, scale) for pair in pairs]
    worst = min(range(len(pairs)), key=digits.__getitem__)
    if digits[worst] == SAME:
        worst = len(pairs) - 1
    return Measure(
        name=name,
        epochs=epochs,
        epoch=worst + 1 if epochs else 0,
        recorded=pairs[worst][0],
        replayed=pairs[worst][1],
        digits=min(digits),
    )


def _digits(a: float, b: float, scale: float) -> float:
    """How many significant digits of numbers as large as `scale` agree; not rounded up."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return SAME
    difference = abs(a - b)
    if not math.isfinite(difference):
        return 0.0
    return float(max(0, math.floor(-math.log10(difference / scale))))


def _last_line(outcome: Outcome) -> str:
    return outcome.reason.strip().rpartition("\n")[2]
