"""What a family must know of the data to build a network: shape, classes, statistics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """The data as a network sees them.

    `mean` and `std` are per channel over the training split, of pixels scaled to [0, 1].
    `fingerprint` identifies the images and labels, whatever the split and the image size. `sketch`
    is the bottom-k sketch of the images' hashes: two data sets that share images share entries.
    """

    source: str
    channels: int
    height: int
    width: int
    classes: tuple[str, ...]
    num_train: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    num_features: int = 0  # where the network takes ready features instead of images
    fingerprint: str = ""
    sketch: tuple[int, ...] = ()

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        return (self.channels, self.height, self.width)
