"""The `optimize` command: parse, call, print, exit code."""

import io
import sys

# isort: off
from torchstudy.cli.app import app

# in the order in which help lists the commands
from torchstudy.cli import studies, run, results, export, predict
# isort: on

COMMANDS = (studies, run, results, export, predict)


def main() -> None:
    """Run the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
            stream.reconfigure(errors="backslashreplace")  # an accent must not end a run
    app()
