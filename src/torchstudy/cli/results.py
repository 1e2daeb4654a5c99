"""`optimize status`, `table`, `best`, `replay`, `report`, `cache`: what a run has left."""

from pathlib import Path
from typing import Annotated

import typer

from torchstudy.cli.app import (
    ENDED_BADLY,
    Family,
    Repeat,
    Reports,
    Storage,
    StudyArgument,
    app,
    handled,
)
from torchstudy.usage import format_of, one_of
from torchstudy.visible import visible


@app.command()
@handled
def status(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]")] = None,
    repeat: Repeat = None,
    reports: Reports = Path("reports"),
    storage: Storage = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again and again until Ctrl-C.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Between two looks with --watch.  [default: 2]"),
    ] = None,
) -> None:
    """What is running, paused, done; seconds used. Works while a run goes on elsewhere."""
    from torchstudy.following import follow, pause_of, status_text

    pause = pause_of(watch, every)
    if pause is None:
        print(status_text(reports, storage, study, repeat))
    else:
        follow(lambda: status_text(reports, storage, study, repeat), pause)


@app.command()
@handled
def table(
    study: StudyArgument,
    what: Annotated[
        str,
        typer.Option(
            metavar="trials|epochs|confirmation|proposals|front|repeats|attempts",
            help="Which table.",
        ),
    ] = "trials",
    format: Annotated[
        str | None,
        typer.Option(
            metavar="table|csv|json|parquet", help="[default: table; with --out as it ends]"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    repeat: Repeat = None,
    reports: Reports = Path("reports"),
    storage: Storage = None,
) -> None:
    """The trials, epochs, confirmations, proposals, trade-offs or repeats of a study as a table."""
    from torchstudy.execution.outputs import TABLES
    from torchstudy.printing import print_frame, print_text, write_out
    from torchstudy.stored import search_words, writing
    from torchstudy.tabulating import exported, study_table

    one_of("what", what, TABLES)
    chosen = format_of(format, out)
    found = study_table(reports, storage, study, what, repeat)
    if chosen == "table":
        print_frame(found)
        if what != "repeats" and (which := search_words(reports, storage, study, repeat)):
            print_text(which)
    elif out is None:
        write_out(exported(found, chosen).decode())
    else:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(exported(found, chosen))
        print(visible(str(out)))


@app.command()
@handled
def best(
    study: StudyArgument,
    family: Family = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    repeat: Repeat = None,
    reports: Reports = Path("reports"),
    storage: Storage = None,
) -> None:
    """The best configuration of each family, its scores, and where its model lies."""
    import json

    from torchstudy.overview import best_models, score_text
    from torchstudy.stored import search_words

    found = best_models(reports, storage, study, family, repeat)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    if which := search_words(reports, storage, study, repeat):
        print(visible(which))
    for entry in found:
        scores = ", ".join(score_text(name, value) for name, value in entry["scores"].items())
        print(visible(f"{entry['family']} #{entry['trial']}: {scores}"))
        for name, value in entry["config"].items():
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            print(visible(f"  {name} = {shown}"))
        if entry["model"]:
            print(visible(f"  model: {entry['model']}"))
    if found[0]["unit"]:
        print(visible(found[0]["unit"]))


@app.command()
@handled
def replay(
    study: StudyArgument,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", help="Its number.")],
    family: Family = None,
    seed: Annotated[int | None, typer.Option(help="Which training of a confirmation.")] = None,
    purpose: Annotated[
        str, typer.Option(metavar="search|confirmation", help="Which trainings of the trial.")
    ] = "search",
    keep: Annotated[
        bool, typer.Option("--keep", help="Write the comparison to the study's folder, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    repeat: Repeat = None,
    reports: Reports = Path("reports"),
    storage: Storage = None,
) -> None:
    """Train one trial again and compare every number with what was recorded."""
    from torchstudy.replaying import replay_and_show

    is_reproduced = replay_and_show(
        study,
        trial,
        family=family,
        seed=seed,
        purpose=purpose,
        as_json=as_json,
        keep=keep,
        repeat=repeat,
        reports=reports,
        storage=storage,
    )
    if not is_reproduced:
        raise typer.Exit(ENDED_BADLY)


@app.command()
@handled
def report(
    study: StudyArgument,
    out: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    repeat: Repeat = None,
    reports: Reports = Path("reports"),
    storage: Storage = None,
) -> None:
    """Draw the report again from what the run left, also while it goes on."""
    from torchstudy.tabulating import redraw_report

    print(visible(str(redraw_report(reports, storage, study, out, repeat))))


@app.command()
@handled
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove what no study is using.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Decoded images, features and archives that are kept: of what, how large, last used when."""
    from torchstudy.cacheview import clear_cache, show_cache

    (clear_cache if clear else show_cache)(as_json=as_json)
