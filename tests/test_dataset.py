import gzip
import os
import pickle
import shutil
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchstudy.data.dataset import ImageData, open_data, prepare
from torchstudy.data.images import SPLITS, Images
from torchstudy.errors import DataError
from torchstudy.files import data_folders

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def scenes(count: int, size: int = 24) -> list[Image.Image]:
    """Smooth random colour pictures, as different from each other as photographs."""
    small = np.random.default_rng(3).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return [
        Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC) for values in small
    ]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """40 different images of two classes, each under a name of its own."""
    root = tmp_path / "pets"
    for number, image in enumerate(scenes(40)):
        place = root / ("cat", "dog")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{number:02}.png")
    return root


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "data").iterdir())


def same(one: ImageData, other: ImageData) -> bool:
    return (
        one.spec == other.spec
        and one.notes == other.notes
        and (one.pixels == other.pixels).all()
        and (one.targets == other.targets).all()
        and list(one.names) == list(other.names)
        and all((one.splits[name] == other.splits[name]).all() for name in SPLITS)
    )


def test_digits_are_ready_for_training() -> None:
    data = prepare(Images("digits"), seed=0)
    assert (data.pixels.shape, data.pixels.dtype) == ((1797, 1, 8, 8), np.uint8)
    assert data.pixels.flags.c_contiguous
    assert data.targets.dtype == np.int64
    assert {name: len(items) for name, items in data.splits.items()} == {
        "train": 987, "valid": 270, "select": 270, "test": 270
    }  # fmt: skip
    assert all(items.dtype == np.int64 for items in data.splits.values())
    assert (data.pixels.max(), data.names[17], data.notes) == (255, "digits/17", ())


def test_the_statistics_are_those_of_the_training_split() -> None:
    data = prepare(Images("digits"), seed=0)
    train = data.pixels[data.splits["train"]] / 255
    assert data.spec.mean == pytest.approx([train.mean()], abs=1e-12)
    assert data.spec.std == pytest.approx([train.std()], abs=1e-12)
    assert data.spec.num_train == 987


def test_a_channel_that_never_changes_can_be_divided_by() -> None:
    def flat() -> tuple[np.ndarray, list[int]]:
        pixels = np.zeros((40, 8, 8, 3), np.uint8)
        pixels[..., 0] = np.random.default_rng(0).integers(0, 256, (40, 8, 8))
        return pixels, [0, 1] * 20

    assert prepare(Images(flat), seed=0).spec.std[1] == pytest.approx(1 / 255)


def test_a_folder_is_decoded_to_the_size_and_channels_asked_for(pets: Path) -> None:
    data = prepare(Images(pets, size=12, channels=1), seed=0)
    assert data.pixels.shape == (40, 1, 12, 12)
    first = Image.open(pets / data.names[0]).convert("L")
    expected = np.asarray(first.resize((12, 12), Image.Resampling.BILINEAR))
    assert (data.pixels[0, 0] == expected).all()
    assert data.names[0] == "cat/00.png"
    assert data.spec.classes == ("cat", "dog")
    assert data.targets.tolist() == [0] * 20 + [1] * 20


def test_preparing_again_gives_the_same_and_decodes_nothing(pets: Path, cache: Path) -> None:
    seen: list[str] = []
    one = prepare(Images(pets), seed=3, progress=lambda what, *_: seen.append(what))
    assert set(seen) == {"decode", "compare"}
    other = prepare(Images(pets), seed=3, progress=lambda *_: pytest.fail("decoded again"))
    assert same(one, other)
    assert len(entries(cache)) == 1


def test_seeds_change_the_split_and_share_the_pixels(pets: Path, cache: Path) -> None:
    one, other = (prepare(Images(pets), seed=seed) for seed in (0, 1))
    assert one.splits["test"].tolist() != other.splits["test"].tolist()
    assert one.spec.fingerprint == other.spec.fingerprint
    assert len(entries(cache)) == 1


