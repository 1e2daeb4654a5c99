import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchstudy.data import archives
from torchstudy.data.dataset import prepare
from torchstudy.data.images import Images
from torchstudy.data.sources import Scan, scan
from torchstudy.errors import DataError


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHSTUDY_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def folder(root: Path, counts: dict[str, int], mode: str = "RGB") -> Path:
    """A folder with `count` small images in each of the named folders below it."""
    for place, count in counts.items():
        (root / place).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new(mode, (8, 8)).save(root / place / f"{number}.png")
    return root


def problems(images: Images) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        scan(images)
    return caught.value.problems


def test_digits_are_planned_without_being_decoded(tmp_path: Path) -> None:
    scanned = scan(Images("digits"))
    assert scanned.split_sizes() == {"train": 987, "valid": 270, "select": 270, "test": 270}
    spec = scanned.spec()
    assert (spec.source, spec.shape, spec.num_train) == ("digits", (1, 8, 8), 987)
    assert (spec.mean, spec.std) == ((0.5,), (0.25,))
    assert spec.classes == tuple("0123456789")
    assert not (tmp_path / "cache").exists()


def test_size_and_channels_change_what_a_network_sees() -> None:
    spec = scan(Images("digits", size=16, channels=3)).spec()
    assert spec.shape == (3, 16, 16)
    assert len(spec.mean) == len(spec.std) == 3


def test_a_folder_of_class_folders_is_cut_into_all_splits(tmp_path: Path) -> None:
    scanned = scan(Images(folder(tmp_path / "pets", {"cat": 40, "dog/small": 20, "dog/tall": 20})))
    assert scanned.split_sizes() == {"train": 44, "valid": 12, "select": 12, "test": 12}
    assert scanned.spec().classes == ("cat", "dog")
    assert scanned.spec().shape == (3, 64, 64)


def test_a_folder_of_grey_images_has_one_channel(tmp_path: Path) -> None:
    grey = folder(tmp_path / "grey", {"a": 10, "b": 10}, mode="L")
    assert scan(Images(grey)).spec().channels == 1
    Image.new("RGB", (8, 8)).save(grey / "b" / "colour.png")
    assert scan(Images(grey)).spec().channels == 3


def test_with_train_and_val_only_val_is_the_test_split(tmp_path: Path) -> None:
    pets = folder(tmp_path / "p", {"train/a": 50, "train/b": 50, "val/a": 6, "val/b": 6})
    assert scan(Images(pets)).split_sizes() == {
        "train": 70, "valid": 15, "select": 15, "test": 12
    }  # fmt: skip


def test_with_train_and_test_only_the_rest_is_cut_from_train(tmp_path: Path) -> None:
    pets = folder(tmp_path / "p", {"train/a": 50, "train/b": 50, "test/a": 6, "test/b": 6})
    assert scan(Images(pets)).split_sizes()["test"] == 12


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation"])
def test_with_three_split_folders_val_is_the_valid_split(tmp_path: Path, name: str) -> None:
    pets = folder(
        tmp_path / "p",
        {f"{part}/{label}": n for part, n in (("train", 50), (name, 7), ("test", 6))
         for label in "ab"},
    )  # fmt: skip
    assert scan(Images(pets)).split_sizes() == {
        "train": 85, "valid": 14, "select": 15, "test": 12
    }  # fmt: skip


def test_train_alone_is_cut_into_all_splits(tmp_path: Path) -> None:
    pets = folder(tmp_path / "p", {"train/a": 50, "train/b": 50})
    assert scan(Images(pets)).split_sizes()["test"] == 15
    assert scan(Images(pets)).spec().classes == ("a", "b")


def test_class_folders_must_be_the_same_in_all_split_folders(tmp_path: Path) -> None:
    pets = folder(tmp_path / "p", {"train/ant": 9, "train/bee": 9, "val/ants": 9, "val/bee": 9})
    assert problems(Images(pets)) == (
        "data: val/ has the class folder 'ants', which train/ has not (did you mean 'ant'?)",
        "data: train/ has the class folder 'ant', which val/ has not",
    )


def test_split_folders_without_class_folders_are_named(tmp_path: Path) -> None:
    pets = folder(tmp_path / "p", {"train/a": 9, "train/b": 9, "test": 5})
    assert problems(Images(pets))[0].startswith("data: test/ holds no class folders; give root/")


