"""What a run would do and how long it would take, for `--dry-run`."""

from pathlib import Path
from typing import Any

from torchstudy.data.dataset import prepare
from torchstudy.data.sources import scan
from torchstudy.display import duration
from torchstudy.execution.forecast import forecast
from torchstudy.execution.preconditions import num_workers_of
from torchstudy.overview import open_ledger
from torchstudy.study import Study


def plan_lines(
    study: Study,
    *,
    reports: Path,
    storage: str | None,
    workers: Any,
    executor: Any,
    families: list[str] | None,
) -> tuple[str, list[list[str]], str]:
    """Title, one line per family, and the forecast. Trains nothing, writes nothing but caches."""
    num_workers = num_workers_of(workers, executor)
    study.check(scan(study.images).spec())
    data = prepare(study.images, seed=study.seed)
    study.check(data.spec)
    ledger = open_ledger(reports, storage)
    stored = ledger.trainings(study.name) if ledger else []
    confirmations = (study.confirm[0] + 1) * study.confirm[1] if study.confirm else 0
    lines, seconds = [], 0.0
    for family in study.families:
        if families and family.__name__ not in families:
            continue
        own = [t for t in stored if t.trial.family == family.__name__]
        ended = [training for training in own if training.status.is_final]
        trials = min(study.trials, study.space_of(family).size)
        left = max(0, int(trials) + confirmations - len(ended))
        expected = forecast(study, data, family, ended, left)
        seconds += expected.seconds
        lines.append(
            [
                family.__name__,
                f"{trials:.0f}",
                str(confirmations),
                str(left),
                duration(expected.seconds),
                expected.basis,
            ]
        )
    sizes = ", ".join(f"{name} {len(rows)}" for name, rows in data.splits.items())
    title = f"{study.name}: {data.spec.source}, {sizes}"
    footer = (
        f"forecast: about {duration(seconds / num_workers)} with {num_workers} worker"
        f"{'s' if num_workers > 1 else ''} on this machine as busy as it is now; configurations "
        "that cost a third or three times as much as these are common"
    )
    return title, lines, footer
