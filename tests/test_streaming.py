"""Images that fit into no memory: the same batches and numbers, read from files ahead of use."""

import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.conftest import rows_table, stripes
from tests.training_jobs import job_for, run_job, space_of, steady

from torchstudy.data import streaming
from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import SPLITS, Images
from torchstudy.data.memory import VARIABLE, are_too_large, memory_limit
from torchstudy.data.streaming import AHEAD, StreamedPixels
from torchstudy.errors import DataError
from torchstudy.execution.local import LocalExecutor
from torchstudy.families.cnn import CNN
from torchstudy.records import Epoch, Outcome, Status
from torchstudy.training.augmentation import Augmentation
from torchstudy.training.batches import Preprocessing, Split

TIMES = {"seconds": 0.0, "finished": "", "parts": {}}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def striped_folder(tmp_path: Path) -> Path:
    """The stripes as files, one folder per class."""
    root = tmp_path / "stripes"
    for number, (image, label) in enumerate(zip(*stripes(), strict=True)):
        place = root / ("flat", "tall", "plain")[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:03}.png")
    return root


def both(images: Images, monkeypatch: pytest.MonkeyPatch) -> tuple[ImageData, ImageData]:
    """The same images as an array in memory, and read from their files."""
    monkeypatch.delenv(VARIABLE, raising=False)
    mapped = prepare(images, seed=0)
    monkeypatch.setenv(VARIABLE, "1KB")
    streamed = prepare(images, seed=0)
    assert isinstance(mapped.pixels, np.ndarray)
    assert isinstance(streamed.pixels, StreamedPixels)
    assert not (streamed.handle.folder / "images.npy").exists()
    return mapped, streamed


def assert_same(mapped: ImageData, streamed: ImageData) -> None:
    items = np.random.default_rng(0).permutation(len(mapped.targets))
    assert streamed.pixels.shape == mapped.pixels.shape
    assert (streamed.pixels[items] == mapped.pixels[items]).all()
    assert (streamed.spec, streamed.notes) == (mapped.spec, mapped.notes)
    assert list(streamed.names) == list(mapped.names)
    assert (streamed.targets == mapped.targets).all()
    assert all((streamed.splits[name] == mapped.splits[name]).all() for name in SPLITS)


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read")]


def train_split(data: ImageData) -> Split:
    rows = data.splits["train"]
    preprocessing = Preprocessing(mean=data.spec.mean, std=data.spec.std)
    augment = Augmentation(crop=0.25, horizontal_flip=0.5)
    return Split.of(data.pixels, rows, data.targets[rows], preprocessing, augment=augment)


# The same data


def test_a_folder_is_the_same_in_memory_and_from_its_files(
    striped_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same(*both(Images(striped_folder, size=8, channels=1), monkeypatch))
    assert_same(*both(Images(striped_folder, size=12, channels=3), monkeypatch))


def test_an_archive_is_the_same_in_memory_and_from_its_files(
    striped_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "packed.tar", "w") as archive:
        archive.add(striped_folder, "stripes")
    assert_same(*both(Images(tmp_path / "packed.tar", size=8), monkeypatch))


@pytest.mark.parametrize("views", [1, 2])
def test_rows_with_images_are_the_same_in_memory_and_from_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, views: int
) -> None:
    monkeypatch.chdir(tmp_path)
    table = rows_table()
    (tmp_path / "rows").mkdir()
    for name, image in zip(table["photo"], stripes()[0], strict=True):
        Image.fromarray(image).save(tmp_path / "rows" / name)
        Image.fromarray(255 - image).save(tmp_path / "rows" / f"back_{name}")
    if views == 2:
        table["back"] = [f"back_{name}" for name in table["photo"]]
    table.to_csv("rows/rows.csv", index=False)
    mapped, streamed = both(Images("rows", target="kind", size=8, channels=1), monkeypatch)
    assert mapped.pixels.ndim == (4 if views == 1 else 5)
    monkeypatch.chdir("/")  # a worker may have another current folder
    assert_same(mapped, streamed)


