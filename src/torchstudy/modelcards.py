"""What a study can tell of one of its models: score, origin, data and limits, in sentences."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchstudy.analysis.statistics import family_scores
from torchstudy.analysis.tables import Results, chosen_trainings
from torchstudy.families.heads import Neighbours
from torchstudy.families.phases import Phase
from torchstudy.fitting import instantiate
from torchstudy.models.card import Facts, plain
from torchstudy.records import COUNTS, Training
from torchstudy.report.bounds import bound_words, on_test
from torchstudy.report.caveats import Scored, beside_constant
from torchstudy.report.formats import Metric, counted, duration, joined, metric_of
from torchstudy.report.predicted import Quantity
from torchstudy.report.searching import ORIGINS

if TYPE_CHECKING:
    from torchstudy.execution.refit import Refit
    from torchstudy.models.saved import SavedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a model comes from: the study's results, the training, and a refit if it is one."""

    results: Results
    training: Training  # whose configuration it is
    metrics: Mapping[str, Any]  # `metrics.json` beside the model
    refit: "Refit | None" = None
    is_calibrated: bool = False


def facts_of(saved: "SavedModel", origin: Origin) -> Facts:
    """Everything that the card says of the study."""
    training, summary = origin.training, origin.results.summary
    family, has_epochs = training.key.family, _has_epochs(saved, training)
    return Facts(
        study=summary["study"],
        family=family,
        description=plain(str(summary["families"][family]["description"])),
        trial=training.key.number,
        config=training.trial.config,
        score=(
            *_score(origin, has_epochs),
            Quantity.of(origin.results.summary).of_scores,
            *_bounds(origin),
        ),
        obtained=tuple(_obtained(origin, has_epochs)),
        data=tuple(_data(summary)),
        limits=tuple(_limits(saved, origin)),
    )


def _has_epochs(saved: "SavedModel", training: Training) -> bool:
    """Whether the network takes gradient steps; a solver that fits it knows no epochs."""
    declared = instantiate(type(saved.family), training.trial.config).training
    return any(isinstance(phase, Phase) for phase in saved.family.phases(saved.data, declared))


def _score(origin: Origin, has_epochs: bool) -> Iterator[str]:
    results, training = origin.results, origin.training
    metric = metric_of(results.objective)
    scores = family_scores(results)
    own = scores[
        (scores["family"] == training.key.family) & (scores["trial"] == training.key.number)
    ]
    if own.empty:
        yield _searched(metric, origin, has_epochs)
        found = training.valid(results.objective)
        scored = Scored(family=training.key.family, split="valid", score=found)
    else:
        row = own.iloc[0].to_dict()
        yield _confirmed(metric, row, summary=results.summary)
        value = origin.metrics.get(f"test_{metric.name}")
        if origin.refit is None and isinstance(value, int | float) and row["seeds"] > 1:
            yield (
                "This network is the one of them that is best on the select split; its own "
                f"{metric.on('test')} is {metric.score(float(value))}."
            )
        worst = float(row["low" if results.objective.sign > 0 else "high"])
        mean = float(row["mean"])
        scored = Scored(family=training.key.family, split="test", score=mean, worst=worst)
    if beside := beside_constant(results, scored, "item"):
        yield beside.said
    if origin.refit is not None:
        splits = results.summary["data"]["splits"]
        if own.empty:
            test = "and that is not read for it"
        else:
            test = "and that was read once and is not read again"
        yield (
            "This network itself has not been measured: it was trained on "
            f"{origin.refit.num_items:,} items, those of train, valid and select together, which "
            f"leaves none to measure it on but the test split, {test}. The score is that of the "
            f"same configuration trained on the {splits['train']:,} items of train alone."
        )


def _bounds(origin: Origin) -> Iterator[str]:
    """Whether the configuration keeps within what the study asks of other metrics."""
    training, results = origin.training, origin.results
    for bound in results.bounds:
        value = training.valid(bound.objective)
        if not math.isnan(value):
            missed = ", which misses it" if bound.shortfall(value) else ""
            shown = metric_of(bound.objective).score(value)
            yield (
                f"The study asks for a {bound_words(bound)}: in the search this configuration had "
                f"{shown}{missed}."
            )
    number = training.key.number
    if number in set(chosen_trainings(results, training.key.family)["trial"]):
        yield from on_test(results, training.key.family)


