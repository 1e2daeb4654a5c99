"""What the columns of a table are: numbers, categories, images, the target; and what is wrong."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchstudy.data.pictures import SUFFIXES
from torchstudy.data.spec import Task
from torchstudy.data.words import word
from torchstudy.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

MOST_CLASSES = 20  # whole numbers with more distinct values than this are quantities, not classes
SHOWN = 3  # rows named in a message


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
) -> Columns:
    """The columns as declared in `kinds` or as their values suggest; DataError lists all problems.

    Text that ends like the name of an image is an image, other text and booleans are categories,
    numbers are numbers. A target of text or booleans is a class; of whole numbers, where there are
    at most 20 different ones; otherwise it is a quantity.
    """
    names = [str(name) for name in table.columns]
    problems = [*_name_problems(names, title, target, kinds)]
    if problems:
        raise DataError(problems)
    kind_of = {name: kinds.get(name) or _kind(table[name]) for name in names if name != target}
    chosen = task or _task(table[target])
    columns = Columns(
        target=target,
        task=chosen,
        numbers=tuple(name for name, kind in kind_of.items() if kind == "number"),
        categories=tuple(name for name, kind in kind_of.items() if kind == "category"),
        images=tuple(name for name, kind in kind_of.items() if kind == "image"),
    )
    problems = [
        *_target_problems(table[target], title, chosen, log_target=log_target),
        *(p for name in columns.numbers for p in number_problems(table[name], title)),
        *(p for name in columns.images for p in _missing_paths(table[name], title)),
    ]
    if not (columns.numbers or columns.categories or columns.images):
        problems.append(f"data: {title} has no column to predict {target!r} from")
    if problems:
        raise DataError(problems)
    return columns


def number_problems(column: "pd.Series[Any]", title: str) -> Iterator[str]:
    """Entries of a column of numbers that are none: text, or infinite. Missing ones are fine."""
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").astype("float64")
    text = values.isna() & ~column.isna()
    if text.any():
        yield (
            f"data: column {column.name!r} of {title} holds numbers, but {_rows(column, text)}; "
            f"correct them, or declare columns={{{column.name!r}: 'category'}}"
        )
    elif (endless := np.isinf(values)).any():
        yield f"data: column {column.name!r} of {title} is infinite: {_rows(column, endless)}"


def _name_problems(
    names: Sequence[str], title: str, target: str, kinds: Mapping[str, str]
) -> Iterator[str]:
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield f"data: {title} has the column {name!r} twice"
    for role, name in (("target", target), *(("columns", name) for name in kinds)):
        if name not in names:
            hint = did_you_mean(name, names)
            has = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            yield f"data: {role} names {name!r}, which {title} has not{hint}; it has {has}"
    if kinds.get(target):
        yield f"data: columns gives a kind to the target {target!r}; say task= instead"


def _kind(column: "pd.Series[Any]") -> str:
    import pandas as pd

    if pd.api.types.is_bool_dtype(column):
        return "category"
    if pd.api.types.is_numeric_dtype(column):
        return "number"
    present = column.dropna().astype(str)
    share = present.str.lower().str.endswith(SUFFIXES).mean() if len(present) else 0.0
    if share > 0.5:
        return "image"
    as_numbers = pd.to_numeric(present, errors="coerce").notna().mean() if len(present) else 0.0
    return "number" if as_numbers > 0.5 else "category"  # a few typing errors among numbers


def _task(target: "pd.Series[Any]") -> Task:
    import pandas as pd

    if pd.api.types.is_bool_dtype(target) or not pd.api.types.is_numeric_dtype(target):
        return "classification"
    values = target.dropna()
    is_whole = bool((values % 1 == 0).all())
    return "classification" if is_whole and values.nunique() <= MOST_CLASSES else "regression"


def _target_problems(
    target: "pd.Series[Any]", title: str, task: Task, *, log_target: bool
) -> Iterator[str]:
    import pandas as pd

    where = f"data: target {target.name!r} of {title}"
    if target.isna().any():
        yield f"{where} is missing in {_rows(target, target.isna(), with_values=False)}"
        return
    if target.nunique() < 2:
        yield f"{where} has one value only, {word(target.iloc[0])!r}"
        return
    if task == "classification":
        if log_target:
            yield f"{where} is a class: log_target is for numbers"
        return
    values = pd.to_numeric(target, errors="coerce").astype("float64")
    if values.isna().any():
        yield f"{where} is to be a number, but {_rows(target, values.isna())}"
    elif np.isinf(values).any():
        yield f"{where} is infinite: {_rows(target, np.isinf(values))}"
    elif log_target and (values <= 0).any():
        yield f"{where} has no logarithm: {_rows(target, values <= 0)}"


def _missing_paths(column: "pd.Series[Any]", title: str) -> Iterator[str]:
    if column.isna().any():
        rows = _rows(column, column.isna(), with_values=False)
        yield f"data: column {column.name!r} of {title} names no image in {rows}"


def _rows(column: "pd.Series[Any]", chosen: Any, *, with_values: bool = True) -> str:
    """The chosen rows, counted from 1 below the header, the first few with their values."""
    places = np.flatnonzero(np.asarray(chosen))
    shown = [
        f"row {place + 1} has {str(column.iloc[place])[:40]!r}"
        if with_values
        else f"row {place + 1}"
        for place in places[:SHOWN]
    ]
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    return ", ".join(shown) + more


def paths_of(table: "pd.DataFrame", columns: Columns, folder: Path) -> list[str]:
    """The image files row by row, one per image column, relative ones below `folder`."""
    wanted = table[list(columns.images)].astype(str)
    return [str(folder / name) for row in wanted.itertuples(index=False) for name in row]
