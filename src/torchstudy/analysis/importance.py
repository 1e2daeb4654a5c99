"""Which hyperparameters mattered: a share per hyperparameter, its uncertainty and a noise floor."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg

from torchstudy.analysis.levelled import levelled
from torchstudy.analysis.tables import CONFIG, Results
from torchstudy.analysis.terms import FEWEST, Term, domains_of, terms_of
from torchstudy.analysis.widths import quantile
from torchstudy.seeds import derive

Array = npt.NDArray[np.float64]
Owner = frozenset[str]

SHUFFLES = 300
FLOOR = 0.97  # of the largest shares in shuffled scores lie below: 95 with a search that adapts
GROUPS = 20  # of trials, left out in turn
MOST = 8  # hyperparameters that may rise above the floor
FULL = 3  # trials per column, at least, of what has risen
RIDGE = 1e-9  # of a column's square: columns that say the same share what they explain
COLUMNS = ["family", "hyperparameter", "importance", "low", "high", "floor", "is_above", "n"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """The columns of a model and whose they are; the trend over the search is nobody's."""

    columns: Array
    owners: tuple[Owner, ...]

    def of(self, names: Owner) -> list[int]:
        """The places of the columns in the model of these hyperparameters and their pairs."""
        return [place for place, owner in enumerate(self.owners) if owner <= names]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Sums of products of columns and scores: all that a least-squares fit needs."""

    n: int
    gram: Array  # (columns, columns)
    cross: Array  # (columns, scores)
    total: Array  # (scores,)

    def without(self, other: "Moments") -> "Moments":
        """The sums over the trials that are not in `other`."""
        return Moments(
            n=self.n - other.n,
            gram=self.gram - other.gram,
            cross=self.cross - other.cross,
            total=self.total - other.total,
        )

    def left_over(self, columns: list[int]) -> Array:
        """The sum of squares that these columns leave, for each column of scores."""
        cross = self.cross[columns]
        found: Array = self.total - (cross * self.solved(columns, cross)).sum(axis=0)
        return np.maximum(found, 0.0)

    def solved(self, columns: list[int], right: Array) -> Array:
        """The coefficients at these columns whose products with them are `right`."""
        gram = self.gram[np.ix_(columns, columns)]
        gram[np.diag_indices_from(gram)] += RIDGE * gram.diagonal() + 1e-12 * self.n
        found: Array
        # scipy.linalg.solve spends ten times as long on its checks as on 30 columns.
        _, found, failed = linalg.lapack.dposv(gram, right)
        if failed:
            raise np.linalg.LinAlgError(f"column {failed} of {len(columns)} says nothing new")
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weighed:
    """What was found about one family; `reason` says why nothing was, else it is empty."""

    family: str
    table: pd.DataFrame  # COLUMNS, the most important first
    reason: str
    trials: pd.DataFrame  # as `levelled` returns it
    terms: list[Term]
    risen: tuple[str, ...] = ()


def importance(results: Results) -> pd.DataFrame:
    """One row per family and hyperparameter that varies, the most important of a family first.

    `importance` is the share of the differences between trials that is lost without the
    hyperparameter: see `weighed`. `low` and `high` are its 95% interval, `floor` what the largest
    of all hyperparameters without effect stays below in 95 of 100 studies, `is_above` whether it
    rises above; `n` counts the trials that have it. All are missing where it cannot be judged.
    """
    tables = [weighed(results, family).table for family in results.families]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def weighed(results: Results, family: str) -> Weighed:
    """The importance of a family's hyperparameters.

    Scores are normal scores of the ranks of `levelled`. They are modelled by least squares: a trend
    over the search, a cubic in every number on its own scale, categories, and products of two
    hyperparameters. The trend keeps a hyperparameter from being credited with what the search
    learned meanwhile about others, beside whose best values it settled.

    Hyperparameters enter one by one, the one that explains most of what is left first, as long as
    it explains more than all but 3% of the largest shares after what is left has been shuffled
    between the trials (Freedman and Lane 1983, doi.org/10.1080/07350015.1983.10509354; the largest
    of all hyperparameters as in Westfall and Young 1993). In 152 of 6,000 simulated studies of
    20, 40 and 100 trials any hyperparameter without effect stood above it, and each of them in 1%
    of 400 studies at most.

    The importance of each is what the model of those that entered explains more with it than
    without it, less what chance explains with as many columns, as a share of the variance around
    the trend. Intervals are a jackknife's that leaves out a twentieth of the trials at a time.
    benchmarks/importance.json has counts, and those of a forest.
    """
    space = (results.summary["families"].get(family) or {}).get("space") or {}
    domains = {name: domain for name, domain in domains_of(space).items() if domain.size > 1}
    trials = levelled(results, family)
    reason = _reason(trials, list(domains))
    terms = [] if reason else terms_of(domains, trials)
    if not reason and not terms:
        reason = f"no hyperparameter took two values in {FEWEST} trials"
    found = Weighed(
        family=family, table=_unseen(family, list(domains), trials), reason=reason,
        trials=trials, terms=terms,
    )  # fmt: skip
    return found if reason else _seen(found)


def design_of(terms: Sequence[Term], risen: Owner, n: int) -> Design:
    """The trend, every term, and the products of those that have risen with every other."""
    columns: list[Array] = [np.column_stack([np.ones(n), np.linspace(-1, 1, n)])]
    owners: list[Owner] = [frozenset()] * 2
    for place, term in enumerate(terms):
        columns.append(term.main)
        owners += [frozenset({term.name})] * term.main.shape[1]
        for other in terms[:place]:
            if risen & {term.name, other.name} and _pairs(term, other):
                product = term.pairing[:, :, None] * other.pairing[:, None, :]
                columns.append(product.reshape(n, -1))
                owners += [frozenset({term.name, other.name})] * columns[-1].shape[1]
    return Design(columns=np.hstack(columns), owners=tuple(owners))


def moments_of(columns: Array, scores: Array) -> Moments:
    """The sums over these trials; `scores` (trials, any number)."""
    return Moments(
        n=len(columns),
        gram=columns.T @ columns,
        cross=columns.T @ scores,
        total=(scores**2).sum(axis=0),
    )


def shares(moments: Moments, design: Design, risen: Owner, names: Sequence[str]) -> Array:
    """For each name and column of scores, what the model of `risen` explains more with it.

    As a share of what the trend leaves; 0 in expectation without an effect, NaN where there are too
    few trials for so many columns.
    """
    whole = moments.left_over(design.of(frozenset()))
    inside = design.of(risen)
    kept = moments.left_over(inside)
    found = np.full((len(names), moments.cross.shape[1]), np.nan)
    for place, name in enumerate(names):
        other = design.of(risen ^ {name})
        fewer, more = sorted((inside, other), key=len)
        freedom = moments.n - len(more)
        if len(more) * FULL > moments.n + FULL * FEWEST // 2:
            continue
        left = moments.left_over(other)
        before, rest = (left, kept) if name in risen else (kept, left)
        by_chance = (len(more) - len(fewer)) * rest / freedom
        found[place] = (before - rest - by_chance) / np.maximum(whole, np.finfo(float).tiny)
    return found


def _reason(trials: pd.DataFrame, names: list[str]) -> str:
    if not names:
        return "nothing varies in its space"
    if len(trials) < FEWEST:
        return f"{len(trials)} trials with a result are too few: {FEWEST} are needed"
    if trials["standing"].nunique() < 2:
        return f"all {len(trials)} trials have the same score"
    return ""


def _unseen(family: str, names: list[str], trials: pd.DataFrame) -> pd.DataFrame:
    """The table before anything is known."""
    table = pd.DataFrame({"hyperparameter": pd.array(names, dtype="string")})
    counts = [
        int(trials[f"{CONFIG}{n}"].notna().sum()) if f"{CONFIG}{n}" in trials else 0 for n in names
    ]
    blank = dict.fromkeys(["importance", "low", "high", "floor"], np.nan)
    return table.assign(family=family, **blank, is_above=False, n=counts)[COLUMNS]


def _seen(found: Weighed) -> Weighed:
    names = [term.name for term in found.terms]
    scores = found.trials["standing"].to_numpy(dtype="float64")
    generator = np.random.default_rng(derive(0, "importance", len(scores)))
    orders = np.argsort(generator.random((len(scores), SHUFFLES)), axis=0)
    risen = _risen(found.terms, scores, orders)
    design = design_of(found.terms, frozenset(risen), len(scores))
    moments = moments_of(design.columns, scores[:, None])
    values = shares(moments, design, frozenset(risen), names)[:, 0]
    floor = _floor(design, moments, scores, orders, risen, names)
    error = _errors(design, scores, risen, names)
    known = pd.DataFrame(
        {
            "importance": values,
            "low": (values - error).clip(0, 1),
            "high": (values + error).clip(0, 1),
        },
        index=names,
    )
    table = found.table.set_index("hyperparameter", drop=False)
    for column in known:
        table[column] = known[column].reindex(table.index)
    above = (table["importance"] > floor).to_numpy()
    table = table.assign(
        importance=table["importance"].clip(0, 1), floor=floor, is_above=above
    ).sort_values("importance", ascending=False, kind="stable", na_position="last")
    return replace(found, table=table.reset_index(drop=True), risen=tuple(risen))


def _risen(terms: Sequence[Term], scores: Array, orders: npt.NDArray[np.int64]) -> list[str]:
    """The hyperparameters above the floor, in the order in which they enter.

    One whose share fell below the floor beside those that came later is taken out again.
    """
    risen: list[str] = []
    names = [term.name for term in terms]
    floor = np.inf
    while len(risen) < MOST:
        design = design_of(terms, frozenset(risen), len(scores))
        moments = moments_of(design.columns, scores[:, None])
        rest = [name for name in names if name not in risen]
        values = shares(moments, design, frozenset(risen), rest)[:, 0]
        if not np.isfinite(values).any():
            break
        floor = _floor(design, moments, scores, orders, risen, names)
        best = int(np.nanargmax(values))
        if not values[best] > floor:
            break
        risen.append(rest[best])
    return _kept(terms, scores, risen, floor)


def _kept(terms: Sequence[Term], scores: Array, risen: list[str], floor: float) -> list[str]:
    while risen:
        design = design_of(terms, frozenset(risen), len(scores))
        moments = moments_of(design.columns, scores[:, None])
        values = shares(moments, design, frozenset(risen), risen)[:, 0]
        worst = int(np.argmin(values))
        if values[worst] > floor:
            break
        risen = [name for name in risen if name != risen[worst]]
    return risen


def _floor(
    design: Design,
    moments: Moments,
    scores: Array,
    orders: npt.NDArray[np.int64],
    risen: Sequence[str],
    names: Sequence[str],
) -> float:
    """The 97% quantile of the largest share of the other hyperparameters in shuffled scores."""
    inside = design.of(frozenset(risen))
    fitted = design.columns[:, inside] @ moments.solved(inside, moments.cross[inside, 0])
    left = (scores - fitted) * np.sqrt(len(scores) / max(len(scores) - len(inside), 1))
    shuffled = moments_of(design.columns, fitted[:, None] + left[orders])
    rest = [name for name in names if name not in risen] or list(names)
    found = shares(shuffled, design, frozenset(risen), rest)
    found = found[np.isfinite(found).all(axis=1)]
    return min(1.0, float(np.quantile(found.max(axis=0), FLOOR))) if len(found) else 1.0


def _errors(design: Design, scores: Array, risen: Sequence[str], names: Sequence[str]) -> Array:
    """Half the widths of 95% intervals: a jackknife over groups of trials, and Student's t.

    Infinite where too few trials are left without a group: then any share is possible.
    """
    groups = min(GROUPS, len(scores))
    parts = [
        moments_of(design.columns[start::groups], scores[start::groups, None])
        for start in range(groups)
    ]
    whole = moments_of(design.columns, scores[:, None])
    found = np.column_stack(
        [shares(whole.without(part), design, frozenset(risen), names)[:, 0] for part in parts]
    )
    spread = found - found.mean(axis=1, keepdims=True)
    error = np.sqrt((groups - 1) / groups * (spread**2).sum(axis=1))
    half = np.asarray(quantile(groups - 1) * error)
    return np.where(np.isfinite(half), half, np.inf)


def _pairs(one: Term, other: Term) -> bool:
    """Whether their product says something new and takes few columns.

    That of two with categories takes many, that of a hyperparameter with the one under whose value
    it exists repeats its own.
    """
    parents = {parent for term in (one, other) for parent, _ in term.domain.when}
    return not (one.levels and other.levels) and not parents & {one.name, other.name}
