"""A configuration trained afresh on all images but those of the test split, for use."""

import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from torchstudy.data.dataset import DataHandle, ImageData, open_data
from torchstudy.errors import RunError
from torchstudy.execution.job import Job, deployed_state
from torchstudy.execution.retraining import OnEpoch, retrained
from torchstudy.fitting import instantiate
from torchstudy.models.saved import save_model
from torchstudy.records import Status, Training, TrainingKey
from torchstudy.seeds import derive
from torchstudy.study import Study
from torchstudy.training.compute import devices_of

LEARNED_FROM = ("train", "valid", "select")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refit:
    """A network trained once more, saved in `folder`, and how: on `num_items`, for `epochs`."""

    folder: Path
    epochs: int
    num_items: int
    seed: int


def epochs_of(trainings: Sequence[Training], family: str, number: int) -> int:
    """How long a refit trains: the median of the best epochs of the confirmed trainings.

    Without any, the best epoch of the search's training. No split is left that could say when to
    stop; the schedule of the learning rate is that of the full length, as it was in these.
    """
    own = [t for t in trainings if t.key.family == family and t.key.number == number]
    done = [t for t in own if t.status is Status.COMPLETED and t.best_epoch]
    fresh = [t.best_epoch for t in done if t.purpose == "confirmation"]
    return round(statistics.median(fresh or [t.best_epoch for t in done]))


@contextmanager
def refitted(
    study: Study,
    data: ImageData,
    training: Training,
    *,
    epochs: int,
    full: int,
    place: Path,
    on_epoch: OnEpoch = lambda row: None,
) -> Iterator[Refit]:
    """Train the configuration of `training` on train, valid and select, with a seed of its own.

    It trains `epochs` of a schedule of `full` ones, in a worker process as a run's. The network
    lies in a folder in `place` that is gone afterwards. Raises RunError where it does not end.
    """
    family = study.family(training.key.family)
    name, number = family.__name__, training.key.number
    seed = derive(study.seed, "refit", name, number)
    with tempfile.TemporaryDirectory(prefix=".refit-", dir=place) as made:
        folder = Path(made)
        handle = _together(data, folder / "splits.npz")
        key = TrainingKey(family=name, number=number, seed=seed)
        job = Job(
            action="refit",
            key=key,
            family=family,
            config=dict(training.trial.config),
            objective=study.objective,
            epochs=full,
            purpose="search",
            data=handle,
            folder=folder / "training",
            precision=study.precision,
            device=devices_of(study.device)[0],
            until=epochs,
        )
        rows, outcome = retrained(job, key, threads=1, last=None, on_epoch=on_epoch)
        if outcome.status is not Status.COMPLETED:
            reason = outcome.reason.strip().rpartition("\n")[2]
            raise RunError(
                f"{name} #{number}, trained on {', '.join(LEARNED_FROM)}, ended as "
                f"{outcome.status} ({reason}); nothing was exported. Without --refit the network "
                "of the study's own training is exported"
            )
        spec = open_data(handle).spec
        instance = instantiate(family, job.config).family
        state, spec = deployed_state(job.folder, instance, spec)
        save_model(
            folder / "model",
            family=family,
            config=job.config,
            data=spec,
            state=state,
            metrics={"trial": number, "seed": seed, "refit_epochs": len(rows)},
        )
        yield Refit(folder=folder / "model", epochs=len(rows), num_items=spec.num_train, seed=seed)


def _together(data: ImageData, path: Path) -> DataHandle:
    """The data with a train split that holds valid and select too; statistics stay as they were.

    Mean and spread, of pixels and of columns and targets, are those of the study's train split.
    """
    rows = np.sort(np.concatenate([data.splits[name] for name in LEARNED_FROM]))
    spec = replace(data.spec, num_train=len(rows))
    if spec.task == "classification":
        counts = np.bincount(data.targets[rows], minlength=spec.num_classes)
        spec = replace(spec, class_counts=tuple(counts.tolist()))
    stated = json.dumps({"spec": asdict(spec), "notes": list(data.notes)}).encode()
    with np.load(data.handle.split_file, allow_pickle=False) as saved:
        arrays = {name: saved[name] for name in saved.files}
    arrays |= {"train": rows, "meta": np.frombuffer(stated, dtype=np.uint8)}
    np.savez(path, **arrays)
    return DataHandle(folder=data.handle.folder, split_file=path)
