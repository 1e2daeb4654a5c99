"""The live display of a run on a terminal: what is done, what is running, what is left."""

import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text
from typing_extensions import override

from torchstudy.execution.watching import Plan, Subject, Watcher, ended_text, plan_text
from torchstudy.records import Epoch, Objective, Outcome
from torchstudy.report.formats import duration, metric_of
from torchstudy.visible import on_one_line, visible

REFRESH = 4  # times a second


class LiveDisplay(Watcher):
    """A bar per family with its best score, the trainings under way, and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[news]}", markup=False),
            console=console,
        )
        self._live: Live | None = None
        self._preparing: dict[str, TaskID] = {}
        self._families: dict[str, TaskID] = {}
        self._best: dict[str, float] = {}
        self._running: dict[tuple[str, int], tuple[Subject, Epoch | None]] = {}
        self._counted: set[tuple[str, int]] = set()  # each training once, however often it rests
        self._spent = 0.0
        self._plan: Plan | None = None
        self._began = time.monotonic()

    @override
    def preparing(self, what: str, done: int, total: int) -> None:
        self._show()
        if what not in self._preparing:
            self._preparing[what] = self._bars.add_task(on_one_line(what), total=total, news="")
        self._bars.update(self._preparing[what], completed=done, total=total)

    @override
    def begun(self, plan: Plan) -> None:
        self._start_over()
        self._plan = plan
        self._show()
        self._console.print(Text(visible(plan_text(plan))))
        for family in plan.families:
            done, left = plan.done[family], plan.left[family]
            self._families[family] = self._bars.add_task(
                on_one_line(family), total=done + left, completed=done, news=""
            )

    @override
    def started(self, subject: Subject) -> None:
        self._running[_place(subject)] = (subject, None)
        self._refresh()

    @override
    def epoch(self, subject: Subject, row: Epoch) -> None:
        self._running[_place(subject)] = (subject, row)
        self._refresh()

    @override
    def ended(self, subject: Subject, outcome: Outcome, seconds: float) -> None:
        self._running.pop(_place(subject), None)
        is_done = outcome.status.is_final or subject.is_resting(outcome)
        if subject.action == "train" and is_done:
            self._spent += seconds
            self._count(subject, outcome)
        if outcome.status.is_failure:
            said = ended_text(subject, outcome, seconds, self._objective)
            self._console.print(Text(visible(said), style="yellow"))
        self._refresh()

    @override
    def note(self, text: str) -> None:
        self._console.print(Text(visible(text), style="dim"))

    @override
    def finished(self, report: Path | None) -> None:
        if report is not None:
            for task in self._bars.tasks:  # the recipe was among the best: fewer were confirmed
                self._bars.update(task.id, total=task.completed)
        self.close()

    def close(self) -> None:
        """Leave the last state of the display standing."""
        if self._live is not None:
            self._running.clear()
            self._refresh()
            self._live.stop()
            self._live = None

    def _start_over(self) -> None:
        """Forget what was shown of the data, and of the search before this one."""
        for task in (*self._preparing.values(), *self._families.values()):
            self._bars.remove_task(task)
        for shown in (self._preparing, self._families, self._best, self._running):
            shown.clear()
        self._counted.clear()
        self._spent, self._began = 0.0, time.monotonic() if self._plan else self._began

    @property
    def _objective(self) -> Objective:
        assert self._plan is not None
        return self._plan.objective

    def _show(self) -> None:
        if self._live is None:
            self._live = Live(self._picture(), console=self._console, refresh_per_second=REFRESH)
            self._live.start()

    def _count(self, subject: Subject, outcome: Outcome) -> None:
        family = subject.trial.family
        value = outcome.metrics.get(f"valid_{self._objective.metric}", float("nan"))
        news: dict[str, Any] = {}
        is_search = subject.purpose == "search"
        if is_search and self._objective.is_better(value, self._best.get(family, float("nan"))):
            self._best[family] = value
            best = metric_of(self._objective).measured("valid", value)
            news["news"] = on_one_line(f"best {best} (#{subject.trial.number})")
        is_new = _place(subject) not in self._counted
        self._counted.add(_place(subject))
        self._bars.update(self._families[family], advance=int(is_new), **news)

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._picture())

    def _picture(self) -> Group:
        width = max((len(subject.title) for subject, _ in self._running.values()), default=0)
        running = [self._running_line(*pair, width) for pair in self._running.values()]
        return Group(self._bars, *running, Text(self._time_line(), style="dim"))

    def _running_line(self, subject: Subject, row: Epoch | None, width: int) -> Text:
        text = f"  {subject.title:<{width}}  "
        if row is not None and self._plan is not None:
            first = row.metrics.get(self._objective.metric, row.valid_loss)
            reached = [metric_of(self._objective).measured("valid", first)]
            for other in self._plan.others:
                if other.metric in row.metrics:
                    value = row.metrics[other.metric]
                    reached.append(metric_of(other).measured("valid", value))
            text += f"epoch {row.epoch}/{self._plan.epochs}  {', '.join(reached)}"
        return Text(on_one_line(text), no_wrap=True, overflow="ellipsis")

    def _time_line(self) -> str:
        repeat = self._plan.repeat.removeprefix(", ") if self._plan else ""
        which = f"{repeat}: " if repeat else ""
        spent = f"  {which}{duration(time.monotonic() - self._began)} so far"
        num_done = len(self._counted)
        if self._plan is None or num_done < 3:
            return spent
        left = max(0, sum(self._plan.left.values()) - num_done)
        if not left:
            return f"{spent}, testing and writing results"
        mean = self._spent / num_done
        return f"{spent}, about {duration(mean * left / self._plan.num_workers)} left"


def _place(subject: Subject) -> tuple[str, int]:
    return subject.title, subject.seed
