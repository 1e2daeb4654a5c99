"""What bfloat16 costs in accuracy: the same trainings in `auto` and in single precision, paired.

    python benchmarks/precision.py [--seeds 30] [--out benchmarks/precision.json]

The CNN recipe on 12,000 images of Fashion-MNIST, 3 epochs, each seed once in `precision="auto"` and
once in `"fp32"`; accuracy is that of the best epoch's network on 10,000 images that training never
saw. `difference` is auto minus fp32 in percentage points: mean over the seeds, and its 95% interval
(Student's t of the paired differences). `speed` is fp32's over auto's processor time in forward and
backward passes. Exits with 1 if the interval lacks 0 or reaches beyond 0.3 points. On a processor
without bfloat16 both are the same and the result says so.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from scipy import stats

from torchstudy import CNN, Images, Study
from torchstudy.data.dataset import ImageData, prepare
from torchstudy.execution import job as jobs
from torchstudy.execution.job import Job
from torchstudy.records import Epoch, Status, TrainingKey
from torchstudy.training.compute import has_bf16

STUDY = Study(
    data=Images("fashion-mnist", train=12_000, valid=2_000, select=10_000),
    families=[CNN],
    maximize="accuracy",
    epochs=3,
)
MOST = 0.3  # percentage points


def trained(data: ImageData, seed: int, precision: str) -> tuple[float, float, str]:
    """Accuracy on unseen images, seconds of the passes, and the precision that was used."""
    rows: list[Epoch] = []
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            action="train",
            key=TrainingKey(family="CNN", number=0, seed=seed),
            family=CNN,
            config=STUDY.space_of(CNN).recipe,
            objective=STUDY.objective,
            epochs=STUDY.epochs,
            purpose="confirmation",
            data=data.handle,
            folder=Path(folder),
            precision=precision,
        )
        outcome = jobs.run(
            job, lambda given: rows.append(given) if isinstance(given, Epoch) else None, bool
        )
    assert outcome.status is Status.COMPLETED, outcome.reason
    seconds = sum(row.parts["seconds_forward"] + row.parts["seconds_backward"] for row in rows)
    return outcome.metrics["select_accuracy"], seconds, rows[-1].precision


def main() -> None:
    """Train in pairs, print, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = prepare(STUDY.images, seed=STUDY.seed)
    pairs = []
    for seed in range(args.seeds):
        auto, single = (trained(data, seed, precision) for precision in ("auto", "fp32"))
        pairs.append((auto, single))
        print(seed, *auto, *single, flush=True)
    differences = [100 * (auto[0] - single[0]) for auto, single in pairs]
    mean, error = statistics.mean(differences), stats.sem(differences)
    reach = float(stats.t.ppf(0.975, len(differences) - 1) * error)
    found = {
        "difference": {
            "mean": round(mean, 3),
            "low": round(mean - reach, 3),
            "high": round(mean + reach, 3),
            "seeds": len(differences),
            "each": [round(each, 2) for each in differences],
        },
        "auto": round(statistics.mean(auto[0] for auto, _ in pairs), 4),
        "fp32": round(statistics.mean(single[0] for _, single in pairs), 4),
        "auto_is": pairs[0][0][2],
        "speed": round(statistics.median(single[1] / auto[1] for auto, single in pairs), 2),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "has_bf16": has_bf16("cpu"),
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    args.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["difference"]), found["auto"], found["fp32"], found["speed"])
    is_fine = mean - reach <= 0 <= mean + reach and max(reach - mean, reach + mean) <= MOST
    sys.exit(0 if is_fine else 1)


if __name__ == "__main__":
    main()
