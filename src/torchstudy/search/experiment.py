"""A family's trials as an Ax experiment in a file that plain Ax opens."""

import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchstudy.files import written_aside
from torchstudy.quiet import quiet_ax
from torchstudy.records import Bound, Objective, Status, Training
from torchstudy.space import SearchSpace

if TYPE_CHECKING:
    from ax.api.client import Client

ABANDONED = (Status.DIVERGED, Status.OUT_OF_MEMORY, Status.TIMED_OUT)
EARLY_STOPPED = (Status.PAUSED, Status.STOPPED)


def write_experiment(
    path: Path,
    name: str,
    space: SearchSpace,
    objectives: Sequence[Objective],
    trainings: Sequence[Training],
    bounds: Sequence[Bound] = (),
) -> None:
    """Write every trial, in order, to a file for `ax.api.client.Client.load_from_json_file`.

    The client has no generation strategy of ours, so that it loads on a machine without
    torchstudy. completed -> COMPLETED; paused, stopped -> EARLY_STOPPED; diverged, out of memory
    and timed out -> ABANDONED; crashed -> FAILED; running, or paused before its first epoch had
    ended, stays RUNNING.
    """
    with quiet_ax():
        _write(path, space.ax_client(name, objectives, bounds), trainings)


def _write(path: Path, client: "Client", trainings: Sequence[Training]) -> None:
    from ax.core.data import Data

    experiment = client._experiment
    metrics = [Objective(metric=name, direction="maximize") for name in experiment.metrics]
    rows: list[Any] = []
    endings: list[Any] = []
    for training in trainings:
        known = {
            key: value
            for key, value in training.trial.config.items()
            if key in experiment.search_space.parameters
        }
        index = client.attach_trial(known, arm_name=str(training.trial.number))
        trial = experiment.trials[index]
        values = {each.metric: training.valid(each) for each in metrics}
        is_known = not any(map(math.isnan, values.values()))
        is_stopped = training.status in EARLY_STOPPED and is_known
        if training.status is Status.COMPLETED or is_stopped:
            step = training.epochs if is_stopped else math.nan
            told: Any = {str(training.trial.number): [(step, values)]}
            rows += trial._raw_evaluations_to_data(told)._data_rows
            # "unsafe" spares a search through all data for those that are attached below
            stop = partial(trial.mark_early_stopped, unsafe=True)
            endings.append(stop if is_stopped else trial.mark_completed)
        elif training.status in ABANDONED:
            client.mark_trial_abandoned(index)
        elif training.status is Status.CRASHED:
            client.mark_trial_failed(index, training.reason.strip().rpartition("\n")[2])
    if rows:  # all at once: the client goes through all data for every value that it is given
        experiment.attach_data(Data(data_rows=rows))
    for end in endings:
        end()
    with written_aside(path) as aside:
        client.save_to_json_file(str(aside))
        json.loads(aside.read_text())  # Ax writes an empty file where it cannot encode something
