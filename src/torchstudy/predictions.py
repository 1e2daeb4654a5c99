"""What `optimize predict` does once it is typed: asks a saved model, prints and writes answers."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from torchstudy.errors import StudyError
from torchstudy.printing import print_table, print_text, write_out
from torchstudy.stored import writing
from torchstudy.usage import format_of, one_of
from torchstudy.visible import on_one_line, storable

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from torchstudy.data.decoding import Progress
    from torchstudy.models.predicting import Asked, Keep
    from torchstudy.models.saved import SavedModel

WAYS = ("images", "--table", "--samples")
UNKNOWN = ("error", "other")
SHEET = "samples.png"
NTH = {2: "2nd", 3: "3rd"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was typed."""

    folder: Path
    images: Sequence[str] = ()
    table: Path | None = None
    samples: int | None = None
    top: int = 1
    format: str | None = None
    out: Path | None = None
    batch_size: int = 64
    seed: int = 0
    study: str | None = None
    unknown: str = "error"
    calibrated: bool = True

    def __post_init__(self) -> None:
        one_of("unknown", self.unknown, UNKNOWN)
        given = (bool(self.images), self.table is not None, self.samples is not None)
        ways = [way for way, is_given in zip(WAYS, given, strict=True) if is_given]
        if not ways:
            raise StudyError(
                "nothing to predict from: name image files, folders or a glob in quotes; for a "
                "model that takes columns --table FILE.csv; for one that makes images --samples 64"
            )
        if len(ways) > 1:
            raise StudyError(f"{' and '.join(ways)} do not go together: give one of them")


def predict_and_show(request: Request) -> bool:
    """Load the model, ask it, and show what it says; False if an image could not be read."""
    from torchstudy.models.saved import load_model

    families = []
    if request.study is not None:
        from torchstudy.study_files import load_study

        families = list(load_study(request.study).families)
    model = load_model(request.folder, families)
    if request.samples is not None:
        _write_samples(model, request)
        return True
    return _answer(model, request)


def _answer(model: "SavedModel", request: Request) -> bool:
    from torchstudy.models.predicting import Asked

    makes_images = model.family.goal != "prediction"
    shape = format_of(request.format, None if makes_images else request.out)
    asked = Asked(
        model=model,
        top=request.top,
        batch_size=request.batch_size,
        calibrated=request.calibrated,
        unknown=cast('Literal["error", "other"]', request.unknown),
    )
    pictures: dict[str, Path] = {}
    if makes_images and request.out is not None:
        asked.keep = _keeper(asked, request.out, pictures)
    with progress_line() as asked.progress:
        _ask(asked, request)
    found = asked.table()
    if pictures:
        names = {storable(file): str(path) for file, path in pictures.items()}
        found.insert(len(found.columns) - 1, "picture", found["file"].map(names))
    answered = found[found["problem"].isna()].drop(columns="problem").reset_index(drop=True)
    wrong = found[found["problem"].notna()]
    for row in wrong.to_dict("records"):
        name = row["file"] if "file" in row else f"row {row['row']}"
        print_text(on_one_line(f"not read: {name}: {row['problem']}"), sys.stderr)
    for note in asked.notes:
        print_text(f"note: {note}", sys.stderr)
    if len(answered):
        _show(answered, model, shape, None if makes_images else request.out)
    return wrong.empty


def _ask(asked: "Asked", request: Request) -> None:
    from torchstudy.models.predicting import answer_files, answer_table

    if request.table is None:
        answer_files(asked, request.images)
        return
    from torchstudy.data.reading import csv_table

    table, _ = csv_table(request.table, str(request.table))
    answer_table(asked, table, request.table.parent)


