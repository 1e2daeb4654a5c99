"""Odd images, files, links and archives: each is used or named, and the rest go on."""

import contextlib
import io
import os
import socket
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.conftest import rows_table

from torchstudy.data import archives
from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.errors import DataError

SOUND = 8  # sound images in each of the two classes
Make = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "cache"))


def noise(seed: int, height: int = 8, width: int = 8, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def pets(folder: Path) -> Path:
    """Two classes of sound images."""
    for place, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(SOUND):
            noise(place * 100 + number).save(folder / name / f"{number}.png")
    return folder


def prepared(folder: Path, **changes: object) -> ImageData:
    given: dict[str, object] = {"size": 8, "on_bad_image": "skip", **changes}
    return prepare(Images(folder, **given), seed=0)  # type: ignore[arg-type]


def problem(folder: Path, **changes: object) -> str:
    with pytest.raises(DataError) as caught:
        prepared(folder, **changes)
    return str(caught.value)


def png(width: int, height: int, *, rows: bytes = b"") -> bytes:
    """A grey PNG whose header claims a size, whatever its rows hold."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data)
        return len(data).to_bytes(4, "big") + name + data + crc.to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    body = chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def bytes_of(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=format, **options)  # type: ignore[arg-type]
    return file.getvalue()


def exif_turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return bytes_of(noise(900, 8, 20), "JPEG", exif=exif)


GOOD: dict[str, bytes] = {
    "cmyk.jpg": bytes_of(noise(901, mode="CMYK"), "JPEG"),
    "wide.png": bytes_of(
        Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 999), "PNG"
    ),
    "palette.png": bytes_of(noise(902, mode="P"), "PNG", transparency=bytes(range(256))),
    "moving.gif": bytes_of(
        noise(903), "GIF", save_all=True, append_images=[noise(904), noise(905)]
    ),
    "moving.webp": bytes_of(noise(906), "WEBP", save_all=True, append_images=[noise(907)]),
    "turned.jpg": exif_turned(),
    "really_a_jpeg.png": bytes_of(noise(908), "JPEG"),
    "one.png": bytes_of(noise(909, 1, 1), "PNG"),
    "column.png": bytes_of(noise(910, 5000, 1), "PNG"),
    "row.png": bytes_of(noise(911, 1, 5000), "PNG"),
    "lab.tif": bytes_of(noise(912, mode="RGB").convert("LAB"), "TIFF"),
    "one_bit.bmp": bytes_of(noise(913, mode="1"), "BMP"),
    "n" * 240 + ".png": bytes_of(noise(914), "PNG"),
    "=\x1b[2J\u202e\n'\".png": bytes_of(noise(915), "PNG"),
}
BAD: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "not an image in a known format"),
    "text.jpg": (b"not an image", "not an image in a known format"),
    "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image in a known format"),
    "cut.png": (bytes_of(noise(920, 64, 64), "PNG")[:3000], "truncated"),
    "cut.jpg": (bytes_of(noise(921, 64, 64), "JPEG")[:900], "truncated"),
    "no_rows.png": (png(64, 64), ""),
    "bomb.png": (png(12_000, 12_000, rows=bytes(12_001 * 1_400)), "12000 x 12000 pixels is more"),
    "larger_bomb.png": (png(60_000, 60_000), "decompression bomb"),
    "no_pixels.png": (png(0, 8), ""),
    "floats.tif": (bytes_of(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"), "floating"),
}


def test_the_bomb_is_small_and_claims_144_megapixels() -> None:
    assert len(BAD["bomb.png"][0]) < 20_000


def test_every_odd_but_sound_image_is_used(tmp_path: Path) -> None:
    folder = pets(tmp_path / "pets")
    for name, content in GOOD.items():
        (folder / "cat" / name).write_bytes(content)
    data = prepared(folder, on_bad_image="error")
    assert len(data.targets) == 2 * SOUND + len(GOOD)
    assert {f"cat/{name}" for name in GOOD} <= set(data.names)


def test_every_unusable_image_is_named_with_its_reason_and_the_rest_stay(tmp_path: Path) -> None:
    folder = pets(tmp_path / "pets")
    for name, (content, _) in BAD.items():
        (folder / "cat" / name).write_bytes(content)
    assert len(prepared(folder).targets) == 2 * SOUND
    for name, (_, reason) in BAD.items():
        said = problem(_only(folder, name, tmp_path / name), on_bad_image="error")
        assert f"1 image cannot be read ('cat/{name}': " in said
        assert reason in said, (name, said)


def _only(folder: Path, name: str, copy: Path) -> Path:
    """The two classes with one of the bad images."""
    made = pets(copy)
    (made / "cat" / name).write_bytes((folder / "cat" / name).read_bytes())
    return made


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
        server.bind(path.name)  # the addresses of sockets are short


def link(target: str) -> Make:
    return lambda path: path.symlink_to(target)


SPECIAL: dict[str, tuple[Make, str]] = {
    "pipe": (fifo, "not a regular file"),
    "socket": (listening, "not a regular file"),
    "device": (link("/dev/zero"), "a link that leaves the folder"),
    "endless": (link("/dev/tty"), "a link that leaves the folder"),
    "passwords": (link("/etc/passwd"), "a link that leaves the folder"),
    "up": (link("../../../x.png"), "No such file or directory"),
    "dangling": (link("nowhere.png"), "No such file or directory"),
    "itself": (link("itself.png"), "Too many levels of symbolic links"),
    "circle": (link(".."), "a link to a folder, which is not followed"),
}


@pytest.mark.parametrize("what", SPECIAL)
def test_what_is_no_file_of_the_folder_is_named_and_never_opened(what: str, tmp_path: Path) -> None:
    folder, (make, reason) = pets(tmp_path / "pets"), SPECIAL[what]
    (tmp_path / "x.png").write_bytes(b"x")
    make(folder / "cat" / f"{what}.png")
    data = prepared(folder)
    assert len(data.targets) == 2 * SOUND
    assert data.notes == (f"1 unreadable image was left out, 'cat/{what}.png': {reason}",)


def test_a_folder_that_is_called_like_an_image_is_looked_into(tmp_path: Path) -> None:
    folder = pets(tmp_path / "pets")
    (folder / "cat" / "x.png").mkdir()
    noise(930).save(folder / "cat" / "x.png" / "inside.png")
    assert "cat/x.png/inside.png" in list(prepared(folder).names)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    folder = pets(tmp_path / "pets")
    (folder / "cat" / "0.png").chmod(0)
    assert "Permission denied" in problem(folder, on_bad_image="error")


# -- archives ------------------------------------------------------------------------------------


def tar_with(path: Path, name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> Path:
    """A tar of sound images and one odd member."""
    folder = pets(path.parent / "made")
    with tarfile.open(path, "w") as made:
        for file in sorted(folder.rglob("*.png")):
            made.add(file, file.relative_to(folder))
        odd = tarfile.TarInfo(name)
        odd.type, odd.linkname = kind, target
        odd.size = 4 if odd.isreg() else 0
        made.addfile(odd, io.BytesIO(b"evil"))
    return path


@pytest.mark.parametrize(
    ("name", "kind", "target", "reason"),
    [
        ("../evil.png", tarfile.REGTYPE, "", "'../evil.png' lies outside of it"),
        ("cat/../../evil.png", tarfile.REGTYPE, "", "lies outside of it"),
        ("/tmp/evil.png", tarfile.REGTYPE, "", "'/tmp/evil.png' lies outside of it"),
        ("cat\\..\\..\\evil.png", tarfile.REGTYPE, "", "lies outside of it"),
        ("cat/evil.png", tarfile.SYMTYPE, "/etc/passwd", "is a link to '/etc/passwd'"),
        ("cat/evil.png", tarfile.SYMTYPE, "0.png", "is a link to '0.png'; extract it yourself"),
        ("cat/evil.png", tarfile.LNKTYPE, "/etc/passwd", "is a link to '/etc/passwd'"),
        ("cat/evil.png", tarfile.LNKTYPE, "missing", "is a link to 'missing'"),
        ("cat/evil.png", tarfile.FIFOTYPE, "", "is a special file"),
        ("cat/evil.png", tarfile.CHRTYPE, "", "is a special file"),
        ("d/" * 60 + "evil.png", tarfile.REGTYPE, "", "lies in more than 40 folders"),
        ("cat/0.png/evil.png", tarfile.REGTYPE, "", "cannot be extracted"),
        ("cat/" + "n" * 300 + ".png", tarfile.REGTYPE, "", "File name too long"),
    ],
)
def test_an_odd_member_is_refused_and_nothing_is_left(
    tmp_path: Path, name: str, kind: bytes, target: str, reason: str
) -> None:
    path = tar_with(tmp_path / "pets.tar", name, kind, target)
    said = problem(path)
    assert "pets.tar" in said
    assert reason in said
    assert "TORCHSTUDY_CACHE" not in said  # it is not the cache's fault
    assert not list(tmp_path.rglob("*evil*"))
    assert not list((tmp_path / "cache" / "archives").iterdir())


def test_a_second_name_of_a_file_in_the_archive_is_that_file(tmp_path: Path) -> None:
    path = tar_with(tmp_path / "pets.tar", "dog/again.png", tarfile.LNKTYPE, "cat/0.png")
    assert len(prepared(path).targets) == 2 * SOUND + 1


def test_of_members_of_one_name_the_last_one_counts(tmp_path: Path) -> None:
    folder = pets(tmp_path / "made")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as made:
        for file in sorted(folder.rglob("*.png")):
            made.write(file, file.relative_to(folder))
        with pytest.warns(UserWarning, match="Duplicate name"):
            made.writestr("cat/0.png", b"no image")
    data = prepared(tmp_path / "pets.zip")
    assert len(data.targets) == 2 * SOUND - 1
    assert "'cat/0.png'" in data.notes[0]


def test_an_encrypted_archive_says_so(tmp_path: Path) -> None:
    folder = pets(tmp_path / "made")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as made:
        for file in sorted(folder.rglob("*.png")):
            made.write(file, file.relative_to(folder))
    content = bytearray((tmp_path / "pets.zip").read_bytes())
    for at in _places(content, b"PK\x03\x04", 6) + _places(content, b"PK\x01\x02", 8):
        content[at] |= 1  # the flag of encryption
    (tmp_path / "pets.zip").write_bytes(content)
    assert "is encrypted, password required" in problem(tmp_path / "pets.zip")


def _places(content: bytearray, mark: bytes, offset: int) -> list[int]:
    found, at = [], content.find(mark)
    while at >= 0:
        found.append(at + offset)
        at = content.find(mark, at + 1)
    return found


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_a_small_archive_of_much_is_refused_before_it_fills_the_disk(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 2**20)
    path, zeros = tmp_path / f"pets.{suffix}", bytes(3 * 2**20)
    if suffix == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("cat/0.png", zeros)
    else:
        with tarfile.open(path, "w:gz") as tar:
            info = tarfile.TarInfo("cat/0.png")
            info.size = len(zeros)
            tar.addfile(info, io.BytesIO(zeros))
    assert "holds more than 2,000,000 files and 0.000977 GiB; extract it yourself" in problem(path)
    assert not list((tmp_path / "cache" / "archives").iterdir())


# -- images that a table names -------------------------------------------------------------------


def shop(folder: Path, odd: str) -> Path:
    """A table with an image for each row, of which the fourth is odd."""
    folder.mkdir()
    table = rows_table().iloc[:60]
    for number, name in enumerate(table["photo"]):
        noise(number).save(folder / name)
    table.loc[3, "photo"] = odd
    table.to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("../outside.png", "outside of the table's folder"),
        ("{root}/outside.png", "outside of the table's folder"),
        ("sub/../../outside.png", "outside of the table's folder"),
        ("linked.png", "outside of the table's folder"),
        ("away/outside.png", "outside of the table's folder"),
        ("../../../../../../../../etc/passwd", "outside of the table's folder"),
        ("/dev/zero", "not a regular file"),
        ("pipe.png", "not a regular file"),
        ("sub", "not a regular file"),
        ("https://example.com/x.png", "an address, not a file"),
        ("n" * 300, "no such file"),
        ("missing\x1b[2J.png", "no such file"),
    ],
)
def test_a_table_names_images_in_its_own_folder_only(tmp_path: Path, odd: str, reason: str) -> None:
    path = shop(tmp_path / "shop", odd.format(root=tmp_path))
    noise(999).save(tmp_path / "outside.png")
    os.mkfifo(path.parent / "pipe.png")
    (path.parent / "sub").mkdir()
    (path.parent / "away").symlink_to(tmp_path)
    (path.parent / "linked.png").symlink_to(tmp_path / "outside.png")
    said = problem(path, target="kind", on_bad_image="error")
    assert "1 image cannot be read ('row 4, " in said
    assert reason in said
    data = prepared(path, target="kind")
    assert len(data.targets) == 59


def test_a_function_s_table_may_name_images_anywhere(tmp_path: Path) -> None:
    path = shop(tmp_path / "shop", "0.png")
    table = pd.read_csv(path)
    table["photo"] = [str(path.parent / name) for name in table["photo"]]
    data = prepare(Images(lambda: table, target="kind", size=8), seed=0)
    assert len(data.targets) == 60
