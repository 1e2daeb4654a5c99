"""The end of a run: everything in the study's folder, written from the ledger."""

import importlib.metadata
import math
import os
import platform
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

from torchstudy.data.dataset import ImageData
from torchstudy.execution.best import write_best
from torchstudy.execution.confirm import ranked
from torchstudy.execution.evidence import write_evidence
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.manifest import note_files
from torchstudy.execution.outputs import Row, write_tables
from torchstudy.execution.schedule import Schedule
from torchstudy.failpoints import failpoint
from torchstudy.records import Objective, Training
from torchstudy.repeats import repeat_of
from torchstudy.report.page import write_report
from torchstudy.search.experiment import write_experiment
from torchstudy.study import Study

LIBRARIES = (
    "torchstudy",
    "torch",
    "torchvision",
    "ax-platform",
    "botorch",
    "scikit-learn",
    "pandas",
)


def summary(study: Study, data: ImageData, num_workers: int) -> dict[str, object]:
    """What a report needs beside the tables: `study.json` without the state."""
    several = study.objectives
    name, repeat = repeat_of(study.name)
    return {
        "study": name,
        **({"repeat": repeat} if repeat > 1 else {}),
        "objective": _described(study.objective),
        **({"objectives": list(map(_described, several))} if len(several) > 1 else {}),
        **({"bounds": list(map(asdict, study.bounds))} if study.bounds else {}),
        **({"limits": study.cost_limits} if study.cost_limits else {}),
        "families": {
            family.__name__: {
                "description": (family.__doc__ or "").strip().partition("\n")[0],
                "space": study.space_of(family).describe(),
                "notes": list(study.notes_on(family)),
                "metrics": list(family.reports(data.spec.task)),
                "goal": family.goal,
            }
            for family in study.families
        },
        "budget": {
            "trials": study.trials,
            "epochs": study.epochs,
            "minutes": study.minutes,
            "confirm": list(study.confirm) if study.confirm else None,
            **({"repeats": study.repeats} if study.repeats > 1 else {}),
        },
        "seed": study.seed,
        "data": {
            "source": data.spec.source,
            "channels": data.spec.channels,
            "height": data.spec.height,
            "width": data.spec.width,
            "views": data.spec.views,
            "columns": [*data.spec.numbers, *data.spec.categories],
            "task": data.spec.task,
            "target": data.spec.target,
            "log_target": data.spec.log_target,
            **({} if data.spec.classes else {"target_std": data.spec.target_std}),
            "classes": list(data.spec.classes),
            "splits": {name: len(rows) for name, rows in data.splits.items()},
            "fingerprint": data.spec.fingerprint,
            "notes": list(data.notes),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
        },
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count() or 1,
            "memory_gib": _memory_gib(),
            "system": f"{platform.system()} {platform.release()}",
            "workers": num_workers,
        },
    }


def _described(objective: Objective) -> dict[str, str]:
    return {"metric": objective.metric, "direction": objective.direction}


def write_everything(
    study: Study, data: ImageData, ledger: Ledger, schedule: Schedule, state: str, error: str = ""
) -> list[str]:
    """Tables, study.json, Ax experiments, evidence, best models and, last, the report.

    `error` is what the run stopped on. Returns a sentence on everything that could not be written
    as what it is made of is damaged.
    """
    folder, notes = schedule.folder, list[str]()
    is_first_of_several = study.repeats > 1 and repeat_of(study.name)[1] == 1
    shown = "running" if state == "finished" and is_first_of_several else state
    failpoint("before-tables")
    _write_tables(study, ledger, folder, shown, error)
    failpoint("after-tables")
    for family in study.families:
        name = family.__name__
        searched = schedule.board.searched(name)
        space = study.space_of(family)
        write_experiment(
            folder / f"{name}.ax.json",
            f"{study.name}/{name}",
            space,
            study.objectives,
            searched,
            study.bounds,
        )
        failpoint("after-experiment")
        best = next(iter(ranked(searched, study.objective, study.bounds)), None)
        chosen = sorted(schedule.chosen(name), key=lambda training: training.seed)
        first = [best] if best else []
        select = chosen if study.confirm else first
        answering = {"valid": first, "select": select, "test": chosen}
        final = _final_training(study, chosen) or best
        notes += write_evidence(folder, name, data, answering, final)
        failpoint("after-evidence")
        if final and (lost := write_best(folder, family, data, final, _metrics(final, chosen))):
            notes.append(
                f"{name}: the weights of its best training are {lost}, so best/{name} was not "
                "written; --fresh trains them again"
            )
    failpoint("before-report")
    write_report(folder)
    failpoint("after-report")
    note_files(folder)
    return notes


def write_again(study: Study, ledger: Ledger, folder: Path, state: str, error: str = "") -> None:
    """The tables and the report of a study whose repeats have changed what they say."""
    _write_tables(study, ledger, folder, state, error)
    write_report(folder)
    note_files(folder)


def _write_tables(study: Study, ledger: Ledger, folder: Path, state: str, error: str) -> None:
    stored = next(stored for stored in ledger.studies() if stored.name == study.name)
    write_tables(ledger, replace(stored, state=state, error=error), folder)


def clear(folder: Path) -> None:
    """Remove what an earlier run left in the study's folder."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _final_training(study: Study, chosen: list[Training]) -> Training | None:
    """Of the chosen configuration's fresh trainings the best on `select`, the first of equals."""
    metric, sign = f"select_{study.objective.metric}", study.objective.sign
    return max(chosen, key=lambda t: (sign * t.metrics[metric], -t.seed), default=None)


def _metrics(final: Training, chosen: list[Training]) -> Row:
    """The saved model's own scores, and the test scores of its configuration over all seeds."""
    tests: dict[str, list[float | None]] = {}
    for training in chosen:
        for name, value in training.metrics.items():
            if name.startswith("test_"):
                tests.setdefault(name, []).append(_known(value))
    own: Row = {name: _known(value) for name, value in final.metrics.items()}
    return {**own, "all_seeds": tests}


def _known(value: float) -> float | None:
    """A number for JSON, which has none for what is not finite."""
    return value if math.isfinite(value) else None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> int | None:
    if sys.platform == "win32":
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