def test_two_validation_folders_are_one_too_many(tmp_path: Path) -> None:
    pets = folder(tmp_path / "p", {"train/a": 9, "val/a": 9, "valid/a": 9, "test/a": 9})
    assert problems(Images(pets)) == (f"data: '{pets}' has 'val' and 'valid'; keep one "
                                      "validation folder",)  # fmt: skip


def test_empty_folders_and_folders_without_images_say_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no class folders; give root/<class>" in problems(Images("empty"))[0]
    folder(tmp_path / "bare", {"a": 0, "b": 0})
    assert "'bare' holds no images (.jpg," in problems(Images("bare"))[0]


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    pets = folder(tmp_path / "p", {"a": 20, "b": 20, "notes": 0})
    assert "'notes' has 0" in problems(Images(pets))[0]


def test_hidden_files_and_other_files_are_ignored(tmp_path: Path) -> None:
    pets = folder(tmp_path / "p", {"a": 20, "b": 20, ".git": 3, "__MACOSX/a": 3, "a/.thumbs": 3})
    (pets / "a" / "._0.png").write_bytes(b"x")
    (pets / "a" / "labels.txt").write_text("x")
    (pets / "readme.png").write_bytes(b"x")
    assert len(scan(Images(pets)).listing) == 40


def test_links_that_leave_the_folder_and_special_files_are_bad_images(tmp_path: Path) -> None:
    outside = folder(tmp_path / "outside", {"secret": 3})
    pets = folder(tmp_path / "p", {"a": 20, "b": 20})
    (pets / "a" / "inside.png").symlink_to(pets / "b" / "0.png")
    (pets / "a" / "leak.png").symlink_to(outside / "secret" / "0.png")
    (pets / "a" / "broken.png").symlink_to("nowhere.png")
    (pets / "a" / "loop").symlink_to(pets)
    os.mkfifo(pets / "a" / "pipe.png")
    assert problems(Images(pets)) == (
        "data: 4 images cannot be read ('a/broken.png': No such file or directory; 'a/leak.png': "
        "a link that leaves the folder; 'a/loop': a link to a folder, which is not followed; "
        "'a/pipe.png': not a regular file); repair or remove them, or pass on_bad_image='skip'",
    )
    kept = scan(Images(pets, on_bad_image="skip")).listing
    assert len(kept) == 41
    assert "a/inside.png" in kept.names


def test_hostile_names_go_through_unharmed(tmp_path: Path) -> None:
    names = ["<script>alert(1)<b>", "new\nline", "ü" * 90, "日本", "a'\"b", "n" * 200]
    pets = folder(tmp_path / "p", dict.fromkeys(names, 5))
    scanned = scan(Images(pets))
    assert set(scanned.spec().classes) == set(names)
    assert "new\nline/0.png" in scanned.listing.names
    labels = ["</script>", "a"] * 20
    assert scan_of(np.zeros((40, 8, 8), np.uint8), labels).spec().classes == ("</script>", "a")


def test_a_name_that_is_not_unicode_becomes_printable(tmp_path: Path) -> None:
    pets = folder(tmp_path / "p", {"a": 5, "b": 5})
    os.rename(os.fsencode(pets / "a"), os.fsencode(pets) + b"/\xff")
    classes = scan(Images(pets)).spec().classes
    assert set(classes) == {"b", "\\xff"}


def test_a_changed_added_or_removed_file_changes_the_stamp(tmp_path: Path) -> None:
    pets = folder(tmp_path / "p", {"a": 20, "b": 20})
    stamps = [scan(Images(pets)).listing.stamp, scan(Images(pets)).listing.stamp]
    os.utime(pets / "a" / "3.png", ns=(1, 1))
    stamps.append(scan(Images(pets)).listing.stamp)
    Image.new("RGB", (8, 8)).save(pets / "a" / "more.png")
    stamps.append(scan(Images(pets)).listing.stamp)
    (pets / "a" / "3.png").unlink()
    stamps.append(scan(Images(pets)).listing.stamp)
    assert stamps[0] == stamps[1]
    assert len(set(stamps)) == 4


def tar_of(source: Path, path: Path, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        tar.add(source, source.name)
    return path


def zip_of(source: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(source.rglob("*.png")):
            archive.write(file, file.relative_to(source.parent))
    return path


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".zip"])
def test_an_archive_is_extracted_once_and_found_by_its_bare_name(
    tmp_path: Path, suffix: str
) -> None:
    pets = folder(tmp_path / "made" / "pets", {"train/a": 20, "train/b": 20})
    if suffix == ".zip":
        zip_of(pets, tmp_path / "pets.zip")
    else:
        tar_of(pets, tmp_path / f"pets{suffix}", "w" if suffix == ".tar" else "w:gz")
    first = scan(Images("pets"))
    assert first.spec().classes == ("a", "b")
    assert first.split_sizes()["test"] == 6
    assert first.listing.names[0] == "train/a/0.png" or first.listing.names[0] == "a/0.png"
    assert scan(Images(tmp_path / f"pets{suffix}")).listing.stamp == first.listing.stamp
    assert len(list((tmp_path / "cache" / "archives").iterdir())) == 1


