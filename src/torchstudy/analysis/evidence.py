"""What the models answered: confusions, errors of numbers, codes to draw, and pictures to show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from torchstudy.analysis.statistics import confirmed
from torchstudy.analysis.tables import Gallery, Results, numbers, selected_trials

SPLITS = ("test", "valid")  # in the order of what is shown: the test split where there is one
CONTEST = (
    "train_loss_discriminator",
    "train_loss_generator",
    "valid_real_score",
    "valid_fake_score",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers of one family on one split, one row per item and seed."""

    split: str
    table: pd.DataFrame

    @property
    def seeds(self) -> int:
        """How many trainings answered."""
        return int(self.table["seed"].nunique())

    @property
    def items(self) -> int:
        """How many items each of them was shown."""
        return int(self.table["item"].nunique())


@dataclass(frozen=True, slots=True, kw_only=True)
class Closeness:
    """How close predicted numbers are to true ones: means over seeds, in the target's own unit."""

    r2: float  # NaN where all targets of the split are equal
    mae: float
    median: float  # of the absolute errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Pictures that belong in one row: (items, channels, height, width), uint8."""

    caption: str
    epoch: int | None  # None: the same in every epoch
    images: NDArray[np.uint8]


def classified(results: Results, family: str) -> Answers | None:
    """The classes that the family predicted: on test by its confirmed trainings, else on valid."""
    return _answers(results, family, results.predictions.get(family), "predicted")


def estimated(results: Results, family: str) -> Answers | None:
    """The numbers that the family predicted: on test by its confirmed trainings, else on valid."""
    return _answers(results, family, results.predictions.get(family), "predicted_value")


def coded(results: Results, family: str) -> Answers | None:
    """The codes of one training, as no two share their axes: the one whose weights are kept.

    Of several it is the best on the select split, with the smaller seed between equals.
    """
    found = _answers(results, family, results.codes.get(family), "code_1")
    if found is None:
        return None
    chosen, metric = confirmed(results, family), results.objective.metric
    scores = results.objective.sign * numbers(chosen, f"select_{metric}")
    order = chosen.assign(score=scores).sort_values(["score", "seed"], ascending=[False, True])
    present = set(found.table["seed"])
    seed = next((seed for seed in order["seed"] if seed in present), found.table["seed"].iloc[0])
    return Answers(split=found.split, table=found.table[found.table["seed"] == seed])


def code_names(table: pd.DataFrame) -> list[str]:
    """The columns of a code, in order."""
    return [f"code_{place}" for place in range(1, len(table.columns)) if f"code_{place}" in table]


def confusion(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """How often each true class (rows) was taken for each class (columns), over all seeds.

    Classes are in the order given, then others as they sort.
    """
    seen = sorted({*table["target"].dropna(), *table["predicted"].dropna()} - set(classes))
    order = [*classes, *(str(name) for name in seen)]
    counts = pd.crosstab(table["target"].astype(object), table["predicted"].astype(object))
    return counts.reindex(index=order, columns=order, fill_value=0)


def confused_pairs(counts: pd.DataFrame, most: int = 8) -> pd.DataFrame:
    """The most frequent mistakes of a `confusion`: target, predicted, n, of (all of the target)."""
    cells = counts.to_numpy(dtype=np.int64)
    rows = [
        (target, predicted, int(cells[row, column]), int(cells[row].sum()))
        for row, target in enumerate(counts.index)
        for column, predicted in enumerate(counts.columns)
        if row != column and cells[row, column]
    ]
    table = pd.DataFrame(rows, columns=["target", "predicted", "n", "of"])
    return table.sort_values("n", ascending=False, kind="stable").head(most).reset_index(drop=True)


def closeness(table: pd.DataFrame) -> Closeness:
    """How close `predicted_value` is to `target_value`."""
    found = [
        _closeness(np.asarray(own["target_value"]), np.asarray(own["predicted_value"]))
        for _, own in table.groupby("seed")
    ]
    r2, mae, median = np.mean(found, axis=0)
    return Closeness(r2=float(r2), mae=float(mae), median=float(median))


def sampled(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows, in their order; the same ones every time."""
    if len(table) <= most:
        return table
    kept = np.random.default_rng(0).choice(len(table), size=most, replace=False)
    return table.iloc[np.sort(kept)]


def strips(gallery: Gallery, most: int = 6) -> list[Strip]:
    """The rows of a gallery: by caption, then by epoch.

    At most so many epochs are shown, the first, the last and evenly in log between; what has not
    changed since the first epoch of training is shown once.
    """
    captions = dict.fromkeys(caption for pictures in gallery.values() for caption in pictures)
    rows = []
    for caption in captions:
        own = {epoch: given[caption] for epoch, given in gallery.items() if caption in given}
        trained = [images for epoch, images in own.items() if epoch > 0]
        if len(trained) > 1 and all(np.array_equal(trained[0], other) for other in trained):
            rows.append(Strip(caption=caption, epoch=None, images=trained[0]))
            continue
        shown = spread_epochs(list(own), most)
        rows += [Strip(caption=caption, epoch=epoch, images=own[epoch]) for epoch in shown]
    return rows


def spread_epochs(epochs: Sequence[int], most: int) -> list[int]:
    """At most so many of the epochs, the first and the last among them, evenly in log."""
    if len(epochs) <= most:
        return list(epochs)
    places = np.log2(1 + np.asarray(epochs))
    wanted = np.linspace(places[0], places[-1], most)
    return sorted({epochs[int(np.abs(places - place).argmin())] for place in wanted})


def contest(results: Results, family: str) -> pd.DataFrame:
    """The epochs of a GAN's selected trial in the search: epoch and the columns of `CONTEST`.

    Empty for any other family, and for columns that were not measured there is NaN.
    """
    trials, epochs = results.trials, results.epochs
    empty = pd.DataFrame(columns=["epoch", *CONTEST])
    if not set(CONTEST) & set(epochs):
        return empty
    chosen = selected_trials(results)
    number = chosen.loc[chosen["family"] == family, "trial"]
    if number.empty:
        return empty
    is_own = (trials["family"] == family) & (trials["trial"] == number.iloc[0])
    keys = trials.loc[is_own.fillna(False).astype(bool), ["family", "trial", "seed"]]
    rows = epochs.merge(keys, on=["family", "trial", "seed"]).sort_values("epoch")
    table = rows[["epoch"]].assign(**{name: numbers(rows, name) for name in CONTEST})
    known = table.replace([np.inf, -np.inf], np.nan).dropna(how="all", subset=list(CONTEST))
    return known.reset_index(drop=True) if len(known) else empty


def _answers(
    results: Results, family: str, table: pd.DataFrame | None, column: str
) -> Answers | None:
    """The rows of the first split of `SPLITS` that have a value in `column`."""
    if table is None or column not in table:
        return None
    known = table[table[column].notna()]
    seeds = confirmed(results, family)["seed"]
    for split in SPLITS:
        own = known[(known["split"] == split).fillna(False).astype(bool)]
        own = own[own["seed"].isin(seeds)] if split == "test" else own
        if len(own):
            return Answers(split=split, table=own.reset_index(drop=True))
    return None


def _closeness(true: NDArray[np.float64], found: NDArray[np.float64]) -> tuple[float, float, float]:
    errors = np.abs(found - true)
    variance = float(np.square(true - true.mean()).mean())
    mse = float(np.square(errors).mean())
    r2 = 1 - mse / variance if variance > 0 else float("nan")
    return r2, float(errors.mean()), float(np.median(errors))
