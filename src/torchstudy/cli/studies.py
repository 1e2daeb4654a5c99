"""`optimize list`, `space`, `summary`: what there is to run, before anything runs."""

from pathlib import Path

from torchstudy.cli.app import Family, Reports, Storage, StudyArgument, app, handled
from torchstudy.visible import visible

STUDY_HEADER = ["study", "state", "searches", "trials", "best", "about"]


@app.command("list")
@handled
def list_studies(reports: Reports = Path("reports"), storage: Storage = None) -> None:
    """Studies in ./studies, their state and best value so far."""
    from torchstudy.overview import study_lines
    from torchstudy.printing import print_table

    lines = study_lines(reports, storage)
    if lines:
        print_table("", STUDY_HEADER, lines)
    else:
        print(visible(f"no studies: ./studies has no file, and {reports} no results"))


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
            print(visible(f"note: {note}"))


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
