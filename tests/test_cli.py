"""The command: what it prints, how it ends, and that it goes on where it stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tests.command import optimize, write_study
from tests.forked import Commands

from torchstudy.execution.ledger import Ledger, StudyState
from torchstudy.running import same_command
from torchstudy.stored import find_study

pytestmark = pytest.mark.usefixtures("short_reports")

HEAVY = ("torch", "ax", "pandas", "plotly", "numpy", "sqlalchemy")
WAIT = 60  # seconds for a process to do something, on a machine that is busy
SLOW = """
import time
def slow():
    print("reading", flush=True)
    time.sleep(%s)
    return stripes()
space = {**GOOD["space"], "patience": 2000}
study = Study(**{**GOOD, "data": slow, "epochs": 2000, "space": space})
"""


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The command in a process of its own, which hears SIGINT even where this one ignores it.

    A process that a shell starts in the background ignores it, and so do its children.
    """
    command = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import sys; sys.argv[0] = 'optimize'; from torchstudy.cli import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", command, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, text: str) -> None:
    """Until the command has written that there."""
    deadline = time.monotonic() + WAIT
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline, f"never wrote {text!r}"
        time.sleep(0.02)


# help


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['optimize', '--help']\n"
        "from torchstudy.cli import app\n"
        "try: app()\n"
        f"except SystemExit: print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_comes_in_half_a_second() -> None:
    """The best of three of processor time, which other processes do not lengthen much."""
    seconds = []
    for _ in range(3):
        before = os.times()
        command = [sys.executable, "-m", "torchstudy.cli", "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = os.times()
        used = after.children_user + after.children_system
        seconds.append(used - before.children_user - before.children_system)
    assert min(seconds) < 0.5
    for command in (
        "list",
        "space",
        "summary",
        "run",
        "status",
        "table",
        "best",
        "report",
        "cache",
        "export",
    ):
        assert f"\n  {command} " in done.stdout


def test_without_words_the_help_is_shown_as_wrong_use() -> None:
    ended = optimize()
    assert ended.exit_code == 2
    assert "Commands:" in ended.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "Error: Missing argument 'STUDY'.\n"),
        (["lst"], "Error: No such command 'lst'. Did you mean 'list'?\n"),
        (
            ["run", "tiny", "--trails", "3"],
            "No such option: --trails (Possible options: --family, --trials)",
        ),
        (
            ["run", "tiny", "--trials", "x"],
            "Invalid value for '--trials': Input should be a valid integer",
        ),
    ],
)
def test_unknown_words_are_wrong_use(words: list[str], message: str) -> None:
    ended = optimize(*words)
    assert ended.exit_code == 2
    assert message in ended.stderr


# run


def test_a_run_in_a_pipe_prints_plain_lines_and_where_the_results_are(
    finished_study: Path,
) -> None:
    lines = (finished_study / "said.txt").read_text().splitlines()
    assert (
        "tiny: CNN; for each 2 trials of up to 2 epochs, then up to 4 confirmations; 1 worker"
        in lines
    )
    assert [line.split()[:3] for line in lines if line.startswith("CNN #")] == [
        ["CNN", "#0", "completed"],
        ["CNN", "#1", "completed"],
    ]
    assert sum(line.startswith("test CNN #") for line in lines) == 2
    assert lines[-2:] == ["report: reports/tiny/report.html", "models: reports/tiny/best"]
    assert lines.count("report: reports/tiny/report.html") == 1
    assert not any("\x1b" in line for line in lines)


def test_the_same_command_again_changes_nothing(finished_study: Path) -> None:
    folder = finished_study / "reports" / "tiny"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    ended = optimize("run", "tiny", "--executor", "inline")
    assert ended.exit_code == 0
    assert "\nnothing left to train: " in ended.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_quiet_prints_the_result_alone(finished_study: Path) -> None:
    ended = optimize("run", "tiny", "--executor", "inline", "--quiet")
    assert ended.stdout.startswith("\nCNN: ")
    assert ended.stdout.endswith("report: reports/tiny/report.html\nmodels: reports/tiny/best\n")


