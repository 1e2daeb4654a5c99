"""Sheets and PNG files hold the pixels that were made."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torchstudy.models.making import GAP, sheet, write_png


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_holds_the_pixels(tmp_path: Path, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (channels, 5, 7), generator=generator).to(torch.uint8)
    write_png(tmp_path / "deep" / "a.png", image)
    with Image.open(tmp_path / "deep" / "a.png") as found:
        assert found.mode == ("L" if channels == 1 else "RGB")
        pixels = np.asarray(found)
    assert np.array_equal(pixels.reshape(5, 7, channels), image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (9, 3, 3), (10, 4, 3)]
)
def test_a_sheet_is_as_square_as_can_be_and_holds_all(count: int, columns: int, rows: int) -> None:
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 3, 4, 6)
    page = sheet(images)
    assert page.shape == (3, rows * (4 + GAP) - GAP, columns * (6 + GAP) - GAP)
    for place in range(count):
        top, left = (place // columns) * (4 + GAP), (place % columns) * (6 + GAP)
        assert (page[:, top : top + 4, left : left + 6] == place).all()
    assert int((page == 255).sum()) == page.numel() - images.numel()
