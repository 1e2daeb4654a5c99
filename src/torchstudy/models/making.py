"""What a saved model makes: images from noise, and images rebuilt or restored; as PNG files."""

import math
from pathlib import Path

import torch
from torch import Tensor

from torchstudy.errors import StudyError
from torchstudy.files import written_aside
from torchstudy.models.answering import Model
from torchstudy.seeds import derive
from torchstudy.training.batches import Batch

DRAWN = 64  # images from one draw of noise, however many are wanted: the n-th is always the same
GAP = 2  # pixels between the images of a sheet


def generated(model: Model, count: int, *, seed: int = 0) -> Tensor:
    """New images, uint8 (count, channels, height, width); which ones depends on the seed alone.

    StudyError for a model that makes none.
    """
    name = type(model.family).__name__
    if model.family.goal != "generation":
        raise StudyError(f"{name} makes no images from noise: name image files instead")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise StudyError(f"samples: must be a whole number above 0; got {count!r}")
    batch = Batch(torch.zeros(DRAWN, *model.data.shape), torch.zeros(DRAWN, dtype=torch.int64))
    made = []
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "samples"))
        for _ in range(math.ceil(count / DRAWN)):
            made.append(_as_pixels(model, model.family.outputs(model.network, batch)))
    return torch.cat(made)[:count]


def rebuilt(model: Model, pixels: Tensor) -> list[dict[str, object]]:
    """What becomes of uint8 images: `image`, and the squared error per pixel against what it was.

    For a model that restores images, which have nothing to compare them with, that is how much it
    changed them.
    """
    batch = model.batch(pixels)
    with torch.inference_mode():
        outputs = model.family.outputs(model.network, batch)
        away = (_unscaled(model, outputs) - _unscaled(model, batch.inputs)).double()
    errors = away.square().flatten(1).mean(dim=1).tolist()
    name = "reconstruction_error" if model.family.goal == "reconstruction" else "squared_change"
    images = _as_pixels(model, outputs)
    return [{name: error, "image": image} for error, image in zip(errors, images, strict=True)]


def write_png(path: Path, image: Tensor) -> None:
    """Write one image, uint8 (1 or 3 channels, height, width)."""
    from PIL import Image

    pixels = image.permute(1, 2, 0).contiguous().numpy()
    shown = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    with written_aside(path) as aside:
        shown.save(aside, format="PNG")


def sheet(images: Tensor) -> Tensor:
    """All images (items, channels, height, width) in one, row by row, as square as can be."""
    count, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    page = images.new_full(
        (channels, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), 255
    )
    for place, image in enumerate(images):
        top, left = (place // columns) * (height + GAP), (place % columns) * (width + GAP)
        page[:, top : top + height, left : left + width] = image
    return page


def _unscaled(model: Model, images: Tensor) -> Tensor:
    """Images as the network has them, brought back to where pixels lie in [0, 1]."""
    mean, std = (
        images.new_tensor(values)[:, None, None]
        for values in (model.preprocessing.mean, model.preprocessing.std)
    )
    return images * std + mean


def _as_pixels(model: Model, images: Tensor) -> Tensor:
    shown = _unscaled(model, images).float().clamp(0, 1)
    return shown.mul(255).round().to(torch.uint8).contiguous()
