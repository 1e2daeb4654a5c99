"""A saved model as one function of raw inputs: bytes of images and plain columns to answers."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor, nn

from torchstudy.data.spec import DataSpec
from torchstudy.errors import StudyError
from torchstudy.models.saved import SavedModel
from torchstudy.training.batches import Batch

if TYPE_CHECKING:
    import pandas as pd

Answer: TypeAlias = Literal["classes", "value", "images", "samples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Inputs on which an exported file is compared with the network, and what to call them."""

    inputs: tuple[Tensor, ...]
    words: str  # `64 validation images`


class Deployed(nn.Module):
    """The whole network with everything before and after it, in eval mode.

    Called with one tensor for each name in `takes`, all of as many items: `images` are uint8
    (items, [views,] channels, height, width), `numbers` float64 (items, columns) in the columns'
    own units, NaN where one is missing, `categories` int64 codes (items, columns), 0 for unknown,
    `noise` float32 (items, numbers).

    It gives what `gives` says: "classes" are probabilities (items, classes), "value" is (items,) in
    the target's own unit, also where the network predicts its logarithm, "images" and "samples"
    are pixels in [0, 1].
    """

    mean: Tensor
    std: Tensor
    number_means: Tensor
    number_stds: Tensor

    def __init__(self, saved: SavedModel) -> None:
        super().__init__()
        self.network = saved.network.eval().requires_grad_(False)
        self.family, self.data = saved.family, saved.data
        self._preprocessing = saved.preprocessing
        self.temperature: float | None = saved.temperature
        self.gives = gives(saved)
        self.takes = tuple(_takes(saved))
        statistics = saved.preprocessing.mean, saved.preprocessing.std
        mean, std = (torch.tensor(values)[:, None, None] for values in statistics)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        columns = saved.data.number_means, saved.data.number_stds
        means, stds = (torch.tensor(values, dtype=torch.float64) for values in columns)
        self.register_buffer("number_means", means)
        self.register_buffer("number_stds", stds)
        self.eval()

    def forward(self, *inputs: Tensor) -> Tensor:
        """The answers to raw inputs, in the order of `takes`."""
        given = dict(zip(self.takes, inputs, strict=True))
        if self.gives == "samples":
            made: Tensor = self.network(given["noise"])
            return made * self.std + self.mean
        count = inputs[0].shape[0]
        images, numbers = given.get("images"), given.get("numbers")
        batch = Batch(
            inputs[0].new_zeros((count, 0), dtype=torch.float32)
            if images is None
            else self._preprocessing(images),
            inputs[0].new_zeros(count, dtype=torch.int64),
            None if numbers is None else self._standardised(numbers),
            given.get("categories"),
        )
        if self.gives == "images":
            return self.family.outputs(self.network, batch) * self.std + self.mean
        found = self.family.predict(self.network, self.data, batch)
        assert found is not None
        if self.data.log_target:
            return found.double().exp()
        return found if self.temperature is None else _tempered(found, self.temperature)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of what one image is made of, where images are made of noise."""
        noise: Tensor = self.network.noise(1)  # type: ignore[operator]  # a method of it
        return tuple(noise.shape[1:])

    def _standardised(self, numbers: Tensor) -> Tensor:
        """As `data.encoding.Encoding` does it."""
        scaled = (numbers - self.number_means) / self.number_stds
        return torch.nan_to_num(scaled, nan=0.0).float()


def gives(saved: SavedModel) -> Answer:
    """What the deployed network of a model answers with."""
    goal = saved.family.goal
    if goal == "generation":
        return "samples"
    if goal != "prediction":
        return "images"
    return "classes" if saved.data.task == "classification" else "value"


def own_answers(saved: SavedModel, probe: Probe) -> Tensor:
    """What the model itself answers to the inputs of a probe, by the way that users call it."""
    deployed = Deployed(saved)
    if deployed.gives in ("images", "samples"):
        with torch.inference_mode():
            answers: Tensor = deployed(*probe.inputs)
        return answers
    given = dict(zip(deployed.takes, probe.inputs, strict=True))
    table = _table(saved.data, given, len(probe.inputs[0]))
    return saved.predict(given.get("images"), table, unknown="other")


def tolerance(saved: SavedModel) -> float:
    """By how much an exported program may differ from the network.

    Sums of 32-bit numbers in another order differ by about a millionth, and through a hundred
    layers by less than a hundred times that: 0.0001 of a probability, of the range of a pixel, or
    of the spread of what the network predicts, be it a logarithm. What is more is another network.
    """
    return 1e-4 * (saved.data.target_std if gives(saved) == "value" else 1.0)


def example(deployed: Deployed, count: int = 2) -> tuple[Tensor, ...]:
    """Inputs of zeros: what a program is traced with, so that it holds nobody's data."""
    return tuple(_inputs(deployed, lambda name, shape: torch.zeros(count, *shape)))


