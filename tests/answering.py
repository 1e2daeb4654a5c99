"""Run in a process of its own: `python answering.py FOLDER` lets every saved model answer.

FOLDER holds `models/<family>/` and for each `<family>.npy` with images and `<family>.csv` with
rows; the answers go to `<family>.npz`.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from torchstudy import SavedModel, load_model


def answers(model: SavedModel, pixels: torch.Tensor, table: pd.DataFrame) -> dict[str, object]:
    """What a model says of images and rows: classes, codes and pictures, those that it has."""
    torch.manual_seed(0)
    batch = model.batch(pixels, table if model.data.has_table else None)
    with torch.inference_mode():
        probabilities = model.family.predict(model.network, model.data, batch)
        code = model.family.codes(model.network, batch)
        found = model.family.pictures(model.network, batch)
    if probabilities is not None:
        confidence, predicted = probabilities.max(dim=1)
        found |= {"predicted": predicted, "confidence": confidence}
    if code is not None:
        found["code"] = code
    return {name: value.numpy() for name, value in found.items()}


def main(folder: Path) -> None:
    """Load and ask every model."""
    torch.set_num_threads(1)
    for place in sorted((folder / "models").iterdir()):
        pixels = torch.from_numpy(np.load(folder / f"{place.name}.npy"))
        table = pd.read_csv(folder / f"{place.name}.csv")
        found = answers(load_model(place), pixels, table)
        np.savez(folder / f"{place.name}.npz", **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
