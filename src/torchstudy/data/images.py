"""What a user says about the data of a study: where they are, what they are, how they are split."""

import os
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, TypeAlias

from torchstudy.data.spec import Task
from torchstudy.errors import DataError, did_you_mean

MIN_SIZE = 4
POLICIES = ("error", "skip")
SPLITS = ("train", "valid", "select", "test")
KINDS = ("number", "category", "image", "ignore")
TASKS = ("classification", "regression")
OF_TABLES = ("target", "columns", "task", "log_target")  # fields that say nothing without a table

Source: TypeAlias = str | os.PathLike[str] | Callable[[], Any]  # a table, or images and labels


@dataclass(frozen=True, slots=True)
class Images:
    """Where the data of a study come from, and how they are prepared and split.

    `source` is a known name (`"digits"`, `"fashion-mnist"`), a folder with one folder per class, an
    archive of such a folder, or a function returning (uint8 images (N, H, W) or (N, H, W, C),
    labels); labels that are no whole numbers are quantities to predict. `train`, `valid`, `select`
    and `test` are counts or fractions of what is available.

    With `target`, the name of the column to predict, the source is a table: a CSV file, a folder or
    archive that holds one, or a function returning a DataFrame. `columns` says what its columns are
    where that is not plain: `{"zipcode": "category", "id": "ignore"}`, or "number", or "image" for
    paths of images, relative to the CSV file and below its folder (those of a function's table may
    lie anywhere); a row may have several. `task` is "classification" or "regression", by default
    what the target looks like; with `log_target` its natural logarithm is predicted.
    """

    source: Source
    _: KW_ONLY
    size: int | None = None  # None: as stored, for folders 64
    channels: int | None = None  # None: as stored, for folders 1 when every image is grey, else 3
    train: int | float | None = None
    valid: int | float | None = None
    select: int | float | None = None
    test: int | float | None = None
    on_bad_image: str = "error"
    target: str | None = None
    columns: Mapping[str, str] | None = None
    task: Task | None = None
    log_target: bool = False

    @classmethod
    def of(cls, data: object) -> "Images":
        """`data` itself when it is an `Images`, else an `Images` of that name, path or function."""
        if isinstance(data, cls):
            return data
        if isinstance(data, str | os.PathLike) or callable(data):
            return cls(data)
        raise DataError(f"data: {_ACCEPTED}, not {_shown(data)}")

    def problems(self) -> list[str]:
        """One sentence for each thing that cannot work whatever the images are."""
        found = [*self.source_problems(), *self._shape_problems(), *self._table_problems()]
        for split in SPLITS:
            found += _split_problems(split, getattr(self, split))
        given = {split: getattr(self, split) for split in SPLITS}
        fractions = {name: value for name, value in given.items() if _is_fraction(value)}
        if sum(fractions.values()) > 1 + 1e-9:
            listed = ", ".join(f"{name} {value:g}" for name, value in fractions.items())
            found.append(f"data: the fractions add up to more than 1 ({listed})")
        if self.on_bad_image not in POLICIES:
            hint = did_you_mean(self.on_bad_image, POLICIES)
            found.append(
                f"data: on_bad_image is 'error' or 'skip', not {_shown(self.on_bad_image)}{hint}"
            )
        return found

    def describe(self) -> dict[str, object]:
        """The declaration as JSON values; equal declarations give equal descriptions."""
        stated = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in OF_TABLES:
            if not stated[name]:
                del stated[name]
        if self.columns:
            stated["columns"] = dict(self.columns)
        return {**stated, "source": source_title(self.source)}

    def source_problems(self) -> list[str]:
        """What keeps the source from being looked up at all."""
        if isinstance(self.source, str | os.PathLike):
            path = os.fspath(self.source)
            if not path.strip() or "\0" in path:
                return [f"data: {path!r} is no name or path"]
            return []
        return [] if callable(self.source) else [f"data: {_ACCEPTED}, not {_shown(self.source)}"]

    def _table_problems(self) -> list[str]:
        if self.target is None:
            given = [name for name in OF_TABLES if getattr(self, name)]
            return [f"data: {name} is for tables; name the target= column too" for name in given]
        if not isinstance(self.target, str) or not self.target:
            return [f"data: target is the name of a column, not {_shown(self.target)}"]
        found = []
        if not isinstance(self.log_target, bool):
            found.append(f"data: log_target is True or False, not {_shown(self.log_target)}")
        elif self.log_target and self.task == "classification":
            found.append("data: log_target is for numbers, but task is 'classification'")
        if self.task not in (None, *TASKS):
            hint = did_you_mean(str(self.task), TASKS)
            found.append(
                f"data: task is 'classification' or 'regression', not {_shown(self.task)}{hint}"
            )
        if not isinstance(self.columns, Mapping | None):
            return [*found, f"data: columns maps names to kinds, not {_shown(self.columns)}"]
        for name, kind in (self.columns or {}).items():
            if not isinstance(name, str):
                found.append(f"data: columns names columns by text, not {_shown(name)}")
            if kind not in KINDS:
                kinds = ", ".join(map(repr, KINDS))
                hint = did_you_mean(str(kind), KINDS)
                found.append(f"data: column {name!r} is one of {kinds}, not {_shown(kind)}{hint}")
        return found

    def _shape_problems(self) -> list[str]:
        found = []
        if self.size is not None and (not _is_count(self.size) or self.size < MIN_SIZE):
            found.append(
                f"data: size is a whole number of pixels from {MIN_SIZE}, not {_shown(self.size)}"
            )
        if self.channels is not None and (
            not _is_count(self.channels) or self.channels not in (1, 3)
        ):
            found.append(
                f"data: channels is 1 (grey), 3 (colour) or None, not {_shown(self.channels)}"
            )
        return found


_ACCEPTED = "images are a name, a folder, an archive or a function that returns (images, labels)"


def source_title(source: Source) -> str:
    """What to call a source: the name or path as given, or the function's name."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "__qualname__", type(source).__qualname__))


def _split_problems(split: str, value: object) -> list[str]:
    if value is None or (_is_count(value) and value >= 1):  # type: ignore[operator]
        return []
    if _is_fraction(value) and 0 < value < 1:  # type: ignore[operator]
        return []
    wanted = "a count from 1 or a fraction between 0 and 1"
    return [f"data: {split} is {wanted}, not {_shown(value)}"]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_fraction(value: object) -> bool:
    return isinstance(value, float)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
