"""What `--dry-run` shows, and that it leaves nothing behind."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.command import optimize, write_study

from torchstudy.errors import StudyError
from torchstudy.planning import plan_lines
from torchstudy.study_files import load_study


def test_a_dry_run_shows_what_would_run_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, "tiny")
    ended = optimize("run", "tiny", "--dry-run", "--executor", "inline", "--trials", "5")
    assert ended.exit_code == 0, ended.stderr
    title, header, _, line, footer, disk = ended.stdout.splitlines()
    assert title == "tiny: stripes, train 99, valid 27, select 27, test 27"
    assert header.split() == [
        *("family", "trials", "confirmations", "left", "worker", "time", "from"),
    ]
    assert line.split()[:8] == ["CNN", "5", "up", "to", "4", "up", "to", "9"]
    assert line.endswith("its recipe, timed on a few batches")
    assert footer.startswith("forecast: about ")
    assert "with 1 worker, this machine as busy as it is now." in footer
    assert re.fullmatch(
        r"disk: about 5\.\d MB, 1\d\.\d KB of it for checkpoints, .* 20\.0 GB", disk
    )
    assert not (tmp_path / "reports").exists()


def test_a_dry_run_after_the_run_knows_that_nothing_is_left(finished_study: Path) -> None:
    before = (finished_study / "reports" / "studies.sqlite").read_bytes()
    lines = optimize("run", "tiny", "--dry-run", "--executor", "inline").stdout.splitlines()
    assert lines[-2].split() == [
        "CNN",
        "2",
        "up",
        "to",
        "4",
        "0",
        "0",
        "s",
        *["nothing", "is", "left"],
    ]
    assert lines[-1] == "nothing is left to train: the budget is spent"
    assert (finished_study / "reports" / "studies.sqlite").read_bytes() == before


def test_finished_trainings_speak_for_those_to_come(finished_study: Path) -> None:
    lines = optimize("run", "tiny", "--dry-run", "--trials", "9").stdout.splitlines()
    assert "finished trainings" in lines[-3]
    assert lines[-3].split()[1] == "9"


def test_trials_are_no_more_than_there_are_configurations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change = 'study = Study(**{**GOOD, "families": [Two], "space": SPACE, "confirm": None})'
    fixed = (
        "@family\nclass Two(Family):\n    '''Two configurations.'''\n"
        "    size: int = Int(1, 2, default=1)\n"
        "    def build(self, data):\n        from torch import nn\n"
        "        return nn.Sequential(nn.Flatten(), nn.Linear(64, data.num_classes))\n"
        'SPACE = {"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.01, '
        '"batch_size": 32, "schedule": "constant"}\n'
    )
    write_study(tmp_path, "two", fixed + change)
    lines = optimize("run", "two", "--dry-run", "--executor", "inline", "--trials", "50")
    assert lines.stdout.splitlines()[3].split()[:4] == ["Two", "2", "0", "2"]


def test_what_cannot_run_is_refused_by_a_dry_run_too(finished_study: Path) -> None:
    study = load_study("tiny")
    with pytest.raises(StudyError, match="workers: must be a whole number of at least 1"):
        plan_lines(
            study, reports=Path("r"), storage=None, workers=0, executor="local", families=None
        )
    small = replace(study, limits={"parameters": 10})
    with pytest.raises(StudyError, match=r"no configuration within the limits was found \(parame"):
        plan_lines(
            small, reports=Path("r"), storage=None, workers=1, executor="inline", families=None
        )
    with pytest.raises(StudyError, match="has no family 'Cnn' \\(did you mean 'CNN'"):
        plan_lines(
            study, reports=Path("r"), storage=None, workers=1, executor="inline", families=["Cnn"]
        )
