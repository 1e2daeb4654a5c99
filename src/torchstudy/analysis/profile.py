"""Where the seconds of trainings went: parts of epochs by family, and workers without work."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from torchstudy.analysis.tables import Results, frame, numbers
from torchstudy.records import PARTS

START = "start"
TIMES = (START, *PARTS)
"""What a training's seconds are divided into: `start` is all that no finished epoch accounts for:
starting the process, opening data, measuring costs, keeping the model, an epoch that was cut off.
"""

SHARE_COLUMNS: dict[str, str] = {
    "family": "string",
    "part": "string",
    "seconds": "float64",
    "share": "float64",
    "trainings": "Int64",
}

KEYS = ["family", "trial", "seed"]
IDLE = "idle"  # in a study's summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Worker-seconds of a search.

    Workers were `busy` training, or had nothing to do: `computing` while a proposal was computed,
    `results` while the next proposal had to wait for a trial that it builds on.
    """

    busy: float
    computing: float
    results: float

    @property
    def waited(self) -> float:
        """Seconds without work, for either reason."""
        return self.computing + self.results

    @property
    def total(self) -> float:
        """Seconds of all workers."""
        return self.busy + self.waited

    @property
    def share(self) -> float:
        """What part of all seconds was waiting, from 0 to 1."""
        return self.waited / self.total


def time_shares(results: Results) -> pd.DataFrame:
    """One row per family and part of `TIMES`: where the time of its trainings went.

    Columns: family (in the study's order), part, seconds, share (of the family's seconds, adding
    up to 1), trainings (of the search and fresh ones, that the family's seconds are sums over).
    Trainings whose epochs were not timed are left out; no rows where none was.
    """
    timed = _timed(results)
    rows = []
    for family in results.families:
        own = timed[timed["family"] == family]
        total = float(own[list(TIMES)].to_numpy().sum())
        if total <= 0:
            continue
        for part in TIMES:
            seconds = float(own[part].sum())
            row = {"family": family, "part": part, "seconds": seconds, "share": seconds / total}
            rows.append({**row, "trainings": len(own)})
    return frame(rows, SHARE_COLUMNS)


def waiting(results: Results) -> Waiting | None:
    """How long workers had nothing to do; None where that was not measured."""
    found = results.summary.get(IDLE)
    if not isinstance(found, Mapping):
        return None
    names = ("busy", "computing", "results")
    measured = Waiting(**{name: float(found.get(name) or 0.0) for name in names})
    return measured if measured.total > 0 else None


def precisions(results: Results) -> dict[str, int]:
    """How many trials multiplied matrices in which precision: `bf16`, `fp32`; unknown ones not."""
    if "precision" not in results.trials:
        return {}
    known = results.trials["precision"].dropna().astype(str)
    counts = known[known != ""].value_counts().sort_index()
    return {str(name): int(n) for name, n in counts.items()}


def _timed(results: Results) -> pd.DataFrame:
    """Family, trial, seed and the seconds of every part, a row per training that was timed."""
    tables = [table[[*KEYS, "seconds"]] for table in (results.trials, results.confirmation)]
    trainings = pd.concat(tables, ignore_index=True)
    joined = trainings.merge(_epoch_sums(results.epochs), on=KEYS, how="left")
    # A training without an epoch was timed if others were: all its seconds went into its start.
    is_timed = joined["timed"] > 0
    if is_timed.any():
        is_timed |= joined["timed"].isna() & (joined["seconds"] > 0)
    own = joined[is_timed].fillna({name: 0.0 for name in ("seconds", "untimed", *PARTS)})
    known = own[["untimed", *PARTS]].sum(axis=1)
    return own.assign(start=(own["seconds"] - known).clip(lower=0.0))


def _epoch_sums(epochs: pd.DataFrame) -> pd.DataFrame:
    """Per training the seconds of every part, of epochs that were not timed, and how many were."""
    parts = pd.DataFrame({part: numbers(epochs, f"seconds_{part}") for part in PARTS})
    timed = parts.notna().any(axis=1)
    table = parts.fillna(0.0).assign(
        untimed=numbers(epochs, "seconds").fillna(0.0).mask(timed, 0.0),
        timed=timed.astype("float64"),
        **{key: epochs[key] for key in KEYS},
    )
    sums: pd.DataFrame = table.groupby(KEYS, sort=False).sum().reset_index()
    return sums