def _confirmed(metric: Metric, row: Mapping[Any, Any], *, summary: Mapping[str, Any]) -> str:
    """The score on test, with its interval and what it rests on."""
    seeds, items = int(row["seeds"]), int(summary["data"]["splits"].get("test", 0))
    said = f"{_titled(metric, 'test')}: {metric.score(float(row['mean']))}"
    if metric.name in COUNTS:
        return f"{said}, counted."
    if not math.isnan(float(row["low"])):
        low, high = (metric.score(float(row[name])) for name in ("low", "high"))
        said += f", 95% interval {low} to {high} ({row['basis']})"
    what = "fresh training" if seeds == 1 else f"mean of {seeds} fresh trainings"
    return (
        f"{said}; {what} of this configuration with new seeds, on {items:,} test items that "
        "neither the search nor the choice had seen."
    )


def _searched(metric: Metric, origin: Origin, has_epochs: bool) -> str:
    """The score on valid, and why it is too good."""
    training, results = origin.training, origin.results
    value = metric.score(training.valid(results.objective))
    tried = int((results.trials["family"] == training.key.family).sum())
    items = int(results.summary["data"]["splits"].get("valid", 0))
    between = " and between epochs" if has_epochs else ""
    return (
        f"{_titled(metric, 'validation')}: {value}, on {items:,} items. It is optimistic: these "
        f"items decided between {counted(tried, 'trial')}{between}. The configuration "
        "was not confirmed with fresh seeds, so it has no test score and no interval."
    )


def _titled(metric: Metric, split: str) -> str:
    return metric.title(split) + (f" ({metric.better})" if metric.better else "")


def _obtained(origin: Origin, has_epochs: bool) -> Iterator[str]:
    results, training = origin.results, origin.training
    summary, family = results.summary, training.key.family
    own = results.trials[results.trials["family"] == family]
    spent = float(own["seconds"].sum())
    budget = summary["budget"]
    length = f"; a full training has {counted(int(budget['epochs']), 'epoch')}"
    yield (
        f"Trial {training.key.number} of {counted(len(own), 'configuration')} of "
        f"{plain(family)} that were tried in {duration(spent)} of training, "
        f"{ORIGINS.get(training.trial.origin, training.trial.origin)}"
        f"{length if has_epochs else ''}. Seed of the study: {summary['seed']}."
    )
    if (searches := int(budget.get("repeats", 1))) > 1:
        yield (
            f"It is of search {summary.get('repeat', 1)} of {searches} of the study, and was not "
            "chosen among them."
        )
    yield _trained(origin, has_epochs)
    versions = [f"{name} {version}" for name, version in summary["versions"].items()]
    yield f"Made with {joined(versions)}, on {plain(summary['machine']['processor'])}."


def _trained(origin: Origin, has_epochs: bool) -> str:
    """Which training the network itself is of, and when in it."""
    if origin.refit is None:
        seed = origin.metrics.get("seed", origin.training.seed)
        when = ", as it was after its best epoch" if has_epochs else ""
        return f"The network of the training with seed {seed}{when}."
    said = f"Retrained (--refit) with seed {origin.refit.seed} on {origin.refit.num_items:,} items"
    scaling = "mean and spread for scaling are those of the train split."
    if not has_epochs:
        return f"{said}; {scaling}"
    return (
        f"{said} for {counted(origin.refit.epochs, 'epoch')} of that schedule: the median of the "
        "best epochs of the configuration's own trainings, as no split was left that could say "
        f"when to stop. The network is that after the last epoch; {scaling}"
    )


def _data(summary: Mapping[str, Any]) -> Iterator[str]:
    data = summary["data"]
    fingerprint = data["fingerprint"]
    yield f"Source: {plain(data['source'])}. Fingerprint of items and targets: `{fingerprint}`."
    splits = [f"{name} {count:,}" for name, count in data["splits"].items()]
    yield f"Items in the splits: {joined(splits)}."
    if data["notes"]:
        yield "\n".join(f"- {plain(note)}" for note in data["notes"])


def _limits(saved: "SavedModel", origin: Origin) -> Iterator[str]:
    data = saved.data
    yield (
        f"It knows items of {plain(data.source)} alone: how it does on items of another origin, "
        "camera or preparation is not known."
    )
    if data.has_images and saved.family.uses_images(data) and saved.family.goal != "generation":
        yield (
            f"Every image is brought to {data.height} x {data.width} pixels first; what lies "
            "outside the centre, or is smaller than a pixel there, is not seen."
        )
    if any(isinstance(module, Neighbours) for module in saved.network.modules()):
        yield "The files hold the features of every training item: who has them has those."
    if saved.family.goal == "prediction" and data.task == "classification":
        yield (
            "It answers with one of its classes whatever an item is, also where none of them is "
            "right."
        )
        if not origin.is_calibrated:
            yield "Whether it is right as often as its probabilities say has not been checked."


def model_metrics(folder: Path) -> dict[str, Any]:
    """`metrics.json` beside a model; empty where there is none that can be read."""
    import json

    try:
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
