"""What the section on the models' doings shows: pictures, codes, predictions, a GAN's balance."""

import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from torchstudy.analysis import evidence
from torchstudy.analysis.statistics import confirmed
from torchstudy.analysis.tables import VALID, numbers
from torchstudy.report import answer_figures, pictures, reliability
from torchstudy.report.formats import Metric, called, counted
from torchstudy.report.looks import look
from torchstudy.report.predicted import Quantity
from torchstudy.report.sections import Content, Table
from torchstudy.report.story import Story

MOST_POINTS = 3000  # of a scatter: more hide each other and weigh on the page
MOST_CLASSES = 40  # of a confusion matrix: cells of more are too small to read
MOST_PAIRS = 5
SIDES = (look(1), look(0))  # of the discriminator and of real images, then of the other side
MADE_UP = "In every row from the same random numbers; nobody picked them."
FOLLOWED = "In every row the same items of the validation split; nobody picked them."
CAPTIONS = {"pca": "principal components"}
Panel = dict[str, Any]
Made = tuple[Panel, go.Figure | None] | None


def exhibits(story: Story) -> Content:
    """A panel for each family and each thing that it left; a study may have left none."""
    drawn: dict[str, go.Figure] = {}
    galleries = [one for name in story.results.families if (one := _gallery(story, name))]
    panels: list[Panel] = []
    for make in (_codes, _truth, _confusion, _confidence, _losses, _scores):
        for name in story.results.families:
            if not (made := make(story, name)):
                continue
            panel, figure = made
            panels.append(panel | {"is_drawn": figure is not None})
            if figure is not None:
                drawn[panel["name"]] = figure
    return Content(context={"galleries": galleries, "panels": panels}, figures=drawn)


def _gallery(story: Story, family: str) -> Panel | None:
    strips = evidence.strips(story.results.gallery(family))
    if not strips:
        return None
    last = max((strip.epoch for strip in strips if strip.epoch is not None), default=None)
    rows = []
    for strip in strips:
        shown = pictures.row(strip.images)
        caption = CAPTIONS.get(strip.caption, strip.caption)
        when = _when(strip.epoch, is_last=strip.epoch == last)
        alt = f"{counted(shown.items, 'picture')}: {caption}{when and f', {when}'}"
        rows.append({"caption": caption, "when": when, "alt": alt, "row": shown})
    is_made_up = all(strip.epoch is not None for strip in strips)
    return {
        **_named(story, family, "pictures over the epochs"),
        "about": [MADE_UP if is_made_up else FOLLOWED, *_yardsticks(story, family)],
        "rows": rows,
    }


def _yardsticks(story: Story, family: str) -> list[str]:
    """How the family's means compare with simple means to the same end, one sentence each."""
    where, means = _means(story, family)
    found = []
    if {"psnr", "noisy_psnr", "median_psnr"} <= means.keys():
        restored, noisy, median = (
            Metric(name="psnr").score(means[name]) for name in ("psnr", "noisy_psnr", "median_psnr")
        )
        found.append(
            f"{where}, restored images have a PSNR of {restored}; the noisy ones have {noisy}, and "
            f"a median filter brings them to {median}."
        )
    if {"reconstruction_error", "pca_error"} <= means.keys():
        metric = Metric(name="reconstruction_error")
        own, linear = means["reconstruction_error"], means["pca_error"]
        times = f", {own / linear:.2f} times that" if linear > 0 else ""
        found.append(
            f"{where}, the {metric.words} is {metric.score(own)}{times} of principal components "
            f"with as many numbers ({metric.score(linear)})."
        )
    if "coverage" in means:
        share = f"{100 * means['coverage']:.0f}%"
        found.append(f"{where}, {share} of the real images have a generated one nearby.")
    return found


def _means(story: Story, family: str) -> tuple[str, dict[str, float]]:
    """Where, and the means there: of fresh trainings on test, else of the selected trial."""
    table, prefix, where = confirmed(story.results, family), "test_", "On the test split"
    if table.empty:
        chosen = story.selected.loc[story.selected["family"] == family, "trial"]
        is_own = (story.trials["family"] == family) & story.trials["trial"].isin(chosen)
        table, prefix = story.trials[is_own.fillna(False).astype(bool)], VALID
        where = "On the validation split, after the last epoch"
    names = [str(name) for name in table if str(name).startswith(prefix)]
    means = {name.removeprefix(prefix): float(numbers(table, name).mean()) for name in names}
    return where, {name: mean for name, mean in means.items() if math.isfinite(mean)}


def _codes(story: Story, family: str) -> Made:
    found = evidence.coded(story.results, family)
    if found is None:
        return None
    size = len(evidence.code_names(found.table))
    panel = _panel(story, family, "codes", "a map of the codes" if size == 2 else "codes")
    if size != 2:
        each = f"{called(family)} turns each {story.noun} into {counted(size, 'number')}"
        where = f"evidence/{called(family)}/codes.parquet"
        return panel | {"about": [f"{each}: a table of them is in {where} and codes.csv."]}, None
    points = evidence.sampled(found.table, MOST_POINTS)
    about = (
        f"Each mark is one of {counted(len(points), f'{found.split} {story.noun}')}, placed by "
        "the two numbers that the network keeps of it. Marks that lie together are alike to it."
    )
    figure = answer_figures.code_map(points, _classes(story))
    return panel | {"about": [about]}, figure


