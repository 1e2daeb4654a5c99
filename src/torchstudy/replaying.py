"""What `optimize replay` does and prints: one training again, beside what was recorded of it."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchstudy.errors import StudyError, did_you_mean
from torchstudy.execution.ledger import Ledger, StudyState
from torchstudy.records import Epoch, Purpose, TrainingKey
from torchstudy.repeats import repeat_of, repeat_title
from torchstudy.stored import find_study, reading, writing
from torchstudy.usage import one_of

if TYPE_CHECKING:
    from torchstudy.data.dataset import ImageData
    from torchstudy.execution.comparison import Measure
    from torchstudy.execution.replay import Replay
    from torchstudy.study import Study

HEADER = ["measure", "epochs", "recorded", "replayed", "largest difference", "digits"]
PURPOSES = ("search", "confirmation")
SAME_DATA = ("task", "target", "classes", "channels", "height", "width", "splits", "fingerprint")
NOTHING = "nothing that is recorded"


def replay(
    study: "Study",
    number: int,
    *,
    family: str | None = None,
    seed: int | None = None,
    purpose: Purpose = "search",
    repeat: int | None = None,
    reports: str | Path = "reports",
    storage: str | None = None,
    is_shown: bool = False,
) -> "Replay":
    """Train one trial of a study again and compare every number with what was recorded.

    Args:
        study: what was run; it must still declare the family and its hyperparameters.
        number: which trial.
        family: whose; may be left out where one family alone has such a trial.
        seed: which training of a confirmation; may be left out where there is one.
        purpose: "search" or "confirmation".
        repeat: of which search, where the study was searched several times; else of the first.
        reports: the folder of results.
        storage: the ledger's SQLAlchemy URL; `studies.sqlite` in `reports` if left out.
        is_shown: print a line for each epoch.

    Raises StudyError where there is no such training, the study or its data have changed, or no
    epoch was finished that could be compared.
    """
    from torchstudy.data.dataset import prepare
    from torchstudy.execution.forkserver import start_forkserver
    from torchstudy.execution.replay import replay_training

    one_of("purpose", purpose, PURPOSES)
    place = Path(reports)
    with reading(place, storage) as opened:
        ledger, state = find_study(opened, place, study.name, repeat)
        first = find_study(opened, place, study.name)[1]  # whose splits all have
        key = _wanted(ledger, state, number, family, seed, purpose)
        _check_declaration(study, state, key)
        start_forkserver()
        data = prepare(study.images, seed=int(first.summary["seed"]))
        _check_data(data, state)
        with writing(place):
            return replay_training(
                study,
                data,
                ledger,
                state,
                key,
                place=place,
                on_epoch=_say if is_shown else _unheard,
            )


def replay_and_show(
    reference: str,
    number: int,
    *,
    as_json: bool = False,
    keep: bool = False,
    **options: Any,
) -> bool:
    """Replay a trial of the study that `reference` names, print the comparison; whether it held.

    `keep` writes it to `replays/` in the study's folder as well. `options` are those of `replay`.
    """
    import json

    from torchstudy.printing import print_table, print_wrapped
    from torchstudy.study_files import load_study

    found = replay(load_study(reference), number, is_shown=not as_json, **options)
    described = description(found)
    if as_json:
        print(json.dumps(described, indent=2, allow_nan=False))
    else:
        print_table(_title(found), HEADER, lines(found))
        for sentence in sentences(found):
            print_wrapped(sentence)
    if keep:
        path = _kept(found, described, Path(options.get("reports", "reports")))
        if not as_json:
            print(path)
    return found.is_reproduced


def lines(found: "Replay") -> list[list[str]]:
    """The table: how the two ended, then every measure where recorded and replayed differ most."""
    facts = [
        [fact.name, "", fact.recorded or "-", fact.replayed or "-", _yes(fact.is_same), ""]
        for fact in found.agreement.facts
    ]
    return facts + [_measure_line(measure) for measure in found.agreement.measures]


def sentences(found: "Replay") -> list[str]:
    """Which level of determinism held, and what may explain it if it was not the highest."""
    measures = len(found.agreement.measures)
    said = [f"determinism: {found.level} ({found.epochs} epochs, {measures} measures)"]
    if found.level != "bit for bit":
        said.append(f"what has changed: {', '.join(found.changed) or NOTHING}")
        said += [f"note: {note}" for note in found.notes]
        if found.value is not None and math.isfinite(found.spread):
            said.append(
                f"{found.metric} differs by {found.value.difference:.3g}; between seeds of one "
                f"configuration its standard deviation is {found.spread:.3g}"
            )
        said.append("reproduced" if found.is_reproduced else "not reproduced")
    return said


def description(found: "Replay") -> dict[str, Any]:
    """A replay as JSON values; numbers that are not finite are null, all digits are `all`."""
    key = found.training.key
    study, repeat = repeat_of(found.study)
    return {
        "study": study,
        **({"repeat": repeat} if repeat > 1 else {}),
        "family": key.family,
        "trial": key.number,
        "seed": key.seed,
        "purpose": found.training.purpose,
        "config": dict(found.training.trial.config),
        "epochs": found.epochs,
        "level": found.level,
        "is_reproduced": found.is_reproduced,
        "changed": list(found.changed),
        "notes": list(found.notes),
        "spread": _finite(found.spread),
        "outcome": [
            {"name": fact.name, "recorded": fact.recorded, "replayed": fact.replayed}
            for fact in found.agreement.facts
        ],
        "measures": [
            {
                "name": measure.name,
                "epochs": measure.epochs,
                "epoch": measure.epoch,
                "recorded": _finite(measure.recorded),
                "replayed": _finite(measure.replayed),
                "difference": _finite(measure.difference),
                "digits": int(measure.digits) if math.isfinite(measure.digits) else "all",
            }
            for measure in found.agreement.measures
        ],
        "seconds": round(found.seconds, 3),
    }


def _wanted(
    ledger: Ledger,
    state: StudyState,
    number: int,
    family: str | None,
    seed: int | None,
    purpose: Purpose,
) -> TrainingKey:
    """The one training that is meant; StudyError if there is none, or more than one."""
    families = list(state.summary["families"])
    study, repeat = repeat_of(state.name)
    name = repeat_title(repr(study), repeat)
    if family is not None and family not in families:
        hint = did_you_mean(family, families)
        raise StudyError(
            f"study {name} has no family {family!r}{hint}; it has {', '.join(families)}"
        )
    trained = [t.key for t in ledger.trainings(state.name, purpose) if t.key.number == number]
    keys = [key for key in trained if family in (None, key.family)]
    whose = family or f"study {name}"
    if not keys:
        raise StudyError(f"{whose} has no {purpose} training of a trial {number}")
    named = [each for each in families if any(key.family == each for key in keys)]
    if len(named) > 1:
        raise StudyError(f"trial {number} exists of {', '.join(named)}; say which with --family")
    seeds = [key.seed for key in keys]
    if seed is None and len(keys) > 1:
        listed = ", ".join(map(str, seeds))
        raise StudyError(
            f"{named[0]} #{number} was confirmed with the seeds {listed}; say which with --seed"
        )
    if seed is not None and seed not in seeds:
        listed = ", ".join(map(str, seeds))
        raise StudyError(
            f"{named[0]} #{number} was not trained with seed {seed}, but with {listed}"
        )
    return keys[0] if seed is None else keys[seeds.index(seed)]


def _check_declaration(study: "Study", state: StudyState, key: TrainingKey) -> None:
    """Raise StudyError unless the family is still declared, with the same hyperparameters."""
    now = study.space_of(study.family(key.family)).domains
    before = state.summary["families"][key.family]["space"]
    gone = [name for name in before if name not in now]
    new = [name for name in now if name not in before]
    if gone or new:
        raise StudyError(
            f"{key.family} has other hyperparameters than when trial {key.number} was trained: "
            + "; ".join(
                f"{word} {', '.join(names)}"
                for word, names in (("gone:", gone), ("new:", new))
                if names
            )
        )


def _check_data(data: "ImageData", state: StudyState) -> None:
    """Raise StudyError unless the study's data and splits are those that it was run with."""
    before = state.summary["data"]
    now: dict[str, object] = {name: getattr(data.spec, name, None) for name in SAME_DATA}
    now["splits"] = {name: len(rows) for name, rows in data.splits.items()}
    now["classes"] = list(data.spec.classes)
    problems = [
        f"data: {name} was {before[name]}, now {now[name]}"
        for name in SAME_DATA
        if name in before and before[name] != now[name]
    ]
    if problems:
        raise StudyError(problems)


