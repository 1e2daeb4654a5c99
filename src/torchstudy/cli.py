"""The `optimize` command: parse, call, print, exit code."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from torchstudy.errors import Interrupted, RunError, StorageError, StudyChanged, StudyError
from torchstudy.running import drop_output, resumable, run_and_show, same_command, show_plan
from torchstudy.usage import checked, format_of, one_of

if TYPE_CHECKING:
    pass

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
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has what it wanted (`| head`)
            drop_output()
        except (StudyError, StudyChanged, StorageError) as error:
            _complain(error)
            raise typer.Exit(WRONG_USE) from None
        except Interrupted as error:
            print(f"\n{error}\ngo on with: {same_command()}", file=sys.stderr)
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
    from torchstudy.printing import print_table

    print_table("", ["study", "state", "trials", "best", "about"], study_lines(reports, storage))


@app.command()
@handled
def space(study: StudyArgument, family: Family = None) -> None:
    """The search space of each family: range, scale, recipe, condition."""
    from torchstudy.printing import print_table, print_wrapped
    from torchstudy.spaces import fixed_line, space_lines
    from torchstudy.study_files import load_study

    loaded = load_study(study)
    families = [loaded.family(family)] if family else loaded.families
    for cls in families:
        header = ["hyperparameter", "values", "scale", "recipe", "only when"]
        print_table(cls.__name__, header, space_lines(loaded, cls))
        print_wrapped(fixed_line(loaded, cls))
        for note in loaded.notes_on(cls):
            print(f"note: {note}")


@app.command()
@handled
def summary(study: StudyArgument, family: Family = None) -> None:
    """The layers of each family's recipe, and what it costs to keep and to use."""
    from torchstudy.layers import HEADER, layer_lines
    from torchstudy.printing import print_table, print_wrapped
    from torchstudy.study_files import load_study

    loaded = load_study(study)
    for cls in [loaded.family(family)] if family else loaded.families:
        lines, costs = layer_lines(loaded, cls)
        print_table(cls.__name__, HEADER, lines)
        print_wrapped(costs)


@app.command()
@handled
def run(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY", help="What to run.")],
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
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to train.")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show and keep where the time of trainings went.")
    ] = False,
) -> None:
    """Search, confirm, report; goes on by itself where it stopped."""
    changes: dict[str, Any] = {
        name: value
        for name, value in (
            ("trials", trials),
            ("epochs", epochs),
            ("minutes", minutes),
            ("seed", seed),
            ("device", device),
        )
        if value is not None
    }
    if no_confirm:
        changes["confirm"] = None
    with resumable():
        if executor == "local" and not dry_run:
            from torchstudy.execution.forkserver import start_forkserver

            start_forkserver()  # it loads torch while the study's file does
        num_workers, loaded = checked(studies, changes, workers, executor, family)
        options: dict[str, Any] = {
            "reports": reports,
            "storage": storage,
            "workers": num_workers,
            "executor": executor,
            "families": family,
        }
        for study in loaded:
            if dry_run:
                show_plan(study, options)
            else:
                run_options = {**options, "fresh": fresh, "profile": profile}
                run_and_show(study, run_options, quiet=quiet)


@app.command()
@handled
def status(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]")] = None,
    reports: Reports = Path("reports"),
    storage: Storage = None,
) -> None:
    """What is running, paused, done; seconds used. Works while a run goes on elsewhere."""
    from torchstudy.overview import status_lines
    from torchstudy.printing import print_table

    for title, lines in status_lines(reports, storage, study):
        header = ["family", "done", "running", "paused", "failed"]
        header += ["confirmed", "training", "best"]
        print_table(title, header, lines)


@app.command()
@handled
def table(
    study: StudyArgument,
    what: Annotated[
        str, typer.Option(metavar="trials|epochs|confirmation", help="Which table.")
    ] = "trials",
    format: Annotated[
        str | None,
        typer.Option(
            metavar="table|csv|json|parquet", help="[default: table; with --out as it ends]"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    reports: Reports = Path("reports"),
    storage: Storage = None,
) -> None:
    """The trials, epochs or confirmations of a study as a table."""
    from torchstudy.overview import exported, study_table
    from torchstudy.printing import print_frame
    from torchstudy.stored import writing

    one_of("what", what, ("trials", "epochs", "confirmation"))
    chosen = format_of(format, out)
    found = study_table(reports, storage, study, what)
    if chosen == "table":
        print_frame(found)
    elif out is None:
        sys.stdout.write(exported(found, chosen).decode())
    else:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(exported(found, chosen))
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
            print(f"  {name} = {value:.6g}" if isinstance(value, float) else f"  {name} = {value}")
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


@app.command()
@handled
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove what no study is using.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Decoded images, features and archives that are kept: of what, how large, last used when."""
    from torchstudy.cacheview import clear_cache, show_cache

    (clear_cache if clear else show_cache)(as_json=as_json)


def main() -> None:
    """Run the command."""
    app()


def _complain(error: Exception) -> None:
    print(f"error: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
