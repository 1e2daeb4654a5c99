"""What a training leaves to look at: its answers per item, codes, and pictures over the epochs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torchstudy.data.spec import DataSpec
from torchstudy.families.base import Family
from torchstudy.files import written_aside
from torchstudy.training.batches import Split

Arrays = dict[str, NDArray[Any]]
SEPARATOR = "/"  # between epoch and caption in the gallery's file


def answers_path(folder: Path, split: str) -> Path:
    """Where a training leaves its answers on one split."""
    return folder / f"{split}.npz"


def gallery_path(folder: Path) -> Path:
    """Where a training leaves its pictures."""
    return folder / "gallery.npz"


def write_answers(
    folder: Path, family: Family, model: nn.Module, data: DataSpec, split: Split, name: str
) -> None:
    """Write one row per item, in the split's order, of what there is.

    `predicted` and `confidence` (the class and its probability), `value` (in the target's unit),
    `code` (items, numbers). Nothing is written where a family has none of these.
    """
    arrays = _answers(family, model, data, split)
    if arrays:
        _write(answers_path(folder, name), arrays)


def write_gallery(folder: Path, gallery: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Write what pictures there are of every epoch, uint8 (items, channels, height, width)."""
    arrays = {
        f"{epoch}{SEPARATOR}{caption}": images.numpy()
        for epoch, pictures in gallery.items()
        for caption, images in pictures.items()
    }
    if arrays:
        _write(gallery_path(folder), arrays)


def _answers(family: Family, model: nn.Module, data: DataSpec, split: Split) -> Arrays:
    predictions, codes = [], []
    with torch.inference_mode():
        for batch in split.in_order():
            if (prediction := family.predict(model, data, batch)) is not None:
                predictions.append(prediction.cpu())
            if (code := family.codes(model, batch)) is not None:
                codes.append(code.cpu())
    arrays: Arrays = {}
    if codes:
        arrays["code"] = torch.cat(codes).float().numpy()
    if predictions and data.task == "regression":
        arrays["value"] = torch.cat(predictions).double().numpy()
    elif predictions:
        confidence, predicted = torch.cat(predictions).max(dim=1)
        arrays |= {"predicted": predicted.numpy(), "confidence": confidence.numpy()}
    return arrays


def _write(path: Path, arrays: Arrays) -> None:
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes `file` for one too
