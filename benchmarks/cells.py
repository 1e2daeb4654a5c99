"""Cells of a comparison: computed side by side, each kept in a file, and compared in pairs."""

import json
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

RESAMPLES = 4000


def collected(
    cells: Sequence[Any], ran: Callable[[Any], dict[str, Any]], folder: Path, processes: int
) -> dict[Any, dict[str, Any]]:
    """What `ran` returns for each cell, a tuple: from its file in `folder`, or computed now."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {cell: folder / f"{'-'.join(map(str, cell))}.json" for cell in cells}
    todo = [cell for cell in cells if not files[cell].exists()]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        jobs = {pool.submit(ran, cell): cell for cell in todo}
        for count, job in enumerate(as_completed(jobs), 1):
            cell = jobs[job]
            files[cell].write_text(json.dumps(job.result()))
            print(f"{count}/{len(todo)} {' '.join(map(str, cell))}", file=sys.stderr, flush=True)
    return {cell: json.loads(path.read_text()) for cell, path in files.items()}


def by_task(table: Mapping[tuple[str, int], Any]) -> dict[str, list[Any]]:
    """The values of a (task, seed) table for each task."""
    found: dict[str, list[Any]] = {}
    for (task, _), value in table.items():
        found.setdefault(task, []).append(value)
    return found


def intervals(
    ours: Mapping[tuple[str, int], Sequence[float]],
    theirs: Mapping[tuple[str, int], Sequence[float]],
) -> list[list[float]]:
    """Mean and 95% bootstrap interval of ours less theirs, at each budget; pairs of each task drawn
    among themselves.
    """
    pairs = by_task({key: np.subtract(values, theirs[key]) for key, values in ours.items()})
    arrays = [np.array(rows) for rows in pairs.values()]
    generator = np.random.default_rng(0)
    drawn = [
        rows[generator.integers(len(rows), size=(RESAMPLES, len(rows)))].mean(axis=1)
        for rows in arrays
    ]
    means = np.mean([rows.mean(axis=0) for rows in arrays], axis=0)
    low, high = np.quantile(np.mean(drawn, axis=0), (0.025, 0.975), axis=0)
    return np.stack([means, low, high], axis=1).round(4).tolist()  # type: ignore[no-any-return]
