"""What tests of families share: configurations to try, and trainings run in this process."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from torchstudy.data.dataset import ImageData
from torchstudy.execution import job as jobs
from torchstudy.execution.job import Job
from torchstudy.families.base import Family, domains_with_training
from torchstudy.fitting import instantiate
from torchstudy.models.saved import save_model
from torchstudy.records import LATENCIES, Epoch, Objective, Outcome, Status, TrainingKey
from torchstudy.space import Config, SearchSpace

OBJECTIVES = {
    "prediction": Objective(metric="accuracy", direction="maximize"),
    "reconstruction": Objective(metric="loss", direction="minimize"),
    "restoration": Objective(metric="loss", direction="minimize"),
    "generation": Objective(metric="generation_distance", direction="minimize"),
}


def objective_of(cls: type[Family]) -> Objective:
    """What a family is usually tuned for."""
    return OBJECTIVES[cls.goal]


def space_of(cls: type[Family]) -> SearchSpace:
    return SearchSpace(domains_with_training(cls))


def job_for(
    cls: type[Family], data: ImageData, folder: Path, config: Config | None = None, epochs: int = 2
) -> Job:
    return Job(
        action="train",
        key=TrainingKey(family=cls.__name__, number=0, seed=5),
        family=cls,
        config=config or space_of(cls).recipe,
        objective=objective_of(cls),
        epochs=epochs,
        purpose="confirmation",
        data=data.handle,
        folder=folder,
    )


def run_job(job: Job) -> tuple[Outcome, list[Epoch]]:
    rows: list[Epoch] = []

    def report(payload: object) -> None:
        if isinstance(payload, Epoch):
            rows.append(payload)

    return jobs.run(job, report, lambda: False), rows


def saved_model(
    cls: type[Family], data: ImageData, folder: Path, config: Config | None = None
) -> Path:
    """A folder like `best/<family>/` with a model of two epochs."""
    job = job_for(cls, data, folder / "run", config)
    if data.spec.task == "regression":
        job = replace(job, objective=Objective(metric="mse", direction="minimize"))
    outcome, _ = run_job(job)
    assert outcome.status is Status.COMPLETED, outcome.reason
    family = instantiate(cls, job.config).family
    state, spec = jobs.deployed_state(job.folder, family, data.spec)
    place = folder / "model"
    save_model(place, family=cls, config=job.config, data=spec, state=state, metrics={})
    return place


def steady(outcome: Outcome) -> Outcome:
    """An outcome without what a clock decides."""
    metrics = {name: value for name, value in outcome.metrics.items() if name not in LATENCIES}
    return replace(outcome, metrics=metrics)


def configs_of(cls: type[Family]) -> Iterator[Config]:
    """The recipe, every bound and choice, and a few random configurations."""
    generator = np.random.default_rng(0)
    yield from space_of(cls).corners()
    yield from (space_of(cls).sample(generator) for _ in range(3))
