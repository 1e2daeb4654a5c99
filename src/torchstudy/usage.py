"""What the command line asks for, checked all together: studies, options, formats."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torchstudy.errors import StudyError, did_you_mean

if TYPE_CHECKING:
    from torchstudy.study import Study

FORMATS = ("table", "csv", "json", "parquet")


def checked(
    references: list[str],
    changes: dict[str, Any],
    workers: str,
    executor: str,
    families: list[str] | None,
) -> tuple[int | Literal["auto"], list["Study"]]:
    """The number of workers and the studies; StudyError with the problems of all of them."""
    problems: list[str] = []
    num_workers: int | Literal["auto"] = "auto"
    loaded: list[Study] = []
    with _noted(problems):
        num_workers = _workers(workers)
    with _noted(problems):
        one_of("executor", executor, ("local", "inline"))
    for reference in references:
        with _noted(problems):
            loaded.append(_declared(reference, changes, families or []))
    if len(references) > 1:  # a single one finds out by itself
        for study in loaded:
            with _noted(problems):
                _check_data(study)
    if problems:
        raise StudyError(list(dict.fromkeys(problems)))
    return num_workers, loaded


@contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except StudyError as error:
        problems += error.problems


def _declared(reference: str, changes: dict[str, Any], families: list[str]) -> "Study":
    from torchstudy.study_files import load_study

    study = load_study(reference)
    changed = replace(study, **changes) if changes else study
    for name in families:
        changed.family(name)
    return changed


def _check_data(study: "Study") -> None:
    from torchstudy.data.sources import scan

    try:
        study.check(scan(study.images).spec())
    except StudyError as error:
        raise StudyError([f"{study.name}: {problem}" for problem in error.problems]) from None


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise StudyError unless an option has one of the values that it can have."""
    if value not in allowed:
        hint = did_you_mean(value, allowed)
        raise StudyError(f"{name}: {value!r} is not one of {', '.join(allowed)}{hint}")


def format_of(format: str | None, out: Path | None) -> str:
    """The format of a table: as given, else as the file's name ends, else for the terminal."""
    chosen = format or ((out.suffix.lstrip(".").lower() or "csv") if out else "table")
    one_of("format", chosen, FORMATS if out is None or format else FORMATS[1:])
    if chosen == "parquet" and out is None:
        raise StudyError("format: parquet needs a file; add --out FILE")
    if chosen == "table" and out is not None:
        raise StudyError("format: a file is csv, json or parquet, not table; change --format")
    return chosen


def confirmation(text: str | None, is_left_out: bool) -> dict[str, tuple[int, int] | None]:
    """What `--confirm 3x5` and `--no-confirm` change: configurations per family, seeds of each."""
    if text is None:
        return {"confirm": None} if is_left_out else {}
    if is_left_out:
        raise StudyError("confirm: --confirm and --no-confirm contradict each other; give one")
    count, by, seeds = text.lower().replace(" ", "").partition("x")
    if not (by and count.isdigit() and seeds.isdigit() and int(count) and int(seeds)):
        raise StudyError(
            f"confirm: must be configurations x seeds, both at least 1, such as 3x5; got {text!r}"
        )
    return {"confirm": (int(count), int(seeds))}


def _workers(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdigit() or int(text) < 1:
        raise StudyError(f"workers: must be 'auto' or a whole number above 0; got {text!r}")
    return int(text)
