"""What the forkserver loads ahead: all that a worker needs, so that none has to import it."""

import sys
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import pytest
from tests.training_jobs import job_for

from torchstudy.data.dataset import ImageData
from torchstudy.execution.forkserver import start_process
from torchstudy.execution.local import LOG, LocalExecutor
from torchstudy.families import backbones
from torchstudy.study_files import load_study

STUDY = '''
import sys

from torchstudy import MLP, Study, family


@family
class Telling(MLP):
    """Says at the end what has been imported."""

    def predict(self, model, data, batch):
        print("MODULES", *sys.modules)
        return super().predict(model, data, batch)


study = Study(data="digits", families=[Telling], maximize="accuracy")
'''


def names_of_modules(connection: Connection, argument: Any) -> None:
    connection.send(set(sys.modules))


names_of_modules.__module__ = "__main__"  # so that it reaches a process without this file


@pytest.mark.slow  # the forkserver has to start
def test_a_worker_imports_nothing_but_the_study(
    striped: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "_registered", {})  # a worker imports those of its run, too
    (tmp_path / "telling.py").write_text(STUDY)
    (cls,) = load_study(tmp_path / "telling.py").families
    ours, theirs = Pipe()
    process = start_process(names_of_modules, theirs, None, name="empty")
    ahead = ours.recv()
    process.join()
    executor = LocalExecutor(1)
    executor.submit(job_for(cls, striped, tmp_path), 1)
    while executor.num_running:
        executor.wait(lambda event: None, 1.0)
    lines = (tmp_path / LOG).read_text().splitlines()
    imported = set(lines[-1].removeprefix("MODULES ").split())
    assert "torchstudy.training.trainer" in imported
    assert {name for name in imported - ahead if not name.startswith("torchstudy_study_")} == set()
