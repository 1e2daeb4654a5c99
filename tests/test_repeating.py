"""Whole searches, repeated: the same data, other seeds, nothing known of each other."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from tests.command import optimize, write_study
from tests.test_runner import (
    Linear,
    Stop,
    StopAt,
    assert_same_results,
    linear_study,
    run_inline,
    timeless,
)
from typing_extensions import override

from torchstudy.analysis.repeats import between_searches, search_scores
from torchstudy.analysis.tables import Results, read_results
from torchstudy.errors import Interrupted
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.repeats_table import searches_of
from torchstudy.execution.watching import Plan, Silent
from torchstudy.families.linear import LinearModel
from torchstudy.overview import status_lines
from torchstudy.study import Study

pytestmark = pytest.mark.usefixtures("short_reports")


def two_families(**changes: object) -> Study:
    declared = {"families": [Linear, LinearModel], "trials": 2, "epochs": 1, **changes}
    return linear_study(**declared)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_inline(two_families(), tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_inline(two_families(repeats=2), tmp_path_factory.mktemp("repeated"))


def second(results: Results) -> Results:
    return read_results(results.folder / "repeats" / "2")


def open_ledger(results: Results) -> Ledger:
    return Ledger(f"sqlite:///{results.folder.parent / 'studies.sqlite'}", read_only=True)


def assert_same_searches(found: Results, expected: Results) -> None:
    assert_frame_equal(timeless(found.repeats), timeless(expected.repeats))
    assert_same_results(found, expected)
    assert_same_results(second(found), second(expected))


def test_the_first_search_is_that_of_a_study_without_repeats(
    alone: Results, repeated: Results
) -> None:
    assert_same_results(repeated, alone)
    assert alone.repeats.empty
    assert not (alone.folder / "repeats").exists()
    assert "repeats" not in alone.summary["budget"]
    assert repeated.summary["budget"]["repeats"] == 2


def test_a_repeat_has_other_seeds_and_the_same_splits(repeated: Results) -> None:
    other = second(repeated)
    assert not set(other.trials["seed"]) & set(repeated.trials["seed"])
    assert not set(other.confirmation["seed"]) & set(repeated.confirmation["seed"])
    assert other.summary["data"] == repeated.summary["data"]
    assert other.summary["repeat"] == 2
    for family in repeated.families:
        items = [
            found.predictions[family].drop_duplicates(["split", "item"])
            for found in (repeated, other)
        ]
        shown = [
            table.sort_values(["split", "item"])[["split", "item", "name", "target"]]
            for table in items
        ]
        assert_frame_equal(*(table.reset_index(drop=True) for table in shown))


def test_the_table_has_a_row_per_search_and_family(repeated: Results) -> None:
    table = repeated.repeats
    assert table[["repeat", "family"]].to_numpy().tolist() == [
        [1, "Linear"],
        [1, "LinearModel"],
        [2, "Linear"],
        [2, "LinearModel"],
    ]
    for row, results in zip(
        table.to_dict("records"), [repeated] * 2 + [second(repeated)] * 2, strict=True
    ):
        fresh = results.confirmation[results.confirmation["family"] == row["family"]]
        chosen = fresh[fresh["chosen"].astype(bool)]
        trials = results.trials[results.trials["family"] == row["family"]].set_index("trial")
        assert row["trials"] == len(trials) == 2
        assert row["trial"] == chosen["trial"].iloc[0]
        assert row["seeds"] == len(chosen) == 2
        assert row["seed"] == results.summary["seed"]
        assert row["valid_accuracy"] == trials.loc[row["trial"], "best_valid_accuracy"]
        assert row["test_accuracy"] == pytest.approx(chosen["test_accuracy"].mean())
        assert row["select_deviation"] == pytest.approx(chosen["select_accuracy"].std())
        assert row["seconds"] == pytest.approx(trials["seconds"].sum() + fresh["seconds"].sum())


def test_what_the_searches_answered_is_compared_item_by_item(repeated: Results) -> None:
    table = search_scores(repeated)
    assert set(table["searches"]) == {2}
    items = repeated.summary["data"]["splits"]["test"]
    assert set(table["items"]) == {items}
    (found,) = between_searches(repeated)
    assert (found.searches, found.items, found.seeds) == (2, items, (4, 4))


def test_it_is_finished_when_all_searches_are(repeated: Results) -> None:
    assert repeated.summary["state"] == "finished"
    assert "still running" not in (repeated.folder / "report.html").read_text()
    ledger = open_ledger(repeated)
    assert {state.state for state in ledger.studies()} == {"finished"}
    ledger.close()


def test_the_page_of_a_finished_study_compares_its_searches(
    repeated: Results, whole_page: Callable[[Path], str]
) -> None:
    drawn = whole_page(repeated.folder)
    assert "still running" not in drawn
    assert "Score over 2 searches" in drawn


def test_more_repeats_go_on_and_fewer_forget_nothing(
    alone: Results, repeated: Results, tmp_path: Path
) -> None:
    run_inline(two_families(), tmp_path)
    assert_same_searches(run_inline(two_families(repeats=2), tmp_path), repeated)
    assert_same_searches(run_inline(two_families(), tmp_path), repeated)
    fresh = run_inline(two_families(), tmp_path, fresh=True)
    assert_same_results(fresh, alone)
    assert fresh.repeats.empty
    assert not (fresh.folder / "repeats").exists()
    ledger = open_ledger(fresh)
    assert [state.name for state in ledger.studies()] == ["lines"]
    ledger.close()


def test_the_same_command_again_changes_nothing(tmp_path: Path) -> None:
    study = two_families(repeats=2, trials=1, confirm=(1, 1))
    run_inline(study, tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "sqlite" not in path.name]
    before = {path: path.read_bytes() for path in files}
    run_inline(study, tmp_path)
    assert {path for path in files if path.read_bytes() != before[path]} == set()


def test_searches_interrupted_anywhere_end_as_if_they_had_not_been(
    repeated: Results, tmp_path: Path
) -> None:
    for step in range(60):
        watcher = StopAt(9 + 3 * (step % 3))
        try:
            results = run_inline(two_families(repeats=2), tmp_path, watcher=watcher)
        except Stop:
            continue
        break
    else:
        pytest.fail("the run never came to its end")
    assert step > 3
    assert_same_searches(results, repeated)


class AtRepeat(Silent):
    """Does something when the second search begins, and notes every plan."""

    def __init__(self, act: object = None) -> None:
        self.plans: list[Plan] = []
        self._act = act

    @override
    def begun(self, plan: Plan) -> None:
        self.plans.append(plan)
        if len(self.plans) == 2 and callable(self._act):
            self._act()


def test_a_signal_between_searches_ends_cleanly_and_the_run_goes_on(
    repeated: Results, tmp_path: Path
) -> None:
    watcher = AtRepeat(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        run_inline(two_families(repeats=2), tmp_path, watcher=watcher)
    left = read_results(tmp_path / "lines")
    assert left.summary["state"] == "interrupted"
    assert left.repeats["test_accuracy"].notna().tolist()[:2] == [True, True]
    assert left.repeats["test_accuracy"].notna().sum() == 2
    assert_same_searches(run_inline(two_families(repeats=2), tmp_path), repeated)


def test_the_study_is_held_while_a_repeat_runs(tmp_path: Path) -> None:
    study = two_families(repeats=2, trials=1, confirm=(1, 1))
    seen: list[object] = []

    def look() -> None:
        url = f"sqlite:///{tmp_path / 'studies.sqlite'}"
        code = (
            f"from torchstudy.execution.ledger import Ledger; Ledger({url!r}).claim('lines', {{}})"
        )
        seen.append(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True))
        seen.append(status_lines(tmp_path, None, "lines"))
        seen.append(read_results(tmp_path / "lines").summary["state"])

    watcher = AtRepeat(look)
    run_inline(study, tmp_path, watcher=watcher)
    refused, status, state = seen
    assert isinstance(refused, subprocess.CompletedProcess)
    assert "StudyClaimed" in refused.stderr
    assert isinstance(status, list)
    assert [title for title, _ in status] == [
        "lines: running, repeat 2 of 2",
        "lines, repeat 2: running",
    ]
    assert state == "running"
    assert [plan.study + plan.repeat for plan in watcher.plans] == [
        "lines, repeat 1 of 2",
        "lines, repeat 2 of 2",
    ]


@pytest.fixture
def warmed(tmp_path: Path) -> Iterator[Ledger]:
    run_inline(two_families(name="before", seed=7, trials=4, confirm=None), tmp_path)
    results = run_inline(two_families(repeats=2, trials=3, confirm=(1, 1)), tmp_path)
    ledger = open_ledger(results)
    yield ledger
    ledger.close()


def test_other_studies_warm_start_every_search_alike_and_searches_not_each_other(
    warmed: Ledger, tmp_path: Path
) -> None:
    names = ["lines", "lines/repeats/2"]
    assert [state.name for state in searches_of(warmed, "lines")] == names
    told = [
        [(dict(t.config), t.origin) for t in warmed.trials(name, "Linear") if t.origin == "warm"]
        for name in names
    ]
    assert len(told[0]) == 1
    assert told[1] == told[0]
    run_inline(two_families(name="between", seed=8, trials=3, confirm=None), tmp_path)
    run_inline(two_families(repeats=3, trials=3, confirm=(1, 1)), tmp_path)
    third = [t for t in warmed.trials("lines/repeats/3", "Linear") if t.origin == "warm"]
    assert [(dict(t.config), t.origin) for t in third] == told[0]
    between = [t for t in warmed.trials("between", "Linear") if t.origin == "warm"]
    assert len(between) <= 2  # of `before` and of `lines`, whose repeats do not speak


def test_the_search_of_a_repeat_does_not_begin_with_the_first_s_best(repeated: Results) -> None:
    assert set(second(repeated).trials["origin"]) <= {"recipe", "near", "sobol"}


def test_forgetting_a_study_spares_those_that_are_only_called_alike() -> None:
    ledger = Ledger("sqlite://")
    names = ["a_b", "a_b/repeats/2", "axb/repeats/2", "A_B/repeats/2", "a_b2", "a_b-repeats-2"]
    for name in names:
        ledger.claim(name, {})
        ledger.release(name, "finished")
    ledger.forget("a_b")
    assert [state.name for state in ledger.studies()] == sorted(names[2:])


def test_without_confirmation_the_searches_are_listed_and_not_compared(tmp_path: Path) -> None:
    results = run_inline(two_families(repeats=2, trials=1, confirm=None), tmp_path)
    assert results.repeats["seeds"].tolist() == [0] * 4
    assert results.repeats["valid_accuracy"].notna().all()
    assert search_scores(results).empty


def test_the_command_repeats_a_search_and_shows_it_as_one_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, "tiny")
    planned = optimize("run", "tiny", "--repeats", 2, "--executor", "inline", "--dry-run")
    assert ", 2 repeats" in planned.stdout
    ended = optimize("run", "tiny", "--repeats", 2, "--executor", "inline")
    assert ended.exit_code == 0, ended.stderr
    assert "tiny, repeat 2 of 2: CNN; for each 2 trials" in ended.stdout
    assert "2 searches, 4 seeds" in ended.stdout
    assert "2 searches say little about their own scatter" in ended.stdout
    listed = optimize("list").stdout
    assert "tiny" in listed
    assert "repeats" not in listed
    table = optimize("table", "tiny", "--what", "repeats", "--format", "csv").stdout
    assert table == (tmp_path / "reports" / "tiny" / "repeats.csv").read_text()
    assert "(mean of 2 searches)" in optimize("best", "tiny").stdout
    status = optimize("status", "tiny").stdout
    assert "tiny: finished, the first of 2 searches" in status
    assert "tiny, repeat 2: finished" in status


@pytest.mark.parametrize("given", [0, -1, 1.5, "3", True, None])
def test_a_number_of_repeats_that_cannot_be_is_refused(given: object) -> None:
    with pytest.raises(Exception, match="repeats: must be a whole number of at least 1; got"):
        two_families(repeats=given)


def test_repeats_are_a_budget_and_each_is_a_study_of_its_own_seed() -> None:
    study = two_families(repeats=3)
    assert study.describe() == two_families().describe()
    assert study.repeat(1) is study
    seeds = {study.repeat(number).seed for number in (1, 2, 3)}
    assert len(seeds) == 3
    assert study.repeat(2).name == "lines/repeats/2"
    assert study.repeat(2).describe() == replace(study, seed=study.repeat(2).seed).describe()
    with pytest.raises(Exception, match="cannot name a folder"):
        two_families(name=study.repeat(2).name)


def test_tables_of_one_search_hold_one_row_per_family(alone: Results) -> None:
    found = optimize(
        "table", "lines", "--what", "repeats", "--reports", alone.folder.parent, "--format", "json"
    )
    table = pd.read_json(io.StringIO(found.stdout))
    assert table["family"].tolist() == ["Linear", "LinearModel"]
