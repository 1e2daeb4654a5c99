"""Workers that die or hang, and the run's own memory over many trials.

    python benchmarks/workers.py [--trials 500] [--kills 100] [--hangs 50] [--seed 0]
        [--only memory|kills|hangs] [--out F]

Three runs with two workers on small images. The first trains many tiny trials and weighs this
process, the run's own, every hundred of them. The second kills a random worker with SIGKILL again
and again. In the third every trial hangs once: in a loop, in a deadlock, or stopped by a signal.
Exits with 1 if a trial ended otherwise than promised: what was lost twice or less goes on from its
checkpoint and completes, what was lost three times has crashed or timed out, no epoch is missing or
doubled, and memory grows by less than 10 MB from trial 100 on.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from machine import facts, spread
from torch import nn

from torchstudy import Float, Study, family
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.local import LOG
from torchstudy.execution.runner import run
from torchstudy.execution.watching import Silent, Subject
from torchstudy.families.base import Family
from torchstudy.families.phases import Phase
from torchstudy.records import Outcome, Training

EIGHT = 8  # trials of a family that need no model
EVERY = 100  # trials from one weighing to the next
GROWTH = 10.0  # MB that the run may grow by from the first weighing on
STALL = 3.0  # seconds
WAYS = ("loop", "deadlock", "stop")


def stripes() -> tuple[np.ndarray, np.ndarray]:
    """180 noisy 8 x 8 images of three classes."""
    generator = np.random.default_rng(0)
    labels = np.arange(180) % 3
    images = generator.integers(0, 110, size=(180, 8, 8))
    images[labels == 0, ::2, :] += 90
    images[labels == 1, :, ::2] += 90
    return images.astype(np.uint8), labels


def hang(how: str) -> None:
    """Stand still."""
    lock = threading.Lock()
    lock.acquire()
    if how == "deadlock":
        lock.acquire()
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    while how == "loop":
        pass


def families(trials: int, before_step: Callable[[int, int], None]) -> list[type[Family]]:
    """Families of one linear layer, of eight trials each; a step of `trials` calls a function.

    `before_step(number, step)` gets the family's number and the step's in this attempt.
    """

    def made(number: int) -> type[Family]:
        class Tiny(Family):
            """One linear layer."""

            scale: float = Float(0.5, 2.0, log=True, default=1.0)

            def build(self, data):
                return nn.Sequential(nn.Flatten(), nn.Linear(64, data.num_classes))

            def phases(self, data, training):
                steps = 0

                def loss(model, batch):
                    nonlocal steps
                    steps += 1
                    before_step(number, steps)
                    return nn.functional.cross_entropy(model(batch.inputs), batch.targets)

                return (Phase(name="train", loss=loss),)

        Tiny.__name__ = f"Tiny{number}"
        return family(Tiny)

    return [made(number) for number in range(-(-trials // EIGHT))]


def study_of(name: str, made: list[type[Family]], epochs: int) -> Study:
    """Eight trials of each family, no confirmation."""
    return Study(
        name=name,
        data=stripes,
        families=made,
        maximize="accuracy",
        space={"batch_size": 50, "patience": 10_000},
        trials=EIGHT,
        epochs=epochs,
        confirm=None,
    )


class Weighing(Silent):
    """Notes this process's private memory in MB every hundred trials."""

    def __init__(self) -> None:
        self.ended_trials = 0
        self.megabytes: dict[int, float] = {}

    def ended(self, subject: Subject, outcome: Outcome, seconds: float) -> None:
        """One more."""
        self.ended_trials += 1
        if self.ended_trials % EVERY == 0:
            self.megabytes[self.ended_trials] = round(private_megabytes(), 1)


def private_megabytes() -> float:
    """What this process holds that it shares with no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def trainings_of(folder: Path, study: Study) -> tuple[list[Training], int]:
    """The trainings of a run, and how many epochs are missing or doubled."""
    ledger = Ledger(f"sqlite:///{folder / 'studies.sqlite'}", read_only=True)
    found = ledger.trainings(study.name)
    wrong = 0
    for training in found:
        rows = [row.epoch for _, row in ledger.epochs(study.name, training.key)]
        complete = list(range(1, study.epochs + 1))
        wrong += rows != (complete if training.status == "completed" else complete[: len(rows)])
    ledger.close()
    return found, wrong


def flat_memory(folder: Path, trials: int) -> dict[str, object]:
    """The run's own memory over many trials."""
    study = study_of("many", families(trials, lambda number, step: None), 1)
    watcher, began = Weighing(), time.monotonic()
    run(study, reports=folder, workers=2, watcher=watcher)
    found, wrong = trainings_of(folder, study)
    weights = list(watcher.megabytes.values())
    completed = sum(training.status == "completed" for training in found)
    return {
        "trials": len(found),
        "megabytes_at": watcher.megabytes,
        "growth_mb": round(max(weights) - weights[0], 1) if weights else 0.0,
        "seconds": round(time.monotonic() - began, 1),
        "as_promised": completed == len(found) and not wrong,
    }


