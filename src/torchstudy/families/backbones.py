"""Pretrained networks to start from: torchvision's, the shipped small one, or your own function."""

import functools
import importlib.resources
import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from torchstudy.errors import StudyError, did_you_mean
from torchstudy.files import data_folders, find_in_data_folders, sha256_of
from torchstudy.training.batches import Preprocessing

SHIPPED = "fashion-small"
IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CONTAINER_SHARE = 0.9  # of a network's parameters: what holds more is no block but holds blocks
OVERLAP = 2  # shared sketch entries that prove that images are shared: hashes have 64 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """A pretrained network without its last layer, and what it expects.

    `build` gives the network with its weights: images -> features (batch, features);
    `architecture` the same network without them. `key` names network and weights; `sketch` is that
    of the images it was trained on, if known.
    """

    key: str
    build: Callable[[], nn.Module]
    architecture: Callable[[], nn.Module]
    preprocessing: Preprocessing
    sketch: tuple[int, ...] = ()


_registered: dict[str, Backbone] = {}


def register_backbone(
    name: str,
    build: Callable[[], nn.Module],
    *,
    mean: tuple[float, ...] = IMAGENET.mean,
    std: tuple[float, ...] = IMAGENET.std,
) -> str:
    """Make `build`, a function that returns a network with its weights, usable as `backbone=name`.

    The network maps images (batch, 3, height, width), or one channel when `mean` has one entry, to
    features (batch, features). Returns the name. Change the name when the weights change: cached
    features are kept under it.
    """
    preprocessing = Preprocessing(mean=mean, std=std)
    _registered[name] = Backbone(
        key=f"{name}:registered", build=build, architecture=build, preprocessing=preprocessing
    )
    return name


def registered_backbones() -> Mapping[str, Backbone]:
    """The backbones that this process registered, to be handed to its workers."""
    return dict(_registered)


def adopt_backbones(backbones: Mapping[str, Backbone]) -> None:
    """Register what another process had registered."""
    _registered.update(backbones)


def find_backbone(name: str, weights: str) -> Backbone:
    """The backbone called `name`; raises StudyError for an unknown name or a missing weights file.

    `weights` is `"default"` (torchvision's own, downloaded on first use) or a file that is looked
    up in the data folders.
    """
    if name in _registered:
        return _registered[name]
    if name == SHIPPED:
        return _shipped()
    if weights == "default":
        return Backbone(
            key=f"{name}:default",
            build=lambda: _torchvision_default(name),
            architecture=lambda: _torchvision_architecture(name),
            preprocessing=IMAGENET,
        )
    path = _weights_file(weights)
    return Backbone(
        key=f"{name}:{_digest(path, path.stat().st_mtime_ns)}",
        build=lambda: _torchvision_from_file(name, path),
        architecture=lambda: _torchvision_architecture(name),
        preprocessing=IMAGENET,
    )


def check_name(name: str) -> None:
    """Raise StudyError unless `name` is registered, shipped, or a torchvision classifier."""
    if name in _registered or name == SHIPPED:
        return
    import torchvision

    known = [*_registered, SHIPPED, *torchvision.models.list_models(torchvision.models)]
    if name not in known:
        raise StudyError(
            f"backbone {name!r} is neither {SHIPPED!r}, nor a torchvision.models classifier, nor "
            f"registered{did_you_mean(name, known)}"
        )


def shares_images(backbone: Backbone, sketch: tuple[int, ...]) -> bool:
    """Whether images with this sketch were among those the backbone was trained on."""
    return len(set(backbone.sketch) & set(sketch)) >= OVERLAP


def last_blocks(backbone: nn.Module, count: int) -> list[nn.Module]:
    """The last `count` blocks of a network, in forward order, with the norms between and after.

    The blocks of a torchvision network are its stages (`features.17`, `layer4`,
    `encoder.layers.11`); a part that only normalises is no block of its own.
    """
    taken: list[nn.Module] = []
    num_blocks = 0
    for part in reversed(_parts(backbone)):
        num_blocks += any(parameter.ndim >= 2 for parameter in part.parameters())
        if num_blocks > count:
            break
        taken.insert(0, part)
    return taken


def _parts(network: nn.Module) -> list[nn.Module]:
    """The parts with parameters; one that holds nearly all of them is opened."""
    total = sum(parameter.numel() for parameter in network.parameters())
    parts: list[nn.Module] = []
    for part in network.children():
        held = sum(parameter.numel() for parameter in part.parameters())
        if held > CONTAINER_SHARE * total:
            parts += _parts(part)
        elif held:
            parts.append(part)
    return parts or [network]


class SmallBackbone(nn.Module):
    """The shipped network: three convolutions on grey 28 x 28 images, 512 features.

    Any image is scaled to 28 px first.
    """

    SIZE = 28

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 32, 64, 128)
        self.stages = nn.Sequential(
            *(_stage(narrow, wide) for narrow, wide in itertools.pairwise(widths))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features (batch, 512) of images (batch, 1, height, width)."""
        if images.shape[-2:] != (self.SIZE, self.SIZE):
            images = nn.functional.interpolate(
                images, size=(self.SIZE, self.SIZE), mode="bilinear", antialias=True
            )
        maps = self.stages(images)
        return nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1)