def test_images_that_were_left_out_are_left_out_of_the_files(
    striped_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("flat/000.png", "plain/002.png"):
        (striped_folder / name).write_bytes(b"damaged")
    images = Images(striped_folder, size=8, channels=1, on_bad_image="skip")
    mapped, streamed = both(images, monkeypatch)
    assert len(streamed.pixels) == 178
    assert_same(mapped, streamed)


def test_preparing_again_decodes_nothing(
    striped_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1KB")
    images = Images(striped_folder, size=8)
    one = prepare(images, seed=0)
    again = prepare(images, seed=0, progress=lambda *_: pytest.fail("decoded again"))
    assert again.handle == one.handle


def test_what_has_no_files_stays_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1KB")
    assert isinstance(prepare(Images(stripes), seed=0).pixels, np.ndarray)


# The same training


def test_batches_are_the_same_bit_for_bit(
    striped_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped, streamed = map(train_split, both(Images(striped_folder, size=8), monkeypatch))
    for _ in range(2):
        pairs = zip(
            mapped.shuffled(16, torch.Generator().manual_seed(3)),
            streamed.shuffled(16, torch.Generator().manual_seed(3)),
            strict=True,
        )
        for one, other in pairs:
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.targets, other.targets)
    chosen = torch.tensor([5, 1, 30])
    for one, other in zip(
        mapped.take(chosen).in_order(2), streamed.take(chosen).in_order(2), strict=True
    ):
        assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(mapped.spread(4).inputs, streamed.spread(4).inputs)


def timeless(rows: list[Epoch]) -> list[Epoch]:
    return [replace(row, **TIMES) for row in rows]  # type: ignore[arg-type]


def test_a_training_gives_the_same_numbers(
    striped_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = space_of(CNN).recipe | {"width": 8, "depth": 1, "batch_size": 32}
    results = []
    for data in both(Images(striped_folder, size=8), monkeypatch):
        folder = tmp_path / data.handle.folder.name
        outcome, rows = run_job(job_for(CNN, data, folder, config))
        results.append((steady(outcome), timeless(rows)))
    assert results[0][0].status is Status.COMPLETED, results[0][0].reason
    assert results[0] == results[1]


@pytest.mark.slow  # starts worker processes
def test_worker_processes_read_the_files_themselves(
    striped_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = space_of(CNN).recipe | {"width": 8, "depth": 1}
    rows: list[list[Epoch]] = []
    for data in both(Images(striped_folder, size=8), monkeypatch):
        job = job_for(CNN, data, tmp_path / data.handle.folder.name, config)
        job.folder.mkdir()
        seen: list[object] = []
        with closing(LocalExecutor(1)) as executor:
            executor.submit(job, 0)
            deadline = time.monotonic() + 60
            while not any(isinstance(item, Outcome) for item in seen):
                executor.wait(lambda event, seen=seen: seen.append(event.payload), 1.0)
                assert time.monotonic() < deadline
        rows.append(timeless([item for item in seen if isinstance(item, Epoch)]))
    assert len(rows[0]) == 2
    assert rows[0] == rows[1]


# Files that are no longer what they were


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, r"flat.000\.png is gone since the data were prepared; put it back, or run"),
        (lambda path: path.write_bytes(b"x"), r"flat.000\.png has changed since .*; run again"),
        (lambda path: os.utime(path, (1, 1)), r"flat.000\.png has changed since .*; run again"),
    ],
    ids=["gone", "other size", "other time"],
)
def test_a_file_that_is_not_as_it_was_is_named(
    striped_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], object],
    message: str,
) -> None:
    monkeypatch.setenv(VARIABLE, "1KB")
    data = prepare(Images(striped_folder, size=8), seed=0)
    item = list(data.names).index("flat/000.png")
    change(striped_folder / "flat" / "000.png")
    with pytest.raises(DataError, match=message):
        data.pixels[np.array([item])]
    data.pixels[np.array([item + 1])]  # the others go on