def random_probe(deployed: Deployed, count: int, seed: int = 0) -> Probe:
    """Inputs at random, where there are no real ones: pixels, columns as in training, noise."""
    generator, data = torch.Generator().manual_seed(seed), deployed.data

    def drawn(name: str, shape: Sequence[int]) -> Tensor:
        if name == "images":
            return torch.randint(0, 256, (count, *shape), generator=generator)
        if name == "categories":
            share = torch.rand(count, *shape, generator=generator)
            return (share * torch.tensor(data.cardinalities)).floor()
        normal = torch.randn(count, *shape, generator=generator)
        if name == "noise":
            return normal
        return normal.double() * deployed.number_stds + deployed.number_means

    what = "draws of noise" if deployed.gives == "samples" else "random inputs"
    return Probe(inputs=tuple(_inputs(deployed, drawn)), words=f"{count} {what}")


def real_probe(deployed: Deployed, batch: Batch, words: str) -> Probe:
    """Items of the data, as they lie there: uint8 pixels, standardised columns."""
    found: dict[str, Tensor] = {"images": batch.inputs}
    if batch.numbers is not None:
        raw = batch.numbers.double() * deployed.number_stds + deployed.number_means
        found["numbers"] = raw
    if batch.categories is not None:
        found["categories"] = batch.categories
    return Probe(inputs=tuple(found[name] for name in deployed.takes), words=words)


def largest_difference(saved: SavedModel, one: Tensor, other: Tensor) -> float:
    """The largest absolute difference of two answers of a model, or of the logarithms it predicts.

    Infinite where shapes differ or one is not a number.
    """
    if one.shape != other.shape:
        return math.inf
    one, other = one.double(), other.double()
    if saved.data.log_target:
        one, other = one.log(), other.log()
    apart = (one - other).abs().max().item() if one.numel() else 0.0
    return math.inf if math.isnan(apart) else apart


def _takes(saved: SavedModel) -> Iterator[str]:
    if gives(saved) == "samples":
        if not hasattr(saved.network, "noise"):
            raise StudyError(
                f"{type(saved.family).__name__} generates images, but its network has no method "
                "noise(count) that draws what it is called with: it cannot be exported"
            )
        yield "noise"
        return
    if saved.family.uses_images(saved.data):
        yield "images"
    if saved.data.has_table and not _does_without_table(saved):
        if saved.data.numbers:
            yield "numbers"
        if saved.data.categories:
            yield "categories"


def _inputs(deployed: Deployed, made: Callable[[str, Sequence[int]], Tensor]) -> Iterator[Tensor]:
    """One tensor per input, of its own type; `made` gets the name and the shape of one item."""
    data = deployed.data
    views = (data.views,) if data.views > 1 else ()
    for name in deployed.takes:
        if name == "images":
            yield made(name, (*views, *data.shape)).to(torch.uint8)
        elif name == "numbers":
            yield made(name, (len(data.numbers),)).double()
        elif name == "categories":
            yield made(name, (len(data.categories),)).long()
        else:
            yield made(name, deployed.noise_shape)


def _tempered(probabilities: Tensor, temperature: float) -> Tensor:
    """The probabilities (items, classes) of logits that are divided by a temperature."""
    least = torch.finfo(probabilities.dtype).tiny
    logits = probabilities.double().clamp_min(least).log() / temperature
    return logits.softmax(dim=1).to(probabilities.dtype)


def _does_without_table(saved: SavedModel) -> bool:
    """Whether the family looks at the images alone, though the data have columns as well."""
    if not saved.family.uses_images(saved.data):
        return False
    views = (saved.data.views,) if saved.data.views > 1 else ()
    images = saved.preprocessing(torch.zeros(1, *views, *saved.data.shape, dtype=torch.uint8))
    try:
        with torch.inference_mode():
            saved.family.outputs(saved.network, Batch(images, torch.zeros(1, dtype=torch.int64)))
    except Exception:  # a family's code that misses its columns may raise anything
        return False
    return True


def _table(data: DataSpec, given: Mapping[str, Tensor], count: int) -> "pd.DataFrame | None":
    """Raw columns as users give them; what the network does not look at is missing."""
    if not data.has_table:
        return None
    import pandas as pd

    numbers = given.get("numbers", torch.full((count, len(data.numbers)), math.nan))
    codes = given.get("categories", torch.zeros(count, len(data.categories), dtype=torch.int64))
    columns: dict[str, list[float] | list[str]] = {}
    for name, column in zip(data.numbers, numbers.T, strict=True):
        columns[name] = column.tolist()
    for name, values, column in zip(data.categories, data.category_values, codes.T, strict=True):
        columns[name] = [("", *values)[code] for code in column.tolist()]
    return pd.DataFrame(columns)
