"""A trained model as a folder: weights, configuration, preprocessing and metrics; no pickles."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchstudy.data.spec import DataSpec
from torchstudy.errors import StudyError
from torchstudy.families.autoencoder import AutoencoderProbe
from torchstudy.families.base import Family
from torchstudy.families.cnn import CNN
from torchstudy.families.transfer import Transfer
from torchstudy.files import write_json, written_aside
from torchstudy.study import instantiate
from torchstudy.training.batches import Preprocessing
from torchstudy.values import Value

BUILT_IN: tuple[type[Family], ...] = (CNN, Transfer, AutoencoderProbe)


@dataclass(frozen=True)
class SavedModel:
    """A trained network ready for use, in eval mode, with what belongs to it."""

    network: nn.Module
    family: Family
    data: DataSpec
    preprocessing: Preprocessing

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.data.classes

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Class probabilities (batch, classes) of uint8 images of shape (batch, *data.shape)."""
        if tuple(pixels.shape[1:]) != self.data.shape or pixels.dtype != torch.uint8:
            raise StudyError(
                f"images are {pixels.dtype} of shape {tuple(pixels.shape)}; the model takes "
                f"torch.uint8 of shape (batch, {', '.join(map(str, self.data.shape))})"
            )
        with torch.inference_mode():
            return self.family.predict(self.network, self.preprocessing(pixels))


def save_model(
    folder: Path,
    *,
    family: type[Family],
    config: Mapping[str, Value],
    data: DataSpec,
    state: Mapping[str, Tensor],
    metrics: Mapping[str, object],
) -> None:
    """Write `model.pt`, `preprocessing.json`, `metrics.json` and, last, `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    instance, _ = instantiate(family, config)
    with written_aside(folder / "model.pt") as aside:
        torch.save(dict(state), aside)
    preprocessing = instance.preprocessing(data)
    write_json(
        folder / "preprocessing.json",
        {
            "height": data.height,
            "width": data.width,
            "channels": data.channels,
            "resize": "short side to size, then centre crop; bilinear",
            "scale": "x / 255",
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
        },
    )
    write_json(folder / "metrics.json", dict(metrics))
    described = asdict(data)
    described.pop("sketch")  # it serves to recognise images, not to use the model
    contents = {"family": family.__name__, "config": dict(config), "data": described}
    write_json(folder / "config.json", contents)


def load_model(folder: str | Path, families: Sequence[type[Family]] = ()) -> SavedModel:
    """The model saved in `folder`; `families` holds the classes of families that are your own.

    Raises StudyError for a folder that holds no model, an unknown family, or weights that do not
    fit.
    """
    folder = Path(folder)
    contents = _contents(folder)
    by_name = {family.__name__: family for family in (*BUILT_IN, *families)}
    if contents["family"] not in by_name:
        raise StudyError(
            f"{folder}: the model is of family {contents['family']!r}; pass its class, as in "
            f"load_model(folder, [{contents['family']}])"
        )
    data = _data_spec(contents["data"])
    instance, _ = instantiate(by_name[contents["family"]], contents["config"])
    network = instance.deployed(data)
    try:
        network.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise StudyError(f"{folder / 'model.pt'} does not fit: {error}") from None
    preprocessing = instance.preprocessing(data)
    return SavedModel(network.eval(), instance, data, preprocessing)


def _contents(folder: Path) -> dict[str, Any]:
    try:
        contents: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise StudyError(f"{folder} is not a saved model: it has no config.json") from None
    return contents


def _data_spec(described: Mapping[str, Any]) -> DataSpec:
    lists = {key: tuple(value) for key, value in described.items() if isinstance(value, list)}
    return DataSpec(**{**described, **lists})
