"""What `optimize run` does once its options are checked, and how it says how to go on."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torchstudy.errors import Interrupted
from torchstudy.execution.redaction import redacted
from torchstudy.execution.stopping import drop_lost_terminal, stop_signals
from torchstudy.visible import visible

if TYPE_CHECKING:
    from torchstudy.study import Study


def run_and_show(study: "Study", options: dict[str, Any], *, quiet: bool) -> bool:
    """Run a study with a live display, or plain lines in a pipe; print what came out.

    False if no trial has a value that can be used.
    """
    from rich.console import Console

    from torchstudy.display import LiveDisplay
    from torchstudy.execution.runner import run as run_study
    from torchstudy.execution.watching import PlainLines, Silent, Watcher
    from torchstudy.summaries import summary_lines

    console = Console()
    watcher: Watcher = Silent() if quiet else PlainLines(names_report=False)
    if console.is_terminal and not quiet:
        watcher = LiveDisplay(console)
    try:
        results = run_study(study, watcher=watcher, **options)
    finally:
        if isinstance(watcher, LiveDisplay):
            watcher.close()
    if options.get("profile"):
        show_profile(results)
    for line in summary_lines(results):
        print(visible(line))
    return bool(results.values.notna().any())


def show_profile(results: Any) -> None:
    """Print which share of the trainings' time went where; keep the numbers as a table."""
    from torchstudy.analysis.profile import time_shares
    from torchstudy.analysis.tables import write_table
    from torchstudy.printing import print_table
    from torchstudy.timing import profile_lines

    print_table("where the time went", *profile_lines(results))
    write_table(time_shares(results), results.folder / "profile")


def show_plan(study: "Study", options: dict[str, Any]) -> None:
    """Print what would run and how long it would take."""
    from torchstudy.planning import plan_lines
    from torchstudy.printing import print_table

    header = ["family", "trials", "confirmations", "left", "worker time", "from"]
    title, lines, footer = plan_lines(study, **options)
    print_table(title, header, lines)
    print(visible(footer))


@contextmanager
def resumable() -> Iterator[None]:
    """What stops a run says how to go on: Ctrl-C, SIGTERM, a reader or terminal that goes away."""
    try:
        with stop_signals(_interrupt):
            yield
    except KeyboardInterrupt:
        raise Interrupted("stopped; everything finished is saved") from None
    except BrokenPipeError:
        drop_output()
        raise Interrupted(
            "stopped, as nothing reads what is printed; what is done is saved"
        ) from None
    except OSError:
        if not drop_lost_terminal():
            raise
        raise Interrupted("stopped, as the terminal is gone; what is done is saved") from None


def _interrupt() -> None:
    raise KeyboardInterrupt


def drop_output() -> None:
    """Let what is still to be printed go nowhere, so that the last flush cannot fail."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def same_command() -> str:
    """The line that goes on: what was typed, without passwords and what starts over."""
    words = (redacted(word) for word in sys.argv[1:] if word != "--fresh")
    return shlex.join(["optimize", *words])