def test_a_split_depends_on_the_images_not_on_their_names(pets: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    for number, path in enumerate(sorted(pets.rglob("*.png"), reverse=True)):
        (renamed / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, renamed / path.parent.name / f"{number:03}.png")
    one, other = prepare(Images(pets), seed=0), prepare(Images(renamed), seed=0)
    assert one.spec.fingerprint == other.spec.fingerprint
    for name in SPLITS:
        first, second = (
            sorted(data.pixels[item].tobytes() for item in data.splits[name])
            for data in (one, other)
        )
        assert first == second


def test_fingerprint_and_sketch_are_the_same_at_any_size_and_differ_for_other_images(
    pets: Path,
) -> None:
    large, small = (prepare(Images(pets, size=n), seed=0).spec for n in (32, 8))
    assert (large.fingerprint, large.sketch) == (small.fingerprint, small.sketch)
    assert list(large.sketch) == sorted(set(large.sketch))
    assert len(large.sketch) == 40
    (pets / "cat" / "00.png").rename(pets / "dog" / "00.png")
    moved = prepare(Images(pets, size=8), seed=0).spec
    assert moved.sketch == small.sketch
    assert moved.fingerprint != small.fingerprint
    scenes(41)[40].save(pets / "dog" / "00.png")
    assert len(set(prepare(Images(pets), seed=0).spec.sketch) & set(small.sketch)) == 39


def test_a_sketch_keeps_the_smallest_hashes() -> None:
    sketch = prepare(Images("digits"), seed=0).spec.sketch
    assert len(sketch) == 1024
    assert max(sketch) < 2**64 * 0.62  # 1024 of 1797 uniform numbers: .57, standard error .012


def test_a_changed_file_is_decoded_again(pets: Path, cache: Path) -> None:
    before = prepare(Images(pets), seed=0)
    scenes(41)[40].save(pets / "cat" / "00.png")
    after = prepare(Images(pets), seed=0)
    assert (before.pixels[0] != after.pixels[0]).any()
    assert len(entries(cache)) == 2


def test_copies_never_straddle_splits_and_are_told(pets: Path) -> None:
    for number, image in enumerate(scenes(40)[:12]):
        image.resize((22, 22), Image.Resampling.BILINEAR).save(
            pets / ("cat", "dog")[number % 2] / f"copy-{number:02}.bmp"
        )
        image.save(pets / ("cat", "dog")[number % 2] / f"same-{number:02}.png")
    data = prepare(Images(pets), seed=0)
    home = {item: name for name, items in data.splits.items() for item in items.tolist()}
    position = {name: item for item, name in enumerate(data.names)}
    for number in range(12):
        folder = ("cat", "dog")[number % 2]
        copies = (f"{number:02}.png", f"copy-{number:02}.bmp", f"same-{number:02}.png")
        assert len({home[position[f"{folder}/{name}"]] for name in copies}) == 1
    assert data.notes == (
        "36 images are copies or near copies of each other, in 12 groups (the largest of 3); no "
        "group straddles two splits",
    )


def test_training_images_that_repeat_the_test_split_are_left_out(tmp_path: Path) -> None:
    for number, image in enumerate(scenes(60)):
        place = tmp_path / "p" / ("train" if number < 40 else "val") / ("cat", "dog")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{number:02}.png")
    shutil.copy(tmp_path / "p/val/cat/40.png", tmp_path / "p/train/dog/leak.png")
    data = prepare(Images(tmp_path / "p"), seed=0)
    leak = list(data.names).index("train/dog/leak.png")
    assert all(leak not in items for items in data.splits.values())
    assert len(data.splits["test"]) == 20
    assert data.notes[1:] == (
        "1 image was left out because it repeats an image of a split that the data fix: "
        "'train/dog/leak.png'",
        "1 group of copies carries different classes: 'train/dog/leak.png' and 'val/cat/40.png'",
    )


def test_bad_images_are_an_error_that_names_five_of_them(pets: Path, cache: Path) -> None:
    for number in range(7):
        (pets / "cat" / f"bad-{number}.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"7 images cannot be read \('cat/bad-0.png': not an"):
        prepare(Images(pets), seed=0)
    with pytest.raises(DataError, match=r"; and 2 more\); repair or remove them, or pass on_bad"):
        prepare(Images(pets), seed=0)


def test_bad_images_can_be_skipped_and_are_told(pets: Path) -> None:
    whole = prepare(Images(pets), seed=0)
    (pets / "cat" / "05.png").write_bytes(b"nothing")
    (pets / "dog" / "zz.png").write_bytes(b"nothing")
    data = prepare(Images(pets, on_bad_image="skip"), seed=0)
    assert data.pixels.shape[0] == len(data.targets) == len(data.names) == 40
    assert "dog/zz.png" not in data.names
    assert (data.pixels == whole.pixels).all()
    assert data.notes == (
        "2 unreadable images were left out, the first 'cat/05.png': not an image in a known format",
    )
    tried_again: list[str] = []
    with pytest.raises(DataError, match="2 images cannot be read"):
        prepare(Images(pets), seed=0, progress=lambda what, *_: tried_again.append(what))
    assert "decode" in tried_again


def test_a_class_left_without_readable_images_is_named(pets: Path) -> None:
    for path in (pets / "cat").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="'cat' has 0") as caught:
        prepare(Images(pets, on_bad_image="skip"), seed=0)
    assert "20 images cannot be read" in caught.value.problems[-1]


def test_a_folder_of_nothing_but_bad_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "p" / "a").mkdir(parents=True)
    (tmp_path / "p" / "a" / "1.png").write_bytes(b"nothing")
    with pytest.raises(DataError):
        prepare(Images(tmp_path / "p", on_bad_image="skip"), seed=0)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "hashes.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "empty"])
def test_a_damaged_cache_is_noticed_and_built_again(
    pets: Path, cache: Path, name: str, damage: str
) -> None:
    before = prepare(Images(pets), seed=0)
    pixels = before.pixels.copy()
    path = entries(cache)[0] / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2 if damage == "cut" else 0])
    after = prepare(Images(pets), seed=0)
    assert (after.pixels == pixels).all()
    assert len(entries(cache)) == 1


def test_a_damaged_split_file_is_written_again(pets: Path) -> None:
    before = prepare(Images(pets), seed=0)
    before.handle.split_file.write_bytes(b"PK")
    assert same(prepare(Images(pets), seed=0), before)


