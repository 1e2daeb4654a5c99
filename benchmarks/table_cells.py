"""A comparison of searches on tables of trainings, from the command line to the result."""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cells import collected, intervals
from machine import facts

BUDGETS = (30, 60, 100)
Cell = tuple[str, str, int, int]  # method, data set, seed, evaluations


def compare(
    about: str | None,
    script: Path,
    methods: Sequence[str],
    datasets: Sequence[str],
    ran: Callable[[Cell], dict[str, Any]],
    *,
    measure: str,
    seeds: str,
) -> None:
    """Run the cells that are missing, print the tables and keep them beside the script.

    `ran` gives for a cell `measure` after each evaluation, smaller being better, and `cpu_seconds`.
    """
    args = _arguments(about, script, methods, datasets, seeds)
    first, last = map(int, args.seeds.split("-"))
    cells = [
        (method, name, seed, args.evaluations)
        for method in args.methods.split(",")
        for seed in range(first, last)
        for name in args.datasets.split(",")
    ]
    runs = collected(cells, ran, args.cells, args.processes)
    found = summary(runs, measure, args.evaluations)
    show(found, measure)
    settings = {"datasets": args.datasets, "seeds": args.seeds}
    args.out.write_text(json.dumps({"machine": facts(), **settings, **found}, indent=1) + "\n")


def summary(runs: dict[Cell, dict[str, Any]], measure: str, evaluations: int) -> dict[str, Any]:
    """Means after each budget, by data set too, and paired intervals of ours less theirs."""
    budgets = [budget for budget in BUDGETS if budget <= evaluations] or [evaluations]
    table: dict[str, dict[tuple[str, int], list[float]]] = {}
    for (method, name, seed, _), run in runs.items():
        values = run[measure]
        at = [values[min(budget, len(values)) - 1] for budget in budgets]
        table.setdefault(method, {})[name, seed] = at
    found: dict[str, Any] = {"budgets": budgets, "methods": {}, "ours_less_theirs": {}}
    for method, rows in table.items():
        by_name = {
            name: np.mean([r for key, r in rows.items() if key[0] == name], axis=0).round(4)
            for name in sorted({name for name, _ in rows})
        }
        seconds = [run["cpu_seconds"] for cell, run in runs.items() if cell[0] == method]
        found["methods"][method] = {
            measure: np.mean(list(by_name.values()), axis=0).round(4).tolist(),
            "datasets": {name: means.tolist() for name, means in by_name.items()},
            "cpu_seconds_per_trial": round(float(np.mean(seconds)) / evaluations, 3),
        }
        if method != "ours" and "ours" in table:
            found["ours_less_theirs"][method] = intervals(table["ours"], rows)
    return found


def show(found: dict[str, Any], measure: str) -> None:
    """Print the tables."""
    heads = "".join(f"{f'@{budget}':>9}" for budget in found["budgets"])
    print(f"{measure:<14}{heads}{'CPU s/trial':>13}")
    for method, row in found["methods"].items():
        cells = "".join(f"{value:9.4f}" for value in row[measure])
        print(f"{method:<14}{cells}{row['cpu_seconds_per_trial']:13.3f}")
    print("\nours less theirs, mean and 95% interval, paired over data sets and seeds")
    for method, rows in found["ours_less_theirs"].items():
        print(f"{method:<14}" + "  ".join(f"{m:+.4f} [{a:+.4f}, {b:+.4f}]" for m, a, b in rows))


def _arguments(
    about: str | None, script: Path, methods: Sequence[str], datasets: Sequence[str], seeds: str
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default=",".join(methods))
    parser.add_argument("--datasets", default=",".join(datasets))
    parser.add_argument("--seeds", default=seeds, help="from-to, to excluded")
    parser.add_argument("--evaluations", type=int, default=max(BUDGETS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cells", type=Path, default=script.with_name(f"cells_{script.stem}"))
    parser.add_argument("--out", type=Path, default=script.with_suffix(".json"))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    return parser.parse_args()
