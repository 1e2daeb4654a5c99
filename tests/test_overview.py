"""What is shown of stored studies, and that looking changes nothing."""

import os
from pathlib import Path

import pandas as pd
import pytest
from tests.command import write_study

from torchstudy.analysis.tables import read_results
from torchstudy.errors import StorageError, StudyError
from torchstudy.overview import study_lines
from torchstudy.spaces import fixed_line, space_lines
from torchstudy.stored import _read_url, find_study, reading, writing
from torchstudy.study_files import load_study
from torchstudy.summaries import summary_lines
from torchstudy.tabulating import frame_lines

TABLE = pd.DataFrame(
    {
        "study": ["s", "s"],
        "family": ["CNN", "CNN"],
        "trial": [0, 1],
        "reason": ["", ""],
        "seconds": [1.23456, float("nan")],
        "finished": pd.to_datetime(["2026-01-02T03:04:05Z", None]),
        "config.width": [8, 16],
        "valid_loss": [0.5, 0.25],
        "best_valid_accuracy": [0.987654, 0.5],
    }
)


def test_a_frame_shows_scores_early_and_no_empty_columns() -> None:
    header, lines, hidden = frame_lines(TABLE, 200)
    assert header == [
        *("family", "trial", "best_valid_accuracy", "valid_loss", "seconds", "finished", "width"),
    ]
    assert lines == [
        ["CNN", "0", "0.9877", "0.5", "1.235", "2026-01-02 03:04:05", "8"],
        ["CNN", "1", "0.5", "0.25", "-", "-", "16"],
    ]
    assert hidden == []


@pytest.mark.parametrize(("width", "room"), [(1, 1), (14, 2), (35, 2), (36, 3), (200, 7)])
def test_a_frame_has_as_many_columns_as_fit(width: int, room: int) -> None:
    header, lines, hidden = frame_lines(TABLE, width)
    assert (len(header), len(hidden)) == (room, 7 - room)
    assert {len(line) for line in lines} == {room}
    assert sum(len(name) + 3 for name in header) - 3 <= width or room == 1


def test_a_frame_without_rows_has_no_columns() -> None:
    assert frame_lines(TABLE.head(0), 80) == ([], [], [])


def test_a_long_reason_is_cut_to_its_last_line() -> None:
    table = TABLE.assign(reason=["Traceback\n" + "x" * 50, ""])
    _, lines, _ = frame_lines(table, 300)
    assert lines[0][4] == "x" * 39 + "…"


def test_a_study_file_that_cannot_be_read_is_listed_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, "broken", "study = Study(")
    write_study(tmp_path, "fine")
    assert study_lines(Path("reports"), None) == [
        ["broken", "not run", "", "", "", "(the file cannot be read)"],
        ["fine", "not run", "", "", "", "Stripes that can be told apart."],
    ]


def test_space_shows_ranges_on_their_scale_and_what_is_fixed(finished_study: Path) -> None:
    study = load_study("tiny")
    lines = {line[0]: line[1:] for line in space_lines(study, study.family("CNN"))}
    assert lines["learning_rate"] == ["0.0001 to 0.1", "log", "0.003", ""]
    assert lines["momentum"][3] == "optimizer = 'sgd'"
    assert "width" not in lines
    assert fixed_line(study, study.family("CNN")).startswith("fixed: depth 1, width 8, ")


def test_the_end_of_a_run_says_the_verdict_and_where_things_are(finished_study: Path) -> None:
    lines = summary_lines(read_results(Path("reports/tiny")))
    assert lines[1].startswith("CNN: ")
    assert lines[1].endswith(" test accuracy")
    assert lines[-2:] == ["report: reports/tiny/report.html", "models: reports/tiny/best"]


# looking without changing


def test_looking_makes_no_database(tmp_path: Path) -> None:
    with reading(tmp_path, None) as ledger:
        assert ledger is None
    missing = f"sqlite:///{tmp_path}/missing.sqlite"
    with pytest.raises(StorageError, match="cannot be read: there is no such file"):
        reading(tmp_path, missing).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_something_else_is_refused_unchanged(tmp_path: Path) -> None:
    empty = tmp_path / "studies.sqlite"
    empty.touch()
    with pytest.raises(StorageError, match=r"studies.sqlite holds no studies"):
        reading(tmp_path, None).__enter__()
    assert empty.read_bytes() == b""


def test_results_in_a_folder_that_cannot_be_written_are_read(
    finished_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`os.access` is told so, since the superuser may write anywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    url = _read_url(Path("reports/studies.sqlite"))
    assert url == "sqlite:///file:reports/studies.sqlite?immutable=1&uri=true"
    with reading(Path("reports"), None) as ledger:
        assert find_study(ledger, Path("reports"), "studies/tiny.py")[1].state == "finished"
        assert find_study(ledger, Path("reports"), "my.module:tiny")[1].name == "tiny"


def test_what_cannot_be_written_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "x.csv"
    message = r"file/x.csv cannot be written: Not a directory$"
    with pytest.raises(StudyError, match=message), writing(path):
        path.write_text("x")
