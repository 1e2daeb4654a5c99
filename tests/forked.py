"""The command in processes of its own, forked from one that has imported what it needs.

Such a process begins 4 seconds sooner than a new one.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = """
import json, os, signal, sys, warnings
warnings.simplefilter("ignore")
import torchstudy.execution.preloaded, torchstudy.execution.runner, torchstudy.running
import torchstudy.overview, torchstudy.display
import pyarrow.dataset, pyarrow.parquet, sqlalchemy.dialects.sqlite, torchstudy.data.preparing
from torchstudy.cli import main

for line in sys.stdin:
    asked = json.loads(line)
    if (child := os.fork()) == 0:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have had it ignored
        os.chdir(asked["folder"])
        for descriptor, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
            os.dup2(os.open(asked["files"][descriptor], mode | os.O_CREAT), descriptor)
        sys.argv = ["optimize", *asked["words"]]
        try:
            main()
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code or 0)
        os._exit(99)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Commands:
    """Runs `optimize` in processes of their own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._child: int | None = None

    def start(self, folder: Path, *words: str, files: list[str]) -> int:
        """The number of the process that has begun; one that a failed test left is ended."""
        if self._child is not None:
            os.kill(self._child, signal.SIGKILL)
            self.end()
        assert self._process.stdin is not None
        line = json.dumps({"folder": str(folder), "words": words, "files": files})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        self._child = self._answer()
        return self._child

    def end(self) -> int:
        """The exit code, when it has ended."""
        code, self._child = self._answer(), None
        return code

    def run(self, folder: Path, *words: str) -> tuple[int, str]:
        """Exit code, and everything that was printed."""
        said = folder / "said.txt"
        said.unlink(missing_ok=True)
        self.start(folder, *words, files=[os.devnull, str(said), str(said)])
        return self.end(), said.read_text()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@contextmanager
def forking() -> Iterator[Commands]:
    """The process that forks; it is gone afterwards."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env={**os.environ, **threads},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Commands(process)
        process.kill()
