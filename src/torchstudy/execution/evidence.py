"""What the report shows of the models: predictions and codes per item, pictures over the epochs."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torchstudy.analysis.tables import frame, read_gallery, write_table
from torchstudy.arrays import Arrays, read_arrays
from torchstudy.data.dataset import ImageData
from torchstudy.errors import StudyError
from torchstudy.execution.examples import answer_of
from torchstudy.execution.exhibits import answers_path, gallery_path
from torchstudy.execution.outputs import Row, training_folder
from torchstudy.files import written_aside
from torchstudy.records import Training
from torchstudy.schemas import PREDICTION_COLUMNS


def write_evidence(
    folder: Path,
    family: str,
    data: ImageData,
    shown: Mapping[str, Sequence[Training]],
    final: Training | None,
) -> list[str]:
    """Write `predictions`, `codes` and `gallery.npz` of one family, those there are.

    `shown` maps a split to the trainings whose answers on it are kept: `valid` by the best trial,
    `select` and `test` by fresh trainings, `select` by the best trial where there are none. The
    gallery is that of the `final` training. Returns a sentence on every file of answers that is
    damaged: it is left out.
    """
    place, notes = folder / "evidence" / family, list[str]()
    predictions: list[Row] = []
    codes: list[Row] = []
    for split, trainings in shown.items():
        for training in trainings:
            path = answers_path(training_folder(folder, training.key), split)
            answers = read_arrays(path)
            if answers is None:
                notes.append(f"{family}: {path} is damaged, so the report leaves these answers out")
                continue
            predictions += _prediction_rows(data, split, training.seed, answers)
            codes += _code_rows(data, split, training.seed, answers)
    write_table(frame(predictions, PREDICTION_COLUMNS), place / "predictions")
    if codes:
        write_table(frame(codes, {}), place / "codes")
    gallery = final and gallery_path(training_folder(folder, final.key))
    if gallery and gallery.exists():
        try:
            read_gallery(gallery)
        except StudyError as error:
            return [*notes, f"{family}: {error}; the report shows none"]
        with written_aside(place / gallery.name) as aside:
            shutil.copyfile(gallery, aside)
    return notes


def _prediction_rows(data: ImageData, split: str, seed: int, answers: Arrays) -> Iterator[Row]:
    further = {name: answers[name] for name in ("calibrated", "crossfitted") if name in answers}
    for at, row in enumerate(_item_rows(data, split, seed)):
        target = data.targets[data.splits[split][at]]
        if answer := answer_of(answers, at, target, data.spec.classes):
            yield {**row, **answer, **{name: float(own[at]) for name, own in further.items()}}


def _code_rows(data: ImageData, split: str, seed: int, answers: Arrays) -> Iterator[Row]:
    if "code" not in answers:
        return
    for row, item, code in zip(
        _item_rows(data, split, seed), data.splits[split], answers["code"], strict=True
    ):
        target = data.targets[item]
        shown = data.spec.classes[target] if data.spec.classes else float(target)
        numbered = {f"code_{number}": float(value) for number, value in enumerate(code, start=1)}
        yield {**row, "target": shown, **numbered}


def _item_rows(data: ImageData, split: str, seed: int) -> Iterator[Row]:
    for item in data.splits[split]:
        yield {"split": split, "seed": seed, "item": int(item), "name": data.names[item]}
