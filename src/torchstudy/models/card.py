"""The model card of an export, `README.md`: what the network is, how it came to be, its limits."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torchstudy.data.spec import DataSpec
from torchstudy.families.base import Family
from torchstudy.models.deployed import Deployed
from torchstudy.models.standalone import usage
from torchstudy.values import Value
from torchstudy.visible import on_one_line

MARKED = re.compile(r"([\\`*_{}\[\]<>#|])")  # letters that Markdown takes for its own
MOST_CLASSES = 100  # that are listed; config.json has all


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What only the study knows of a model, in whole sentences."""

    study: str
    family: str
    description: str
    trial: int
    config: Mapping[str, Value]
    score: tuple[str, ...]
    obtained: tuple[str, ...]
    data: tuple[str, ...]
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One file of an export: its size, and how far its answers are from the network's.

    `difference` is NaN where there is nothing to compare, and `note` says what there is to say.
    """

    name: str
    size: int
    difference: float
    note: str = ""


def card(facts: Facts, deployed: Deployed, made: Sequence[Made], probed: str, most: float) -> str:
    """The card as Markdown."""
    sections = {
        "": [f"{capital(purpose(deployed))}.", facts.description, _parameters(deployed)],
        "Score": facts.score,
        "Limits": facts.limits,
        "What it takes and gives": list(_interface(deployed)),
        "Files": list(_files(deployed.data, made, probed, most)),
        "How to use it": list(_uses(deployed, made)),
        "How it was obtained": facts.obtained,
        "Data": facts.data,
        "Configuration": list(_configuration(deployed.family, facts.config)),
    }
    text = [f"# {plain(facts.family)} of the study {plain(facts.study)}", ""]
    for title, paragraphs in sections.items():
        text += [f"## {title}", ""] if title else []
        text += [line for paragraph in paragraphs if paragraph for line in (paragraph, "")]
    return "\n".join(text)


def plain(text: str) -> str:
    """A text that came with data, on one line, as Markdown shows it."""
    return MARKED.sub(r"\\\1", on_one_line(text))


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def purpose(deployed: Deployed) -> str:
    """What the network does, in one line."""
    data = deployed.data
    item = _item(deployed)
    if deployed.gives == "classes":
        return f"tells which of {data.num_classes} classes {item} belongs to"
    if deployed.gives == "value":
        return f"predicts {plain(data.quantity)} of {item}"
    if deployed.gives == "samples":
        return f"makes images of {_pixels(data)} from noise"
    what = "takes noise out of" if deployed.family.goal == "restoration" else "rebuilds"
    return f"{what} {item}"


def _parameters(deployed: Deployed) -> str:
    count = sum(parameter.numel() for parameter in deployed.network.parameters())
    return f"The network has {count:,} parameters, frozen parts included."


def _item(deployed: Deployed) -> str:
    has_images = "images" in deployed.takes
    if deployed.takes == ("images",):
        views = deployed.data.views
        return "an image" if views == 1 else f"an item with {views} images"
    return f"a row of a table{' and its images' if has_images else ''}"


def _pixels(data: DataSpec) -> str:
    colours = "grey" if data.channels == 1 else "RGB"
    return f"{data.height} x {data.width} {colours} pixels"


def _order(data: DataSpec) -> str:
    return ", in the order red, green, blue" if data.channels == 3 else ""


def _interface(deployed: Deployed) -> Iterator[str]:
    """Inputs and output of the program and of ONNX."""
    data = deployed.data
    views = f"{data.views}, " if data.views > 1 else ""
    said = {
        "images": f"`images`: uint8 (items, {views}{data.channels}, {data.height}, {data.width}), "
        f"bytes as in the files{_order(data)}. Scaling to [0, 1], mean and spread "
        "are inside the network. `predict.py` shows how a file is read: upright, what is "
        "transparent on white, short side scaled to size (bilinear), centre cut out.",
        "numbers": "`numbers`: float64 (items, columns) in the columns' own units, NaN where one "
        f"is missing, in this order: {_listed(data.numbers)}.",
        "categories": "`categories`: int64 (items, columns), the place of the value in "
        "`category_values` of config.json counted from 1, 0 for any other; columns: "
        f"{_listed(data.categories)}.",
        "noise": f"`noise`: float32 (items, {', '.join(map(str, _noise(deployed)))}), drawn from "
        "the standard normal distribution.",
    }
    yield "\n".join(f"- {said[name]}" for name in deployed.takes)
    given = {
        "classes": f"Answers are probabilities, float32 (items, {data.num_classes}), in the order "
        f"of the classes: {_listed(data.classes)}.{_at_temperature(deployed)}",
        "value": f"Answers are values of {plain(data.quantity)}, float64 (items), in its own unit."
        + data.log_target * " The network predicts the natural logarithm; `exp` is inside it.",
        "images": "Answers are images in [0, 1], float32, of the shape of the inputs.",
        "samples": f"Answers are images in [0, 1], float32 (items, {data.channels}, {data.height}, "
        f"{data.width}).",
    }
    yield given[deployed.gives]


def _at_temperature(deployed: Deployed) -> str:
    if deployed.temperature is None:
        return ""
    return f" They are at the temperature {deployed.temperature:.4g} that calibration.json states."


def _noise(deployed: Deployed) -> tuple[int, ...]:
    return deployed.noise_shape if deployed.gives == "samples" else ()


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - MOST_CLASSES
    more = f" and {rest} more, which config.json lists" if rest > 0 else ""
    return ", ".join(map(plain, names[:MOST_CLASSES])) + more


def _files(data: DataSpec, made: Sequence[Made], probed: str, most: float) -> Iterator[str]:
    rows = ["| file | bytes | largest difference | |", "|---|---:|---:|---|"]
    rows += [
        f"| {each.name} | {each.size:,} | {shown(each.difference)} | {each.note} |"
        if each.size
        else f"| {each.name} | | | {each.note} |"
        for each in made
    ]
    yield "\n".join(rows)
    answers = "the answers' logarithms" if data.log_target else "the answers"
    yield (
        "Each file that holds the network was read back and asked about the same inputs as the "
        f"network itself ({probed}, all at once and the first alone); the table states the largest "
        f"absolute difference of {answers}. An export with more than {most:.3g} is refused: sums "
        "of 32-bit numbers in another order differ by less."
    )


def shown(difference: float) -> str:
    """A difference as it is read; nothing where there is none to state."""
    if difference != difference:
        return ""
    return "0" if difference == 0 else f"{difference:.1e}"


def _uses(deployed: Deployed, made: Sequence[Made]) -> Iterator[str]:
    names = {each.name for each in made if each.size}
    inputs = ", ".join(deployed.takes)
    yield (
        "From the command line, with torch, torchvision and pillow and nothing else:\n\n"
        f"    {usage(deployed)}"
    )
    yield (
        "With torch alone:\n\n```python\nimport torch\n\n"
        'model = torch.export.load("model.pt2").module()\n'
        f"answers = model({inputs})\n```"
    )
    if "model.onnx" in names:
        fed = ", ".join(f'"{name}": {name}' for name in deployed.takes)
        yield (
            "With ONNX Runtime, on NumPy arrays:\n\n```python\nimport onnxruntime\n\n"
            'session = onnxruntime.InferenceSession("model.onnx")\n'
            f"(answers,) = session.run(None, {{{fed}}})\n```"
        )
    yield (
        "With torchstudy, which makes the network from config.json and model.pt "
        "(model.safetensors holds the same weights):\n\n```python\n"
        "from torchstudy import load_model\n\n"
        'model = load_model(".")\n```'
    )


def _configuration(family: Family, config: Mapping[str, Value]) -> Iterator[str]:
    rows = ["| hyperparameter | value |", "|---|---|"]
    rows += [f"| {plain(name)} | {plain(_setting(value))} |" for name, value in config.items()]
    yield "\n".join(rows)


def _setting(value: Value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