def _stage(narrow: int, wide: int) -> nn.Sequential:
    convolution = nn.Conv2d(narrow, wide, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(wide), nn.MaxPool2d(2), nn.ReLU(inplace=True))


@functools.cache
def _shipped() -> Backbone:
    folder = importlib.resources.files("torchstudy.families") / "weights"
    card = json.loads((folder / f"{SHIPPED}.json").read_text())

    def build() -> nn.Module:
        with importlib.resources.as_file(folder / f"{SHIPPED}.pt") as path:
            network = SmallBackbone()
            network.load_state_dict(torch.load(path, weights_only=True))
        return network

    return Backbone(
        key=f"{SHIPPED}:{card['sha256'][:16]}",
        build=build,
        architecture=SmallBackbone,
        preprocessing=Preprocessing(mean=tuple(card["mean"]), std=tuple(card["std"])),
        sketch=tuple(card["sketch"]),
    )


def _torchvision_default(name: str) -> nn.Module:
    import torchvision

    return _without_classifier(torchvision.models.get_model(name, weights="DEFAULT"))


def _torchvision_architecture(name: str) -> nn.Module:
    import torchvision

    return _without_classifier(torchvision.models.get_model(name, weights=None))


def _torchvision_from_file(name: str, path: Path) -> nn.Module:
    import torchvision

    state = _state_dict(path)
    classes = [len(bias) for key, bias in state.items() if key.endswith("bias")][-1:] or [1000]
    network = torchvision.models.get_model(name, weights=None, num_classes=classes[0])
    problems = list(_mismatches(network.state_dict(), state))
    if problems:
        raise StudyError(f"weights {path.name} do not fit {name}: {'; '.join(problems)}")
    network.load_state_dict(state)
    return _without_classifier(network)


def _state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pt` or `.pth` file, from inside a training checkpoint if need be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about an old pickle format, soon refused
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise StudyError(
            f"weights {path.name}: refused, the file holds more than tensors and could run code; "
            "save a state_dict with torch.save(model.state_dict(), ...)"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise StudyError(f"weights {path.name} cannot be read: {error}") from None
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise StudyError(f"weights {path.name}: expected a state_dict, found {type(loaded)}")
    return {key.removeprefix("module."): value for key, value in loaded.items()}


def _mismatches(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterator[str]:
    missing = [key for key in wanted if key not in given]
    unknown = [key for key in given if key not in wanted]
    shapes = [
        f"{key} is {tuple(given[key].shape)}, needed {tuple(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    if missing:
        yield _some("missing", missing)
    if unknown:
        yield _some("not expected", unknown)
    if shapes:
        yield _some("of another shape", shapes)


def _some(what: str, keys: list[str], shown: int = 5) -> str:
    rest = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return f"{len(keys)} keys {what} ({', '.join(keys[:shown])}{rest})"


def _without_classifier(network: nn.Module) -> nn.Module:
    """The network with its last linear layer taken out: it returns that layer's inputs."""
    name = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return network


def _weights_file(weights: str) -> Path:
    path = find_in_data_folders(weights)
    if path is None or not path.is_file():
        searched = ", ".join(str(folder) for folder in data_folders())
        raise StudyError(
            f"weights {weights!r}: no such file here or in {searched} (set $TORCHSTUDY_DATA)"
        )
    return path


@functools.cache
def _digest(path: Path, modified: int) -> str:
    return sha256_of(path)[:16]
