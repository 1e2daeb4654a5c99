"""What `predict.py` makes of an image file is what the product makes of it, pixel for pixel."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import stripes
from torch import nn

from torchstudy.data.dataset import ImageData
from torchstudy.data.pictures import fitted, open_picture, plain
from torchstudy.data.spec import DataSpec
from torchstudy.families.cnn import CNN
from torchstudy.families.gan import GAN
from torchstudy.models.deployed import Deployed
from torchstudy.models.saved import SavedModel
from torchstudy.models.standalone import LOADED, READING, script, usage

GENERATOR = np.random.default_rng(0)
COLOURS = Image.fromarray(GENERATOR.integers(0, 256, (23, 31, 3), dtype=np.uint8))
VEIL = Image.fromarray(GENERATOR.integers(0, 256, (23, 31), dtype=np.uint8))


def with_alpha(mode: str) -> Image.Image:
    image = COLOURS.convert("L" if mode == "LA" else "RGB")
    image.putalpha(VEIL)
    return image


def wide() -> Image.Image:
    return Image.fromarray(GENERATOR.integers(0, 2**16, (23, 31), dtype=np.uint16))


def turned() -> Image.Image:
    image = COLOURS.copy()
    image.getexif()[0x0112] = 6  # to be turned by 90 degrees
    return image


def palette_with_hole() -> Image.Image:
    image = COLOURS.convert("P")
    image.info["transparency"] = 3
    return image


FILES: dict[str, tuple[str, Callable[[], Image.Image]]] = {
    "RGB": ("png", lambda: COLOURS),
    "grey": ("png", lambda: COLOURS.convert("L")),
    "black and white": ("png", lambda: COLOURS.convert("1")),
    "RGB with alpha": ("png", lambda: with_alpha("RGBA")),
    "grey with alpha": ("png", lambda: with_alpha("LA")),
    "palette": ("gif", lambda: COLOURS.convert("P")),
    "palette with a hole": ("png", palette_with_hole),
    "16 bits": ("png", wide),
    "16 bits in TIFF": ("tif", wide),
    "CMYK": ("jpg", lambda: COLOURS.convert("CMYK")),
    "turned by EXIF": ("jpg", turned),
    "tall": ("png", lambda: COLOURS.resize((9, 40))),
    "of the right size": ("png", lambda: COLOURS.resize((8, 8))),
    "tiny": ("bmp", lambda: COLOURS.resize((2, 3))),
}


def reader(
    folder: Path, channels: int, height: int = 8, width: int = 8
) -> Callable[..., torch.Tensor]:
    """The function `pixels` of a script beside a config.json."""
    saved = model_of(DataSpec(
        source="x", channels=channels, height=height, width=width, classes=("a", "b"),
        num_train=9, mean=(0.5,) * channels, std=(0.5,) * channels,
    ))  # fmt: skip
    text = script(Deployed(saved))
    assert READING in text
    (folder / "config.json").write_text(
        json.dumps({"data": {"channels": channels, "height": height, "width": width}})
    )
    names: dict[str, object] = {"__file__": str(folder / "predict.py")}
    exec(text.partition(LOADED)[0], names)
    found = names["pixels"]
    assert callable(found)
    return found


def model_of(data: DataSpec) -> SavedModel:
    cnn = CNN()
    return SavedModel(cnn.build(data), cnn, data, cnn.preprocessing(data))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", list(FILES))
def test_pixels_are_those_of_the_product(kind: str, channels: int, tmp_path: Path) -> None:
    suffix, make = FILES[kind]
    path = tmp_path / f"image.{suffix}"
    image = make()
    image.save(path, **({"exif": image.getexif()} if kind == "turned by EXIF" else {}))
    wanted = fitted(plain(open_picture(str(path))), channels, 8, 8)
    assert np.array_equal(reader(tmp_path, channels)(path).numpy(), wanted)


def test_pixels_need_not_be_square(tmp_path: Path) -> None:
    COLOURS.save(tmp_path / "image.png")
    wanted = fitted(COLOURS, 3, 6, 11)
    found = reader(tmp_path, 3, 6, 11)(tmp_path / "image.png")
    assert np.array_equal(found.numpy(), wanted)


@pytest.mark.parametrize("content", [b"no image", b"\x89PNG\r\n\x1a\n damaged", None])
def test_what_is_no_image_is_one_message(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        reader(tmp_path, 1)(path)
    said = str(caught.value)
    assert said.startswith(f"{path} is not an image that can be read: ")
    assert "\n" not in said


def test_pixels_are_those_that_a_folder_of_images_was_trained_with(
    tabled: ImageData, tmp_path: Path
) -> None:
    read = reader(tmp_path, 1)
    for place, image in enumerate(stripes()[0][:5]):
        Image.fromarray(image).save(tmp_path / "image.png")
        assert np.array_equal(read(tmp_path / "image.png").numpy(), tabled.pixels[place])


def test_usage_says_what_to_give(striped: ImageData, tabled: ImageData) -> None:
    assert usage(Deployed(model_of(striped.spec))) == "python predict.py IMAGE ..."
    gan = GAN()
    network: nn.Module = gan.build(striped.spec)
    made = SavedModel(network, gan, striped.spec, gan.preprocessing(striped.spec))
    assert usage(Deployed(made)) == "python predict.py COUNT FILE.png"
