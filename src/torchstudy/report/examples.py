"""What each trial makes of the same few items: pictures small enough to lie in the page."""

import base64
import io
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torchstudy.analysis.examples import Examples, Made, read_examples
from torchstudy.analysis.progress import search_epochs
from torchstudy.analysis.tables import VALID
from torchstudy.errors import StudyError
from torchstudy.report.exhibits import CAPTIONS
from torchstudy.report.formats import ABSENT, Metric, counted, shortened
from torchstudy.report.pictures import colors, row
from torchstudy.report.predicted import Quantity
from torchstudy.report.story import Story

MOST_CHARACTERS = 500_000  # of all trials' answers and pictures, as they lie in the page
QUALITY = 60  # of WebP; small grey pictures take a third of what they do as PNG
TINY = 16  # pixels of a picture that has no detail to lose
SHOWN_SIDE = 56  # pixels that a small picture takes on the screen
MOST_CELLS = 6  # of a table's row: what a card has room for
CELL = 24  # characters of a column's name, or of what stands in it
GAP = 1  # clear pixel between two pictures

TITLE = "What it makes of data it did not learn from"
MADE_TITLE = "What it makes of noise"
MADE_UP = "Some of its images, which nobody picked"

Shown = dict[str, Any]


def shown_examples(story: Story) -> Shown | None:
    """The items with their pictures and, per row of the table of trials, what the trial made.

    A row is None where nothing is known of a trial, and has only its `epoch` where what there is
    was left out: the best trials of each family come first, and the page has to carry the rest.
    None without any; `problem` where a file is damaged.
    """
    try:
        found = read_examples(story.results.folder)
        return None if found is None else _shown(story, found)
    except StudyError as error:
        return {"problem": str(error)}


def _shown(story: Story, found: Examples) -> Shown:
    data = story.results.summary.get("data") or {}
    classes = [str(name) for name in data.get("classes") or []]
    quantity = Quantity.of(story.results.summary)
    strips = _Strips()
    rows: list[Shown | None] = [None] * len(story.trials)
    answers = _answers(found, classes, quantity)
    metric, of_all = _of_the_split(story)
    left = MOST_CHARACTERS
    families, trials = story.trials["family"].tolist(), story.trials["trial"].tolist()
    with found.pictures() as made_by:
        for place in _best_first(story):
            key = (families[place], int(trials[place]))
            told = answers.get(key)
            if left <= 0 and (told or key in found.pictured):
                rows[place] = {}
                continue
            made = made_by(*key)
            if told is None and not made:
                continue
            before = strips.characters
            entry = {**(told or {"epoch": made[0].epoch})}
            if (value := of_all.get((*key, entry["epoch"]))) is not None:
                entry["score"] = metric.score(value)
            if made:
                entry["strips"] = [_captioned(one, strips) for one in made]
            left -= len(json.dumps(entry)) + strips.characters - before
            rows[place] = entry
    is_made_up = _is_made_up(story)
    items = f"The same {counted(len(found.names), f'validation {story.noun}')} for every trial"
    original = None
    if found.images is not None and found.pictured and not is_made_up:
        original = strips.place_of(found.images)
    return {
        "title": MADE_TITLE if is_made_up else TITLE,
        "about": MADE_UP if is_made_up else items,
        "metric": None if metric.is_accuracy else metric.words,
        "all": f"all {counted(story.split_size('valid'), f'validation {story.noun}')}",
        "classes": classes,
        "target": quantity.name,
        "items": [] if is_made_up else _items(found, classes, quantity),
        "original": original,
        "rows": rows,
        "strips": strips.given,
    }


class _Strips:
    """Pictures side by side, each kept once: many trials make the same of an item."""

    def __init__(self) -> None:
        self.given: list[Shown] = []
        self.characters = 0
        self._places: dict[str, int] = {}

    def place_of(self, images: NDArray[np.uint8]) -> int:
        """The number of the strip with these images, which is new or one that is there."""
        address, width, height = strip(images)
        if address not in self._places:
            self._places[address] = len(self.given)
            self.given.append({"address": address, "width": width, "height": height})
            self.characters += len(address)
        return self._places[address]


def _captioned(made: Made, strips: _Strips) -> list[Any]:
    return [CAPTIONS.get(made.caption, made.caption), strips.place_of(made.images)]