def test_a_training_that_loses_a_file_ends_with_its_name(
    striped_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1KB")
    data = prepare(Images(striped_folder, size=8), seed=0)
    lost = striped_folder / data.names[int(data.splits["train"][7])]
    lost.unlink()
    outcome, _ = run_job(job_for(CNN, data, tmp_path / "job"))
    assert outcome.status is Status.CRASHED
    assert outcome.reason.startswith(f"data: {lost} is gone since the data were prepared")
    assert reading_threads() == []


def test_a_damaged_file_of_the_same_size_and_time_is_named(
    striped_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1KB")
    data = prepare(Images(striped_folder, size=8), seed=0)
    path = striped_folder / data.names[0]
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DataError, match=r"flat.000\.png cannot be read any more \(cannot identify"):
        data.pixels[np.array([0])]


# Reading ahead


@pytest.fixture
def streamed(striped_folder: Path, monkeypatch: pytest.MonkeyPatch) -> StreamedPixels:
    monkeypatch.setenv(VARIABLE, "1KB")
    pixels = prepare(Images(striped_folder, size=8), seed=0).pixels
    assert isinstance(pixels, StreamedPixels)
    return pixels


def test_batches_come_in_their_order_whatever_the_number_of_threads(
    streamed: StreamedPixels,
) -> None:
    batches = np.array_split(np.random.default_rng(0).permutation(180), 7)
    for threads in (1, 3):
        for items, pixels in zip(batches, streamed.ahead(batches, threads), strict=True):
            assert (pixels == streamed[items]).all()
    assert list(streamed.ahead([], 2)) == []


def test_no_more_batches_are_read_ahead_than_stated(streamed: StreamedPixels) -> None:
    begun = 0

    def batches() -> Iterator[NDArray[np.int64]]:
        nonlocal begun
        for start in range(0, 180, 20):
            begun += 1
            yield np.arange(start, start + 20)

    for used, _ in enumerate(streamed.ahead(batches(), 2), start=1):
        assert begun <= used + AHEAD - 1
    assert begun == 9


def test_an_image_is_read_before_its_batch_is_asked_for(
    streamed: StreamedPixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = threading.Event()
    opened = streaming.open_picture

    def noted(path: str) -> Image.Image:
        if path == streamed.files.paths[100]:
            read.set()
        return opened(path)

    monkeypatch.setattr(streaming, "open_picture", noted)
    reading = streamed.ahead([np.array([0]), np.array([100])], 1)
    next(reading)
    assert read.wait(5)
    reading.close()


def test_no_thread_is_left_when_batches_end_are_given_up_or_fail(
    streamed: StreamedPixels, striped_folder: Path
) -> None:
    split = Split.of(streamed, np.arange(180), np.arange(180))
    assert len(list(split.in_order(16))) == 12
    assert reading_threads() == []
    reading = split.shuffled(16, torch.Generator())
    next(reading)
    assert reading_threads()
    reading.close()  # type: ignore[attr-defined]
    assert reading_threads() == []
    for _ in split.in_order(16):
        break
    del _
    assert reading_threads() == []
    (striped_folder / "flat" / "000.png").unlink()
    with pytest.raises(DataError):
        list(split.in_order(16))
    assert reading_threads() == []


# How much memory there is


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("123", 123),
        ("8GB", 8_000_000_000),
        ("1.5 kb", 1500),
        ("2MiB", 2 * 2**20),
        ("3g", 3_000_000_000),
        ("1TB", 10**12),
    ],
)
def test_memory_is_given_in_bytes_or_with_a_unit(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: int
) -> None:
    monkeypatch.setenv(VARIABLE, given)
    assert memory_limit() == expected
    assert are_too_large(expected + 1, (1, 1, 1))
    assert not are_too_large(expected, (1, 1, 1))


@pytest.mark.parametrize("given", ["much", "-1", "8XB", "GB", "1e9"])
def test_what_is_no_amount_of_memory_is_refused(
    striped_folder: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv(VARIABLE, given)
    with pytest.raises(DataError, match=f"TORCHSTUDY_MEMORY is '{given}', .* as in 8GB or 512MiB"):
        prepare(Images(striped_folder, size=8), seed=0)


def test_half_of_the_machine_is_the_limit_where_nothing_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory_limit() == total // 2
    assert are_too_large(total // 2 + 1, (1, 1, 1))
    assert not are_too_large(1, (1, 1, total))  # reading it again would not help
