"""`optimize export`: which model of a study is exported, on which items it is verified, and how."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchstudy.analysis.calibration import FILE as CALIBRATION
from torchstudy.analysis.tables import Results, read_results, shortfalls
from torchstudy.errors import DataError, StudyError
from torchstudy.modelcards import Origin, facts_of, model_metrics
from torchstudy.overview import best_models
from torchstudy.records import Epoch, Status, Training
from torchstudy.repeats import repeat_of, repeat_title
from torchstudy.report.story import Story
from torchstudy.stored import find_study, reading, writing

if TYPE_CHECKING:
    from torchstudy.data.dataset import ImageData
    from torchstudy.models.deployed import Deployed, Probe
    from torchstudy.models.exported import Export
    from torchstudy.study import Study

PROBED = 64  # items that every format is asked about
SAME_DATA = ("fingerprint", "shape", "views", "numbers", "categories")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The model that is meant, and everything that is known of it."""

    results: Results
    family: str
    training: Training
    trainings: tuple[Training, ...]
    source: Path
    split_seed: int  # that of the study's first search: repeats have its splits


def export_model(
    study: "Study | str",
    to: str | Path,
    *,
    family: str | None = None,
    refit: bool = False,
    repeat: int | None = None,
    reports: str | Path = "reports",
    storage: str | None = None,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
) -> "Export":
    """Write the final model of a study to a folder, in several formats, each verified.

    The folder holds what `load_model` takes, `model.safetensors`, a `torch.export` program, with
    the extra `onnx` an ONNX program, a model card and a `predict.py` that needs no torchstudy. Each
    file that holds the network is compared with it on validation items.

    Args:
        study: what was run, or its name; the name alone will do where families are built in.
        to: the folder; new, empty or an earlier export, which is overwritten.
        family: whose model; by default that with the best confirmed score, else the best trial.
        refit: train its configuration once more, on train, valid and select together.
        repeat: which search, of a study that was searched several times; by default the first, as
            the best of them would be so by luck.
        reports: the folder of results.
        storage: the ledger's SQLAlchemy URL; `studies.sqlite` in `reports` if left out.
        on_epoch: called after every epoch of a refit.

    Raises StudyError for a study without finished trials, an unknown family or search, or a folder
    of something else, RunError for a format that cannot be made or does not agree with the network.
    """
    from torchstudy.models.exported import check_target

    folder, place = Path(to), Path(reports)
    name, declared = _declaration(study)
    chosen = _chosen(name, family, place, storage, repeat)
    check_target(folder)
    if refit and declared is None:
        raise StudyError(
            f"--refit needs the study itself: there is no file of {name!r} in ./studies"
        )
    data = _data_of(declared, chosen)
    if not refit:
        return _exported(chosen, declared, data, chosen.source, folder)
    if isinstance(data, str):
        raise StudyError(f"--refit needs the study's data, but {data}")
    assert declared is not None
    declared = declared.repeat(repeat or 1)
    from torchstudy.execution.refit import epochs_of, refitted

    number = chosen.training.key.number
    with (
        writing(place),
        refitted(
            declared,
            data,
            chosen.training,
            epochs=epochs_of(chosen.trainings, chosen.family, number),
            full=int(chosen.results.summary["budget"]["epochs"]),
            place=place,
            on_epoch=on_epoch,
        ) as made,
    ):
        return _exported(chosen, declared, data, made.folder, folder, refit=made)


def export_and_show(reference: "Study | str", to: Path, **options: Any) -> None:
    """Export a model and print what was written; epochs of a refit as they come."""
    from torchstudy.models.exported import lines
    from torchstudy.printing import print_text
    from torchstudy.stored import search_words

    def say(row: Epoch) -> None:
        if row.train_loss == row.train_loss:  # a solver has none
            print(f"epoch {row.epoch}: train loss {row.train_loss:.6g}", flush=True)

    name, declared = _declaration(reference)
    found = export_model(declared or name, to, on_epoch=say, **options)
    where = Path(options["reports"]), options["storage"], name
    if which := search_words(*where, options["repeat"]):
        print_text(which)
    print_text(f"{found.family} #{found.trial}: {found.folder}")
    for line in lines(found):
        print_text(line)
    print_text(f"compared with the network on {found.verified_on}")


