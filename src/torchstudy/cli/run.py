"""`optimize run`: search, confirm, report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from torchstudy.cli.app import ENDED_BADLY, Reports, Storage, app, handled
from torchstudy.running import resumable, run_and_show, show_plan
from torchstudy.usage import checked, confirmation


@app.command()
@handled
def run(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY", help="What to run.")],
    trials: Annotated[int | None, typer.Option(help="Configurations per family.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Full length of a training.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Training time per family.")] = None,
    repeats: Annotated[
        int | None, typer.Option(metavar="N", help="Do the whole search N times, in all.")
    ] = None,
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
    retry_crashed: Annotated[
        bool,
        typer.Option("--retry-crashed", help="Train again what crashed, once that is mended."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run and how long; train nothing.")
    ] = False,
    confirm: Annotated[
        str | None,
        typer.Option(
            metavar="KxS", help="Train the best K of each family afresh with S seeds.  [3x3]"
        ),
    ] = None,
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
    memory: Annotated[
        float | None,
        typer.Option(metavar="GB", help="For each worker.  [default: a share of what is free]"),
    ] = None,
    stall: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Without a sign of life, after which a worker counts as hung.  [default: 600, "
            "3600 while it computes]",
        ),
    ] = None,
    disk: Annotated[
        float | None, typer.Option(metavar="GB", help="For checkpoints.  [default: 20]")
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="auto|ax|sobol|random", help="How to search.")
    ] = None,
    no_warm_start: Annotated[
        bool,
        typer.Option("--no-warm-start", help="Do not begin with what earlier studies found best."),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Redraw the report as results come in; an open page tells."),
    ] = False,
) -> None:
    """Search, confirm, report; goes on by itself where it stopped."""
    changes: dict[str, Any] = {
        name: value
        for name, value in (
            ("trials", trials),
            ("epochs", epochs),
            ("minutes", minutes),
            ("repeats", repeats),
            ("seed", seed),
            ("device", device),
            ("method", method),
        )
        if value is not None
    }
    with resumable():
        changes |= confirmation(confirm, no_confirm)
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
        begun = {"fresh": fresh, "retry_crashed": retry_crashed}
        is_usable = True
        for study in loaded:
            if dry_run:
                show_plan(study, {**options, "disk": disk, **begun})
            else:
                bounds = {"memory": memory, "stall": stall, "disk": disk}
                run_options = {**options, **bounds, **begun, "profile": profile}
                run_options |= {"warm_start": not no_warm_start, "watch": watch}
                is_usable &= run_and_show(study, run_options, quiet=quiet)
    if not is_usable:
        raise typer.Exit(ENDED_BADLY)
