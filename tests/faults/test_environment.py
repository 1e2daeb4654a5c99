"""Code or libraries that change under a study: said, recorded with every result, and shown."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from tests.command import write_study
from tests.test_runner import Stop, StopAt, run_inline
from typing_extensions import override

from torchstudy.analysis.environments import recorded
from torchstudy.execution.ledger import Ledger
from torchstudy.study_files import load_study

FAMILY = """
import torch
from torchstudy import Family, Float, family

@family
class Tiny(Family):
    scale: float = Float(0.5, 2.0, default=1.0)

    def build(self, data):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, data.num_classes))

CHANGES = dict(families=[Tiny], space={}, trials=3, epochs=3, confirm=None)
study = Study(**GOOD | CHANGES)
"""


class StopAndListen(StopAt):
    """Stops at the n-th step; knows every note."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.notes: list[str] = []

    @override
    def note(self, text: str) -> None:
        self.notes.append(text)


def warnings_of(watcher: StopAndListen) -> list[str]:
    return [note for note in watcher.notes if "environment" in note]


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, "tiny", FAMILY)
    yield tmp_path / "studies" / "tiny.py"
    sys.modules.pop("torchstudy_study_tiny", None)


def test_a_study_that_goes_on_with_other_code_says_so_and_marks_every_result(
    study_file: Path, tmp_path: Path
) -> None:
    first = StopAndListen(6)  # begun, then started, three epochs and ended, then started again
    with pytest.raises(Stop):
        run_inline(load_study("tiny"), tmp_path, watcher=first)
    second = StopAndListen(3)
    with pytest.raises(Stop):
        run_inline(load_study("tiny"), tmp_path, watcher=second)
    assert warnings_of(first) == warnings_of(second) == []  # nothing had changed

    text = study_file.read_text()
    study_file.write_text(text.replace("torch.nn.Flatten()", "torch.nn.Flatten(1)"))
    third = StopAndListen(99)
    results = run_inline(load_study("tiny"), tmp_path, watcher=third)
    old, new = recorded(results.summary)
    assert warnings_of(third) == [
        "the environment has changed since this study was last trained: the code of tiny.py, "
        f"the code of Tiny; results from now on are marked {new}"
    ]
    assert results.trials["environment"].tolist() == [old, f"{old}+{new}", new]
    assert pd.read_csv(results.folder / "trials.csv")["environment"].tolist()[1] == f"{old}+{new}"
    page = (results.folder / "report.html").read_text()
    said = f"{old} trained Tiny 0 to 1; {new} trained Tiny 1 to 2."
    assert (
        f"These results come from 2 environments, which the table of trials names: {said}" in page
    )
    assert f"From {old} to {new} changed: the code of tiny.py and the code of Tiny." in page


def test_results_of_one_environment_are_marked_and_need_no_sentence(
    study_file: Path, tmp_path: Path
) -> None:
    results = run_inline(load_study("tiny"), tmp_path)
    (only,) = recorded(results.summary)
    assert set(results.trials["environment"]) == {only}
    assert "environments" not in (results.folder / "report.html").read_text()
    state = Ledger(f"sqlite:///{tmp_path / 'studies.sqlite'}", read_only=True).studies()[0]
    assert state.summary["environments"][only]["code of Tiny"]