@contextmanager
def progress_line() -> Iterator["Progress | None"]:
    """One line on a terminal's stderr that says how far it is, gone at the end; none in a pipe."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("predict", total=None)

        def update(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield update


def _show(found: "pd.DataFrame", model: "SavedModel", shape: str, out: Path | None) -> None:
    if shape == "table":
        print_table("", *_lines(found, model))
        return
    text = _as_json(found) if shape == "json" else _exported(found, shape)
    if out is None:
        write_out(text.decode())
        return
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(text)
    print_text(str(out))


def _exported(found: "pd.DataFrame", shape: str) -> bytes:
    from torchstudy.tabulating import exported

    return exported(found, shape)


def _as_json(found: "pd.DataFrame") -> bytes:
    """Records; the classes after the first as `top`, a list that begins with the first."""
    records = []
    for row in found.to_dict("records"):
        record: dict[str, Any] = {str(name): value for name, value in row.items()}
        top = [_pair(record, mark) for mark in _marks(found)]
        later = {f"{name}{mark}" for mark in _marks(found)[1:] for name in ("class", "probability")}
        record = {name: value for name, value in record.items() if name not in later}
        records.append(record | ({"top": top} if len(top) > 1 else {}))
    return (json.dumps(records, indent=2) + "\n").encode()


def _pair(record: dict[str, Any], mark: str) -> dict[str, Any]:
    return {name: record[f"{name}{mark}"] for name in ("class", "probability")}


def _marks(found: "pd.DataFrame") -> list[str]:
    """What stands behind `class` and `probability` in the columns of each class of a row."""
    names = [str(name) for name in found.columns]
    return [name.removeprefix("class") for name in names if name.split("_")[0] == "class"]


def _lines(found: "pd.DataFrame", model: "SavedModel") -> tuple[list[str], list[list[str]]]:
    """Header and cells for eyes: percentages, and a column for each further class."""
    marks = _marks(found)
    later = {f"{name}{mark}" for mark in marks[1:] for name in ("class", "probability")}
    names = [str(name) for name in found.columns if name not in later]
    titles = {"value": model.data.quantity}
    nths = [NTH.get(place, f"{place}th") for place in range(2, len(marks) + 1)]
    lines = []
    for row in found.to_dict("records"):
        cells = [_cell(name, row[name]) for name in names]
        for mark in marks[1:]:
            cells.append(f"{row[f'class{mark}']} {_cell('probability', row[f'probability{mark}'])}")
        lines.append(cells)
    return [*(titles.get(name, name.replace("_", " ")) for name in names), *nths], lines


def _cell(name: str, value: object) -> str:
    if name == "probability":
        return f"{100 * cast(float, value):.1f}%"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _write_samples(model: "SavedModel", request: Request) -> None:
    from torchstudy.models.making import sheet, write_png

    assert request.samples is not None
    if request.out is None:
        raise StudyError("say where the images go: --out FOLDER")
    shape = format_of(request.format, None)
    images = model.samples(request.samples, seed=request.seed)
    width = len(str(len(images)))
    names = [f"sample_{number:0{width}}.png" for number in range(1, len(images) + 1)]
    with writing(request.out):
        for name, image in zip(names, images, strict=True):
            write_png(request.out / name, image)
        write_png(request.out / SHEET, sheet(images))
    if shape == "table":
        noun = "image" if len(images) == 1 else "images"
        print_text(f"{len(images):,} {noun} in {request.out}, all of them in {SHEET}")
        return
    import pandas as pd

    found = pd.DataFrame({"picture": [str(request.out / name) for name in names]})
    _show(found, model, shape, None)


def _keeper(asked: "Asked", out: Path, places: dict[str, Path]) -> "Keep":
    """Writes what becomes of every image below `out`, where the image lies below all of them."""
    from torchstudy.models.making import write_png

    def keep(file: str, image: "Tensor") -> None:
        if not places:
            places.update(picture_places(asked.files, out))
        with writing(places[file]):
            write_png(places[file], image)

    return keep


def picture_places(files: Sequence[str], out: Path) -> dict[str, Path]:
    """A PNG file below `out` for every image, in the folders that the images lie in.

    StudyError where one of the images would be overwritten.
    """
    there = {os.path.realpath(file) for file in files}
    root = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
    places: dict[str, Path] = {}
    taken: set[Path] = set()
    for file in files:
        name = Path(os.path.relpath(os.path.abspath(file), root))
        place = out / name.with_suffix(".png")
        number = 1
        while place in taken:
            mark = "" if number == 1 else f"-{number}"
            place, number = out / name.with_name(f"{name.name}{mark}.png"), number + 1
        if os.path.realpath(place) in there:
            raise StudyError(f"{out} holds the images themselves; give another folder to --out")
        taken.add(place)
        places[file] = place
    return places
