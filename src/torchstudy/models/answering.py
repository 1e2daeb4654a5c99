"""What a loaded model offers to those who ask it about files: `SavedModel`, seen from below."""

from typing import TYPE_CHECKING, Literal, Protocol

from torch import Tensor, nn

from torchstudy.data.spec import DataSpec
from torchstudy.families.base import Family
from torchstudy.training.batches import Batch, Preprocessing

if TYPE_CHECKING:
    import pandas as pd

BATCH_SIZE = 64  # images; those of 224 px take 38 MB as a network sees them


class Model(Protocol):
    """A trained network in eval mode, with what belongs to it."""

    @property
    def network(self) -> nn.Module:
        """The network."""

    @property
    def family(self) -> Family:
        """The family, configured."""

    @property
    def data(self) -> DataSpec:
        """The data that it learned from."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to pixels first."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""

    def predict(
        self,
        pixels: Tensor | None = None,
        table: "pd.DataFrame | None" = None,
        *,
        unknown: Literal["error", "other"] = "error",
        calibrated: bool = True,
    ) -> Tensor:
        """Class probabilities (items, classes), or values (items,)."""

    def batch(self, pixels: Tensor | None = None) -> Batch:
        """Images as the network takes them."""
