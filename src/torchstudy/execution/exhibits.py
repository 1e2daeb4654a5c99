"""What a training leaves to look at: its answers per item, codes, and pictures over the epochs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torchstudy.analysis.calibration import crossfitted, fitted, nll, tempered
from torchstudy.arrays import Arrays, read_arrays, write_arrays
from torchstudy.data.spec import DataSpec
from torchstudy.execution.examples import PICTURE, chosen_places, record_path, reduced
from torchstudy.families.base import Family
from torchstudy.records import Outcome, Status
from torchstudy.seeds import derive
from torchstudy.training.batches import Split
from torchstudy.training.gallery import as_bytes

SEPARATOR = "/"  # between epoch and caption in the gallery's file


def answers_path(folder: Path, split: str) -> Path:
    """Where a training leaves its answers on one split."""
    return folder / f"{split}.npz"


def gallery_path(folder: Path) -> Path:
    """Where a training leaves its pictures."""
    return folder / "gallery.npz"


def write_answers(
    folder: Path,
    family: Family,
    model: nn.Module,
    data: DataSpec,
    split: Split,
    name: str,
    *,
    is_judge: bool = False,
) -> None:
    """Write one row per item, in the split's order, of what there is.

    `predicted` and `confidence` (the class and its probability), `value` (in the target's unit),
    `code` (items, numbers). Nothing is written where a family has none of these. On `select` a
    `temperature` is fitted where there is one to find, and there and on `test` the confidence at
    that temperature is `calibrated`; `nll` has the loss of class probabilities before and after.
    Where `select` is the judge as well, as no test split is read, `crossfitted` has the confidence
    at temperatures that were fitted without the item.
    """
    answers, probabilities = _answers(family, model, data, split)
    if probabilities is not None:
        targets = split.targets.cpu().numpy()
        answers |= _calibrated(folder, probabilities, targets, name)
        if is_judge and "temperature" in answers:
            answers["crossfitted"] = crossfitted(probabilities, targets)
    if answers or is_judge:  # that there are none is known from then on
        write_arrays(answers_path(folder, name), answers)


def write_example(
    folder: Path, family: Family, model: nn.Module, data: DataSpec, valid: Split, outcome: Outcome
) -> None:
    """Write what a model makes of the few items that all trials are shown: `examples.record_path`.

    `predicted` and `confidence`, or `value`; `picture/<caption>`, uint8 (items, channels, height,
    width), where it is no item as it was. `epoch` is that of the weights, `epochs` how many the
    training has had, `sees_images` whether the model looked at the items' images. Whatever is drawn
    comes from a generator of its own.
    """
    is_over = outcome.status is Status.COMPLETED
    places = chosen_places(valid.targets.cpu().numpy(), data.task)
    own = valid.take(torch.from_numpy(places))
    model.eval()
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(0, "examples"))
        arrays, _ = _answers(family, model, data, own)
        (batch,) = own.in_order()
        shown = {
            caption: images
            for caption, images in family.pictures(model, batch).items()
            if not torch.equal(images, batch.inputs)
        }
    arrays.pop("code", None)
    for caption, images in as_bytes(shown).items():
        arrays[f"{PICTURE}{caption}"] = reduced(images.numpy())
    if arrays:
        arrays["epoch"] = np.array(outcome.best_epoch if is_over else outcome.epochs)
        arrays["epochs"] = np.array(outcome.epochs)
        arrays["sees_images"] = np.array(data.has_images and family.uses_images(data))
        write_arrays(record_path(folder), arrays, is_packed=True)


def write_gallery(folder: Path, gallery: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Write what pictures there are of every epoch, uint8 (items, channels, height, width)."""
    arrays = {
        f"{epoch}{SEPARATOR}{caption}": images.numpy()
        for epoch, pictures in gallery.items()
        for caption, images in pictures.items()
    }
    if arrays:
        write_arrays(gallery_path(folder), arrays)


def _calibrated(
    folder: Path, probabilities: NDArray[np.float32], targets: NDArray[np.int64], name: str
) -> Arrays:
    """What a temperature makes of the answers on a split: it is fitted on `select` and nowhere."""
    temperature: float | None = None
    found: Arrays = {}
    if name == "select" and (fit := fitted(probabilities, targets)):
        temperature = fit.value
        found["temperature"] = np.array(temperature)
    elif name == "test":
        selected = read_arrays(answers_path(folder, "select")) or {}
        temperature = float(selected["temperature"]) if "temperature" in selected else None
    if temperature is None or not (len(targets) and np.isfinite(probabilities).all()):
        return {}
    losses = [nll(probabilities, targets, degrees) for degrees in (1.0, temperature)]
    confidence = tempered(probabilities, temperature).max(axis=1)
    return {**found, "calibrated": confidence, "nll": np.array(losses)}


def _answers(
    family: Family, model: nn.Module, data: DataSpec, split: Split
) -> tuple[Arrays, NDArray[np.float32] | None]:
    """The arrays to keep, and the probabilities (items, classes) behind them if there are any."""
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
        probabilities = torch.cat(predictions)
        confidence, predicted = probabilities.max(dim=1)
        arrays |= {"predicted": predicted.numpy(), "confidence": confidence.numpy()}
        return arrays, probabilities.float().numpy()
    return arrays, None
