"""What each head on MobileNetV2 reaches on ants and bees: five fresh seeds each, no search.

    python benchmarks/transfer.py [--out benchmarks/transfer.json]

Needs `hymenoptera_256.tar` and `mobilenet_v2_imagenet_int8deq.pth` in a data folder
($TORCHSTUDY_DATA). Every line is a study of one recipe, confirmed with five seeds and scored on the
153 images of `val`. Frozen features are computed once per size, whatever the head.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from torchstudy import Images, Study, Transfer, run
from torchstudy.files import write_json

SEEDS = 5
HEADS: dict[str, dict[str, object]] = {
    "linear": {"head": "network", "hidden": 0},
    "hidden layer of 256": {"head": "network", "hidden": 256},
    "logistic regression": {"head": "logistic", "regularisation": 10.0},
    "5 neighbours": {"head": "neighbours", "neighbours": 5},
    "linear, last block learns": {"head": "network", "hidden": 0, "unfreeze": 1},
    "linear, all layers learn, layer decay 0.8": {
        "head": "network",
        "hidden": 0,
        "unfreeze": -1,
        "layer_decay": 0.8,
    },
}


def measured(name: str, size: int, folder: Path) -> dict[str, object]:
    """Mean, spread and every seed's test accuracy of one head at one image size."""
    head = HEADS[name]
    learns = "unfreeze" in head
    training = (
        {}
        if head["head"] != "network"
        else {
            "learning_rate": 3e-4 if learns else 3e-3,
            "batch_size": 32,
        }
    )
    study = Study(
        data=Images("hymenoptera_256", size=size),
        families=[Transfer],
        maximize="accuracy",
        space={
            "Transfer.backbone": "mobilenet_v2",
            "Transfer.weights": "mobilenet_v2_imagenet_int8deq.pth",
            **{f"Transfer.{key}": value for key, value in head.items()},
            **training,
        },
        trials=1,
        epochs=6 if learns else 18,
        confirm=(1, SEEDS),
        name=f"{size}-{list(HEADS).index(name)}",
    )
    began = time.perf_counter()
    scores = run(study, reports=folder, quiet=True).confirmation["test_accuracy"].tolist()
    return {
        "head": name,
        "size": size,
        "mean": round(statistics.fmean(scores), 4),
        "spread": round(statistics.stdev(scores), 4),
        "scores": [round(score, 4) for score in scores],
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    """Measure every head at 224 and 128 px and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    out: Path = parser.parse_args().out
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in (224, 128):
            for name in HEADS:
                rows.append(measured(name, size, Path(folder)))
                print(json.dumps(rows[-1]), flush=True)
    write_json(out, {"seeds": SEEDS, "cores": os.cpu_count(), "rows": rows})


if __name__ == "__main__":
    main()
