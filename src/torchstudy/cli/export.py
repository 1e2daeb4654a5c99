"""`optimize export`: the final model as a folder for use elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from torchstudy.cli.app import Family, Repeat, Reports, Storage, StudyArgument, app, handled


@app.command()
@handled
def export(
    study: StudyArgument,
    to: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.")],
    family: Family = None,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit", help="Train the configuration again first, on train, valid and select."
        ),
    ] = False,
    repeat: Repeat = None,
    reports: Reports = Path("reports"),
    storage: Storage = None,
) -> None:
    """The best model, or a family's, in formats for use elsewhere, each verified, with a card."""
    from torchstudy.exporting import export_and_show

    export_and_show(
        study, to, family=family, refit=refit, repeat=repeat, reports=reports, storage=storage
    )
