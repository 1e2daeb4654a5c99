"""`optimize status`: what stands where, once or again and again until Ctrl-C."""

import math
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from torchstudy.errors import RunError, StudyError
from torchstudy.overview import status_lines
from torchstudy.printing import table_text
from torchstudy.visible import on_one_line

PAUSE = 2.0  # seconds between two looks
LEAST_PAUSE = 0.2
RESTING = 10.0  # times that a look took, until the next: a large ledger is not read all the time
HEADER = ["family", "done", "running", "paused", "failed", "confirmed", "training", "best"]


def pause_of(is_watching: bool, every: float | None) -> float | None:
    """Seconds between two looks, None for a single one; StudyError for what cannot be meant."""
    if every is not None and not is_watching:
        raise StudyError("--every says how often --watch looks; give --watch as well")
    if every is not None and not (math.isfinite(every) and every >= LEAST_PAUSE):
        raise StudyError(f"--every must be at least {LEAST_PAUSE} seconds, got {every:g}")
    return (PAUSE if every is None else every) if is_watching else None


def status_text(
    reports: Path, storage: str | None, study: str | None, repeat: int | None = None
) -> str:
    """One table for each study, or for the one that is named."""
    found = status_lines(reports, storage, study, repeat)
    return "\n".join(table_text(title, HEADER, lines) for title, lines in found)


def follow(look: Callable[[], str], pause: float) -> None:
    """Show what `look` returns until Ctrl-C, which is how this ends well: nothing is interrupted.

    A terminal shows the latest, a pipe gets a block of plain lines whenever something has changed.
    A study that has not been run yet is waited for. A ledger that cannot be opened is an error, and
    one that cannot be read for a while is shown like any state.
    """
    console = Console()
    try:
        if console.is_terminal:
            _on_terminal(console, _found(look, pause), pause)
        else:
            _in_pipe(_found(look, pause))
    except KeyboardInterrupt:
        return


def _on_terminal(console: Console, texts: Iterator[str], pause: float) -> None:
    with Live(console=console, auto_refresh=False) as live:
        for text in texts:
            told = Text(f"{_now()}, every {pause:g} s; Ctrl-C ends this", style="dim")
            live.update(Text.from_ansi(f"{text}\n").append_text(told), refresh=True)


def _in_pipe(texts: Iterator[str]) -> None:
    shown = None
    for text in texts:
        if text != shown:
            print(f"{_now()}\n{text}\n", flush=True)
        shown = text


def _found(look: Callable[[], str], pause: float) -> Iterator[str]:
    """What one look after another finds, with longer rests where a look takes long."""
    is_known = False
    while True:
        began = time.monotonic()
        try:
            found = look()
            is_known = True
        except StudyError as error:  # a run that has just been started has no ledger yet
            found = f"nothing to show yet: {on_one_line(str(error))}"
        except RunError as error:
            if not is_known:
                raise
            found = f"cannot be read now: {on_one_line(str(error))}"
        rest = max(pause, RESTING * (time.monotonic() - began))
        yield found
        time.sleep(rest)


def _now() -> str:
    return datetime.now().strftime("%H:%M:%S")
