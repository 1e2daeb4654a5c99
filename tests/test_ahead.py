"""Files decoded for use are, bit for bit, what training made of them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.photographs import write_photographs

from torchstudy.data.ahead import Picture, pictures_ahead, read_picture
from torchstudy.data.dataset import prepare
from torchstudy.data.images import Images
from torchstudy.data.listing import BadImage


@pytest.mark.parametrize(("size", "channels"), [(12, 3), (31, 1)])
def test_files_are_decoded_as_in_training(tmp_path: Path, size: int, channels: int) -> None:
    write_photographs(tmp_path)
    data = prepare(Images(tmp_path, size=size, channels=channels), seed=0)
    paths = [str(tmp_path / name) for name in data.names]
    batches = list(pictures_ahead(paths, data.spec.shape, 32))
    assert [len(batch) for batch in batches] == [32, 32, 32, 24]
    found = [one for batch in batches for one in batch]
    assert all(isinstance(one, Picture) and not one.is_grey for one in found)
    pixels = np.stack([one.pixels for one in found if isinstance(one, Picture)])
    assert np.array_equal(pixels, data.pixels)


def test_what_cannot_be_read_says_why_and_keeps_its_place(tmp_path: Path) -> None:
    good, text, link = tmp_path / "good.png", tmp_path / "text.png", tmp_path / "link.png"
    pipe, wide = tmp_path / "pipe.png", tmp_path / "wide.tif"
    Image.new("L", (5, 4), 7).save(good)
    text.write_text("hello")
    link.symlink_to("nowhere")
    os.mkfifo(pipe)
    Image.new("F", (5, 4)).save(wide)
    paths = [str(path) for path in (text, good, link, pipe, wide)]
    (found,) = pictures_ahead(paths, (1, 4, 4), 8)
    reasons = [one.reason if isinstance(one, BadImage) else "" for one in found]
    assert reasons == [
        "not an image in a known format",
        "",
        "a link to nothing",
        "not a regular file",
        "its pixels are floating-point numbers; save it with 8 or 16 bits",
    ]
    assert next(one.name for one in found if isinstance(one, BadImage)) == str(text)


def test_the_file_says_whether_an_image_is_grey(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "grey.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "colour.png")
    grey, colour = (read_picture(str(tmp_path / f"{n}.png"), (3, 4, 4)) for n in ("grey", "colour"))
    assert isinstance(grey, Picture)
    assert isinstance(colour, Picture)
    assert (grey.is_grey, colour.is_grey) == (True, False)
    assert grey.pixels.shape == (3, 4, 4)


def test_nothing_is_left_running_where_the_rest_is_not_wanted(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    batches = pictures_ahead([str(tmp_path / "a.png")] * 50, (1, 4, 4), 5)
    assert len(next(batches)) == 5
    batches.close()  # type: ignore[attr-defined]
    assert list(pictures_ahead([], (1, 4, 4), 5)) == []
