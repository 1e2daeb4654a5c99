"""What families that rebuild images share: pixels from 0 to 1, and blocks that halve and double."""

from torch import Tensor, nn

from torchstudy.data.spec import DataSpec
from torchstudy.families.blocks import activation, normalisation, pooled_activation
from torchstudy.training.batches import Preprocessing


def unit_pixels(data: DataSpec) -> Preprocessing:
    """Pixels stay in [0, 1], where errors of reconstruction compare."""
    return Preprocessing(mean=(0.0,) * data.channels, std=(1.0,) * data.channels)


def several_views(data: DataSpec) -> tuple[str, ...]:
    """The problem of items with more than one image, if it is one."""
    if data.views == 1:
        return ()
    return (f"takes one image an item, but the data have {data.views}; use MultiInput",)


def level_widths(channels: int, width: int, depth: int) -> list[int]:
    """Channels of the image, then of each level below: `width`, doubled every time."""
    return [channels, *(width * 2**level for level in range(depth))]


def level_sizes(data: DataSpec, depth: int) -> list[tuple[int, int]]:
    """(height, width) of the image, then of each level below: halved, rounded down."""
    return [(data.height >> level, data.width >> level) for level in range(depth + 1)]


def halving(narrow: int, wide: int, *, norm: str, act: str) -> list[nn.Module]:
    """Convolve from `narrow` to `wide` channels and halve the image, rounding down."""
    return [
        nn.Conv2d(narrow, wide, 3, padding=1),
        *normalisation(norm, wide),
        *pooled_activation(act, "max"),
    ]


def doubling(wide: int, narrow: int, size: tuple[int, int]) -> nn.ConvTranspose2d:
    """A transposed convolution from half of `size`, rounded down, to exactly `size`.

    A kernel of 4 at stride 2 covers every pixel equally often: one of 3 leaves a checkerboard
    (Odena et al. 2016).
    """
    odd = (size[0] % 2, size[1] % 2)
    return nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, output_padding=odd)


def activated(channels: int, *, norm: str, act: str) -> list[nn.Module]:
    """Normalisation and activation, as after a convolution."""
    return [*normalisation(norm, channels), activation(act)]


def squared_error(images: Tensor, originals: Tensor) -> float:
    """The sum over all pixels, in double precision, so that the size of batches does not show."""
    return float((images.double() - originals.double()).square().sum())
