"""The Ax experiment that a run leaves, as plain Ax opens it."""

from pathlib import Path

import pytest

from torchstudy.domains import Float
from torchstudy.quiet import quiet_ax
from torchstudy.records import Objective, Status, Training, Trial
from torchstudy.search.experiment import write_experiment
from torchstudy.space import SearchSpace

SPACE = SearchSpace({"rate": Float(0.1, 1.0, default=0.5)})
SCORED = {"valid_accuracy": 0.5}


def training(number: int, status: Status, metrics: dict[str, float]) -> Training:
    return Training(
        trial=Trial(family="CNN", number=number, config={"rate": 0.5}, origin="sobol"),
        seed=1,
        purpose="search",
        status=status,
        attempt=1,
        reason="ValueError: no" if status is Status.CRASHED else "",
        epochs=len(metrics),
        best_epoch=len(metrics),
        parameters=1,
        seconds=1.0,
        started="",
        finished="",
        worker="",
        metrics=metrics,
    )


@pytest.mark.parametrize(
    ("status", "metrics", "expected"),
    [
        (Status.COMPLETED, SCORED, "COMPLETED"),
        (Status.PAUSED, SCORED, "EARLY_STOPPED"),
        (Status.STOPPED, SCORED, "EARLY_STOPPED"),
        (Status.PAUSED, {}, "RUNNING"),  # interrupted before its first epoch had ended
        (Status.RUNNING, {}, "RUNNING"),
        (Status.DIVERGED, {}, "ABANDONED"),
        (Status.OUT_OF_MEMORY, {}, "ABANDONED"),
        (Status.CRASHED, {}, "FAILED"),
    ],
)
def test_every_status_has_its_counterpart_in_ax(
    status: Status, metrics: dict[str, float], expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "CNN.ax.json"
    objective = Objective(metric="accuracy", direction="maximize")
    write_experiment(path, "s/CNN", SPACE, [objective], [training(0, status, metrics)])
    with quiet_ax():
        from ax.api.client import Client

        client = Client.load_from_json_file(str(path))
    [trial] = client._experiment.trials.values()
    assert trial.status.name == expected
