"""One image: opened safely, turned upright, made grey or RGB, fitted to a square, summarised."""

import hashlib
import struct
import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # none that starts another program
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N")
THUMB = 16  # pixels a side of the grey thumbnail
COLOUR_THUMB = 4
THUMB_BYTES = THUMB * THUMB + COLOUR_THUMB * COLOUR_THUMB * 3


class Summary(NamedTuple):
    """What duplicates are recognised by: a hash of the exact pixels, and small thumbnails."""

    item_hash: int  # 64 bits
    thumb: NDArray[np.uint8]  # THUMB x THUMB grey, then COLOUR_THUMB x COLOUR_THUMB x 3, flat


def open_picture(path: str) -> Image.Image:
    """The first frame at `path`, upright, in the file's own mode. Raises what Pillow does."""
    with Image.open(path, formats=FORMATS) as image:
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise ValueError(f"{image.width} x {image.height} pixels is more than {limit:,}")
        image.load()
        return ImageOps.exif_transpose(image)


def is_grey_file(path: str) -> bool:
    """Whether the header says grey; True for files that cannot be read, they are reported later."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.mode in GREY_MODES
    except Exception:  # damaged headers raise anything from OSError to struct.error
        return True


def all_grey(paths: Iterable[str]) -> bool:
    """Whether no header says colour."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on odd headers
        return all(map(is_grey_file, paths))


def plain(image: Image.Image) -> Image.Image:
    """The image as "L" or "RGB": 16 bits scaled to 8, transparency laid over white."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode.startswith("I"):
        return _from_wide(image)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if ("A" in image.mode.upper() and image.mode != "LAB") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        flat = Image.alpha_composite(white, layer).convert("RGB")
        return flat.convert("L") if image.mode in GREY_MODES else flat
    return image.convert("L" if image.mode in GREY_MODES else "RGB")


def fitted(image: Image.Image, channels: int, height: int, width: int) -> NDArray[np.uint8]:
    """(channels, height, width) pixels: the short side scaled to fit, then the centre cut out."""
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), method=Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def summary(image: Image.Image) -> Summary:
    """The summary of an "L" or "RGB" image at its own size; colour does not enter the hash."""
    grey = image.convert("L")
    digest = hashlib.blake2b(struct.pack("<2I", grey.height, grey.width), digest_size=8)
    digest.update(grey.tobytes())
    small = image.resize((THUMB, THUMB), Image.Resampling.BILINEAR)  # BOX shifts with the size
    colours = small.resize((COLOUR_THUMB, COLOUR_THUMB), Image.Resampling.BOX).convert("RGB")
    parts = [np.asarray(small.convert("L")).ravel(), np.asarray(colours).ravel()]
    return Summary(int.from_bytes(digest.digest(), "little"), np.concatenate(parts))


def summaries(tall: Image.Image, count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """The hashes (count,) and thumbnails (count, THUMB_BYTES) of `count` images of equal size.

    They stand one below the other in one "L" or "RGB" image and are no higher than wide. The
    results are those of `summary`, bit for bit, in a sixth of the time.
    """
    height = tall.height // count
    grey = np.asarray(tall.convert("L")).reshape(count, height * tall.width)
    start = hashlib.blake2b(struct.pack("<2I", height, tall.width), digest_size=8)
    digests = []
    for row in grey:
        digest = start.copy()
        digest.update(row.data)
        digests.append(digest.digest())
    small = _each_scaled(tall, count, THUMB, Image.Resampling.BILINEAR)
    colours = _each_scaled(small, count, COLOUR_THUMB, Image.Resampling.BOX).convert("RGB")
    parts = [np.asarray(small.convert("L")), np.asarray(colours)]
    thumbs = np.concatenate([part.reshape(count, -1) for part in parts], axis=1)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64), thumbs


def _each_scaled(tall: Image.Image, count: int, side: int, method: Image.Resampling) -> Image.Image:
    """Every one of `count` images of a tall one, scaled to a square.

    Pillow scales an image that is no higher than wide to fewer columns, then to fewer rows: here
    the rows of the result are turned into columns, as they stand one below the other as well.
    """
    for _ in range(2):
        narrow = np.asarray(tall.resize((side, tall.height), method))
        images = narrow.reshape(count, -1, *narrow.shape[1:])
        turned = np.ascontiguousarray(images.swapaxes(1, 2))
        tall = Image.fromarray(turned.reshape(-1, *turned.shape[2:]))
    return tall


def _from_wide(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 0xFFFF):
        raise ValueError("its pixels need more than 16 bits; save it with 8 or 16 bits")
    return Image.fromarray(np.round(values / 257).astype(np.uint8))