def strip(images: NDArray[np.uint8]) -> tuple[str, int, int]:
    """The address of images (items, channels, height, width) side by side, and how to show it."""
    items, _, height, width = images.shape
    canvas = np.zeros((height, items * (width + GAP) - GAP, 4), dtype=np.uint8)
    for place, image in enumerate(images):
        area = canvas[:, place * (width + GAP) :][:, :width]
        area[..., :3], area[..., 3] = colors(image), 255
    is_tiny = max(height, width) <= TINY
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, format="WEBP", lossless=is_tiny, quality=QUALITY)
    address = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    times = max(1, round(SHOWN_SIDE / max(height, width)))
    return address, times * canvas.shape[1], times * canvas.shape[0]


def _of_the_split(story: Story) -> tuple[Metric, dict[tuple[str, int, int], float]]:
    """A metric and, by family, trial and epoch, its value on all validation items.

    It is accuracy wherever that was measured: eight answers in pictures are easily taken for it.
    None has a value where items are made up, or of a metric that nothing is measured on.
    """
    column = f"{VALID}accuracy"
    has_accuracy = column in story.results.epochs and story.results.epochs[column].notna().any()
    metric = Metric(name="accuracy") if has_accuracy else story.metric
    if _is_made_up(story) or not story.split_size("valid"):
        return metric, {}
    table = search_epochs(story.results, metric=metric.name)
    keys = zip(table["family"], table["trial"], table["epoch"], strict=True)
    return metric, dict(zip(keys, table["value"].tolist(), strict=True))


def _best_first(story: Story) -> list[int]:
    """Rows of the table of trials: the best of each family, the second best of each, and so on."""
    values = (-story.objective.sign * story.results.values).to_numpy(dtype=np.float64)
    order = np.argsort(values, kind="stable")  # those without a value come last
    families = story.trials["family"].tolist()
    ranks: dict[str, int] = defaultdict(int)
    found = []
    for place in order.tolist():
        found.append((ranks[families[place]], place))
        ranks[families[place]] += 1
    return [place for _, place in sorted(found)]


def _answers(
    found: Examples, classes: list[str], quantity: Quantity
) -> dict[tuple[str, int], Shown]:
    """What the trials answered: `guesses`, a class and percent each, or `values`.

    `sees` is False where the network did not look at the items' pictures.
    """
    codes, table = {name: code for code, name in enumerate(classes)}, found.table
    columns = [table[name].tolist() for name in ("family", "trial", "epoch")]
    percents = (100 * table["confidence"]).round().tolist()
    answers: dict[tuple[str, int], Shown] = {}
    seen = table["sees_images"].astype(object)
    for family, trial, epoch, name, percent, value, sees in zip(
        *columns, table["predicted"], percents, table["predicted_value"], seen, strict=True
    ):
        told = answers.setdefault((family, trial), {"epoch": epoch})
        if sees is False:  # not where nothing is known of it
            told["sees"] = False
        if name in codes:
            told.setdefault("guesses", []).append([codes[name], int(percent)])
        else:
            told.setdefault("values", []).append(quantity.shown(value))
    return answers


def _items(found: Examples, classes: list[str], quantity: Quantity) -> list[Shown]:
    """The items as they are: name, true class (a number) or value, picture, and a table's row."""
    items = []
    for place, (name, target) in enumerate(zip(found.names, found.targets.tolist(), strict=True)):
        item: Shown = {"name": name, "target": target if classes else quantity.shown(target)}
        if found.images is not None:
            shown = row(found.images[place : place + 1])
            item |= {"address": shown.address, "width": shown.width, "height": shown.height}
        if found.rows:
            item["row"] = _cells(found.rows[place])
        items.append(item)
    return items


def _cells(row: Mapping[str, str]) -> list[list[str]]:
    """The first columns of a row, and how many there are besides."""
    given = list(row.items())
    shown = given if len(given) <= MOST_CELLS else given[: MOST_CELLS - 1]
    cells = [[shortened(name, CELL), shortened(text, CELL) or ABSENT] for name, text in shown]
    rest = len(given) - len(shown)
    return [*cells, [f"and {counted(rest, 'column')} more", ""]] if rest else cells


def _is_made_up(story: Story) -> bool:
    """Whether all pictures are of noise, so that no item belongs to them."""
    families: dict[str, Any] = story.results.summary["families"]
    return {given.get("goal") for given in families.values()} == {"generation"}
