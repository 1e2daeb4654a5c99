"""Features of frozen encoders: computed once, computed again when damaged, shared by everybody."""

import gc
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.command import optimize
from tests.conftest import stripes
from torch import Tensor, nn

from torchstudy.caching import is_used
from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.errors import DataError
from torchstudy.execution.inputs import splits_of
from torchstudy.families.phases import FrozenEncoder
from torchstudy.families.transfer import Transfer
from torchstudy.files import digest_of
from torchstudy.training import features
from torchstudy.training.batches import Preprocessing
from torchstudy.training.features import are_cached, cached_features

ITEMS = np.arange(3, 153)  # three batches


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (160, 3, 4, 4)).astype(np.uint8)


@dataclass
class Seen:
    """What an encoder was shown, and what happens when it is."""

    batches: list[Tensor] = field(default_factory=list)
    then: Callable[[], object] = lambda: None


class Sums(nn.Module):
    """Two features: the sum of each half of an image."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, images: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled()
        assert not self.training
        assert images.is_contiguous(memory_format=torch.channels_last)
        self.seen.batches.append(images)
        self.seen.then()
        return images.unflatten(2, (2, 2)).sum(dim=(1, 3, 4))


def sums(seen: Seen) -> FrozenEncoder:
    plain = Preprocessing(mean=(0.0,) * 3, std=(1 / 255,) * 3)
    return FrozenEncoder(key="sums", build=lambda: Sums(seen), preprocessing=plain)


def the_file(cache: Path) -> Path:
    (found,) = (cache / "features").glob("*.npy")
    return found


def test_features_are_those_of_each_item_in_order(pixels: NDArray[np.uint8]) -> None:
    found = cached_features(sums(Seen()), pixels, ITEMS, data_key="data")
    expected = pixels[ITEMS].reshape(150, 3, 2, 8).sum(axis=(1, 3))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # pixels pass through / 255 * 255


def test_the_encoder_sees_every_image_once_whoever_asks(pixels: NDArray[np.uint8]) -> None:
    seen = Seen()
    for _ in range(3):
        cached_features(sums(seen), pixels, ITEMS, data_key="data")
    assert [len(batch) for batch in seen.batches] == [64, 64, 22]


@pytest.mark.parametrize("change", ["weights", "preprocessing", "data", "items"])
def test_a_change_of_what_they_depend_on_computes_them_again(
    pixels: NDArray[np.uint8], change: str
) -> None:
    seen = Seen()
    encoder, items, data = sums(seen), ITEMS, "data"
    cached_features(encoder, pixels, items, data_key=data)
    if change == "weights":
        encoder = replace(encoder, key="sums:other")
    elif change == "preprocessing":
        half = Preprocessing(mean=(0.5,) * 3, std=(1.0,) * 3)
        encoder = replace(encoder, preprocessing=half)
    elif change == "items":
        items = items[::-1].copy()
    else:
        data = "other"
    assert not are_cached(encoder, items, data_key=data)
    cached_features(encoder, pixels, items, data_key=data)
    assert sum(map(len, seen.batches)) == 300


def save(path: Path, array: NDArray[np.generic]) -> None:
    with path.open("wb") as file:
        np.save(file, array)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-8]),
    "empty": lambda path: path.write_bytes(b""),
    "no array": lambda path: path.write_bytes(b"x" * 5000),
    "too few items": lambda path: save(path, np.zeros((149, 2), dtype=np.float32)),
    "too few features": lambda path: save(path, np.zeros((150, 1), dtype=np.float32)),
    "not two axes": lambda path: save(path, np.zeros((150, 2, 1), dtype=np.float32)),
    "another precision": lambda path: save(path, np.zeros((150, 2), dtype=np.float64)),
    "gone": lambda path: path.unlink(),
    "description gone": lambda path: path.with_suffix(".json").unlink(),
    "description damaged": lambda path: path.with_suffix(".json").write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_features_are_computed_again(
    pixels: NDArray[np.uint8], cache: Path, damage: str
) -> None:
    seen = Seen()
    before = cached_features(sums(seen), pixels, ITEMS, data_key="data").copy()
    DAMAGE[damage](the_file(cache))
    after = cached_features(sums(seen), pixels, ITEMS, data_key="data")
    assert np.array_equal(before, after)
    assert sum(map(len, seen.batches)) == 300
    cached_features(sums(seen), pixels, ITEMS, data_key="data")
    assert sum(map(len, seen.batches)) == 300


def test_several_that_want_them_at_once_compute_them_once(pixels: NDArray[np.uint8]) -> None:
    seen = Seen()
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(cached_features, sums(seen), pixels, ITEMS, data_key="data")
            for _ in range(4)
        ]
        first, *others = [each.result(10) for each in asked]
    assert all(np.array_equal(first, other) for other in others)
    assert sum(map(len, seen.batches)) == 150


def test_who_waits_for_another_can_be_stopped(pixels: NDArray[np.uint8]) -> None:
    begun, go_on = threading.Event(), threading.Event()
    seen = Seen(then=lambda: (begun.set(), go_on.wait(10)))

    def stop() -> None:
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool:
        computing = pool.submit(cached_features, sums(seen), pixels, ITEMS, data_key="data")
        assert begun.wait(10)
        with pytest.raises(KeyboardInterrupt):
            cached_features(sums(Seen()), pixels, ITEMS, data_key="data", check_stop=stop)
        go_on.set()
        assert len(computing.result(10)) == 150


def test_stopping_midway_leaves_nothing_that_is_taken_for_features(
    pixels: NDArray[np.uint8], cache: Path
) -> None:
    seen = Seen()

    def stop() -> None:
        if len(seen.batches) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_features(sums(seen), pixels, ITEMS, data_key="data", check_stop=stop)
    assert not are_cached(sums(seen), ITEMS, data_key="data")
    assert len(cached_features(sums(seen), pixels, ITEMS, data_key="data")) == 150


@pytest.mark.parametrize(("seconds", "progress"), [(5.0, []), (0.0, ["64", "128", "1,152"])])
def test_who_waits_hears_how_far_it_is_every_few_seconds(
    pixels: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    progress: list[str],
) -> None:
    monkeypatch.setattr(features, "NOTE_EVERY", seconds)
    heard: list[str] = []
    many = np.arange(1200) % 160
    cached_features(sums(Seen()), pixels, many, data_key="data", on_note=heard.append)
    assert heard[0] == "computing the features of 1,200 images, once for all trials"
    told = [f"features: {done} of 1,200 images" for done in progress]
    assert [*heard[1:3], *heard[3:][-1:]] == told
    assert len(heard) == 1 + (18 if told else 0)  # not after the last of 19 batches


def test_features_stay_in_the_cache_while_anybody_has_them(
    pixels: NDArray[np.uint8], cache: Path
) -> None:
    tensor = torch.from_numpy(cached_features(sums(Seen()), pixels, ITEMS, data_key="data"))
    some = tensor[10:20]
    del tensor
    gc.collect()
    assert is_used(the_file(cache))
    del some
    gc.collect()
    assert not is_used(the_file(cache))


def test_beside_the_features_lies_what_they_are_of(pixels: NDArray[np.uint8], cache: Path) -> None:
    (cache / "data" / "0123").mkdir(parents=True)
    (cache / "data" / "0123" / "meta.json").write_text('{"source": "pets"}')
    cached_features(sums(Seen()), pixels, ITEMS, data_key="0123")
    assert json.loads(the_file(cache).with_suffix(".json").read_text()) == {
        "backbone": "sums",
        "source": "pets",
        "data": "0123",
        "items": 150,
        "features": 2,
        "digest": digest_of(the_file(cache)),
    }
    assert "  sums on pets" in optimize("cache").stdout


def test_the_cache_makes_room_for_features(
    pixels: NDArray[np.uint8], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "2KB")  # 1.3 KB are features and what they are of
    cached_features(sums(Seen()), pixels, ITEMS, data_key="old")
    gc.collect()
    cached_features(sums(Seen()), pixels, ITEMS, data_key="new")
    assert json.loads(the_file(cache).with_suffix(".json").read_text())["data"] == "new"
    assert len(list((cache / "features").iterdir())) == 3


def test_a_cache_that_cannot_be_written_says_what_to_set(
    pixels: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match="set TORCHSTUDY_CACHE to a folder with room"):
        cached_features(sums(Seen()), pixels, ITEMS, data_key="data")


def test_an_encoder_that_cannot_be_had_is_not_taken_for_a_bad_cache(
    pixels: NDArray[np.uint8],
) -> None:
    def build() -> nn.Module:
        raise ConnectionError("no network")

    with pytest.raises(ConnectionError, match="no network"):
        cached_features(replace(sums(Seen()), build=build), pixels, ITEMS, data_key="data")


def test_another_study_of_the_same_images_computes_none() -> None:
    said: list[str] = []
    for seed, head in ((0, "network"), (1, "logistic")):
        data = prepare(Images(stripes), seed=seed)
        splits_of(Transfer(head=head), data, ("train",), said.append)
    assert said == ["computing the features of 180 images, once for all trials"]


def test_a_search_leaves_the_fixed_test_split_unseen(
    striped: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    data = replace(striped)  # the property of a fixture's data may be known already
    monkeypatch.setattr(ImageData, "has_fixed_test", True)
    searched, _ = splits_of(Transfer(), data, ("train", "valid"), said.append)
    assert set(searched) == {"train", "valid"}
    splits_of(Transfer(), data, ("test",), said.append)
    num_test = len(data.splits["test"])
    num_all = sum(map(len, data.splits.values()))
    once = "computing the features of {} images, once for all trials"
    assert said == [once.format(num_all - num_test), once.format(num_test)]
