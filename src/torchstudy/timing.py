"""What `optimize run --profile` prints: where each family's time went."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchstudy.analysis.tables import Results

LEAST = 0.01  # a part below this share in every family is counted as other


def profile_lines(results: "Results") -> tuple[list[str], list[list[str]]]:
    """Header and one line per family: its time, and each part's share of it.

    The total comes first, so that a narrow terminal cuts the parts that matter least. Parts below
    1% in every family are counted as `other`. No lines where nothing was timed.
    """
    from torchstudy.analysis.profile import TIMES, time_shares
    from torchstudy.report.formats import duration, percent

    table = time_shares(results)
    large = set(table.loc[table["share"] >= LEAST, "part"]) - {"other"}
    shown = [part for part in TIMES if part in large]
    lines = []
    for family, own in table.groupby("family", sort=False):
        share = dict(zip(own["part"], own["share"], strict=True))
        rest = sum(share[part] for part in TIMES if part not in large)
        cells = [percent(value) for value in (*(share[part] for part in shown), rest)]
        lines.append([str(family), duration(float(own["seconds"].sum())), *cells])
    return ["family", "total", *shown, "other"], lines
