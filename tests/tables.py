"""Small tables that tests share: homes with an area, a town, a price, and images of noise."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from torchstudy.data.dataset import prepare
from torchstudy.data.images import Images
from torchstudy.errors import DataError


def homes(count: int = 60) -> pd.DataFrame:
    """Homes with an area, a town and a price that follows from both."""
    generator = np.random.default_rng(0)
    area = generator.uniform(40, 200, count).round(1)
    town = np.array(["Ulm", "Köln", "Bonn"])[np.arange(count) % 3]
    price = 1000 * area * (1 + (town == "Köln")) + generator.normal(0, 500, count).round(2)
    return pd.DataFrame({"id": np.arange(count), "area": area, "town": town, "price": price})


def homes_csv(folder: Path, *, views: int = 2, count: int = 60) -> Path:
    """A CSV file of homes with `views` noisy PNG images each, in a folder beside it."""
    table = homes(count)
    generator = np.random.default_rng(1)
    (folder / "images").mkdir(parents=True)
    for view in range(views):
        names = [f"images/{row}_{view}.png" for row in range(count)]
        for name in names:
            noise = generator.integers(0, 256, (9, 12), dtype=np.uint8)
            Image.fromarray(noise).save(folder / name)
        table[f"view{view}"] = names
    table.to_csv(folder / "homes.csv", index=False)
    return folder / "homes.csv"


def from_csv(path: Path, **options: object) -> Images:
    """What a user says of `homes_csv`."""
    options = {"target": "price", "columns": {"id": "ignore"}, "size": 8, **options}
    return Images(path, **options)  # type: ignore[arg-type]


def from_frame(table: pd.DataFrame, **options: object) -> Images:
    """What a user says of a function that returns `homes()` or another table."""

    def rows() -> pd.DataFrame:
        return table

    options = {"target": "price", "columns": {"id": "ignore"}, **options}
    return Images(rows, **options)  # type: ignore[arg-type]


def problems(images: Images) -> tuple[str, ...]:
    """The sentences of the DataError that preparing these data ends in."""
    with pytest.raises(DataError) as caught:
        prepare(images, seed=0)
    return caught.value.problems