def _truth(story: Story, family: str) -> Made:
    found = evidence.estimated(story.results, family)
    if found is None:
        return None
    close = evidence.closeness(found.table)
    one = found.table[found.table["seed"] == found.table["seed"].iloc[0]]
    points = evidence.sampled(one, MOST_POINTS)
    r2, mae = Metric(name="r2"), Metric(name="mae")
    asked = Quantity.of(story.results.summary)
    means = f" (means over {counted(found.seeds, 'fresh seed')})" if found.seeds > 1 else ""
    explained = f"{r2.words} is {r2.score(close.r2)} and the" if close.r2 == close.r2 else "The"
    same = f"; to give all the same mean has {r2.words} 0" if close.r2 == close.r2 else ""
    about = [
        f"{explained} {mae.words} of {called(asked.target)} is {mae.score(close.mae)} on "
        f"{counted(found.items, f'{found.split} {story.noun}')}{means}.",
        f"On the dashed line a prediction is right{same}."
        + (" The marks are those of one seed." if found.seeds > 1 else ""),
    ]
    factor = float(asked.meant(np.array(close.median)))
    if asked.is_log and math.isfinite(factor):
        about.insert(
            1, f"Half of the predictions are within a factor of {factor:.3g} of the truth."
        )
    panel = _panel(story, family, "truth", "predicted against true")
    figure = answer_figures.predicted(points, asked, story.looks[family])
    return panel | {"about": about}, figure


def _confusion(story: Story, family: str) -> Made:
    found = evidence.classified(story.results, family)
    if found is None:
        return None
    counts = evidence.confusion(found.table, _classes(story))
    seeds = f" by each of {counted(found.seeds, 'fresh seed')}" if found.seeds > 1 else ""
    split = "validation" if found.split == "valid" else found.split
    about = [f"Answers to {counted(found.items, f'{split} {story.noun}')}{seeds}."]
    is_drawn = len(counts) <= MOST_CLASSES
    if is_drawn:
        about.append("Rows are true classes; numbers are percent of their row.")
    pairs = evidence.confused_pairs(counts, MOST_PAIRS)
    if pairs.empty:
        about.append("There is no mistake among them.")
    panel = _panel(story, family, "confusion", "what is taken for what")
    panel |= {"about": about, "table": None if pairs.empty else _pairs_table(pairs)}
    return panel, answer_figures.confused(counts) if is_drawn else None


def _pairs_table(pairs: pd.DataFrame) -> Table:
    return Table(
        head=("True class", "Taken for", "Times", "Of the class"),
        rows=[
            (
                called(row["target"]),
                called(row["predicted"]),
                f"{row['n']:,}",
                f"{100 * row['n'] / row['of']:.1f}%",
            )
            for row in pairs.to_dict("records")
        ],
    )


def _confidence(story: Story, family: str) -> Made:
    found = reliability.believable(story, family)
    if found is None:
        return None
    about, figure = found
    panel = _panel(story, family, "confidence", "is its confidence right?")
    return panel | {"about": about}, figure


def _losses(story: Story, family: str) -> Made:
    rows = evidence.contest(story.results, family)
    if rows[["train_loss_discriminator", "train_loss_generator"]].isna().all(axis=None):
        return None
    about = (
        "Losses in training. They need not fall: the task of each network gets harder as the "
        "other one gets better."
    )
    panel = _panel(story, family, "losses", "losses of generator and discriminator")
    return panel | {"about": [about]}, answer_figures.losses(rows, SIDES)


def _scores(story: Story, family: str) -> Made:
    rows = evidence.contest(story.results, family)
    if rows[["valid_real_score", "valid_fake_score"]].isna().all(axis=None):
        return None
    about = (
        "What the discriminator makes of validation images and of generated ones. Lines that meet "
        "mean that it cannot tell them apart; at 1 and 0 the generator learns nothing from it."
    )
    panel = _panel(story, family, "scores", "what the discriminator believes")
    return panel | {"about": [about]}, answer_figures.scores(rows, SIDES)


def _classes(story: Story) -> list[str]:
    return [str(name) for name in (story.results.summary.get("data") or {}).get("classes") or []]


def _named(story: Story, family: str, title: str) -> Panel:
    return {"family": called(family), "look": story.looks[family], "title": title}


def _panel(story: Story, family: str, kind: str, title: str) -> Panel:
    """A panel without its sentences; `name` is that of its figure, if there is one."""
    place = story.results.families.index(family)
    return {**_named(story, family, title), "name": f"{kind}-{place}", "table": None}


def _when(epoch: int | None, *, is_last: bool) -> str:
    if epoch is None:
        return ""
    when = "untrained" if epoch == 0 else f"after epoch {epoch}"
    return f"{when}, the last" if is_last and epoch else when
