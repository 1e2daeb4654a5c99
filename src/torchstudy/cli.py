"""The `optimize` command: parse, call, print, exit code."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec

import typer

from torchstudy.errors import Interrupted, RunError, StudyChanged, StudyError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from torchstudy.study import Study

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
Family = Annotated[str | None, typer.Option(help="One family only.")]


def handled(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Turn the errors of a command into one message and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (StudyError, StudyChanged) as error:
            _complain(error)
            raise typer.Exit(WRONG_USE) from None
        except Interrupted as error:
            print(f"\n{error}\ngo on with: optimize {' '.join(sys.argv[1:])}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except RunError as error:
            _complain(error)
            raise typer.Exit(ENDED_BADLY) from None
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None

    return wrapped


@app.command("list")
@handled
def list_studies(reports: Reports = Path("reports"), storage: Storage = None) -> None:
    """Studies in ./studies, their state and best value so far."""
    from torchstudy.overview import study_lines

    _print_table("", ["study", "state", "trials", "best", "about"], study_lines(reports, storage))


@app.command()
@handled
def space(study: StudyArgument, family: Family = None) -> None:
    """The search space of each family: range, scale, recipe, condition."""
    from torchstudy.overview import space_lines
    from torchstudy.study_files import load_study

    loaded = load_study(study)
    families = [loaded.family(family)] if family else loaded.families
    for cls in families:
        header = ["hyperparameter", "values", "scale", "recipe", "only when"]
        _print_table(cls.__name__, header, space_lines(loaded, cls))
        for note in loaded.notes_on(cls):
            print(f"note: {note}")


@app.command()
@handled
def run(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="What to run.")],
    trials: Annotated[int | None, typer.Option(help="Configurations per family, in all.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Full length of a training.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Training time per family, in all.")] = None,
    workers: Annotated[
        str, typer.Option(metavar="N|auto", help="Trainings side by side.")
    ] = "auto",
    executor: Annotated[
        str, typer.Option(metavar="local|inline", help="Processes of their own, or this one.")
    ] = "local",
    seed: Annotated[int | None, typer.Option(help="Where all random numbers come from.")] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="Go on with this family only; may be repeated.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the study's earlier results first.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run and how long; train nothing.")
    ] = False,
    no_confirm: Annotated[
        bool, typer.Option("--no-confirm", help="Leave out the fresh trainings at the end.")
    ] = False,
    reports: Reports = Path("reports"),
    storage: Storage = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the result only.")] = False,
) -> None:
    """Search, confirm, report; goes on by itself where it stopped."""
    from torchstudy.study_files import load_study

    changes: dict[str, Any] = {
        name: value
        for name, value in (
            ("trials", trials),
            ("epochs", epochs),
            ("minutes", minutes),
            ("seed", seed),
        )
        if value is not None
    }
    if no_confirm:
        changes["confirm"] = None
    loaded = [_changed(load_study(reference), changes) for reference in studies]
    options: dict[str, Any] = {
        "reports": reports,
        "storage": storage,
        "workers": _workers(workers),
        "executor": executor,
        "families": family,
    }
    for study in loaded:
        if dry_run:
            _show_plan(study, options)
        else:
            _run(study, {**options, "fresh": fresh}, quiet=quiet)


@app.command()
@handled
def status(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]")] = None,
    reports: Reports = Path("reports"),
    storage: Storage = None,
) -> None:
    """What is running, paused, done; seconds used. Works while a run goes on elsewhere."""
    from torchstudy.overview import status_lines

    for title, lines in status_lines(reports, storage, study):
        header = ["family", "done", "running", "failed", "confirmed", "training", "best"]
        _print_table(title, header, lines)


@app.command()
@handled
def table(
    study: StudyArgument,
    what: Annotated[str, typer.Option(metavar="trials|epochs|confirmation")] = "trials",
    format: Annotated[str, typer.Option(metavar="table|csv|json|parquet")] = "table",
    out: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    reports: Reports = Path("reports"),
    storage: Storage = None,
) -> None:
    """The trials, epochs or confirmations of a study as a table."""
    from torchstudy.overview import exported, study_table

    _one_of("what", what, ("trials", "epochs", "confirmation"))
    _one_of("format", format, ("table", "csv", "json", "parquet"))
    found = study_table(reports, storage, study, what)
    if format == "table" and out is None:
        _print_frame(found)
    elif out is None:
        if format == "parquet":
            raise StudyError("format: parquet needs a file; add --out FILE")
        sys.stdout.write(exported(found, format).decode())
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(exported(found, "csv" if format == "table" else format))
        print(out)


@app.command()
@handled
def best(
    study: StudyArgument,
    family: Family = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    reports: Reports = Path("reports"),
    storage: Storage = None,
) -> None:
    """The best configuration of each family, its scores, and where its model lies."""
    import json

    from torchstudy.overview import best_models

    found = best_models(reports, storage, study, family)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for entry in found:
        scores = ", ".join(f"{name} {value}" for name, value in entry["scores"].items())
        print(f"{entry['family']} #{entry['trial']}: {scores}")
        for name, value in entry["config"].items():
            print(f"  {name} = {value!r}")
        if entry["model"]:
            print(f"  model: {entry['model']}")


@app.command()
@handled
def report(
    study: StudyArgument,
    out: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    reports: Reports = Path("reports"),
    storage: Storage = None,
) -> None:
    """Draw the report again from what the run left, also while it goes on."""
    from torchstudy.overview import redraw_report

    print(redraw_report(reports, storage, study, out))


def main() -> None:
    """Run the command; a reader that goes away (`| head`) is not an error."""
    try:
        app()
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(FINE) from None


def _run(study: "Study", options: dict[str, Any], *, quiet: bool) -> None:
    from rich.console import Console

    from torchstudy.display import LiveDisplay
    from torchstudy.execution.runner import run as run_study
    from torchstudy.execution.watching import PlainLines, Silent, Watcher
    from torchstudy.overview import summary_lines

    console = Console()
    watcher: Watcher = Silent() if quiet else PlainLines()
    if console.is_terminal and not quiet:
        watcher = LiveDisplay(console)
    try:
        results = run_study(study, watcher=watcher, **options)
    finally:
        if isinstance(watcher, LiveDisplay):
            watcher.close()
    for line in summary_lines(results):
        print(line)


def _show_plan(study: "Study", options: dict[str, Any]) -> None:
    from torchstudy.planning import plan_lines

    header = ["family", "trials", "confirmations", "left", "worker time", "from"]
    title, lines, footer = plan_lines(study, **options)
    _print_table(title, header, lines)
    print(footer)


def _changed(study: "Study", changes: dict[str, Any]) -> "Study":
    from dataclasses import replace

    return replace(study, **changes) if changes else study


def _workers(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdigit() or int(text) < 1:
        raise StudyError(f"workers: must be 'auto' or a whole number above 0; got {text!r}")
    return int(text)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    from torchstudy.errors import did_you_mean

    if value not in allowed:
        hint = did_you_mean(value, allowed)
        raise StudyError(f"{name}: {value!r} is not one of {', '.join(allowed)}{hint}")


def _print_table(title: str, header: list[str], lines: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in header:
        shown.add_column(name)
    for line in lines:
        shown.add_row(*(Text(cell) for cell in line))
    _console().print(shown)


def _print_frame(found: "pd.DataFrame") -> None:
    from torchstudy.overview import frame_lines

    header, lines = frame_lines(found)
    _print_table("", header, lines)


def _console() -> "Console":
    from rich.console import Console

    console = Console()
    # A pipe gets whole lines, however long: nothing is cut for a width that nobody has.
    return console if console.is_terminal else Console(width=10_000, no_color=True)


def _complain(error: Exception) -> None:
    print(f"error: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
