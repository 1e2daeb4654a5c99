"""What a family must know of the data to build a network: shape, target, columns, statistics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Task: TypeAlias = Literal["classification", "regression"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """The data as a network sees them.

    `mean` and `std` are per channel over the training split, of pixels scaled to [0, 1];
    `channels` is 0 where there are no images, `views` counts the images of one item. `numbers` and
    `categories` name the columns of a table, in order, with their statistics over the training
    split. `fingerprint` identifies images and labels, whatever the split and the image size, and
    `sketch` is the bottom-k sketch of the images' hashes: data that share images share entries.
    """

    source: str
    channels: int
    height: int
    width: int
    classes: tuple[str, ...]  # none for regression
    num_train: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    num_features: int = 0  # where the network takes ready features instead of images
    fingerprint: str = ""
    sketch: tuple[int, ...] = ()
    views: int = 1
    task: Task = "classification"
    target: str = "class"  # what is predicted, in words
    target_mean: float = 0.0  # of a number to predict, over the training split
    target_std: float = 1.0
    class_counts: tuple[int, ...] = ()  # training items per class
    numbers: tuple[str, ...] = ()
    number_means: tuple[float, ...] = ()
    number_stds: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    category_values: tuple[tuple[str, ...], ...] = ()  # those of the training split, sorted
    image_columns: tuple[str, ...] = ()  # of a table: one per view
    log_target: bool = False  # whether the number to predict is the logarithm of what is meant

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> "DataSpec":
        """The spec that `dataclasses.asdict` described, also after a passage through JSON."""
        return cls(**{name: _as_tuples(value) for name, value in described.items()})

    @property
    def num_classes(self) -> int:
        """How many classes there are; 0 for regression."""
        return len(self.classes)

    @property
    def quantity(self) -> str:
        """What the target is a number of: `price` also where its logarithm is predicted."""
        return self.target.removeprefix("log ") if self.log_target else self.target

    @property
    def num_outputs(self) -> int:
        """Outputs of a network: one logit for two classes, one per class for more, one number."""
        return self.num_classes if self.num_classes > 2 else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        return (self.channels, self.height, self.width)

    @property
    def has_images(self) -> bool:
        """Whether items have images."""
        return self.channels > 0

    @property
    def has_table(self) -> bool:
        """Whether items have columns of numbers or categories."""
        return bool(self.numbers or self.categories)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """How many codes each categorical column has; code 0 stands for any unknown value."""
        return tuple(len(values) + 1 for values in self.category_values)


def _as_tuples(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_as_tuples(item) for item in value)
    return value
