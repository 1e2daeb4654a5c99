"""`optimize predict`: what a saved model says of new images, or makes of them."""

from pathlib import Path
from typing import Annotated

import typer

from torchstudy.cli.app import ENDED_BADLY, app, handled
from torchstudy.errors import StudyError


@app.command()
@handled
def predict(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A saved model: reports/STUDY/best/FAMILY.")
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IMAGE]...", help="Files, folders, globs in quotes."),
    ] = None,
    top: Annotated[int, typer.Option(metavar="K", help="Show the K most probable classes.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="table|csv|json|parquet", help="[default: table; with --out as it ends]"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write to this file; of models that make images, to this folder."),
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images at once.")] = 64,
    samples: Annotated[
        int | None, typer.Option(metavar="N", help="Make so many new images (a GAN).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which new images.")] = 0,
    table: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Rows, for a model that takes columns."),
    ] = None,
    unknown: Annotated[
        str,
        typer.Option(metavar="error|other", help="What a category is that training never saw."),
    ] = "error",
    uncalibrated: Annotated[
        bool, typer.Option("--uncalibrated", help="Leave out the temperature.")
    ] = False,
    study: Annotated[
        str | None,
        typer.Option(metavar="STUDY", help="Whose file declares the family, if it is your own."),
    ] = None,
) -> None:
    """Classes, numbers or pictures that a saved model makes of new images."""
    from torchstudy.predictions import Request, predict_and_show

    if as_json and format not in (None, "json"):
        raise StudyError(f"--json and --format {format} do not go together: give one of them")
    request = Request(
        folder=folder,
        images=images or (),
        table=table,
        samples=samples,
        top=top,
        format="json" if as_json else format,
        out=out,
        batch_size=batch_size,
        seed=seed,
        study=study,
        unknown=unknown,
        calibrated=not uncalibrated,
    )
    if not predict_and_show(request):
        raise typer.Exit(ENDED_BADLY)