def test_a_profile_shows_and_keeps_where_the_time_went(finished_study: Path) -> None:
    ended = optimize("run", "tiny", "--executor", "inline", "--profile")
    assert ended.exit_code == 0
    assert "where the time went" in ended.stdout
    table = pd.read_csv(finished_study / "reports" / "tiny" / "profile.csv")
    assert table["share"].sum() == pytest.approx(1)
    assert {"forward", "backward", "evaluate"} <= set(table["part"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_wrong_use(finished_study: Path) -> None:
    ended = optimize("run", "tiny", "--device", "cuda")
    assert ended.exit_code == 2
    assert ended.stderr.startswith("error: device: 'cuda' is not there; this machine has cpu")
    misspelt = optimize("run", "tiny", "--device", "gpu")
    assert misspelt.exit_code == 2
    assert "device: 'gpu' is not one of auto, cpu, cuda, mps" in misspelt.stderr


def test_trials_is_the_total_and_more_of_them_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, "tiny")
    command = ["run", "tiny", "--executor", "inline", "--no-confirm", "--trials"]
    optimize(*command, 1)
    ended = optimize(*command, 2)
    assert "going on: 1 training done, at most 1 left" in ended.stdout
    assert "CNN #0 " not in ended.stdout
    assert "CNN #1 " in ended.stdout
    assert optimize("table", "tiny", "--format", "csv").stdout.count("\n") == 3
    again = optimize(*command, 2, "--fresh")
    assert "CNN #0 " in again.stdout


def test_a_run_that_can_only_crash_ends_badly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change = (
        "@family\nclass Broken(Family):\n    '''Fails.'''\n    size: int = Int(1, 9, default=1)\n"
        "    def build(self, data): raise OSError('no device')\n"
        'study = Study(**{**GOOD, "families": [Broken], "space": {}, "trials": 3})'
    )
    write_study(tmp_path, "broken", change)
    ended = optimize("run", "broken", "--executor", "inline")
    assert ended.exit_code == 1
    assert ended.stderr.startswith("error: the first 3 trials of Broken crashed alike:\n")
    assert "no device" in ended.stderr
    planned = optimize("run", "broken", "--executor", "inline", "--dry-run", "--reports", "other")
    assert planned.exit_code == 1
    assert planned.stderr == "error: Broken: its recipe cannot be trained: OSError: no device\n"


def test_a_run_without_any_result_ends_badly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change = (
        "from torch import nn\n"
        "@family\nclass Endless(Family):\n    '''Diverges.'''\n"
        "    size: int = Int(1, 9, default=1)\n"
        "    def build(self, data):\n"
        "        layer = nn.Linear(data.height * data.width, data.num_classes)\n"
        "        nn.init.constant_(layer.weight, float('inf'))\n"
        "        return nn.Sequential(nn.Flatten(), layer)\n"
        'study = Study(**{**GOOD, "families": [Endless], "space": {}, "trials": 2})'
    )
    write_study(tmp_path, "endless", change)
    for _ in range(2):  # repeated, there is nothing left to train
        ended = optimize("run", "endless", "--executor", "inline", "--quiet")
        assert ended.exit_code == 1
        assert "Every trial failed" in ended.stdout
        assert ended.stdout.endswith("report: reports/endless/report.html\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_data_are_read_says_how_to_go_on(
    commands: Commands, tmp_path: Path, number: int
) -> None:
    """Slow: the process that forks it imports torch."""
    write_study(tmp_path, "slow", SLOW % WAIT)
    out, errors = tmp_path / "out.txt", tmp_path / "errors.txt"
    words = ("run", "slow", "--executor", "inline", "--seed", "7", "--fresh")
    child = commands.start(tmp_path, *words, files=[os.devnull, str(out), str(errors)])
    wait_for(out, "reading")
    os.kill(child, number)
    assert commands.end() == 130
    assert errors.read_text() == (
        "\nstopped; everything finished is saved\n"
        "go on with: optimize run slow --executor inline --seed 7\n"
    )
    assert not (tmp_path / "reports").exists()


@pytest.mark.slow
def test_an_interrupted_run_is_seen_by_status_and_goes_on(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow: the process that forks it imports torch, and another run is beside it."""
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, "slow", SLOW % 0)
    out, errors = tmp_path / "out.txt", tmp_path / "errors.txt"
    words = ("run", "slow", "--executor", "inline", "--no-confirm")
    child = commands.start(tmp_path, *words, files=[os.devnull, str(out), str(errors)])
    wait_for(out, "slow: CNN; ")
    deadline = time.monotonic() + WAIT
    while "#0 epoch" not in optimize("status", "slow").stdout and time.monotonic() < deadline:
        time.sleep(0.1)
    assert optimize("status").stdout.startswith("slow: running\n")
    refused = optimize("run", "slow", "--executor", "inline", "--no-confirm")
    assert refused.exit_code == 1
    assert f"error: study 'slow' is being run by process {child} on " in refused.stderr
    assert optimize("report", "slow").exit_code == 0
    os.kill(child, signal.SIGINT)
    assert commands.end() == 130
    assert errors.read_text().endswith(
        "go on with: optimize run slow --executor inline --no-confirm\n"
    )
    stopped = optimize("status", "slow").stdout
    assert stopped.startswith("slow: interrupted\n")
    assert "-         #0 epoch " in stopped


def test_the_line_that_goes_on_neither_starts_over_nor_loses_quotes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["optimize", "run", "my study.py", "--fresh", "--trials", "3"]
    monkeypatch.setattr(sys, "argv", words)
    assert same_command() == "optimize run 'my study.py' --trials 3"


# what a run left


def test_list_shows_every_study_without_executing_one(finished_study: Path, tmp_path: Path) -> None:
    write_study(finished_study, "later", "raise SystemExit('executed')")
    try:
        lines = optimize("list").stdout.splitlines()
    finally:
        (finished_study / "studies" / "later.py").unlink()
    assert lines[0].split() == ["study", "state", "searches", "trials", "best", "about"]
    assert lines[2].split(maxsplit=3) == ["later", "not", "run", "Stripes that can be told apart."]
    assert lines[3].startswith("tiny    finished   1          2        valid accuracy 0.")


def test_space_shows_each_hyperparameter(finished_study: Path) -> None:
    lines = optimize("space", "tiny").stdout.splitlines()
    assert lines[0] == "CNN"
    cells = {line.split()[0]: line.split()[1:] for line in lines[3:]}
    assert cells["learning_rate"] == ["0.0001", "to", "0.1", "log", "0.003"]
    assert cells["momentum"] == ["0.5", "to", "0.99", "linear", "0.9", "optimizer", "=", "'sgd'"]
    assert lines[-1].startswith("fixed: depth 1, width 8, ")
    assert "width" not in cells


def test_summary_shows_the_layers_and_what_they_cost(finished_study: Path) -> None:
    lines = optimize("summary", "tiny").stdout.splitlines()
    assert lines[0] == "CNN"
    assert lines[1].split() == ["layer", "kind", "output", "parameters", "multiply-adds"]
    assert lines[3].split() == ["0", "Conv2d", "8", "x", "8", "x", "8", "72", "4,608"]
    assert lines[-1].startswith("in all ")
    assert " parameters; for one item " in lines[-1]


def test_space_says_where_a_recipe_was_moved(finished_study: Path) -> None:
    change = 'study = Study(**{**GOOD, "space": {"dropout": Float(0.3, 0.5)}})'
    write_study(finished_study, "narrowed", change)
    try:
        shown = optimize("space", "narrowed", "--family", "CNN").stdout
    finally:
        (finished_study / "studies" / "narrowed.py").unlink()
    assert "note: dropout: recipe 0.2 is outside, 0.3 is used\n" in shown


def test_an_unknown_family_is_refused_with_a_hint(finished_study: Path) -> None:
    for words in (["space", "tiny"], ["best", "tiny"], ["run", "tiny"]):
        ended = optimize(*words, "--family", "cnn")
        assert ended.exit_code == 2
        assert ended.stderr == (
            "error: study 'tiny' has no family 'cnn' (did you mean 'CNN'?); it has CNN\n"
        )


def test_status_counts_what_is_done(finished_study: Path) -> None:
    title, header, _, line = optimize("status").stdout.splitlines()
    assert title == "tiny: finished"
    assert header.split() == [
        *("family", "done", "running", "paused", "failed", "confirmed", "training", "best"),
    ]
    assert line.split()[:5] == ["CNN", "2/2", "-", "-", "0"]


@pytest.mark.parametrize("what", ["trials", "epochs", "confirmation"])
def test_a_table_comes_in_every_format(what: str, finished_study: Path, tmp_path: Path) -> None:
    options = ["table", "tiny", "--what", what]
    stored = pd.read_parquet(finished_study / "reports" / "tiny" / f"{what}.parquet")
    as_csv = optimize(*options, "--format", "csv").stdout
    assert as_csv == (finished_study / "reports" / "tiny" / f"{what}.csv").read_text()
    assert len(json.loads(optimize(*options, "--format", "json").stdout)) == len(stored)
    assert len(optimize(*options).stdout.splitlines()) == len(stored) + 2
    written = tmp_path / "new" / "table.parquet"
    assert optimize(*options, "--out", written).stdout == f"{written}\n"
    pd.testing.assert_frame_equal(pd.read_parquet(BytesIO(written.read_bytes())), stored)
    optimize(*options, "--out", tmp_path / "table.CSV")
    assert (tmp_path / "table.CSV").read_text() == as_csv


@pytest.mark.usefixtures("finished_study")
def test_a_table_without_rows_says_so() -> None:
    assert optimize("table", "tiny", "--what", "attempts").stdout == "no rows\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--what", "trial"], "what: 'trial' is not one of trials, epochs, confirmation, prop"),
        (["--format", "xls"], "format: 'xls' is not one of table, csv, json, parquet"),
        (["--format", "parquet"], "format: parquet needs a file; add --out FILE"),
        (["--out", "x.xls"], "format: 'xls' is not one of csv, json, parquet"),
        (
            ["--out", "x.csv", "--format", "table"],
            "format: a file is csv, json or parquet, not table; change --format",
        ),
        (["--out", "studies/tiny.py/x.csv"], "studies/tiny.py/x.csv cannot be written: "),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_given_is_refused(
    options: list[str], message: str, finished_study: Path
) -> None:
    ended = optimize("table", "tiny", *options)
    assert ended.exit_code == 2
    assert ended.stderr.startswith(f"error: {message}")
    assert ended.stderr.count("\n") == 1


def test_best_gives_the_configuration_its_scores_and_its_model(finished_study: Path) -> None:
    [found] = json.loads(optimize("best", "tiny", "--json").stdout)
    assert found["family"] == "CNN"
    assert found["config"]["width"] == 8
    assert set(found["scores"]) == {"valid accuracy", "test accuracy (mean of 2 seeds)"}
    assert Path(found["model"]) == Path("reports/tiny/best/CNN")
    lines = optimize("best", "tiny", "--family", "CNN").stdout.splitlines()
    assert lines[0].startswith(f"CNN #{found['trial']}: valid accuracy ")
    assert lines[0].endswith(" (mean of 2 seeds)")
    assert "  width = 8" in lines
    assert lines[-1] == "  model: reports/tiny/best/CNN"


def test_best_says_where_scores_are_of_a_logarithm(
    finished_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_logarithms(*given: Any) -> tuple[Ledger, StudyState]:
        ledger, state = find_study(*given)
        data = {**state.summary["data"], "target": "log price", "log_target": True}
        return ledger, replace(state, summary={**state.summary, "data": data})

    monkeypatch.setattr("torchstudy.overview.find_study", of_logarithms)
    last = optimize("best", "tiny").stdout.splitlines()[-1]
    assert last.startswith("Errors and scores are of the natural logarithm of price")


def test_report_is_drawn_again_where_asked(finished_study: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    assert optimize("report", "tiny", "--out", page).stdout == f"{page}\n"
    assert page.read_text().startswith("<!doctype html>")
    ended = optimize("report", "tiny", "--out", "studies/tiny.py/page.html")
    assert ended.exit_code == 2
    assert ended.stderr.startswith("error: studies/tiny.py/page.html cannot be written: ")


@pytest.mark.parametrize("command", ["status", "table", "best", "report"])
def test_a_study_that_was_never_run_is_refused(
    command: str, finished_study: Path, tmp_path: Path
) -> None:
    ended = optimize(command, "tny")
    assert ended.exit_code == 2
    assert ended.stderr == (
        "error: study 'tny' has not been run yet (did you mean 'tiny'?); "
        "there are results of tiny\n"
    )
    nothing = optimize(command, "tiny", "--reports", tmp_path / "none")
    assert nothing.exit_code == 2
    assert nothing.stderr == (
        f"error: study 'tiny' has not been run yet (no results in {tmp_path / 'none'})\n"
    )
    assert not (tmp_path / "none").exists()


def test_a_reader_that_goes_away_is_no_error(finished_study: Path) -> None:
    process = started(finished_study, "list")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    assert process.communicate(timeout=WAIT) == (None, "")
    assert process.returncode == 0
