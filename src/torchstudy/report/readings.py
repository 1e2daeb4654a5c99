"""How often the test split was read, when, and by which process, in sentences."""

from collections.abc import Iterator

import pandas as pd

from torchstudy.report.formats import called, counted, joined
from torchstudy.report.story import Story


def repeated_readings(story: Story) -> Iterator[str]:
    """A warning for every family of which the test split was read more than once.

    One configuration with all its seeds is one reading.
    """
    for family in story.results.families:
        read = _of(story, family)
        total = int(read["readings"].sum())
        if total < 2:
            continue
        trials = joined([str(number) for number in read["trial"]])
        what = "trial" if len(read) == 1 else "trials"
        last = read["tested"].max()
        yield (
            f"The test split has been read {counted(total, 'time')} for {called(family)} ({what} "
            f"{trials}; last on {last:%Y-%m-%d %H:%M} UTC): what an earlier reading showed may "
            "have led to the later one, so its score promises less than a first one would."
        )


def readings(story: Story) -> Iterator[str]:
    """When the test split was read for each family, and by what; nothing where it was not."""
    for family in story.results.families:
        for row in _of(story, family).to_dict("records"):
            by = f" by {row['tested_by']}" if row["tested_by"] else ""
            yield (
                f"{called(family)}: trial {row['trial']} on {row['tested']:%Y-%m-%d %H:%M} UTC{by}"
            )


def _of(story: Story, family: str) -> pd.DataFrame:
    """A family's configurations of which test was read: trial, readings, tested, tested_by."""
    table = story.results.confirmation
    own = table[table["family"].eq(family).fillna(False).astype(bool) & table["readings"].gt(0)]
    ordered = own.sort_values("tested", kind="stable").fillna({"tested_by": ""})
    grouped = ordered.groupby("trial", sort=False)
    return grouped.agg(
        readings=("readings", "max"), tested=("tested", "max"), tested_by=("tested_by", "last")
    ).reset_index()
