from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training_jobs import job_for, run_job, space_of
from torch import Tensor, nn

from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.domains import Int
from torchstudy.execution import joint
from torchstudy.execution.exhibits import answers_path
from torchstudy.execution.job import CHECKPOINT, WEIGHTS, Companion, Job
from torchstudy.execution.joint import goes_together, run_all
from torchstudy.families.base import Family, family
from torchstudy.families.cnn import CNN
from torchstudy.families.mlp import MLP
from torchstudy.families.transfer import Transfer
from torchstudy.records import Epoch, Outcome, Status, TrainingKey

SEEDS = (5, 6, 7)  # that of `job_for` first


@family
class Scaling(Family):
    """Has weights in a module of its own: nothing that could be stacked."""

    width: int = Int(4, 16, default=8)

    def build(self, data: DataSpec) -> nn.Module:
        class Scaled(nn.Module):
            def __init__(self, width: int) -> None:
                super().__init__()
                self.scale = nn.Parameter(torch.ones(width))

            def forward(self, values: Tensor) -> Tensor:
                return values * self.scale

        pixels = data.channels * data.height * data.width
        layers = [nn.Flatten(), nn.Linear(pixels, self.width), Scaled(self.width)]
        return nn.Sequential(*layers, nn.Linear(self.width, data.num_classes))


@family
class Fussy(Family):
    """Cannot be trained with one of the seeds."""

    width: int = Int(4, 16, default=8)

    def build(self, data: DataSpec) -> nn.Module:
        if torch.initial_seed() % 2:
            raise ValueError("odd seeds bring bad luck")
        pixels = data.channels * data.height * data.width
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, data.num_classes))


def joint_job(cls: type[Family], data: ImageData, folder: Path) -> Job:
    job = job_for(cls, data, folder / str(SEEDS[0]))
    others = tuple(
        Companion(key=replace(job.key, seed=seed), folder=folder / str(seed), attempt=1)
        for seed in SEEDS[1:]
    )
    return replace(job, companions=others)


def alone(job: Job, seed: int, folder: Path) -> tuple[Outcome, list[Epoch]]:
    return run_job(
        replace(job, key=replace(job.key, seed=seed), folder=folder / str(seed), companions=())
    )


def ran(
    job: Job, should_stop: Callable[[], bool] = lambda: False
) -> tuple[dict[int, Outcome], dict[int, list[Epoch]]]:
    outcomes: dict[int, Outcome] = {}
    rows: dict[int, list[Epoch]] = defaultdict(list)

    def report(key: TrainingKey, payload: object) -> None:
        if isinstance(payload, Outcome):
            outcomes[key.seed] = payload
        elif isinstance(payload, Epoch):
            rows[key.seed].append(payload)

    run_all(job, report, should_stop)
    return outcomes, rows


def test_seeds_that_train_together_end_as_they_do_alone(striped: ImageData, tmp_path: Path) -> None:
    job = joint_job(MLP, striped, tmp_path / "together")
    assert goes_together(job)
    outcomes, rows = ran(job)
    for seed in SEEDS:
        outcome, own = alone(job, seed, tmp_path / "alone")
        assert outcomes[seed].status is Status.COMPLETED
        assert outcomes[seed].metrics["select_accuracy"] == outcome.metrics["select_accuracy"]
        assert [row.valid_loss for row in rows[seed]] == pytest.approx(
            [row.valid_loss for row in own], rel=1e-3
        )
    assert len({row.valid_loss for each in rows.values() for row in each}) == 2 * len(SEEDS)


def test_every_training_of_a_group_leaves_its_own_files(striped: ImageData, tmp_path: Path) -> None:
    job = joint_job(MLP, striped, tmp_path)
    outcomes, _ = ran(job)
    for folder in (job.folder, *(other.folder for other in job.companions)):
        assert (folder / WEIGHTS).exists()
        assert (folder / CHECKPOINT).exists()
        assert answers_path(folder, "valid").exists()
    parts = [replace(job, companions=())]
    parts += [
        replace(job, key=o.key, folder=o.folder, companions=(), action="test")
        for o in job.companions
    ]
    tested = run_job(replace(parts[1], action="test"))[0]
    assert tested.metrics["test_accuracy"] > 0.5
    assert all("parameters" not in outcome.metrics for outcome in outcomes.values())
    assert len({outcome.parameters for outcome in outcomes.values()}) == 1


def test_a_stopped_group_goes_on_where_it_stopped(striped: ImageData, tmp_path: Path) -> None:
    whole, _ = ran(joint_job(MLP, striped, tmp_path / "whole"))
    job = joint_job(MLP, striped, tmp_path / "stopped")
    seen: list[object] = []
    stopped: dict[int, Outcome] = {}

    def report(key: TrainingKey, payload: object) -> None:
        seen.append(payload)
        if isinstance(payload, Outcome):
            stopped[key.seed] = payload

    run_all(job, report, lambda: len(seen) >= len(SEEDS))
    assert {outcome.status for outcome in stopped.values()} == {Status.PAUSED}
    outcomes, _ = ran(job)
    for seed in SEEDS:
        assert outcomes[seed].metrics["valid_loss"] == whole[seed].metrics["valid_loss"]


def test_what_cannot_be_stacked_is_trained_one_by_one(striped: ImageData, tmp_path: Path) -> None:
    job = joint_job(Scaling, striped, tmp_path / "together")
    assert not goes_together(job)
    outcomes, rows = ran(job)
    for seed in SEEDS:
        outcome, own = alone(job, seed, tmp_path / "alone")
        assert outcomes[seed].metrics["valid_loss"] == outcome.metrics["valid_loss"]
        assert [row.values() for row in rows[seed]] == [row.values() for row in own]


def test_a_group_that_fails_says_for_each_training_how_it_fails_alone(
    striped: ImageData, tmp_path: Path
) -> None:
    outcomes, _ = ran(joint_job(Fussy, striped, tmp_path))
    reasons = [outcome.reason for outcome in outcomes.values()]
    assert set(outcomes) == set(SEEDS)
    assert any("odd seeds bring bad luck" in reason for reason in reasons)


def test_large_networks_augmented_images_and_frozen_features_go_alone(
    striped: ImageData, tmp_path: Path
) -> None:
    assert not goes_together(job_for(Transfer, striped, tmp_path))
    recipe = space_of(MLP).recipe
    assert goes_together(job_for(MLP, striped, tmp_path, recipe))
    assert not goes_together(job_for(MLP, striped, tmp_path, {**recipe, "crop": 0.1}))
    wide = {**space_of(CNN).recipe, "width": 64, "depth": 3, "batch_size": 512}
    assert not goes_together(job_for(CNN, striped, tmp_path, wide))


def test_a_group_is_really_trained_as_one(
    striped: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    real = joint.train_together

    def counted(lessons, **options):  # type: ignore[no-untyped-def]
        groups.append(len(lessons))
        return real(lessons, **options)

    monkeypatch.setattr(joint, "train_together", counted)
    ran(joint_job(MLP, striped, tmp_path))
    assert groups == [3]
