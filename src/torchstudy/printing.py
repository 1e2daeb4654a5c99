"""Tables on a terminal, cut to its width, and in a pipe, in whole lines."""

import textwrap
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd


def print_table(title: str, header: list[str], lines: list[list[str]]) -> None:
    """Print lines under a header."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in header:
        shown.add_column(name, min_width=len(name), overflow="fold")
    for line in lines:
        shown.add_row(*(Text(cell) for cell in line))
    console = _console()
    with console.capture() as captured:
        console.print(shown)
    text = "\n".join(line.rstrip() for line in captured.get().splitlines())
    print(f"{title}\n{text}" if title else text)


def print_frame(found: "pd.DataFrame") -> None:
    """Print a data frame, as many columns as there is room for."""
    from torchstudy.overview import frame_lines

    console = _console()
    header, lines, hidden = frame_lines(found, console.width)
    print_table("", header, lines)
    if hidden:
        print(f"too wide for this terminal: {', '.join(hidden)} (--format csv has all)")


def print_wrapped(text: str) -> None:
    """Print a long line, broken at words where a terminal is narrower."""
    width = _console().width
    print("\n".join(textwrap.wrap(text, width, subsequent_indent="  ")))


def _console() -> Console:
    console = Console()
    # A pipe gets whole lines, however long: nothing is cut for a width that nobody has.
    return console if console.is_terminal else Console(width=10_000, no_color=True)
