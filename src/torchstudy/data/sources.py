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
from torchstudy.data.listing import Listing, bad_images
from torchstudy.data.planning import Plan, class_counts, planned
from torchstudy.data.reading import csv_in
from torchstudy.data.spec import DataSpec
from torchstudy.data.tables import csv_listing
from torchstudy.errors import DataError, did_you_mean
from torchstudy.files import data_folders, find_in_data_folders

CSV = ".csv"
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
            image_columns=listing.image_columns,
            log_target=listing.log_target,
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
    plan = planned(images, counts, listing.classes, noun=listing.noun)
    if plan.problems:
        raise DataError(plan.problems)
    return Scan(images=images, listing=listing, shape=_shape(images, listing), plan=plan)


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
    is_built_in = isinstance(source, str) and name in BUILT_IN
    if images.target is not None:
        if is_built_in:
            raise DataError(f"data: {name!r} are images with classes, no table; leave target= out")
        return _table(name, images)
    if is_built_in:
        return BUILT_IN[name]()
    path = _unpacked(_found(name, SUFFIXES))
    if path.is_dir():
        return folder_listing(path, name)
    if path.suffix.lower() == CSV:
        raise DataError(f"data: {name!r} is a table; name the column to predict with target=")
    kinds = ", ".join(SUFFIXES)
    raise DataError(f"data: {path} is neither a folder nor an archive ({kinds})")


def _table(name: str, images: Images) -> Listing:
    path = _unpacked(_found(name, (*SUFFIXES, CSV)))
    if path.is_dir():
        return csv_listing(csv_in(path, name), name, images)
    if path.suffix.lower() == CSV:
        return csv_listing(path, name, images)
    kinds = ", ".join(SUFFIXES)
    raise DataError(
        f"data: with target=, {path} is to be a CSV file, or a folder or archive ({kinds}) with one"
    )


def _unpacked(path: Path) -> Path:
    return extracted(path) if path.is_file() and is_archive(path) else path


def _found(name: str, suffixes: tuple[str, ...]) -> Path:
    """Where the folder or file called `name`, with or without one of the suffixes, lies."""
    try:
        for candidate in (name, *(name + suffix for suffix in suffixes)):
            if path := find_in_data_folders(candidate):
                return path
    except (OSError, RuntimeError, ValueError) as error:  # too long, not permitted, no such user
        raise DataError(f"data: {name!r} cannot be looked up ({error})") from error
    folders = data_folders()
    known = [*BUILT_IN, *(entry for folder in folders for entry in _offered(folder, suffixes))]
    known += [str(Path(name).parent / beside) for beside in _offered(Path(name).parent, suffixes)]
    hint = did_you_mean(name, known) or did_you_mean(name.lower(), known)
    searched = ", ".join(str(folder) for folder in folders)
    kinds = "CSV file, folder or archive" if CSV in suffixes else "folder or archive"
    raise DataError(
        f"data: {name!r} is no known name ({', '.join(BUILT_IN)}) and no {kinds} here "
        f"or in {searched}{hint}; other folders can be named in TORCHSTUDY_DATA"
    )


def _offered(folder: Path, suffixes: tuple[str, ...], limit: int = 1000) -> list[str]:
    """The names that would be found in a data folder: folders, and files of these kinds.

    Archives are offered without their suffix, as they may be named.
    """
    try:
        entries = visible(folder)[:limit]
    except OSError:  # a data folder that is not there offers nothing
        return []
    names = [
        entry.name
        for entry in entries
        if os.path.isdir(entry.path) or entry.name.endswith(suffixes)
    ]
    return [next((n[: -len(s)] for s in SUFFIXES if n.lower().endswith(s)), n) for n in names]
