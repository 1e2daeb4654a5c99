"""What a saved model says of image files and of the rows of a table, in batches, as a table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from torchstudy.data.ahead import Picture, pictures_ahead
from torchstudy.data.decoding import Progress
from torchstudy.data.given import Place, image_files
from torchstudy.data.listing import BadImage
from torchstudy.errors import DataError, StudyError, did_you_mean
from torchstudy.models.answering import BATCH_SIZE, Model
from torchstudy.models.making import rebuilt
from torchstudy.visible import storable

if TYPE_CHECKING:
    import pandas as pd

DOING = "predict"

Row: TypeAlias = dict[str, object]
Keep: TypeAlias = Callable[[str, Tensor], None]


@dataclass(slots=True, kw_only=True)
class Asked:
    """How to ask, and what is noticed on the way.

    `keep(file, image)` gets what becomes of an image, uint8 (channels, height, width), where that
    is what the model is for.
    """

    model: Model
    top: int = 1
    batch_size: int = BATCH_SIZE
    calibrated: bool = True
    unknown: Literal["error", "other"] = "error"
    progress: Progress | None = None
    keep: Keep | None = None
    files: list[str] = field(default_factory=list)
    greys: int = 0
    read: int = 0
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("top", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                shown = name.replace("_", "-")
                raise StudyError(f"{shown}: must be a whole number above 0; got {value!r}")
        if self.model.family.goal == "generation":
            raise StudyError(
                f"{_name(self.model)} makes new images from noise and looks at none: say how many "
                "with --samples 64, or samples(64) in Python"
            )

    @property
    def notes(self) -> list[str]:
        """Sentences on images that are all of another kind than the model takes."""
        channels = self.model.data.channels
        if self.read and channels == 3 and self.greys == self.read:
            return ["every image is grey, but the model takes images in colour"]
        if self.read and channels == 1 and not self.greys:
            return ["every image is in colour, but the model takes grey ones: they were made grey"]
        return []

    def table(self) -> "pd.DataFrame":
        """All rows as a data frame; `problem`, the last column, says why one has no answer."""
        import pandas as pd

        names = dict.fromkeys(name for row in self.rows for name in row if name != "problem")
        found = pd.DataFrame(self.rows, columns=[*names, "problem"])
        return found.astype({"problem": "string"})


def answer_files(asked: Asked, places: Sequence[Place]) -> None:
    """Add a row for every image file that the places mean, then one for each that means none."""
    model = asked.model
    if takes_table(model):
        raise StudyError(
            f"{_name(model)} takes rows of a table, not images alone: give a CSV file with "
            f"{_columns(model)} by --table FILE.csv"
        )
    if not model.family.uses_images(model.data):
        raise StudyError(f"{_name(model)} looks at no images")
    files, missing = image_files(places)
    asked.files += files
    asked.rows += [{"file": one.name, "problem": one.reason} for one in missing]
    done = 0
    for batch in pictures_ahead(files, model.data.shape, asked.batch_size):
        names = files[done : done + len(batch)]
        asked.rows += _file_rows(asked, names, batch)
        done += len(batch)
        if asked.progress is not None:
            asked.progress(DOING, done, len(files))


def answer_table(asked: Asked, table: "pd.DataFrame", folder: Path) -> None:
    """Add a row for every row of a table; paths of images are below `folder`."""
    from torchstudy.data.columnimages import pictures_of
    from torchstudy.data.encoding import encode_table
    from torchstudy.data.words import text_names

    model = asked.model
    table = text_names(table).reset_index(drop=True)
    if table.empty:
        raise DataError("the table has no rows")
    looks = model.family.uses_images(model.data) and model.data.has_images
    columns = _image_columns(model, table) if looks else ()
    if not columns and not model.data.has_table:
        raise StudyError(f"{_name(model)} takes images, not rows of a table: name image files")
    if model.data.has_table:
        encode_table(table, model.data, unknown=asked.unknown)  # so that its rows have their number
    pictures = pictures_of(table, columns, folder, must_be_below=True)
    found: dict[int, Row] = {}
    for one in pictures.bad:
        found.setdefault(int(one.name.split()[1].rstrip(",")) - 1, {"problem": one.reason})
    done = 0
    for rows, images in _table_batches(asked, pictures.kept, pictures.paths, len(columns)):
        found |= _row_answers(asked, table, rows, images)
        done += len(rows)
        if asked.progress is not None:
            asked.progress(DOING, done, len(pictures.kept))
    asked.rows += [{"row": at + 1, **found[at]} for at in sorted(found)]


def takes_table(model: Model) -> bool:
    """Whether the model cannot answer from one image alone."""
    return model.data.has_table or model.data.views > 1


def _file_rows(
    asked: Asked, names: Sequence[str], batch: Sequence[Picture | BadImage]
) -> Iterator[Row]:
    good = [one for one in batch if isinstance(one, Picture)]
    _count(asked, good)
    answers = iter(_answers(asked, _stacked([one.pixels for one in good]), None) if good else ())
    for name, one in zip(names, batch, strict=True):
        if isinstance(one, BadImage):
            yield {"file": one.name, "problem": one.reason}
            continue
        answer = next(answers)
        image = answer.pop("image", None)
        if asked.keep is not None and isinstance(image, Tensor):
            asked.keep(name, image)
        yield {"file": storable(name), **answer}


def _table_batches(
    asked: Asked, kept: Sequence[int], paths: Sequence[str], views: int
) -> Iterator[tuple[list[int], list[Picture | BadImage]]]:
    """Numbers of rows, and their images in a row, as many for each as it has."""
    if not views:
        for start in range(0, len(kept), asked.batch_size):
            yield list(kept[start:][: asked.batch_size]), []
        return
    start, size = 0, asked.batch_size
    for batch in pictures_ahead(paths, asked.model.data.shape, size * views):
        yield list(kept[start : start + size]), batch
        start += size


def _row_answers(
    asked: Asked,
    table: "pd.DataFrame",
    rows: Sequence[int],
    images: Sequence[Picture | BadImage],
) -> Mapping[int, Row]:
    found: dict[int, Row] = {}
    good: list[int] = []
    pixels = []
    views = len(images) // len(rows)
    for place, row in enumerate(rows):
        own = images[place * views : (place + 1) * views]
        if bad := next((one for one in own if isinstance(one, BadImage)), None):
            found[row] = {"problem": f"{bad.name}: {bad.reason}"}
            continue
        shown = [one for one in own if isinstance(one, Picture)]
        _count(asked, shown)
        good.append(row)
        pixels += [one.pixels for one in shown]
    if good:
        answers = _answers(asked, _viewed(asked.model, pixels), table.iloc[good])
        found |= dict(zip(good, answers, strict=True))
    return found


def _answers(asked: Asked, pixels: Tensor | None, table: "pd.DataFrame | None") -> list[Row]:
    """What the model says of a batch, a row each."""
    model = asked.model
    if model.family.goal != "prediction":
        assert pixels is not None
        return rebuilt(model, pixels)
    given = table if model.data.has_table else None
    found = model.predict(pixels, given, unknown=asked.unknown, calibrated=asked.calibrated)
    if model.data.task == "regression":
        return [{"value": value} for value in found.tolist()]
    probabilities, classes = found.sort(dim=1, descending=True, stable=True)
    best = min(asked.top, len(model.classes))
    pairs = zip(classes[:, :best].tolist(), probabilities[:, :best].tolist(), strict=True)
    return [_ranked(model.classes, *pair) for pair in pairs]


def _ranked(names: Sequence[str], classes: list[int], probabilities: list[float]) -> Row:
    row: Row = {}
    for place, (code, probability) in enumerate(zip(classes, probabilities, strict=True), start=1):
        mark = f"_{place}" if place > 1 else ""
        row |= {f"class{mark}": names[code], f"probability{mark}": probability}
    return row


def _count(asked: Asked, pictures: Sequence[Picture]) -> None:
    asked.read += len(pictures)
    asked.greys += sum(one.is_grey for one in pictures)


def _stacked(pixels: Sequence[Any]) -> Tensor:
    return torch.from_numpy(np.stack(pixels))


def _viewed(model: Model, pixels: Sequence[Any]) -> Tensor | None:
    """Images one after the other as the model takes those of an item; None without any."""
    if not pixels:
        return None
    images, views = _stacked(pixels), model.data.views
    return images if views == 1 else images.reshape(-1, views, *images.shape[1:])


def _image_columns(model: Model, table: "pd.DataFrame") -> tuple[str, ...]:
    """The columns that name images: those of the training, else those that look like it."""
    from torchstudy.data.columns import looks_like

    names = list(table.columns)
    columns = model.data.image_columns
    if not columns:  # a model of data without a table, or of an earlier version
        used = {*model.data.numbers, *model.data.categories}
        columns = tuple(n for n in names if n not in used and looks_like(table[n]) == "image")
        if len(columns) != model.data.views:
            raise DataError(
                f"the table has {len(columns)} columns with paths of images, but the model takes "
                f"{model.data.views} images an item"
            )
    for name in columns:
        if names.count(name) != 1:
            hint = did_you_mean(name, names)
            how = "twice" if name in names else f"not{hint}"
            raise DataError(
                f"the table has the column {name!r} {how}; the model takes {_columns(model)}"
            )
    return columns


def _columns(model: Model) -> str:
    data = model.data
    names = [*data.image_columns, *data.numbers, *data.categories]
    return f"the column{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _name(model: Model) -> str:
    return type(model.family).__name__
