"""What tests share: a cache of their own, and small real images that can be learned."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests import photographs
from tests.command import optimize, write_study
from tests.forked import Commands, forking

from torchstudy.analysis.tables import read_results
from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def pytest_collection_finish() -> None:
    """Collect no garbage among what was imported: to look through it is 8% of drawing a page."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # else libraries complain of what was not freed


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("TORCHSTUDY_CACHE", str(tmp_path_factory.mktemp("cache")))
    torch.set_num_threads(1)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    with forking() as made:
        yield made


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright
    from tests.browser import ARGUMENTS, CHROMIUM

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(scope="session")
def digits_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 60 trials of three families; it must be left as it is."""
    from tests.report_data import write_study as write_results

    from torchstudy.report.page import write_report

    return write_report(write_results(tmp_path_factory.mktemp("digits")))


@pytest.fixture(scope="session")
def pages(browser: Any, digits_report: Path) -> Iterator[Any]:
    """`digits_report` as it is opened in windows of several widths, each once."""
    from tests.browser import Pages

    opened = Pages(browser, digits_report)
    yield opened
    opened.close()


def stripes() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """180 noisy 8 x 8 images of three classes: horizontal, vertical and no stripes."""
    generator = np.random.default_rng(0)
    labels = np.arange(180) % 3
    images = generator.integers(0, 110, size=(180, 8, 8))
    images[labels == 0, ::2, :] += 90
    images[labels == 1, :, ::2] += 90
    return images.astype(np.uint8), labels


@pytest.fixture(scope="session")
def _sections() -> tuple[Any, ...]:
    """All sections of a report, asked for before any test shortens reports."""
    from torchstudy.report import page

    return page.SECTIONS


@pytest.fixture(scope="module")
def short_reports(_sections: tuple[Any, ...]) -> Iterator[None]:
    """For tests of runs that say nothing of what reports say: drawing one is half of a small run.

    What is left is the last section: method and provenance.
    """
    from torchstudy.report import page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "SECTIONS", _sections[-1:])
        yield


@pytest.fixture
def whole_page(_sections: tuple[Any, ...]) -> Callable[[Path], str]:
    """Draws all of a folder's report, where the runs of a file leave short ones."""
    from torchstudy.report import page

    def drawn(folder: Path) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(page, "SECTIONS", _sections)
            return page.render(read_results(folder))

    return drawn


@pytest.fixture(scope="session")
def _finished_study(tmp_path_factory: pytest.TempPathFactory, _sections: tuple[Any, ...]) -> Path:
    from torchstudy.report import page

    folder = tmp_path_factory.mktemp("finished")
    write_study(folder, "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "SECTIONS", _sections)  # the first file that asks may have short ones
        patch.chdir(folder)
        ended = optimize("run", "tiny", "--executor", "inline")
    assert ended.exit_code == 0, ended.stderr
    (folder / "said.txt").write_text(ended.stdout)
    return folder


@pytest.fixture
def finished_study(_finished_study: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which the study `tiny` has been run; it must be left as it is."""
    monkeypatch.chdir(_finished_study)
    return _finished_study


@pytest.fixture(scope="session")
def _photo_study(tmp_path_factory: pytest.TempPathFactory, _sections: tuple[Any, ...]) -> Path:
    from torchstudy.report import page

    folder = tmp_path_factory.mktemp("photo")
    photographs.write_photographs(folder / "photos")
    (folder / "studies").mkdir()
    (folder / "studies" / "photos.py").write_text(photographs.STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "SECTIONS", _sections)
        patch.chdir(folder)
        ended = optimize("run", "photos", "--executor", "inline")
    assert ended.exit_code == 0, ended.stderr
    return folder


@pytest.fixture
def photo_study(_photo_study: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which the study `photos` has been run; it must be left as it is."""
    monkeypatch.chdir(_photo_study)
    return _photo_study


@pytest.fixture(scope="session")
def striped() -> ImageData:
    return prepare(Images(stripes), seed=0)


def rows_table() -> pd.DataFrame:
    """The stripes as rows: a number and a category that tell a little, an image, and the kind."""
    _, labels = stripes()
    generator = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "size": labels + generator.normal(0, 1, len(labels)),
            "shop": np.array(["north", "south"])[(labels + generator.integers(0, 2, 180)) % 2],
            "photo": [f"{row}.png" for row in range(len(labels))],
            "kind": np.array(["flat", "tall", "plain"])[labels],
        }
    )


@pytest.fixture(scope="session")
def tabled(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    """The stripes as rows of a CSV file with an image each."""
    folder = tmp_path_factory.mktemp("tabled")
    table = rows_table()
    for name, image in zip(table["photo"], stripes()[0], strict=True):
        Image.fromarray(image).save(folder / name)
    table.to_csv(folder / "rows.csv", index=False)
    return prepare(Images(folder, target="kind", size=8, channels=1), seed=0)
