"""What every trial makes of the same few validation items: which they are, and one table of all.

A worker writes a record beside its training's folder before the outcome is reported, so that a
trial of which the ledger knows has its record, and one that is trained again writes the same.
It needs no torch, as tables and reports are drawn where none is installed.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.analysis.examples import PICTURES, SHOWN, TABLE
from torchstudy.arrays import Arrays, packed_arrays, read_arrays, write_arrays
from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import Task
from torchstudy.execution.standing import stamp_of, stands, sum_of, write_noted
from torchstudy.files import sha256_of
from torchstudy.schemas import EXAMPLE_COLUMNS
from torchstudy.seeds import derive

if TYPE_CHECKING:
    import pandas as pd

COUNT = 8  # validation items: what a drawer has room for
SIDE = 48  # pixels of a picture at most; larger ones are made smaller
FORM = 1  # of what is made of the records: another one where that changes
FOLDER = "examples"  # beside the folders of a family's trainings
NOTE = ".examples.json"  # beside the families: of which records the examples were made
PICTURE = "picture/"  # before the caption, in the names of a record's arrays

Row = dict[str, object]


def chosen_places(targets: NDArray[Any], task: Task) -> NDArray[np.int64]:
    """At most `COUNT` places in a split, in rising order; they depend on the split alone.

    Classes are as even as can be, and which items of a class is drawn; of numbers, targets lie at
    even distances in their order.
    """
    if task == "regression":
        order = np.argsort(targets, kind="stable")
        ends = np.linspace(0, len(order) - 1, min(COUNT, len(order)))
        return np.sort(order[ends.round().astype(np.int64)])
    drawn = np.random.default_rng(derive(0, "examples")).permutation(len(targets))
    seen: Counter[int] = Counter()
    turns = []  # how many items of its class were drawn before
    for each in targets[drawn].tolist():
        turns.append(seen[each])
        seen[each] += 1
    first = np.argsort(turns, kind="stable")[:COUNT]
    return np.sort(drawn[first])


def reduced(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (items, channels, height, width) of at most `SIDE` pixels: means of whole blocks."""
    height, width = images.shape[2:]
    factor = -(-max(height, width) // SIDE)
    if factor == 1:
        return images
    rows, columns = max(1, height // factor), max(1, width // factor)
    tall, wide = min(factor, height), min(factor, width)
    cut = images[:, :, : rows * tall, : columns * wide]
    blocks = cut.reshape(*images.shape[:2], rows, tall, columns, wide)
    means: NDArray[np.uint8] = blocks.mean(axis=(3, 5)).round().astype(np.uint8)
    return means


def record_path(folder: Path) -> Path:
    """Where the training of a folder leaves its record: pruning that folder does not take it."""
    return folder.parent / FOLDER / f"{folder.name}.npz"


def write_shown(folder: Path, data: ImageData) -> None:
    """Write the items that all trials are shown, once for a study: `evidence/examples.npz`.

    `item`, `name` and `target` (items,), `images` (items, channels, height, width) where there are
    any: of several views the first, and of a table the names of its `columns` and what stands in
    them as text, `cells` (items, columns).
    """
    path = folder / "evidence" / SHOWN
    if read_arrays(path):
        return
    rows = data.splits["valid"]
    items = rows[chosen_places(data.targets[rows], data.spec.task)]
    arrays: Arrays = {
        "item": items,
        "name": np.array([data.names[item] for item in items], dtype=np.str_),
        "target": data.targets[items],
    }
    if data.spec.has_images:
        pixels = np.asarray(data.pixels[items])
        arrays["images"] = reduced(pixels if data.spec.views == 1 else pixels[:, 0])
    if data.spec.has_table:
        arrays["columns"], arrays["cells"] = data.entries(items)
    write_arrays(path, arrays, is_packed=True)


def write_examples(folder: Path, trials: "pd.DataFrame", classes: Sequence[str]) -> None:
    """Write `evidence/examples` and each family's pictures, of the trials in their table.

    A record of more epochs than the trial has is of a leg whose end was never recorded: it is left
    out, as is a damaged one. Nothing is written where no trial has a record, nor where the same
    would be written again: thousands of records take seconds to read and to pack.
    """
    shown = read_arrays(folder / "evidence" / SHOWN)
    if not shown:
        return
    there = list(_records(folder, trials))
    given = [[*map(str, trial.values()), stamp_of(path)] for trial, path in there]
    shown_now = sha256_of(folder / "evidence" / SHOWN)
    sources = sum_of([FORM, given, shown_now, list(classes), EXAMPLE_COLUMNS])
    note = folder / "checkpoints" / NOTE
    if stands(note, sources, folder / "evidence"):
        return
    if made := _made(there, shown, classes):
        write_noted(note, sources, folder / "evidence", made)


def _made(
    there: Sequence[tuple[Mapping[str, Any], Path]], shown: Arrays, classes: Sequence[str]
) -> dict[str, bytes]:
    """The files that are made of the records, by their name in `evidence`: pictures, then table."""
    from torchstudy.analysis.tables import frame
    from torchstudy.spreadsheets import csv_pieces

    rows: list[Row] = []
    pictures: dict[str, Arrays] = {}
    for trial, path in there:
        record = read_arrays(path)
        if not record or int(record["epochs"]) > trial["epochs"]:
            continue
        own = {name: trial[name] for name in ("study", "family", "trial", "seed")}
        own["epoch"] = int(record["epoch"])
        own["sees_images"] = bool(record["sees_images"]) if "sees_images" in record else None
        rows += _rows(own, record, shown, classes)
        for name in (name for name in record if name.startswith(PICTURE)):
            key = f"{trial['trial']}/{own['epoch']}/{name.removeprefix(PICTURE)}"
            pictures.setdefault(str(trial["family"]), {})[key] = record[name]
    made = {f"{family}/{PICTURES}": packed_arrays(own) for family, own in pictures.items()}
    if not rows and not pictures:
        return {}
    table = frame(rows, EXAMPLE_COLUMNS)
    made[f"{TABLE}.parquet"] = table.to_parquet(index=False)
    made[f"{TABLE}.csv"] = b"".join(csv_pieces(table))
    return made


def _records(folder: Path, trials: "pd.DataFrame") -> Iterator[tuple[Mapping[str, Any], Path]]:
    """Every trial that has a record, with where it is."""
    there: dict[str, set[str]] = {}
    for trial in trials[["study", "family", "trial", "seed", "epochs"]].to_dict("records"):
        family = str(trial["family"])
        place = folder / "checkpoints" / family / FOLDER
        if family not in there:
            there[family] = set(os.listdir(place)) if place.is_dir() else set()
        name = f"{trial['trial']}-{trial['seed']}.npz"
        if name in there[family]:
            yield {str(key): value for key, value in trial.items()}, place / name


def _rows(own: Row, record: Arrays, shown: Arrays, classes: Sequence[str]) -> Iterator[Row]:
    """One row per item that the trial answered."""
    for at, item in enumerate(shown["item"].tolist()):
        if answer := answer_of(record, at, shown["target"][at], classes):
            yield {**own, "item": item, "name": str(shown["name"][at]), **answer}


def answer_of(answers: Arrays, at: int, target: Any, classes: Sequence[str]) -> Row:
    """What a model answered to the item at this place, and the truth; empty if it answers none.

    Columns of `EXAMPLE_COLUMNS` and `PREDICTION_COLUMNS`: of a value, or of a class.
    """
    if "value" in answers:
        return {"target_value": float(target), "predicted_value": float(answers["value"][at])}
    if "predicted" not in answers:
        return {}
    guess = int(answers["predicted"][at])
    return {
        "target": classes[int(target)],
        "predicted": classes[guess],
        "confidence": float(answers["confidence"][at]),
        "is_correct": bool(guess == target),
    }