def test_what_was_left_by_an_interrupted_run_is_never_used(pets: Path, cache: Path) -> None:
    def stop(*state: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(Images(pets), seed=0, progress=stop)
    assert entries(cache) == []
    assert len(prepare(Images(pets), seed=0).targets) == 40


def test_half_built_folders_of_killed_processes_are_swept_after_a_week(
    pets: Path, cache: Path
) -> None:
    old, new = cache / "data" / ".a.part", cache / "data" / ".b.part"
    for folder in (old, new):
        folder.mkdir(parents=True)
    week = time.time() - 8 * 24 * 3600
    os.utime(old, (week, week))
    prepare(Images(pets), seed=0)
    assert (old.exists(), new.exists()) == (False, True)


def test_two_that_prepare_the_same_data_at_once_agree(pets: Path, cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: prepare(Images(pets), seed=0), range(4)))
    assert all(same(made[0], other) for other in made[1:])
    assert len(entries(cache)) == 1


def test_a_cache_that_cannot_be_written_says_what_to_set(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match="set TORCHSTUDY_CACHE to a folder with room"):
        prepare(Images(pets), seed=0)


def test_images_too_many_for_the_disk_are_an_error_not_a_crash(pets: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be used .*; set TORCHSTUDY_CACHE"):
        prepare(Images(pets, size=2**21), seed=0)


def test_a_handle_travels_to_another_process_without_torch_or_pillow(pets: Path) -> None:
    data = prepare(Images(pets), seed=0)
    handle = pickle.dumps(data.handle)
    assert len(handle) < 1000
    assert same(open_data(pickle.loads(handle)), data)
    code = (
        "import pickle, sys; data = pickle.loads(bytes.fromhex(sys.argv[1]));"
        "from torchstudy.data.dataset import open_data; print(open_data(data).pixels.sum());"
        "print([name for name in ('torch', 'PIL', 'sklearn', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, handle.hex()], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == [str(data.pixels.sum()), "[]"]


def test_writing_to_the_pixels_leaves_the_cache_as_it_is(pets: Path) -> None:
    data = prepare(Images(pets), seed=0)
    data.pixels[:] = 7
    assert (open_data(data.handle).pixels != 7).any()


def test_opening_takes_less_than_fifty_milliseconds() -> None:
    handle = prepare(Images("digits"), seed=0).handle
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        open_data(handle)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05


def test_hostile_names_come_back_unharmed(tmp_path: Path) -> None:
    names = ["<script>alert(1)<b>", "new\nline", "ü" * 90]
    for number, image in enumerate(scenes(30)):
        place = tmp_path / "p" / names[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{number:02}\n<b>.png")
    data = prepare(Images(tmp_path / "p"), seed=0)
    assert set(data.spec.classes) == set(names)
    assert "new\nline/01\n<b>.png" in data.names


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">{values.ndim + 1}I", 0x0800 + values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), 1))


def test_idx_files_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHSTUDY_DATA", str(tmp_path))
    (tmp_path / "fashion-mnist").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (220, 28, 28), dtype=np.uint8)
    labels = (np.arange(220) % 10).astype(np.uint8)
    for name, part in (("train", slice(0, 200)), ("t10k", slice(200, 220))):
        write_idx(tmp_path / "fashion-mnist" / f"{name}-images-idx3-ubyte.gz", pixels[part])
        write_idx(tmp_path / "fashion-mnist" / f"{name}-labels-idx1-ubyte.gz", labels[part])
    data = prepare(Images("fashion-mnist"), seed=0)
    assert (data.pixels[:, 0] == pixels).all()
    assert (data.targets == labels).all()
    assert data.splits["test"].tolist() == list(range(200, 220))


@pytest.mark.slow  # hashes and compares 70,000 images
def test_fashion_mnist_has_few_near_copies_and_small_groups() -> None:
    if not any((folder / "fashion-mnist").is_dir() for folder in data_folders()):
        pytest.skip("needs the idx files of Fashion-MNIST in a data folder")
    data = prepare(Images("fashion-mnist"), seed=0)
    assert {name: len(items) for name, items in data.splits.items() if name != "train"} == {
        "valid": 9000, "select": 9000, "test": 10000
    }  # fmt: skip
    assert 41900 <= len(data.splits["train"]) <= 42000
    groups = np.load(data.handle.folder / "groups.npy")
    sizes = np.unique(groups, return_counts=True)[1]
    assert sizes[sizes > 1].sum() < 0.003 * len(groups)
    assert sizes.max() <= 6


def test_photographs_keep_their_validation_folder_as_test() -> None:
    archive = SHARED / "hymenoptera_256.tar"
    if not archive.exists():
        pytest.skip(f"needs the photographs in {archive.name}")
    data = prepare(Images(archive, size=32), seed=0)
    assert {name: len(items) for name, items in data.splits.items()} == {
        "train": 170, "valid": 37, "select": 37, "test": 153
    }  # fmt: skip
    assert data.spec.classes == ("ants", "bees")
    assert all(data.names[item].startswith("val/") for item in data.splits["test"])
