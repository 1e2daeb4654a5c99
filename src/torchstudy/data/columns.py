"""What the columns of a table are: numbers, categories, images, the target; and what is wrong."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.pictures import SUFFIXES
from torchstudy.data.spec import Task
from torchstudy.data.words import numbers_of, word, words_of
from torchstudy.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

MOST_CLASSES = 20  # whole numbers with more distinct values than this are quantities, not classes
MOSTLY_NUMBERS = 0.8  # of a column of text: the rest are typing errors
LONGEST_CATEGORY = 200  # characters; prose is no category, and would fill the memory
LARGEST = float(np.finfo(np.float32).max)  # networks compute in 32 bits
SMALLEST = float(np.finfo(np.float32).tiny)  # what is nearer to 0 loses digits
TOO_COARSE = 1e-3  # of the spread of a target: more rounding than that shows in scores
MOST_PROBLEMS = 20  # in one message
SHOWN = 3  # rows named in a message
PLAIN = {
    "integer": "number",
    "floating": "number",
    "mixed-integer-float": "number",
    "decimal": "number",
    "empty": "number",
    "boolean": "category",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column is what, in the order of the table, and what is predicted."""

    target: str
    task: Task
    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    images: tuple[str, ...]


def columns_of(
    table: "pd.DataFrame",
    *,
    title: str,
    target: str,
    kinds: Mapping[str, str],
    task: Task | None,
    log_target: bool,
) -> tuple[Columns, list[str]]:
    """The columns as declared in `kinds` or as their values suggest, and all that is wrong.

    Text that ends like the name of an image is an image, other text and booleans are categories,
    numbers are numbers. A target of text or booleans is a class; of whole numbers, where there are
    at most 20 different ones; otherwise it is a quantity. DataError: columns that are not there.
    """
    names = list(table.columns)
    if unknown := [*_name_problems(names, title, target, kinds)]:
        raise DataError(_first(unknown, title))
    kind_of = {name: kinds.get(name) or looks_like(table[name]) for name in names if name != target}
    chosen = {
        kind: tuple(name for name, of in kind_of.items() if of == kind)
        for kind in ("number", "category", "image")
    }
    columns = Columns(
        target=target,
        task=task or _task(table[target]),
        numbers=chosen["number"],
        categories=chosen["category"],
        images=chosen["image"],
    )
    problems = [
        *_target_problems(table[target], title, columns.task, log_target=log_target),
        *(p for name, kind in kind_of.items() for p in _problems(table[name], title, kind)),
    ]
    if not any((*chosen.values(), problems)):
        problems.append(f"data: {title} has no column to predict {target!r} from")
    return columns, _first(problems, title)


def number_problems(column: "pd.Series[Any]", where: str, remedy: str) -> Iterator[str]:
    """Entries of a column of numbers that are none: text, or infinite. Missing ones are fine."""
    if looks_like(column) == "":
        yield f"{where} holds {_held(column)}, not numbers; {remedy}"
        return
    values = numbers_of(column)
    text = np.isnan(values) & ~column.isna().to_numpy()
    if text.any():
        yield f"{where} holds numbers, but {rows_with(column, text)}; {remedy}"
    elif (endless := np.abs(values) > LARGEST).any():
        yield f"{where} is infinite or too large: {rows_with(column, endless)}; {remedy}"


def rows_with(column: "pd.Series[Any]", chosen: NDArray[np.bool_]) -> str:
    """The chosen rows, counted from 1 below the header, the first few with their values."""
    places = np.flatnonzero(chosen)
    shown = [f"row {at + 1} has {str(column.iloc[at])[:40]!r}" for at in places[:SHOWN]]
    return ", ".join(shown) + _more(len(places))


def _first(problems: list[str], title: str) -> list[str]:
    """The first problems, and how many more there are: a table may have thousands of columns."""
    more = len(problems) - MOST_PROBLEMS
    rest = [f"data: {title} has {more} more problems like these"] if more > 0 else []
    return [*problems[:MOST_PROBLEMS], *rest]


def _name_problems(
    names: Sequence[str], title: str, target: str, kinds: Mapping[str, str]
) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"data: {title} has the column {name!r} twice"
    for role, name in (("target", target), *(("columns", name) for name in kinds)):
        if name not in names:
            hint = did_you_mean(name, names)
            has = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            yield f"data: {role} names {name!r}, which {title} has not{hint}; it has {has}"
    if kinds.get(target):
        yield f"data: columns gives a kind to the target {target!r}; say task= instead"


