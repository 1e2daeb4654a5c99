"""Validation accuracy against seconds on Fashion-MNIST: who drives the same trainer best?

    python benchmarks/search_real.py [--seeds 0 1 2] [--seconds 480]
        [--out benchmarks/search_real.json]

CNNs with their whole default space on 1,000 training and 2,000 validation images, at most 9 epochs
each, one worker: about twenty full trainings in the time, where 4,000 images would leave six, too
few to tell searches apart. `auto`, `ax` and `random` are methods of a study. `optuna` is TPE with
Hyperband (first rung 1 epoch, factor 3) that asks for configurations of the same space, has them
trained by the same code in one process and prunes after epochs.

The four searches of a seed run side by side, each in a session of its own, so that what else the
machine does slows them alike: one after the other they differ by its pace more than by their own
doing. On two cores each has half a core, and 480 s are four minutes of work. All begin at the same
time, when images are decoded and libraries imported everywhere. `area` is the mean, over the time
that is given, of the best accuracy so far (0.1, that of chance, before the first epoch). `lead` is
how far the area of `auto` is ahead of another's, paired by seed, with a 95% t interval. Exits with
1 if the mean area of `auto` is not the largest.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from machine import facts, spread
from scipy import stats

METHODS = ("auto", "ax", "random", "optuna")
EPOCHS = 9
CHANCE = 0.1
SHARES = (0.25, 0.5, 1.0)  # of the time, at which the best so far is told

Trace = list[tuple[float, float]]  # seconds, accuracy of an epoch


def declared(method: str, seed: int, seconds: float) -> Any:
    """The study that all of them search."""
    from torchstudy import CNN, Images, Study

    return Study(
        name=f"real-{method}-{seed}",
        data=Images("fashion-mnist", train=1_000, valid=2_000, select=500),
        families=[CNN],
        maximize="accuracy",
        trials=100_000,
        epochs=EPOCHS,
        minutes=seconds / 60,
        confirm=None,
        method="auto" if method == "optuna" else method,
        seed=seed,
    )


def searched(method: str, seed: int, seconds: float) -> Trace:
    """A run of ours."""
    import ax  # noqa: F401  (what `ax` proposes with)

    from torchstudy import run

    study = declared(method, seed, seconds)
    import_in_workers()
    wait_for_the_others()
    with tempfile.TemporaryDirectory() as folder:
        began = pd.Timestamp.now(tz="UTC")
        results = run(study, reports=folder, workers=1, quiet=True)
        times = (results.epochs["finished"] - began).dt.total_seconds()
        return list(zip(times.tolist(), results.epochs["valid_accuracy"].tolist(), strict=True))


def wait_for_the_others() -> None:
    """Say that this search can begin, and begin when told."""
    print("ready", flush=True)
    sys.stdin.readline()


def import_in_workers() -> None:
    """Wait until a worker has started, and with it what it needs has been imported."""
    from multiprocessing import Pipe

    from torchstudy.execution.forkserver import start_process

    ours, theirs = Pipe()
    process = start_process(say_ready, theirs, None, name="ready")
    ours.recv()
    process.join()


def say_ready(connection: Any, argument: None) -> None:
    """What that worker does."""
    connection.send("ready")


def pruned(seed: int, seconds: float) -> Trace:
    """Optuna around the same trainer."""
    import optuna
    import torch

    from torchstudy import CNN
    from torchstudy.data.dataset import prepare
    from torchstudy.execution.job import Job, run
    from torchstudy.records import Epoch, Status, TrainingKey
    from torchstudy.seeds import derive

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = declared("optuna", seed, seconds)
    data, space = prepare(study.images, seed=seed), study.space_of(CNN)
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3)
    searching = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner
    )
    trace: Trace = []
    wait_for_the_others()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() - began < seconds:
            trial = searching.ask()
            number = trial.number
            job = Job(
                action="train",
                key=TrainingKey(family="CNN", number=number, seed=derive(seed, "optuna", number)),
                family=CNN,
                config=suggested(trial, space),
                objective=study.objective,
                epochs=EPOCHS,
                purpose="search",
                data=data.handle,
                folder=Path(folder) / str(number),
            )
            told: list[tuple[float, Epoch]] = []
            outcome = run(job, partial(report, trial, told), partial(is_pruned, trial, told))
            trace += [(when - began, row.metrics["accuracy"]) for when, row in told]
            if outcome.status is Status.COMPLETED:
                searching.tell(trial, outcome.metrics["valid_accuracy"])
            else:
                is_stopped = outcome.status is Status.PAUSED
                states = optuna.trial.TrialState
                searching.tell(trial, state=states.PRUNED if is_stopped else states.FAIL)
    return trace


def report(trial: Any, told: list[tuple[float, Any]], news: Any) -> None:
    """Pass an epoch on to Optuna."""
    if hasattr(news, "metrics"):
        told.append((time.monotonic(), news))
        trial.report(news.metrics["accuracy"], news.epoch)


def is_pruned(trial: Any, told: list[tuple[float, Any]]) -> bool:
    """Whether Optuna lets the training go; asked between batches, decided once for each epoch."""
    if not told or told[-1][1].epoch == EPOCHS:
        return False
    epoch = told[-1][1].epoch
    if trial.user_attrs.get("judged") != epoch:
        trial.set_user_attr("judged", epoch)
        trial.set_user_attr("pruned", bool(trial.should_prune()))
    return bool(trial.user_attrs["pruned"])


def suggested(trial: Any, space: Any) -> dict[str, Any]:
    """A configuration of a torchstudy space from an Optuna trial."""
    from torchstudy.conditions import is_active, parents_first
    from torchstudy.domains import ChoiceDomain, IntDomain

    config: dict[str, Any] = {}
    for name in parents_first(space.domains):
        domain = space.domains[name]
        if not is_active(domain, config):
            continue
        if isinstance(domain, ChoiceDomain):
            config[name] = trial.suggest_categorical(name, domain.values)
        else:
            ask = trial.suggest_int if isinstance(domain, IntDomain) else trial.suggest_float
            config[name] = ask(name, domain.low, domain.high, log=domain.log)
    return {name: config[name] for name in space.domains if name in config}


def judged(trace: Trace, seconds: float) -> dict[str, float]:
    """The area under the best so far, and the best after shares of the time."""
    best, last, area = CHANCE, 0.0, 0.0
    for when, accuracy in sorted(trace):
        if when > seconds:
            break
        area, last = area + best * (when - last), when
        best = max(best, accuracy)
    area += best * (seconds - last)
    started = [(0.0, CHANCE), *trace]
    found = {
        f"best after {share * seconds:g} s": round(
            max(accuracy for when, accuracy in started if when <= share * seconds), 5
        )
        for share in SHARES
    }
    return {"area": round(area / seconds, 5), "epochs": len(trace), **found}


def main() -> None:
    """Search with every method and seed, or once for one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "SEED"), help="one search, as JSON")
    given = parser.parse_args()
    if given.one:
        method, seed = given.one[0], int(given.one[1])
        search = pruned(seed, given.seconds) if method == "optuna" else None
        trace = searched(method, seed, given.seconds) if search is None else search
        print(json.dumps(judged(trace, given.seconds)))
        return
    rows = []
    for seed in given.seeds:
        for row in side_by_side(seed, given.seconds):
            rows.append(row)
            print(json.dumps(row), flush=True)
    areas = {m: [row["area"] for row in rows if row["method"] == m] for m in METHODS}
    means = {method: round(statistics.fmean(values), 4) for method, values in areas.items()}
    summary = {method: {"mean": means[method], **spread(areas[method])} for method in METHODS}
    leads = {method: lead(areas["auto"], areas[method]) for method in METHODS if method != "auto"}
    print(json.dumps({"area": summary, "lead": leads}, indent=2))
    if given.out:
        result = {"area": summary, "lead": leads, "seconds": given.seconds, "rows": rows, **facts()}
        result["measured"] = datetime.now().date().isoformat()
        given.out.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(max(means, key=lambda method: means[method]) != "auto")