def _title(found: "Replay") -> str:
    key = found.training.key
    repeat = repeat_title("", repeat_of(found.study)[1])
    return f"{key.family} #{key.number}, seed {key.seed} ({found.training.purpose}{repeat})"


def _measure_line(measure: "Measure") -> list[str]:
    is_exact = math.isinf(measure.digits)
    return [
        measure.name,
        str(measure.epochs or ""),
        f"{measure.recorded:.9g}",
        f"{measure.replayed:.9g}",
        "0" if is_exact else f"{measure.difference:.3g}" + _where(measure),
        "all" if is_exact else f"{measure.digits:.0f}",
    ]


def _where(measure: "Measure") -> str:
    return f" (epoch {measure.epoch})" if measure.epochs else ""


def _yes(is_same: bool) -> str:
    return "0" if is_same else "different"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _kept(found: "Replay", described: dict[str, Any], reports: Path) -> Path:
    from torchstudy.files import write_json

    key = found.training.key
    folder = reports / found.study / "replays"
    path = folder / f"{key.family}-{key.number}-{key.seed}.json"
    with writing(folder):
        write_json(path, described)
    return path


def _say(row: Epoch) -> None:
    print(f"epoch {row.epoch}: train loss {row.train_loss:.6g}", flush=True)


def _unheard(row: Epoch) -> None:
    """Nobody waits for the epochs."""