def test_a_changed_archive_is_extracted_again(tmp_path: Path) -> None:
    tar_of(folder(tmp_path / "made" / "p", {"a": 9, "b": 9}), tmp_path / "p.tar")
    assert len(scan(Images("p")).listing) == 18
    tar_of(folder(tmp_path / "made" / "p", {"c": 9}), tmp_path / "p.tar")
    assert len(scan(Images("p")).listing) == 27


def hostile_tar(path: Path, name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        member.size = 1 if kind == tarfile.REGTYPE else 0
        tar.addfile(member, io.BytesIO(b"x"))


@pytest.mark.parametrize("name", ["../escaped.png", "a/../../escaped.png", "/escaped.png"])
def test_members_that_lie_outside_of_their_archive_are_refused(tmp_path: Path, name: str) -> None:
    hostile_tar(tmp_path / "bad.tar", name)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, b"x")
    for suffix in (".tar", ".zip"):
        assert f"is refused: {name!r} lies outside" in problems(Images(f"bad{suffix}"))[0]
    assert not list(tmp_path.rglob("escaped.png"))
    assert not list((tmp_path / "cache" / "archives").iterdir())


def test_links_out_of_an_archive_and_devices_are_refused(tmp_path: Path) -> None:
    hostile_tar(tmp_path / "link.tar", "a.png", kind=tarfile.SYMTYPE, link="/etc/passwd")
    hostile_tar(tmp_path / "pipe.tar", "a.png", kind=tarfile.FIFOTYPE)
    for name in ("link", "pipe"):
        assert f"{name}.tar cannot be extracted" in problems(Images(name))[0]


def test_archives_beyond_the_caps_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar_of(folder(tmp_path / "made" / "p", {"a": 9, "b": 9}), tmp_path / "p.tar")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    assert "holds more than 5 files" in problems(Images("p"))[0]
    monkeypatch.setattr(archives, "MAX_MEMBERS", 500)
    monkeypatch.setattr(archives, "MAX_BYTES", 100)
    assert "extract it yourself" in problems(Images("p"))[0]


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    whole = tar_of(folder(tmp_path / "made" / "p", {"a": 9, "b": 9}), tmp_path / "p.tgz", "w:gz")
    whole.write_bytes(whole.read_bytes()[:-200])
    (tmp_path / "noise.zip").write_bytes(b"PK" + bytes(100))
    (tmp_path / "empty.tar").write_bytes(b"")
    for name in ("p.tgz", "noise.zip", "empty.tar"):
        assert f"{name} cannot be extracted" in problems(Images(name))[0]


def test_an_unknown_name_says_what_is_known_and_where_it_was_looked_up(tmp_path: Path) -> None:
    folder(tmp_path / "butterflies", {"a": 1})
    (sentence,) = problems(Images("buterflies"))
    assert "'buterflies' is no known name (digits, fashion-mnist)" in sentence
    assert "(did you mean 'butterflies'?)" in sentence
    assert str(tmp_path) in sentence
    assert "(did you mean 'digits'?)" in problems(Images("Digit"))[0]


@pytest.mark.parametrize("name", ["x" * 5000, "~no-such-user-here/data"])
def test_a_name_the_system_refuses_is_a_data_error(name: str) -> None:
    assert "data: " in problems(Images(name))[0]


def test_a_file_that_is_no_archive_says_what_would_do(tmp_path: Path) -> None:
    (tmp_path / "table.xls").write_text("a,b")
    assert "is neither a folder nor an archive (.tar," in problems(Images("table.xls"))[0]
    (tmp_path / "table.csv").write_text("a,b")
    (problem,) = problems(Images("table.csv"))
    assert problem == "data: 'table.csv' is a table; name the column to predict with target="


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    pets = folder(tmp_path / "p", {"a": 9, "b": 9})
    (pets / "a").chmod(0)
    try:
        if os.access(pets / "a", os.R_OK):
            pytest.skip("this user may read everything")
        assert "cannot be read (Permission denied)" in problems(Images(pets))[0]
    finally:
        (pets / "a").chmod(stat.S_IRWXU)


