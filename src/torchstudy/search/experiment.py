"""A family's trials as an Ax experiment in a file that plain Ax opens."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from torchstudy.files import written_aside
from torchstudy.quiet import quiet_ax
from torchstudy.records import Objective, Status, Training
from torchstudy.space import SearchSpace

ABANDONED = (Status.DIVERGED, Status.OUT_OF_MEMORY, Status.TIMED_OUT)
EARLY_STOPPED = (Status.PAUSED, Status.STOPPED)


def write_experiment(
    path: Path, name: str, space: SearchSpace, objective: Objective, trainings: Sequence[Training]
) -> None:
    """Write every trial, in order, to a file for `ax.api.client.Client.load_from_json_file`.

    The client has no generation strategy of ours, so that it loads on a machine without
    torchstudy. completed -> COMPLETED; paused, stopped -> EARLY_STOPPED; diverged, out of memory
    and timed out -> ABANDONED; crashed -> FAILED; running, or paused before its first epoch had
    ended, stays RUNNING.
    """
    with quiet_ax():
        _write(path, name, space, objective, trainings)


def _write(
    path: Path, name: str, space: SearchSpace, objective: Objective, trainings: Sequence[Training]
) -> None:
    client = space.ax_client(name, objective)
    for training in trainings:
        known = {
            key: value
            for key, value in training.trial.config.items()
            if key in client._experiment.search_space.parameters
        }
        index = client.attach_trial(known, arm_name=str(training.trial.number))
        value = training.valid(objective)
        if training.status is Status.COMPLETED:
            client.complete_trial(index, {objective.metric: value})
        elif training.status in EARLY_STOPPED and not math.isnan(value):
            client.attach_data(index, {objective.metric: value}, progression=training.epochs)
            client.mark_trial_early_stopped(index)
        elif training.status in ABANDONED:
            client.mark_trial_abandoned(index)
        elif training.status is Status.CRASHED:
            client.mark_trial_failed(index, training.reason.strip().rpartition("\n")[2])
    with written_aside(path) as aside:
        client.save_to_json_file(str(aside))
        json.loads(aside.read_text())  # Ax writes an empty file where it cannot encode something
