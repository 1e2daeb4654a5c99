"""Readings of the test split: recorded, counted, and said where there was more than one."""

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from tests.report_data import Made, write_study
from tests.test_runner import linear_study, run_inline

from torchstudy.analysis.tables import Results, read_results
from torchstudy.errors import StudyError
from torchstudy.execution.ledger import Ledger
from torchstudy.records import Outcome, Status, TrainingKey, Trial
from torchstudy.report.readings import readings, repeated_readings
from torchstudy.report.story import Story
from torchstudy.summaries import summary_lines
from torchstudy.usage import confirmation

pytestmark = pytest.mark.usefixtures("short_reports")


def read(results: Results, *told: tuple[str, int, int, str]) -> Story:
    """The results, of which test was read: family, trial, how often, and when last."""
    table = results.confirmation.copy()
    for family, trial, times, when in told:
        own = (table["family"] == family) & (table["trial"] == trial)
        assert own.any()
        table.loc[own, "readings"] = times
        table.loc[own, "tested"] = pd.Timestamp(when, tz="UTC")
        table.loc[own, "tested_by"] = "process 7 on host"
    return Story(replace(results, confirmation=table))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_study(tmp_path_factory.mktemp("read"), Made()))


def test_a_first_reading_is_told_with_time_and_process(results: Results) -> None:
    first, second = results.confirmation.loc[results.confirmation["family"] == "CNN", "trial"][
        [0, 3]
    ]
    story = read(results, ("CNN", first, 1, "2026-01-02T03:04:05"))
    assert list(readings(story)) == [
        f"CNN: trial {first} on 2026-01-02 03:04 UTC by process 7 on host"
    ]
    assert list(repeated_readings(story)) == []
    again = read(
        results,
        ("CNN", second, 1, "2026-01-02T05:00:00"),
        ("CNN", first, 2, "2026-01-02T03:04:05"),
    )
    (said,) = repeated_readings(again)
    assert said.startswith(
        f"The test split has been read 3 times for CNN (trials {first} and {second}; last on "
        "2026-01-02 05:00 UTC): what an earlier reading showed"
    )


def test_results_of_an_earlier_version_say_nothing_of_readings(results: Results) -> None:
    assert results.confirmation["readings"].isna().all()
    assert list(readings(Story(results))) == list(repeated_readings(Story(results))) == []


def test_a_run_records_who_read_test_and_a_second_reading_is_said(tmp_path: Path) -> None:
    results = run_inline(linear_study(trials=2, confirm=(1, 2)), tmp_path)
    tested = results.confirmation[results.confirmation["chosen"].astype(bool)]
    assert tested["readings"].tolist() == [1, 1]
    assert tested["tested"].notna().all()
    assert tested["tested_by"].str.startswith(f"process {os.getpid()} on ").all()
    rest = results.confirmation[~results.confirmation["chosen"].astype(bool)]
    assert rest["readings"].isna().all()
    assert "has been read" not in "\n".join(summary_lines(results))


def test_every_reading_is_counted() -> None:
    ledger = Ledger("sqlite://")
    ledger.claim("lines", {})
    key = TrainingKey(family="CNN", number=0, seed=1)
    ledger.propose("lines", [Trial(family="CNN", number=0, config={}, origin="recipe")])
    attempt = ledger.begin("lines", key, "confirmation", "worker")
    ledger.end("lines", key, attempt, Outcome(status=Status.COMPLETED), 1.0)
    assert (ledger.training("lines", key).readings, ledger.training("lines", key).tested) == (0, "")
    for count in (1, 2):
        ledger.add_test("lines", key, {"test_accuracy": 0.5})
        assert ledger.training("lines", key).readings == count
    ledger.close()


@pytest.mark.parametrize(
    ("text", "is_left_out", "found"),
    [
        ("3x5", False, {"confirm": (3, 5)}),
        ("1 X 10", False, {"confirm": (1, 10)}),
        (None, True, {"confirm": None}),
        (None, False, {}),
    ],
)
def test_the_command_says_what_to_confirm(
    text: str | None, is_left_out: bool, found: dict[str, object]
) -> None:
    assert confirmation(text, is_left_out) == found


@pytest.mark.parametrize("text", ["3", "x", "3x", "0x3", "3x0", "-1x2", "3x2x1", "axb", "3*2"])
def test_a_confirmation_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(
        StudyError, match="must be configurations x seeds, both at least 1, such as"
    ):
        confirmation(text, False)


def test_to_confirm_and_not_to_confirm_contradict_each_other() -> None:
    with pytest.raises(StudyError, match="--confirm and --no-confirm contradict each other"):
        confirmation("3x5", True)