def test_problems_of_declaration_and_source_come_together() -> None:
    found = problems(Images("nowhere", size=1, on_bad_image="no"))
    assert len(found) == 3
    assert "nowhere" in found[-1]


def scan_of(pixels: object, labels: object) -> Scan:
    def made() -> object:
        return pixels, labels

    return scan(Images(made))  # type: ignore[arg-type]


def test_a_function_gives_images_and_labels_of_any_sortable_kind() -> None:
    pixels = np.zeros((40, 9, 7), np.uint8)
    spec = scan_of(pixels, ["dog", "cat"] * 20).spec()
    assert (spec.classes, spec.shape, spec.source) == (("cat", "dog"), (1, 9, 7), spec.source)
    assert scan_of(pixels, np.array([10, 9] * 20)).spec().classes == ("9", "10")
    colour = np.zeros((40, 9, 7, 3), np.uint8)
    assert scan_of(colour, np.array([True, False] * 20)).spec().shape == (3, 9, 7)


@pytest.mark.parametrize(
    ("pixels", "labels", "sentence"),
    [
        (np.zeros((4, 8, 8)), [0, 1, 0, 1], "are uint8 in 0..255, not float64"),
        (np.zeros((4, 8), np.uint8), [0, 1, 0, 1], r"not \(4, 8\)"),
        (np.zeros((4, 3, 8, 8), np.uint8), [0, 1, 0, 1], "not 8; move the channels last"),
        (np.zeros((4, 8, 8), np.uint8), [0, 1], "returns 4 images but 2 labels"),
        (np.zeros((2, 8, 8), np.uint8), [0.5, 0.5], "are quantities that are all 0.5"),
        (np.zeros((2, 8, 8), np.uint8), [0.5, np.nan], "but number 1 is nan"),
        (np.zeros((2, 8, 8), np.uint8), [[0, 1]], r"one per image, not of shape \(1, 2\)"),
        (np.zeros((2, 8, 8), np.uint8), np.array([None, "a"]), "not object"),
        (np.zeros((0, 8, 8), np.uint8), np.zeros(0, int), "returns no pixels"),
        ([[1, 2], [3]], [0, 1], "returns no arrays: setting an array element"),
    ],
)
def test_what_is_wrong_with_the_arrays_of_a_function_is_said(
    pixels: object, labels: object, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        scan_of(pixels, labels)


def test_a_function_that_fails_or_returns_something_else_is_named() -> None:
    def broken() -> object:
        raise KeyError("no such column")

    def alone() -> object:
        return np.zeros((4, 8, 8), np.uint8)

    with pytest.raises(DataError, match=r"broken\(\) failed with KeyError: 'no such column'") as e:
        scan(Images(broken))  # type: ignore[arg-type]
    assert isinstance(e.value.__cause__, KeyError)
    assert "returns a ndarray, not (images, labels)" in problems(Images(alone))[0]  # type: ignore[arg-type]


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">{values.ndim + 1}I", 0x0800 + values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), mtime=0))


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    place = tmp_path / "FashionMNIST" / "raw"
    place.mkdir(parents=True)
    for name, count in (("train", 100), ("t10k", 20)):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(place / f"{name}-images-idx3-ubyte.gz", pixels)
        write_idx(place / f"{name}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    return place


@pytest.mark.usefixtures("fashion")
def test_fashion_mnist_has_a_fixed_test_split() -> None:
    scanned = scan(Images("fashion-mnist"))
    assert scanned.split_sizes() == {"train": 70, "valid": 15, "select": 15, "test": 20}
    assert scanned.spec().classes[9] == "Ankle boot"


@pytest.mark.usefixtures("fashion")
def test_data_know_whether_their_source_fixes_the_test_split() -> None:
    assert prepare(Images("fashion-mnist"), seed=0).has_fixed_test
    assert not prepare(Images("digits"), seed=0).has_fixed_test


def test_damaged_idx_files_are_named(fashion: Path) -> None:
    labels = fashion / "train-labels-idx1-ubyte.gz"
    whole = labels.read_bytes()
    for damaged in (whole[:-9], b"", gzip.compress(b"\0\0\x08"), gzip.compress(bytes(108))):
        labels.write_bytes(damaged)
        assert str(labels) in problems(Images("fashion-mnist"))[0]
    write_idx(labels, np.zeros(99, np.uint8))
    assert "do not belong together" in problems(Images("fashion-mnist"))[0]
