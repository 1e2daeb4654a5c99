"""What tests share: a cache of their own, and small real images that can be learned."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("TORCHSTUDY_CACHE", str(tmp_path_factory.mktemp("cache")))
    torch.set_num_threads(1)
    yield
    patch.undo()


def stripes() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """180 noisy 8 x 8 images of three classes: horizontal, vertical and no stripes."""
    generator = np.random.default_rng(0)
    labels = np.arange(180) % 3
    images = generator.integers(0, 110, size=(180, 8, 8))
    images[labels == 0, ::2, :] += 90
    images[labels == 1, :, ::2] += 90
    return images.astype(np.uint8), labels


@pytest.fixture(scope="session")
def striped() -> ImageData:
    return prepare(Images(stripes), seed=0)
