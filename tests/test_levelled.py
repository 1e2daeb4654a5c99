"""Trials that were stopped early are compared by what they would have reached."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.simulated import simulated

from torchstudy.analysis.levelled import levelled, normal_scores, scale_of
from torchstudy.analysis.tables import Results, frame
from torchstudy.records import Objective
from torchstudy.schemas import EPOCH_COLUMNS, TRIAL_COLUMNS

MOST = Objective(metric="accuracy", direction="maximize")


def _results(errors: list[list[float]], statuses: list[str]) -> Results:
    """Trials with these errors after 1, 3 and 9 epochs."""
    stops = (1, 3, 9)
    trials, epochs = [], []
    for number, (own, status) in enumerate(zip(errors, statuses, strict=True)):
        keys = {"study": "made", "family": "CNN", "trial": number, "seed": 0}
        best = 1 - min(own) if own else None
        trials.append(
            {**keys, "status": status, "epochs": stops[len(own) - 1] if own else 0}
            | {"best_valid_accuracy": best}
        )
        for epoch, error in zip(stops, own, strict=False):
            epochs.append({**keys, "epoch": epoch, "valid_accuracy": 1 - error})
    return replace(
        simulated(0, trials=2),
        trials=frame(trials, {**TRIAL_COLUMNS, "best_valid_accuracy": "float64"}),
        epochs=frame(epochs, {**EPOCH_COLUMNS, "valid_accuracy": "float64"}),
    )


def test_a_stopped_trial_gains_what_the_others_gained_from_there_on() -> None:
    errors = [[0.4, 0.2, 0.1], [0.4, 0.2, 0.05], [0.3, 0.15], [0.6]]
    table = levelled(_results(errors, ["completed", "completed", "stopped", "stopped"]), "CNN")
    assert list(table["is_raised"]) == [False, False, True, True]
    # From 3 epochs to 9 errors fell by factors of 2 and 4: the median of logarithms is 8 ** 0.5.
    # From 1 to 3 they halved in all three.
    expected = [0.1, 0.05, 0.15 / 8**0.5, 0.6 / 2 / 8**0.5]
    assert list(1 - table["score"]) == pytest.approx(expected)
    assert list(table["standing"].rank()) == [2, 4, 3, 1]


def test_a_completed_trial_is_at_its_end_however_early_it_was() -> None:
    errors = [[0.4, 0.2, 0.1], [0.3]]
    table = levelled(_results(errors, ["completed", "completed"]), "CNN")
    assert list(table["score"]) == pytest.approx([0.9, 0.7])
    assert not table["is_raised"].any()


def test_a_worse_later_epoch_takes_nothing_away() -> None:
    errors = [[0.2, 0.4, 0.3], [0.4]]
    table = levelled(_results(errors, ["completed", "stopped"]), "CNN")
    assert list(table["score"]) == pytest.approx([0.8, 0.6])


def test_diverged_trials_share_the_last_rank_and_other_failures_are_left_out() -> None:
    errors = [[0.2, 0.1, 0.05], [0.5], [0.1], [0.1], []]
    statuses = ["completed", "diverged", "diverged", "crashed", "running"]
    table = levelled(_results(errors, statuses), "CNN")
    assert list(table["trial"]) == [0, 1, 2]
    assert table["score"].notna().tolist() == [True, False, False]
    assert list(table["standing"].rank()) == [3, 1.5, 1.5]


def test_without_epochs_values_stay_as_they_are() -> None:
    results = simulated(0, trials=12)
    table = levelled(replace(results, epochs=results.epochs.iloc[:0]), "CNN")
    assert list(table["score"]) == list(results.values)


def test_an_unknown_family_has_no_rows() -> None:
    assert levelled(simulated(0, trials=12), "MLP").empty


@pytest.mark.parametrize(
    ("objective", "values"),
    [
        (MOST, [0.1, 0.9, 1.0]),
        (Objective(metric="mse", direction="minimize"), [3.0, 0.2, 0.01]),
        (Objective(metric="psnr", direction="maximize"), [10.0, 24.0, 31.0]),
        (Objective(metric="loss", direction="minimize"), [3.0, 0.0, -4.0]),
    ],
)
def test_better_values_lie_higher_on_every_scale_and_come_back(
    objective: Objective, values: list[float]
) -> None:
    given = np.array(values)
    scale = scale_of(given, objective)
    places = scale.place(given)
    assert (np.diff(places) > 0).all()
    back = scale.value(places)
    assert back == pytest.approx(given, abs=0.06)  # of an error of 0 half the least other


def test_equal_values_have_equal_normal_scores() -> None:
    scores = normal_scores(pd.Series([5.0, 1.0, 5.0, 9.0]))
    assert scores[0] == scores[2]
    assert scores[3] == pytest.approx(-scores[1])
