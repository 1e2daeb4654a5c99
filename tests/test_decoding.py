import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchstudy.data.arrays import array_listing
from torchstudy.data.decoding import decode
from torchstudy.data.folders import folder_listing
from torchstudy.data.pictures import fitted, open_picture, plain, summary


def opened(image: Image.Image, path: Path, **options: object) -> Image.Image:
    image.save(path, **options)
    return plain(open_picture(str(path)))


def values(image: Image.Image) -> list[object]:
    return list(image.get_flattened_data())


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    wide = Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16))
    image = opened(wide, tmp_path / "a.png")
    assert (image.mode, values(image)) == ("L", [0, 1, 128, 255])


def test_more_than_sixteen_bits_and_floats_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than 16 bits; save it with 8 or 16 bits"):
        opened(Image.fromarray(np.array([[70000]], dtype=np.int32)), tmp_path / "a.tif")
    with pytest.raises(ValueError, match="floating-point"):
        opened(Image.fromarray(np.array([[0.5]], dtype=np.float32)), tmp_path / "b.tif")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_over_white(mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (40, 40, 40, 255))
    flat = plain(image.convert(mode)).convert("L")
    assert values(flat) == [255, 40]


def test_a_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putpixel((1, 0), 1)
    shown = opened(image, tmp_path / "a.png", transparency=0)
    assert (shown.mode, values(shown)) == ("RGB", [(255, 255, 255), (200, 100, 0)])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("1", "L"),
        ("L", "L"),
        ("RGB", "RGB"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("P", "RGB"),
        ("HSV", "RGB"),
        ("LAB", "RGB"),
    ],
)
def test_every_mode_becomes_grey_or_colour(mode: str, expected: str) -> None:
    assert plain(Image.new(mode, (3, 2))).mode == expected


def test_cmyk_jpeg_keeps_its_colour(tmp_path: Path) -> None:
    cmyk = Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK")
    red, green, _ = opened(cmyk, tmp_path / "a.jpg", quality=95).getpixel((8, 8))
    assert red > 200
    assert green < 60


def test_the_camera_orientation_is_followed(tmp_path: Path) -> None:
    image = Image.new("L", (4, 2))
    image.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    turned = opened(image, tmp_path / "a.png", exif=exif)
    assert turned.size == (2, 4)
    assert turned.getpixel((1, 0)) == 255


def test_an_animation_counts_by_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), shade) for shade in (10, 200)]
    image = opened(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert image.convert("L").getpixel((0, 0)) == 10


def test_a_wide_image_is_scaled_by_its_short_side_and_cut_at_the_centre() -> None:
    pixels = np.zeros((20, 60), np.uint8)
    pixels[:, 20:40] = 200
    assert fitted(Image.fromarray(pixels), 1, 10, 10)[0, :, 1:-1].min() == 200
    assert fitted(Image.fromarray(pixels), 3, 10, 10).shape == (3, 10, 10)


def test_an_image_of_the_right_size_is_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    assert (fitted(Image.fromarray(pixels), 3, 8, 6) == pixels.transpose(2, 0, 1)).all()


def test_the_item_hash_knows_an_image_in_any_container(tmp_path: Path) -> None:
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8))
    hashes = {
        summary(opened(grey, tmp_path / "a.png")).item_hash,
        summary(opened(grey.convert("RGB"), tmp_path / "b.bmp")).item_hash,
        summary(opened(grey, tmp_path / "c.webp", lossless=True)).item_hash,
    }
    assert len(hashes) == 1
    assert summary(grey.transpose(Image.Transpose.TRANSPOSE)).item_hash not in hashes


def bomb(path: Path, side: int) -> None:
    """A PNG of a few hundred bytes whose header claims side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(99))), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def bad_after_decoding(tmp_path: Path) -> dict[str, str]:
    listing = folder_listing(tmp_path, "data")
    decoded = decode(listing, (3, 8, 8), tmp_path / "images.npy")
    return {image.name: image.reason for image in decoded.bad.values()}


def test_damaged_files_are_named_with_their_reason_and_the_rest_go_on(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32), (1, 2, 3)).save(tmp_path / name / "good.jpg")
    whole = (tmp_path / "a" / "good.jpg").read_bytes()
    (tmp_path / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "a" / "empty.png").write_bytes(b"")
    (tmp_path / "a" / "text.png").write_text("not an image")
    (tmp_path / "a" / "script.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    bomb(tmp_path / "b" / "bomb.png", 12_000)
    bomb(tmp_path / "b" / "huge.png", 60_000)
    bad = bad_after_decoding(tmp_path)
    assert sorted(bad) == [
        "a/cut.jpg", "a/empty.png", "a/script.jpg", "a/text.png", "b/bomb.png", "b/huge.png"
    ]  # fmt: skip
    assert bad["a/text.png"] == "not an image in a known format"
    assert "12000 x 12000 pixels is more than" in bad["b/bomb.png"]
    assert str(tmp_path) not in "".join(bad.values())


def test_decoding_reports_progress_up_to_the_total(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number in range(130):
        Image.new("L", (4, 4), number).save(tmp_path / "a" / f"{number:03}.png")
    seen: list[tuple[str, int, int]] = []
    listing = folder_listing(tmp_path, "data")
    decoded = decode(listing, (1, 4, 4), tmp_path / "images.npy", lambda *state: seen.append(state))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1] == ("decode", 130, 130)
    pixels = np.load(tmp_path / "images.npy")
    assert pixels[:, 0, 0, 0].tolist() == list(range(130))
    assert decoded.moments[:, 0].tolist() == [[16 * n, 16 * n * n] for n in range(130)]


def test_an_error_in_the_progress_function_ends_decoding(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "a" / "1.png")

    def stop(*state: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(folder_listing(tmp_path, "d"), (1, 4, 4), tmp_path / "images.npy", stop)


@pytest.mark.parametrize("shape", [(28, 28), (8, 8), (9, 30), (32, 32, 3), (17, 40, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_one_array_are_decoded_as_if_one_by_one(
    shape: tuple[int, ...], channels: int, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, *shape), dtype=np.uint8)
    pixels[:150] //= 32  # not noise alone
    listing = array_listing("noise", pixels, np.zeros(300, dtype=np.int64), ("one",))
    stored = (channels, shape[0], shape[1])
    together = decode(listing, stored, tmp_path / "together.npy")
    alone = decode(replace(listing, pixels=None), stored, tmp_path / "alone.npy")
    assert (np.load(tmp_path / "together.npy") == np.load(tmp_path / "alone.npy")).all()
    for name in ("hashes", "thumbs", "moments"):
        assert (getattr(together, name) == getattr(alone, name)).all(), name


def test_images_higher_than_wide_are_decoded_one_by_one(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 64, 17), dtype=np.uint8)
    listing = array_listing("noise", pixels, np.zeros(20, dtype=np.int64), ("one",))
    decoded = decode(listing, (1, 64, 17), None)
    expected = [summary(Image.fromarray(one)) for one in pixels]
    assert (decoded.thumbs == np.stack([one.thumb for one in expected])).all()
