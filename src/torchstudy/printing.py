"""Tables on a terminal, cut to its width, and in a pipe, in whole lines; nothing is obeyed."""

import sys
import textwrap
from typing import TYPE_CHECKING, TextIO

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from torchstudy.visible import on_one_line, visible

if TYPE_CHECKING:
    import pandas as pd

GAP = "   "  # between two columns
MOST_LINES = 10_000  # of a table for eyes; 500,000 took 5 GB and minutes: benchmarks/ledger.py


def print_table(title: str, header: list[str], lines: list[list[str]]) -> None:
    """Print lines under a header; cells are broken where a terminal is narrower."""
    print(table_text(title, header, lines))


def table_text(title: str, header: list[str], lines: list[list[str]]) -> str:
    """What `print_table` prints, with a terminal's styles where there is one."""
    rows = [[on_one_line(cell) for cell in line] for line in [header, *lines]]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    console = _console()
    shown = _aligned if sum(widths) + len(GAP) * len(widths) <= console.width else _folded
    with console.capture() as captured:
        shown(console, rows, widths)
    text = "\n".join(line.rstrip() for line in captured.get().splitlines())
    return f"{on_one_line(title)}\n{text}" if title else text


def _aligned(console: Console, rows: list[list[str]], widths: list[int]) -> None:
    """As rich draws it, hundreds of times quicker: a wide table of 10,000 lines took 35 s."""
    filled = (
        GAP.join(set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    console.out(next(filled), style="table.header", highlight=False)
    console.out("─" * (sum(widths) + len(GAP) * (len(widths) - 1)), highlight=False)
    console.out("\n".join(filled), highlight=False)


def _folded(console: Console, rows: list[list[str]], widths: list[int]) -> None:
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in rows[0]:
        shown.add_column(Text(name), min_width=len(name), overflow="fold")
    for row in rows[1:]:
        shown.add_row(*map(Text, row))
    console.print(shown)


def print_frame(found: "pd.DataFrame") -> None:
    """Print a data frame, as many columns as there is room for."""
    from torchstudy.tabulating import frame_lines

    if found.empty:
        print_text("no rows")
        return
    console = _console()
    header, lines, hidden = frame_lines(found.tail(MOST_LINES), console.width)
    print_table("", header, lines)
    if len(found) > MOST_LINES:
        print_text(f"the last {MOST_LINES:,} of {len(found):,} rows (--format csv has all)")
    if hidden:
        print_text(f"too wide for this terminal: {', '.join(hidden)} (--format csv has all)")


def print_wrapped(text: str) -> None:
    """Print a long line, broken at words where a terminal is narrower."""
    width = _console().width
    print("\n".join(textwrap.wrap(on_one_line(text), width, subsequent_indent="  ")))


def print_text(text: str, stream: TextIO | None = None) -> None:
    """Print text that names data, to stdout if nothing else is said; lines stay lines."""
    print(visible(text), file=stream or sys.stdout)


def write_out(text: str) -> None:
    """Write a table that a program reads: unchanged to a pipe or file, harmless to a terminal."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)


def _console() -> Console:
    console = Console()
    # A pipe gets whole lines, however long: nothing is cut for a width that nobody has.
    return console if console.is_terminal else Console(width=10_000, no_color=True)
