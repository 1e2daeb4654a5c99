"""What all commands share: the app, common options, errors as one message and an exit code."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from torchstudy.errors import Interrupted, RunError, StorageError, StudyChanged, StudyError
from torchstudy.running import drop_output, same_command
from torchstudy.visible import visible

FINE, ENDED_BADLY, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="optimize",
    help="Which kind of network, tuned how, is best for your images, and how sure can you be?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Parameters = ParamSpec("Parameters")

StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="A name in ./studies, a path, or module:attribute.")
]
Reports = Annotated[Path, typer.Option(help="The folder of results.")]
Storage = Annotated[
    str | None,
    typer.Option(help="The ledger's database URL.  [default: sqlite:///REPORTS/studies.sqlite]"),
]
Repeat = Annotated[
    int | None,
    typer.Option(metavar="K", help="Which search, of a study with several.  [default: the first]"),
]
Family = Annotated[str | None, typer.Option(help="One family only.")]


def handled(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Turn the errors of a command into one message and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has what it wanted (`| head`)
            drop_output()
        except (StudyError, StudyChanged, StorageError) as error:
            _complain(error)
            raise typer.Exit(WRONG_USE) from None
        except Interrupted as error:
            print(visible(f"\n{error}\ngo on with: {same_command()}"), file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except RunError as error:
            _complain(error)
            raise typer.Exit(ENDED_BADLY) from None
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None

    return wrapped


def _complain(error: Exception) -> None:
    print(visible(f"error: {error}"), file=sys.stderr)
