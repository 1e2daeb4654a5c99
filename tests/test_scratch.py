"""What killed work left is swept up, and what is in use stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from torchstudy.scratch import YOUNG, scratch_folder, sweep

HOLDER = """
import sys, time
from pathlib import Path
from torchstudy.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), ".replay-") as folder:
    (folder / "model.pt").write_text("weights")
    print(folder, flush=True)
    time.sleep(60)
"""


def _aged(folder: Path) -> None:
    before = time.time() - YOUNG - 1
    os.utime(folder, (before, before))


def test_a_folder_is_there_while_it_is_used_and_not_afterwards(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, ".replay-") as folder:
        (folder / "file").write_text("")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_holds_stays(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    folder = Path(holder.stdout.readline().strip())
    try:
        _aged(folder)
        sweep(tmp_path, ".replay-")
        assert (folder / "model.pt").exists()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    other = tmp_path / ".other-1"
    other.mkdir()
    _aged(other)
    sweep(tmp_path, ".replay-")
    assert list(tmp_path.iterdir()) == [other]


def test_a_folder_that_was_only_just_made_is_left_alone(tmp_path: Path) -> None:
    young = tmp_path / ".replay-young"
    young.mkdir()
    sweep(tmp_path, ".replay-")
    assert young.exists()
