"""Records of made-up trials: what workers would have left of the items that all are shown."""

from pathlib import Path

import numpy as np

from torchstudy.analysis.tables import read_results
from torchstudy.arrays import Arrays, write_arrays
from torchstudy.execution.examples import COUNT, PICTURE, record_path, write_examples
from torchstudy.execution.outputs import training_folder
from torchstudy.records import TrainingKey


def write_records(
    folder: Path,
    *,
    has_answers: bool = True,
    captions: tuple[str, ...] = (),
    side: int = 12,
    columns: tuple[str, ...] = (),
    blind: tuple[str, ...] = (),
) -> None:
    """Add to a study's folder what its trials made of eight images, and the table of it all.

    With `columns` the images belong to the rows of a table; `blind` families saw only those.
    """
    generator = np.random.default_rng(0)
    results = read_results(folder)
    classes = list(results.summary["data"]["classes"])
    targets = np.arange(COUNT) % len(classes) if classes else generator.normal(13, 1, COUNT)
    images = generator.integers(0, 256, (COUNT, 1, side, side), dtype=np.uint8)
    names = np.array([f"{place}.png" for place in range(COUNT)])
    shown: Arrays = {"item": np.arange(COUNT), "name": names, "target": targets, "images": images}
    if columns:
        shown["columns"] = np.array(columns)
        shown["cells"] = np.array(
            [[f"{n}.{at}" for n in range(len(columns))] for at in range(COUNT)]
        )
    write_arrays(folder / "evidence" / "examples.npz", shown)
    for trial in results.trials.to_dict("records"):
        record: Arrays = {"epoch": np.array(1), "epochs": np.array(1)}
        record["sees_images"] = np.array(trial["family"] not in blind)
        if has_answers and classes:
            record["predicted"] = generator.integers(0, len(classes), COUNT)
            record["confidence"] = generator.uniform(0.3, 1, COUNT).astype(np.float32)
        elif has_answers:
            record["value"] = targets + generator.normal(0, 0.1, COUNT)
        for caption in captions:
            noise = generator.integers(0, 100, images.shape, dtype=np.uint8)
            record[f"{PICTURE}{caption}"] = images // 2 + noise
        key = TrainingKey(family=trial["family"], number=trial["trial"], seed=trial["seed"])
        write_arrays(record_path(training_folder(folder, key)), record)
    write_examples(folder, results.trials, classes)
