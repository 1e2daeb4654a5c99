"""How a search went: where its decisions came from, and whether what it expected came true."""

import pandas as pd

from torchstudy.analysis.outlook import LATEST, likely_gain
from torchstudy.analysis.tables import Results
from torchstudy.records import AT_MOST_ONE, Status

BANDS = {0.5: 0.6745, 0.9: 1.6449}  # share of a normal distribution -> standard deviations

EXPECTATION_COLUMNS = ("family", "trial", "origin", "expected", "spread", "at_the_end", "deviation")


def by_origin(results: Results) -> pd.DataFrame:
    """Per family and origin: how many decisions, and the best value that their legs have reached.

    Columns: family, origin, decisions, best (NaN where none has ended), in order of appearance.
    """
    table, sign = results.proposals, results.objective.sign
    signed = table.assign(signed=sign * table["seen"])
    grouped = signed.groupby(["family", "origin"], sort=False, observed=True)
    counted = grouped.agg(decisions=("decision", "size"), best=("signed", "max")).reset_index()
    counted["best"] = sign * counted["best"]
    return counted


def expectations(results: Results) -> pd.DataFrame:
    """What was last expected of every completed trial, and what it reached.

    Columns: family, trial, origin, expected and spread (median, half the middle 68%), at_the_end,
    and deviation, the difference in spreads. Trials of which nothing was expected are left out.
    """
    table = results.proposals
    known = table[table["expected"].notna() & table["spread"].gt(0) & table["at_the_end"].notna()]
    last = known.sort_values("decision", kind="stable").groupby(["family", "trial"]).tail(1)
    found = last.assign(deviation=(last["at_the_end"] - last["expected"]) / last["spread"])
    return found[list(EXPECTATION_COLUMNS)].reset_index(drop=True)


def inside(expected: pd.DataFrame) -> dict[float, int]:
    """How many trials ended in the middle 50% and 90% of what was expected of them."""
    deviations = expected["deviation"].abs()
    return {share: int((deviations <= width).sum()) for share, width in BANDS.items()}


def epochs_spent(results: Results) -> tuple[int, int]:
    """Epochs that the search's trials have had, and those that all would have to their end.

    A trial that was completed is at its end, however early that was.
    """
    epochs = results.trials["epochs"].fillna(0)
    full = int((results.summary.get("budget") or {}).get("epochs") or epochs.max() or 0)
    is_done = results.trials["status"] == Status.COMPLETED.value
    return int(epochs.sum()), int(epochs.where(is_done, full).sum())


def outlook(results: Results) -> pd.DataFrame:
    """What as many trials again would probably gain, per family: columns family, trials, gain.

    `gain` is the 90% quantile of how far the best of so many trials would be above the best so far,
    if each were like one of the latest five that the model proposed: drawn from what it expected
    of them. It is on the objective's scale, 0 or more, and no more than there can be. Families
    without five such trials are left out.
    """
    rows, sign = [], results.objective.sign
    proposed = results.proposals[results.proposals["origin"] == "model"]
    for family in results.families:
        own = proposed[(proposed["family"] == family) & proposed["spread"].gt(0)]
        values = (sign * results.values[results.trials["family"] == family]).dropna()
        if len(own) < LATEST or values.empty:
            continue
        latest = own.sort_values("decision").tail(LATEST)
        gain = likely_gain(
            (sign * latest["expected"]).tolist(),
            latest["spread"].tolist(),
            best=float(values.max()),
            count=len(values),
        )
        if results.objective.metric in AT_MOST_ONE:
            gain = min(gain, 1.0 - float(values.max()))
        rows.append({"family": family, "trials": len(values), "gain": gain})
    return pd.DataFrame(rows, columns=["family", "trials", "gain"])
