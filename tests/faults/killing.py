"""Studies to be killed: a process that has imported everything forks one that runs each of them.

`python -m tests.faults.killing` reads a line of JSON for each run and answers with how it ended.
Forks of a process that has used no thread of torch are as good as new ones, 4 seconds sooner.
"""

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a run imports in passing: 0.2 of its 0.8 seconds, unless its process was forked with it.
IN_PASSING = (
    "pandas.io.formats.csvs",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "sqlalchemy.dialects.sqlite",
    "tests.test_runner",
    "torchstudy.data.preparing",
    "torchstudy.usage",
)
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Killer:
    """Runs the study `lines` in processes of their own, that fail where they are told to."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, folder: Path, failpoints: str = "", **options: object) -> int:
        """How the run ended: 0, or minus the signal; what it wrote is in `folder/said.txt`.

        `alarm` kills it after so many seconds, wherever it is (SIGALRM, which nothing catches).
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"folder": str(folder), "failpoints": failpoints, "options": options}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def killer() -> Iterator[Killer]:
    """A process that runs studies; it and whatever it has started are gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.killing"],
        cwd=ROOT,
        env={**os.environ, **ONE_THREAD},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Killer(process)
        finally:
            process.kill()


def _serve() -> None:
    """Import what runs of studies need, then fork one for each line of JSON."""
    import warnings

    warnings.simplefilter("ignore")
    import torchstudy.execution.preloaded
    import torchstudy.execution.runner
    from torchstudy.quiet import quiet_ax

    assert torchstudy.execution.preloaded.LOADED
    for name in IN_PASSING:
        importlib.import_module(name)
    with quiet_ax():
        import ax.api.client
        import ax.core.data

        assert ax.api.client.Client
        assert ax.core.data.Data
    from torchstudy.report import page

    # A run that ends draws a report. What is in it is no question here, and takes half of the run.
    page.SECTIONS = page.SECTIONS[-1:]
    gc.freeze()  # collecting what was imported would copy its memory to each fork
    for line in sys.stdin:
        asked = json.loads(line)
        sys.stdout.flush()
        if (child := os.fork()) == 0:
            _run(asked)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(asked: dict[str, object]) -> None:
    from tests.test_runner import linear_study

    from torchstudy.execution.runner import run
    from torchstudy.failpoints import arm

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(str(asked["folder"]))
    folder.mkdir(parents=True, exist_ok=True)
    said = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    code = 1
    try:
        arm(str(asked["failpoints"]))
        given: dict[str, object] = {"executor": "inline", **asked["options"]}  # type: ignore[dict-item]
        signal.setitimer(signal.ITIMER_REAL, float(str(given.pop("alarm", 0))))
        run(linear_study(trials=2), reports=folder, quiet=True, **given)  # type: ignore[arg-type]
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


if __name__ == "__main__":
    _serve()
