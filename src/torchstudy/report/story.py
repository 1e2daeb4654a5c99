"""What the sections of a report share, each computed once and only when asked for."""

from functools import cached_property
from typing import Any

import pandas as pd

from torchstudy.analysis.progress import search_epochs
from torchstudy.analysis.repeats import Contrast, between_searches, search_scores
from torchstudy.analysis.statistics import Difference, against_best, family_scores
from torchstudy.analysis.tables import CONFIG, Results, best_trials, selected_trials
from torchstudy.records import COUNTS, Objective, Status
from torchstudy.report.formats import Metric, metric_of
from torchstudy.report.looks import Look, looks_of


class Story:
    """A study's results with what follows from them. Nothing is computed when it is made."""

    def __init__(self, results: Results) -> None:
        self.results = results

    @property
    def objective(self) -> Objective:
        """The metric that decides."""
        return self.results.objective

    @property
    def metric(self) -> Metric:
        """How that metric is written."""
        return metric_of(self.objective)

    @property
    def trials(self) -> pd.DataFrame:
        """The table of trials."""
        return self.results.trials

    @cached_property
    def looks(self) -> dict[str, Look]:
        """How each family looks."""
        return looks_of(self.results.families)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Confirmed families, best first."""
        return family_scores(self.results)

    @cached_property
    def differences(self) -> list[Difference]:
        """The best family against each other one."""
        return against_best(self.results)

    @cached_property
    def searches(self) -> pd.DataFrame:
        """Families confirmed in several searches, best first; empty where there is one search."""
        return search_scores(self.results)

    @cached_property
    def contrasts(self) -> list[Contrast]:
        """The best family against each other one, over whole searches."""
        return between_searches(self.results)

    @cached_property
    def best(self) -> pd.DataFrame:
        """Per family the search's best completed trial, the best family first."""
        return self._ranked(best_trials(self.results))

    @cached_property
    def selected(self) -> pd.DataFrame:
        """Per family the trial to use, confirmed families first and best first."""
        table = self._ranked(selected_trials(self.results))
        rank = {family: place for place, family in enumerate(self.scores["family"])}
        place = table["family"].map(lambda family: rank.get(family, len(rank)))
        return table.assign(place=place).sort_values("place", kind="stable").drop(columns="place")

    @cached_property
    def tried(self) -> "dict[str, dict[str, pd.Series[Any]]]":
        """Every hyperparameter's values in the trials of each family, those that are there."""
        names = [str(name) for name in self.trials if str(name).startswith(CONFIG)]
        found = {}
        for family in self.results.families:
            own = self.trials.loc[(self.trials["family"] == family).fillna(False), names]
            found[family] = {name.removeprefix(CONFIG): own[name].dropna() for name in names}
        return found

    @property
    def learned(self) -> Objective:
        """What curves show: the objective, or the first bound where that is only counted."""
        if self.objective.metric in COUNTS and self.results.bounds:
            return self.results.bounds[0].objective
        return self.objective

    @cached_property
    def curves(self) -> pd.DataFrame:
        """What is `learned` after each epoch of the search."""
        return search_epochs(self.results, metric=self.learned.metric)

    @cached_property
    def status_counts(self) -> dict[str, int]:
        """How many trials stand how."""
        return {str(key): int(n) for key, n in self.trials["status"].value_counts().items()}

    @property
    def num_failed(self) -> int:
        """Trials without a usable result."""
        return sum(self.status_counts.get(status, 0) for status in Status if status.is_failure)

    @property
    def noun(self) -> str:
        """What one row of the data is: an image, or an item of a table or with several images."""
        data = self.results.summary.get("data") or {}
        is_image = data.get("channels", 1) and data.get("views", 1) == 1
        return "image" if is_image and not data.get("columns") else "item"

    def recipe(self, family: str) -> int | None:
        """The number of the family's own recipe; None where limits left it out."""
        own = self.trials[(self.trials["family"] == family) & (self.trials["origin"] == "recipe")]
        return int(own["trial"].iloc[0]) if len(own) else None

    def split_size(self, split: str) -> int:
        """The items in a split; 0 when unknown."""
        data = self.results.summary.get("data") or {}
        return int((data.get("splits") or {}).get(split, 0))

    def _ranked(self, table: pd.DataFrame) -> pd.DataFrame:
        rising = self.objective.direction == "minimize"
        return table.sort_values("value", ascending=rising, kind="stable").reset_index(drop=True)
