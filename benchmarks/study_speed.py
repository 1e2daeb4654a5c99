"""A whole study against the plain way: seconds to the same valid accuracy, to the end, and test.

    python benchmarks/study_speed.py [--seeds 0 1 2] [--whole 1] [--out benchmarks/study_speed.json]

Fashion-MNIST with 12,000 training and 4,000 validation images, 20 configurations. The plain way is
`plain_study.py` in its own process (TPE, median pruner, 9 epochs, torch's default threads). Ours is
`optimize run` on the CNN with its whole default space, 20 trials of 3 epochs, one thread per
worker and a worker per core, from an empty cache to the written report, confirmation included. Both
run one after the other for each seed; seconds count from the start of the process, libraries and
data included. `ratio` is plain over ours, per seed, and their median. Exits with 1 below 10 for a
target that both have reached.

Three epochs instead of nine are a part of the result: with a schedule that ends where the training
ends, a network is as good after three as the plain one after nine. `test` says so: plain reads it
for the best of its trials, ours is the mean over the fresh seeds of the chosen configuration. For
the first `--whole` seeds the plain way goes on to its 20th trial (`to the end`), for the others it
ends with the trial that has reached the first target, and may have the second by then or not.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent
TARGETS = (0.88, 0.89)
STUDY = """
from torchstudy import CNN, Images, Study

study = Study(
    data=Images("fashion-mnist", train=12_000, valid=4_000, select=4_000),
    families=[CNN],
    maximize="accuracy",
    trials=20,
    epochs=3,
    confirm=(1, 3),
    seed={seed},
)
"""


def plain(seed: int, *, is_whole: bool) -> dict[str, Any]:
    """What `plain_study.py` says in its last line; without `seconds` where it was cut short."""
    command = [sys.executable, str(HERE / "plain_study.py"), "--seed", str(seed), "--targets"]
    command += [*map(str, TARGETS), *([] if is_whole else ["--until", str(TARGETS[0])])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found if is_whole else {**found, "seconds": None}


def ours(seed: int) -> dict[str, Any]:
    """The same of `optimize run`, from an empty cache."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "speed.py").write_text(STUDY.format(seed=seed))
        command = [str(Path(sys.executable).parent / "optimize"), "run", "speed.py", "--quiet"]
        environment = {**os.environ, "TORCHSTUDY_CACHE": str(folder / "cache")}
        stamp, began = time.time(), time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        seconds = time.perf_counter() - began
        return {"seconds": round(seconds, 1), **results(folder / "reports" / "speed", stamp)}


def results(folder: Path, stamp: float) -> dict[str, Any]:
    """When the search reached the targets, its best value, and the confirmed test accuracy."""
    trials = pd.read_parquet(folder / "trials.parquet")
    epochs = pd.read_parquet(folder / "epochs.parquet")
    epochs = epochs.merge(trials[["family", "trial", "seed"]])  # those of the search
    confirmed = pd.read_parquet(folder / "confirmation.parquet")
    reached: dict[str, float | None] = {}
    for target in TARGETS:
        first = epochs.loc[epochs["valid_accuracy"] >= target, "finished"].min()
        is_there = isinstance(first, datetime)
        reached[str(target)] = round(first.timestamp() - stamp, 1) if is_there else None
    summary = json.loads((folder / "study.json").read_text())
    return {
        "reached": reached,
        "best_valid": float(epochs["valid_accuracy"].max()),
        "test": float(confirmed["test_accuracy"].mean()),
        "idle": summary.get("idle"),
        "versions": summary["versions"],
        "machine": summary["machine"],
    }


def compared(seeds: list[int], num_whole: int) -> list[dict[str, Any]]:
    """Both ways for each seed, in turn."""
    rows = []
    for place, seed in enumerate(seeds):
        other = plain(seed, is_whole=place < num_whole)
        rows.append({"seed": seed, "plain": other, "ours": ours(seed)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def ratios(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Plain over ours per measure: the values by seed, and their median."""
    found: dict[str, list[float]] = {
        "to the end": [
            row["plain"]["seconds"] / row["ours"]["seconds"]
            for row in rows
            if row["plain"]["seconds"]
        ]
    }
    for target in map(str, TARGETS):
        found[f"to {target}"] = [
            row["plain"]["reached"][target] / row["ours"]["reached"][target]
            for row in rows
            if row["plain"]["reached"][target] and row["ours"]["reached"][target]
        ]
    return {
        name: {"median": round(statistics.median(each), 1), "each": [round(r, 1) for r in each]}
        for name, each in found.items()
        if each
    }


def main() -> None:
    """Compare, print, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--whole", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "study_speed.json")
    args = parser.parse_args()
    rows = compared(args.seeds, args.whole)
    machine, versions = rows[0]["ours"]["machine"], rows[0]["ours"]["versions"]
    for row in rows:
        del row["ours"]["machine"], row["ours"]["versions"]
    found = {"ratio": ratios(rows), "rows": rows, "machine": machine, "versions": versions}
    args.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["ratio"], indent=2))
    reached = [entry for name, entry in found["ratio"].items() if name.startswith("to 0")]
    sys.exit(0 if reached and all(entry["median"] >= 10 for entry in reached) else 1)


if __name__ == "__main__":
    main()
