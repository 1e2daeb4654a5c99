"""A model as a folder for use elsewhere: several formats, each verified, a card and a script."""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from torchstudy.analysis.calibration import FILE as CALIBRATION
from torchstudy.errors import RunError, StudyError
from torchstudy.files import discard, written_aside
from torchstudy.models.card import Facts, Made, card, shown
from torchstudy.models.deployed import Deployed, Probe, tolerance
from torchstudy.models.formats import (
    HOW_TO_GET_ONNX,
    ONNX,
    STATE,
    Unwritable,
    formats,
    has_onnx,
    verified,
)
from torchstudy.models.saved import SavedModel
from torchstudy.models.standalone import script

Aside: TypeAlias = Callable[[str], Path]  # where a file is written, until all of them are

MARK = "export.json"  # what makes a folder an export; it is renamed first
CARD, SCRIPT = "README.md", "predict.py"
DESCRIBING = ("config.json", "preprocessing.json", "metrics.json")
NOTES = {
    STATE: "weights (state_dict)",
    "model.safetensors": "the same weights, without pickle",
    "model.pt2": "program (torch.export), any number of items",
    ONNX: "program (ONNX), any number of items",
    "config.json": "family, configuration, data",
    "preprocessing.json": "what is done to pixels",
    "metrics.json": "scores of this network",
    CALIBRATION: "how sure its probabilities should be",
    CARD: "model card",
    SCRIPT: "needs torch, torchvision and pillow only",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What was written: the folder, its files, and on what they were compared."""

    folder: Path
    family: str
    trial: int
    files: tuple[Made, ...]
    verified_on: str


def check_target(folder: Path) -> None:
    """Raise StudyError unless `folder` is new, empty, or an earlier export."""
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"{folder} is a file; an export is a folder")
    if not folder.is_dir() or (folder / MARK).is_file():
        return
    if any(not path.name.startswith(".") for path in folder.iterdir()):  # hidden: of one cut off
        raise StudyError(
            f"{folder} is not empty and holds no export (it has no {MARK}): nothing was written; "
            "give a new folder"
        )


def write_export(
    saved: SavedModel, source: Path, folder: Path, *, probe: Probe, facts: Facts
) -> Export:
    """Write the model saved in `source` to `folder`, in every format that can be had here.

    Nothing is replaced unless all formats agree with the network on `probe`; an earlier export is
    then overwritten file by file. Raises StudyError for a folder of something else, RunError for a
    format that cannot be made or differs.
    """
    check_target(folder)
    deployed = Deployed(saved)
    with ExitStack() as files:

        def aside(name: str) -> Path:
            return files.enter_context(written_aside(folder / name))

        made = [*_networks(saved, source, folder, probe, files), *_copied(source, aside)]
        made.append(_text(aside(SCRIPT), SCRIPT, script(deployed)))
        text = card(facts, deployed, made, probe.words, tolerance(saved))
        made.append(_text(aside(CARD), CARD, text))
        found = Export(
            folder=folder,
            family=facts.family,
            trial=facts.trial,
            files=tuple(made),
            verified_on=probe.words,
        )
        stated = json.dumps(_stated(found, facts), indent=2, allow_nan=False) + "\n"
        made.append(_text(aside(MARK), MARK, stated))
    for name in {ONNX, CALIBRATION} - {each.name for each in made if each.size}:
        discard(folder / name)  # of an earlier export
    return found


def _networks(
    saved: SavedModel, source: Path, folder: Path, probe: Probe, files: ExitStack
) -> Iterator[Made]:
    """The files that hold the network, verified; ONNX where the network can be put so."""
    for format in formats(source / STATE):
        try:
            with ExitStack() as own:
                path = own.enter_context(written_aside(folder / format.name))
                apart = verified(format, saved, path, probe)
                files.push(own.pop_all())
        except Unwritable as error:
            if format.name != ONNX:
                raise RunError(f"{format.name}: {error}; nothing was exported") from error
            yield _absent(f"not written: {error}")
        else:
            yield _made(path, format.name, apart)
    if not has_onnx():
        yield _absent(f"not written: {HOW_TO_GET_ONNX} adds what it takes")


def _absent(note: str) -> Made:
    return Made(name=ONNX, size=0, difference=math.nan, note=note)


def _copied(source: Path, aside: Aside) -> Iterator[Made]:
    """What describes the network, as the run left it."""
    for name in (*DESCRIBING, CALIBRATION):
        if (source / name).is_file():
            path = aside(name)
            shutil.copyfile(source / name, path)
            yield _made(path, name)


def _text(path: Path, name: str, text: str) -> Made:
    path.write_text(text, encoding="utf-8")
    return _made(path, name)


def _made(path: Path, name: str, difference: float = math.nan) -> Made:
    size = path.stat().st_size
    return Made(name=name, size=size, difference=difference, note=NOTES.get(name, ""))


def _stated(found: Export, facts: Facts) -> dict[str, object]:
    """What a program may want to know of an export."""
    return {
        "study": facts.study,
        "family": facts.family,
        "trial": facts.trial,
        "verified_on": found.verified_on,
        "files": {
            each.name: {
                "bytes": each.size,
                "largest_difference": None if math.isnan(each.difference) else each.difference,
            }
            for each in found.files
            if each.size
        },
    }


def lines(found: Export) -> list[str]:
    """The export in aligned lines: every file with its size and its largest difference."""
    return _aligned([_cells(each) for each in found.files])


def _cells(each: Made) -> list[str]:
    if not each.size:
        return [each.name, "", each.note]
    difference = (
        "" if math.isnan(each.difference) else f"largest difference {shown(each.difference)}"
    )
    return [each.name, f"{each.size:,} bytes", difference or each.note]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    names = max(len(row[0]) for row in rows)
    sizes = max(len(row[1]) for row in rows)
    return [f"  {name:<{names}}  {size:>{sizes}}  {said}".rstrip() for name, size, said in rows]