def looks_like(column: "pd.Series[Any]") -> str:
    """What a column looks like: number, category or image; empty for dates and other things."""
    import pandas as pd

    types, dtype = pd.api.types, column.dtype
    if types.is_bool_dtype(dtype) or isinstance(dtype, pd.CategoricalDtype):
        return "category"
    if types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype):
        return "number"
    present = column.dropna()
    held = types.infer_dtype(present, skipna=True)
    if held not in ("string", "mixed", "mixed-integer"):
        return PLAIN.get(held, "")
    if not all(isinstance(value, str | int | float | np.number) for value in present):
        return ""
    if present.astype(str).str.strip().str.lower().str.endswith(SUFFIXES).mean() > 0.5:
        return "image"
    share = float((~np.isnan(numbers_of(present))).mean())
    return "number" if MOSTLY_NUMBERS <= share < 1 else "category"  # "0815" was meant as text


def _task(target: "pd.Series[Any]") -> Task:
    if looks_like(target) != "number":
        return "classification"
    values = numbers_of(target.dropna())
    values = values[np.isfinite(values)]
    is_whole = bool((values % 1 == 0).all())
    return "classification" if is_whole and len(np.unique(values)) <= MOST_CLASSES else "regression"


def _problems(column: "pd.Series[Any]", title: str, kind: str) -> Iterator[str]:
    where, name = f"data: column {column.name!r} of {title}", column.name
    ignore = f"declare columns={{{name!r}: 'ignore'}}"
    if kind == "number":
        remedy = f"correct them, or declare columns={{{name!r}: 'category'}}"
        yield from number_problems(column, where, remedy)
    elif kind == "category":
        lengths = column.dropna().astype(str).str.len().to_numpy()
        if len(lengths) and lengths.max() > LONGEST_CATEGORY:
            yield f"{where} holds texts of up to {lengths.max()} characters; {ignore}"
    elif kind == "":
        yield f"{where} holds {_held(column)}, neither numbers nor text; convert it, or {ignore}"


def _held(column: "pd.Series[Any]") -> str:
    """What a column holds that is neither numbers nor text."""
    value = column.dropna().iloc[0]
    return f"entries of type {type(value).__name__} ({str(value)[:40]!r})"


def _target_problems(
    target: "pd.Series[Any]", title: str, task: Task, *, log_target: bool
) -> Iterator[str]:
    where = f"data: target {target.name!r} of {title}"
    missing = np.array([not entry for entry in words_of(target)])
    if missing.any():
        places = np.flatnonzero(missing)
        shown = ", ".join(f"row {at + 1}" for at in places[:SHOWN])
        yield f"{where} is missing in {shown}{_more(len(places))}; complete or remove them"
    elif looks_like(target) == "":
        yield f"{where} holds {_held(target)}, neither numbers nor text"
    elif target.nunique() < 2:
        yield f"{where} has one value only, {word(target.iloc[0])!r}; there is nothing to learn"
    elif task == "classification":
        if log_target:
            yield f"{where} is a class: log_target is for numbers; say task='regression'"
    else:
        yield from _quantity_problems(target, where, log_target=log_target)


def _quantity_problems(target: "pd.Series[Any]", where: str, *, log_target: bool) -> Iterator[str]:
    values = numbers_of(target)
    if np.isnan(values).any():
        yield f"{where} is to be a number, but {rows_with(target, np.isnan(values))}"
    elif (endless := np.abs(values) > LARGEST).any():
        yield f"{where} is infinite or too large: {rows_with(target, endless)}"
    elif log_target and (values <= 0).any():
        wrong = rows_with(target, values <= 0)
        yield f"{where} has no logarithm: {wrong}; correct them, or leave log_target out"
    else:
        yield from _precision_problems(values, where, log_target=log_target)


def _precision_problems(
    values: NDArray[np.float64], where: str, *, log_target: bool
) -> Iterator[str]:
    """Quantities, finite and with a logarithm if that is wanted, too alike or small for 32 bits."""
    if not np.ptp(values):
        yield f"{where} has one value only, {values[0]:.6g}; there is nothing to learn"
    elif not log_target and np.abs(values).max() < SMALLEST:
        yield (
            f"{where} has values too small for networks, which compute in 32 bits: the largest is "
            f"{np.abs(values).max():.2g}; multiply them by a constant"
        )
    elif not (gap := coarseness(np.log(values) if log_target else values)) <= TOO_COARSE:
        change = "divide them by a constant" if log_target else "take a constant off them"
        yield (
            f"{where} has {'logarithms' if log_target else 'values'} so large for how little they "
            f"differ that networks, which compute in 32 bits, would round them by up to {gap:.2g} "
            f"of their spread; {change}, as {np.median(values):.4g}"
        )


def coarseness(values: NDArray[np.float64]) -> float:
    """How much 32 bits round the largest of some values, as a share of their spread.

    Infinite where 64 bits know no spread.
    """
    largest, spread = np.float32(np.abs(values).max()), float(values.std())
    return float(np.spacing(largest)) / 2 / spread if spread else float("inf")


def _more(count: int) -> str:
    return f" and {count - SHOWN} more" if count > SHOWN else ""
