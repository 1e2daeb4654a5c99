"""From a declaration to the items it means: known names, folders, archives and functions."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torchstudy.data.archives import SUFFIXES, extracted, is_archive
from torchstudy.data.arrays import digits_listing
from torchstudy.data.encoding import Encoding
from torchstudy.data.fashion import fashion_listing
from torchstudy.data.folders import folder_listing, visible
from torchstudy.data.functions import function_listing
from torchstudy.data.images import Images
from torchstudy.data.listing import BadImage, Listing
from torchstudy.data.planning import Plan, class_counts, planned
from torchstudy.data.spec import DataSpec
from torchstudy.data.tables import csv_in, csv_listing
from torchstudy.errors import DataError, did_you_mean
from torchstudy.files import data_folders, find_in_data_folders

FOLDER_SIZE = 64  # pixels a side when a folder of images is given without a size
BUILT_IN: dict[str, Callable[[], Listing]] = {
    "digits": digits_listing,
    "fashion-mnist": fashion_listing,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What is known of the data before an image is decoded."""

    images: Images
    listing: Listing
    shape: tuple[int, int, int]  # channels, height, width as a network sees them
    plan: Plan

    def spec(self) -> DataSpec:
        """The data as a network sees them; statistics and fingerprint are not known yet."""
        channels, height, width = self.shape
        listing, rows = self.listing, self.listing.rows
        columns: dict[str, Any] = {}
        if rows is not None:
            encoding = Encoding.of(rows, np.arange(len(listing)))
            columns = asdict(encoding) | {
                "numbers": rows.number_names,
                "categories": rows.category_names,
            }
        return DataSpec(
            source=listing.title,
            channels=channels,
            height=height,
            width=width,
            classes=self.listing.classes,
            num_train=self.plan.sizes["train"],
            mean=(0.5,) * channels,
            std=(0.25,) * channels,
            views=listing.views,
            task="regression" if listing.is_regression else "classification",
            target=listing.target,
            **columns,
        )

    def split_sizes(self) -> dict[str, int]:
        """How many images each split will get, before duplicates and bad images are left out."""
        return dict(self.plan.sizes)


def scan(images: Images) -> Scan:
    """Find the source, list its items and plan the splits; DataError lists every problem."""
    problems = images.problems()
    if images.source_problems():
        raise DataError(problems)
    try:
        listing = _listing(images)
    except DataError as error:
        raise DataError([*problems, *error.problems]) from error.__cause__
    if listing.bad and images.on_bad_image == "error":
        problems.append(bad_images(listing.bad))
    if problems:
        raise DataError(problems)
    counts = class_counts(listing.labels, listing.parts, len(listing.strata))
    plan = planned(images, counts, listing.strata, are_classes=not listing.is_regression)
    if plan.problems:
        raise DataError(plan.problems)
    return Scan(images=images, listing=listing, shape=_shape(images, listing), plan=plan)


def bad_images(bad: tuple[BadImage, ...], limit: int = 5) -> str:
    """One sentence naming the first `limit` images that cannot be used."""
    shown = "; ".join(f"{image.name!r}: {image.reason}" for image in bad[:limit])
    more = f"; and {len(bad) - limit} more" if len(bad) > limit else ""
    noun = "image" if len(bad) == 1 else "images"
    return (
        f"data: {len(bad)} {noun} cannot be read ({shown}{more}); repair or remove them, or pass "
        "on_bad_image='skip'"
    )


def _shape(images: Images, listing: Listing) -> tuple[int, int, int]:
    if not listing.has_images:
        return (0, 0, 0)
    if listing.shape is not None:
        channels, height, width = listing.shape
    else:
        channels, height, width = 0, FOLDER_SIZE, FOLDER_SIZE
    if images.size is not None:
        height = width = images.size
    if images.channels is not None:
        channels = images.channels
    elif not channels:
        channels = 1 if listing.is_grey() else 3
    return channels, height, width


def _listing(images: Images) -> Listing:
    source = images.source
    if not isinstance(source, str | os.PathLike):
        return function_listing(source, images)
    name = os.fspath(source)
    if isinstance(source, str) and name in BUILT_IN and images.target is None:
        return BUILT_IN[name]()
    path = _found(name)
    if path.is_file() and is_archive(path):
        path = extracted(path)
    if images.target is not None and (path.is_dir() or path.suffix.lower() == ".csv"):
        return csv_listing(csv_in(path, name) if path.is_dir() else path, name, images)
    if path.suffix.lower() == ".csv":
        raise DataError(f"data: {name!r} is a table; name the column to predict with target=")
    if path.is_dir():
        return folder_listing(path, name)
    kinds = ", ".join(SUFFIXES)
    raise DataError(f"data: {path} is neither a folder nor an archive ({kinds})")


def _found(name: str) -> Path:
    try:
        for candidate in (name, *(name + suffix for suffix in SUFFIXES)):
            if path := find_in_data_folders(candidate):
                return path
    except (OSError, RuntimeError, ValueError) as error:  # too long, not permitted, no such user
        raise DataError(f"data: {name!r} cannot be looked up ({error})") from error
    folders = data_folders()
    known = [*BUILT_IN, *(entry for folder in folders for entry in _offered(folder))]
    hint = did_you_mean(name, known) or did_you_mean(name.lower(), known)
    searched = ", ".join(str(folder) for folder in folders)
    raise DataError(
        f"data: {name!r} is no known name ({', '.join(BUILT_IN)}) and no folder or archive here "
        f"or in {searched}{hint}; other folders can be named in TORCHSTUDY_DATA"
    )


def _offered(folder: Path, limit: int = 1000) -> list[str]:
    """The names that would be found in a data folder: folders, and archives without suffix."""
    try:
        entries = visible(folder)[:limit]
    except OSError:  # a data folder that is not there offers nothing
        return []
    names = [entry.name for entry in entries if entry.is_dir() or is_archive(Path(entry.name))]
    return [next((n[: -len(s)] for s in SUFFIXES if n.lower().endswith(s)), n) for n in names]