def _declaration(study: "Study | str") -> "tuple[str, Study | None]":
    """The study's name, and the study, unless a plain name has no file any more."""
    from torchstudy.study_files import load_study, study_files

    if not isinstance(study, str):
        return study.name, study
    is_plain = not study.endswith(".py") and ":" not in study and len(Path(study).parts) < 2
    if is_plain and study not in study_files():
        return study, None
    loaded = load_study(study)
    return loaded.name, loaded


def _chosen(
    name: str, family: str | None, reports: Path, storage: str | None, repeat: int | None
) -> Chosen:
    """The family that is named, else the winner; StudyError where there is no model of it."""
    # It refuses what was not run, or has nothing finished.
    best_models(reports, storage, name, family, repeat)
    with reading(reports, storage) as opened:
        ledger, state = find_study(opened, reports, name, repeat)
        first = find_study(opened, reports, name)[1]
        trainings = tuple(ledger.trainings(state.name))
    results = read_results(reports / state.name)
    winner = family or _winner(results)
    source = reports / state.name / "best" / winner
    metrics = model_metrics(source)
    own = [
        t
        for t in trainings
        if t.key.family == winner
        and t.key.number == metrics.get("trial")
        and t.status is Status.COMPLETED
    ]
    if not own or not (source / "config.json").is_file():
        title = repeat_title(repr(name), repeat_of(state.name)[1])
        raise StudyError(
            f"study {title} has no model of {winner} in {source} yet; `optimize run` writes "
            "it when it ends or is stopped"
        )
    searched = [t for t in own if t.purpose == "search"]
    training = (searched or own)[0]
    return Chosen(
        results=results,
        family=winner,
        training=training,
        trainings=trainings,
        source=source,
        split_seed=int(first.summary["seed"]),
    )


def _winner(results: Results) -> str:
    """Confirmed families come first, then the better score; what misses a bound comes last."""
    table = Story(results).selected
    missed = results.trials.assign(missed=shortfalls(results.trials, results.bounds))
    keyed = table.merge(missed[["family", "trial", "missed"]], on=["family", "trial"], how="left")
    return str(keyed.sort_values("missed", kind="stable")["family"].iloc[0])


def _data_of(declared: "Study | None", chosen: Chosen) -> "ImageData | str":
    """The data as the run had them, or why there are none."""
    from torchstudy.data.dataset import prepare

    if declared is None:
        return "the study has no file in ./studies"
    summary = chosen.results.summary
    try:
        data = prepare(declared.images, seed=chosen.split_seed)
    except DataError as error:
        return f"its data cannot be read any more ({error.problems[0]})"
    sizes = {name: len(rows) for name, rows in data.splits.items()}
    before = summary["data"]
    if data.spec.fingerprint != before["fingerprint"] or sizes != before["splits"]:
        return "its data have changed since it was run"
    return data


def _exported(
    chosen: Chosen,
    declared: "Study | None",
    data: "ImageData | str",
    source: Path,
    folder: Path,
    *,
    refit: Any = None,
) -> "Export":
    from torchstudy.families.built_in import BUILT_IN
    from torchstudy.models.deployed import Deployed
    from torchstudy.models.exported import write_export
    from torchstudy.models.saved import load_model

    families = list(declared.families) if declared else []
    if chosen.family not in [each.__name__ for each in (*BUILT_IN, *families)]:
        raise StudyError(
            f"{chosen.family} is a family of the study's own, but the study has no file in "
            "./studies: name the file or module that declares it"
        )
    saved = load_model(source, families)
    origin = Origin(
        results=chosen.results,
        training=chosen.training,
        metrics=model_metrics(source),
        refit=refit,
        is_calibrated=(source / CALIBRATION).is_file(),
    )
    probe = _probe(Deployed(saved), data)
    with writing(folder):
        return write_export(saved, source, folder, probe=probe, facts=facts_of(saved, origin))


def _probe(deployed: "Deployed", data: "ImageData | str") -> "Probe":
    """Validation items, read as the run read them; where there are none, inputs at random."""
    from dataclasses import replace

    from torchstudy.execution.inputs import split_of
    from torchstudy.models.deployed import random_probe, real_probe

    if deployed.gives == "samples":
        return random_probe(deployed, PROBED)
    if isinstance(data, str):
        probe = random_probe(deployed, PROBED)
        return replace(probe, words=f"{probe.words}, as {data}")
    rows = data.splits["valid"]
    batch = split_of(data, data.pixels, rows, rows).spread(PROBED)
    noun = "images" if deployed.takes == ("images",) and data.spec.views == 1 else "items"
    return real_probe(deployed, batch, f"{len(batch)} validation {noun}")