def workers_now() -> dict[int, Path]:
    """The workers of this run, with the log that each writes to in its training's folder."""
    found = {}
    for output in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            target = Path(os.readlink(output))
        except OSError:
            continue
        if target.name == LOG and "torchstudy-workers" in str(target):
            found[int(output.parts[2])] = target
    return found


@contextmanager
def killing(kills: int, generator: random.Random, pause: float) -> Iterator[list[float]]:
    """Somebody who kills a random worker again and again; the moments of the kills.

    No training is killed more than twice, but for the last of every family, which is given up.
    """
    moments: list[float] = []
    times: Counter[Path] = Counter()
    is_over = threading.Event()

    def kill() -> None:
        while len(moments) < kills and not is_over.wait(generator.uniform(0.2, 1.8) * pause):
            running = workers_now()
            most = {
                pid: 3 if log.parent.name.startswith("7-") else 2 for pid, log in running.items()
            }
            mortal = [pid for pid, log in running.items() if times[log] < most[pid]]
            if mortal:
                chosen = generator.choice(mortal)
                with suppress(ProcessLookupError):
                    os.kill(chosen, signal.SIGKILL)
                    times[running[chosen]] += 1
                    moments.append(time.monotonic())

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield moments
    finally:
        is_over.set()
        thread.join()


def many_kills(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Kills at random moments, about one for each trial."""
    study = study_of("killed", families(kills, lambda number, step: time.sleep(0.01)), 20)
    began = time.monotonic()
    with killing(kills, random.Random(seed), pause=0.3) as moments:
        run(study, reports=folder, workers=2, quiet=True)
    found, wrong = trainings_of(folder, study)
    lost = sum(training.losses for training in found)
    given_up = [training for training in found if training.status == "crashed"]
    is_right = all((t.losses == 3) == (t.status == "crashed") for t in found)
    is_right &= all(t.status in ("completed", "crashed") for t in found)
    return {
        "kills": len(moments),
        "noticed": lost,  # a worker that had just sent its outcome is not missed
        "trials": len(found),
        "given_up": len(given_up),
        "ended": dict(Counter(str(training.status) for training in found)),
        "epochs_wrong": wrong,
        "seconds": round(time.monotonic() - began, 1),
        "as_promised": is_right and not wrong,
    }


def many_hangs(folder: Path, hangs: int) -> dict[str, object]:
    """Every trial of most families hangs once, in its third epoch; those of the last one always."""
    number_always = -(-hangs // EIGHT)

    def before_step(number: int, step: int) -> None:
        way = WAYS[number % len(WAYS)]
        if number == number_always:
            hang(WAYS[os.getpid() % len(WAYS)])
        marker = Path(os.readlink("/proc/self/fd/1")).with_name("hung")  # beside the worker's log
        if step == 5 and not marker.exists():
            marker.touch()
            hang(way)

    study = study_of("hung", families(hangs + EIGHT, before_step), 4)
    began = time.monotonic()
    run(study, reports=folder, workers=2, quiet=True, stall=STALL)
    found, wrong = trainings_of(folder, study)
    once = [t for t in found if t.trial.family != f"Tiny{number_always}"]
    always = [t for t in found if t.trial.family == f"Tiny{number_always}"]
    is_right = all(t.status == "completed" and t.losses == 1 for t in once)
    is_right &= all(t.status == "timed_out" and t.losses == 3 for t in always)
    return {
        "hangs": sum(training.losses for training in found),
        "completed_after_one": sum(t.status == "completed" for t in once),
        "timed_out_after_three": sum(t.status == "timed_out" for t in always),
        "stall_s": STALL,
        "seconds_per_training": spread(t.seconds for t in once),
        "epochs_wrong": wrong,
        "seconds": round(time.monotonic() - began, 1),
        "as_promised": is_right and not wrong,
    }


def main() -> int:
    """Run all three, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--hangs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["memory", "kills", "hangs"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="torchstudy-workers-"))
    has_earlier = args.only and args.out and args.out.exists()
    result = json.loads(args.out.read_text()) if has_earlier else {"machine": facts()}
    parts: dict[str, Callable[[], dict[str, object]]] = {
        "memory": lambda: flat_memory(folder / "many", args.trials),
        "kills": lambda: many_kills(folder / "killed", args.kills, args.seed),
        "hangs": lambda: many_hangs(folder / "hung", args.hangs),
    }
    is_fine = True
    try:
        for name, part in parts.items():
            if args.only not in (None, name):
                continue
            found = part()
            is_fine &= bool(found["as_promised"]) and float(str(found.get("growth_mb", 0))) < GROWTH
            result[name] = found
            print(json.dumps({name: found}), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