def side_by_side(seed: int, seconds: float) -> list[dict[str, Any]]:
    """The searches of all methods, begun together; a row for each."""
    started = {}
    for method in METHODS:
        command = [sys.executable, __file__, "--seconds", str(seconds), "--one", method, str(seed)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        started[method] = subprocess.Popen(command, text=True, start_new_session=True, **pipes)
    for process in started.values():
        while process.stdout.readline().strip() != "ready":
            if process.poll() is not None:
                raise SystemExit("a search ended before it began")
    for process in started.values():
        process.stdin.write("go\n")
        process.stdin.flush()
    rows = []
    for method, process in started.items():
        last = process.stdout.read().splitlines()[-1]
        process.wait()
        rows.append({"method": method, "seed": seed, **json.loads(last)})
    return rows


def lead(own: list[float], other: list[float]) -> dict[str, float]:
    """The mean difference over seeds, with a 95% t interval."""
    apart = [a - b for a, b in zip(own, other, strict=True)]
    if len(apart) < 2:
        return {"mean": round(apart[0], 4)}
    low, high = stats.ttest_1samp(apart, 0).confidence_interval()
    return {"mean": round(statistics.fmean(apart), 4), "low": round(low, 4), "high": round(high, 4)}


if __name__ == "__main__":
    main()
