"""A trained model as a folder: weights, configuration, preprocessing and metrics; no pickles."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from torchstudy.analysis.calibration import read_calibration, tempered
from torchstudy.data.spec import DataSpec
from torchstudy.errors import StudyError
from torchstudy.failpoints import failpoint
from torchstudy.families.base import Family
from torchstudy.families.built_in import BUILT_IN
from torchstudy.files import write_json, written_aside
from torchstudy.fitting import instantiate
from torchstudy.models.answering import BATCH_SIZE
from torchstudy.models.making import generated
from torchstudy.training.batches import Batch, Preprocessing
from torchstudy.training.tensorfiles import Damaged, read_tensors, write_tensors
from torchstudy.values import Value

if TYPE_CHECKING:
    import pandas as pd

    from torchstudy.data.decoding import Progress
    from torchstudy.data.given import Place

WRITTEN = {"family", "config", "data"}  # in config.json
DEEPER = ("*/", "best/*/")  # where the models lie from best/ and from a study's folder


@dataclass(frozen=True)
class SavedModel:
    """A trained network ready for use, in eval mode, with what belongs to it."""

    network: nn.Module
    family: Family
    data: DataSpec
    preprocessing: Preprocessing
    temperature: float | None = None  # of class probabilities; None where there was none to fit

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.data.classes

    def predict(
        self,
        pixels: Tensor | None = None,
        table: "pd.DataFrame | None" = None,
        *,
        unknown: Literal["error", "other"] = "error",
        calibrated: bool = True,
    ) -> Tensor:
        """Class probabilities (items, classes), or values (items,) in the target's own unit, also
        where the network predicts a logarithm.

        `pixels` are uint8 images (items, *data.shape), with several views (items, views,
        *data.shape); `table` has the columns the model was trained with. A category that training
        never saw is an error, or with `unknown="other"` taken as unlike all others. Probabilities
        are at the model's `temperature` unless `calibrated` is False; the order is the same.
        """
        with torch.inference_mode():
            found = self.family.predict(self.network, self.data, self.batch(pixels, table, unknown))
        if found is None:
            name = type(self.family).__name__
            raise StudyError(f"{name} predicts nothing; use pictures(), codes() or .network")
        if self.data.log_target:
            return found.double().exp()
        if self.temperature is None or not calibrated:
            return found
        return torch.from_numpy(tempered(found.numpy(), self.temperature))

    def probabilities(self, pixels: Tensor, *, calibrated: bool = True) -> Tensor:
        """Class probabilities (items, classes) of uint8 images, `calibrated` as in `predict`."""
        if self.data.task != "classification":
            raise StudyError(f"the model predicts {self.data.target}, a number: use predict()")
        return self.predict(pixels, calibrated=calibrated)

    def predict_files(
        self,
        places: "Sequence[Place]",
        *,
        top: int = 1,
        batch_size: int = BATCH_SIZE,
        calibrated: bool = True,
        progress: "Progress | None" = None,
    ) -> "pd.DataFrame":
        """One row per image that the paths, folders and globs mean, decoded as in training.

        Columns: `file`; `class` and `probability`, then those of the next classes up to `top`
        (`class_2`, ...); or `value`, in the target's own unit (also of a logarithm); or
        `reconstruction_error`. `problem` says why an image has no answer. DataError: no image.
        """
        from torchstudy.models.predicting import Asked, answer_files  # tensors need no Pillow

        asked = Asked(
            model=self, top=top, batch_size=batch_size, calibrated=calibrated, progress=progress
        )
        answer_files(asked, places)
        return asked.table()

    def samples(self, count: int, *, seed: int = 0) -> Tensor:
        """New images, uint8 (count, channels, height, width), of a model that makes them."""
        return generated(self, count, seed=seed)

    def pictures(self, pixels: Tensor) -> dict[str, Tensor]:
        """What the model makes of uint8 images: images in [0, 1] by caption."""
        with torch.inference_mode():
            return self.family.pictures(self.network, self.batch(pixels))

    def codes(self, pixels: Tensor) -> Tensor:
        """The code (items, numbers) of uint8 images."""
        with torch.inference_mode():
            found = self.family.codes(self.network, self.batch(pixels))
        if found is None:
            raise StudyError(f"{type(self.family).__name__} has no code")
        return found

    def batch(
        self,
        pixels: Tensor | None = None,
        table: "pd.DataFrame | None" = None,
        unknown: Literal["error", "other"] = "error",
    ) -> Batch:
        """Images and rows as the network takes them; StudyError for what does not fit."""
        if pixels is None and table is None:
            raise StudyError("nothing to predict from: give pixels, a table, or both")
        inputs = self._inputs(pixels, 0 if table is None else len(table))
        numbers = categories = None
        if self.data.has_table:
            if table is None:
                columns = ", ".join([*self.data.numbers, *self.data.categories])
                raise StudyError(f"the model takes a table with the columns {columns}")
            from torchstudy.data.encoding import encode_table

            encoded = encode_table(table, self.data, unknown=unknown)
            numbers, categories = (
                None if part is None else torch.from_numpy(part) for part in encoded
            )
        if table is not None and len(table) != len(inputs):
            raise StudyError(f"{len(inputs)} images and {len(table)} rows do not pair up")
        return Batch(inputs, torch.zeros(len(inputs), dtype=torch.int64), numbers, categories)

    def _inputs(self, pixels: Tensor | None, num_rows: int) -> Tensor:
        if not self.family.uses_images(self.data):
            return torch.zeros(num_rows, 0)
        shape = self.data.shape if self.data.views == 1 else (self.data.views, *self.data.shape)
        wanted = f"torch.uint8 of shape (items, {', '.join(map(str, shape))})"
        if pixels is None:
            raise StudyError(f"the model takes images, {wanted}")
        if tuple(pixels.shape[1:]) != shape or pixels.dtype != torch.uint8:
            given = f"{pixels.dtype} of shape {tuple(pixels.shape)}"
            raise StudyError(f"images are {given}; the model takes {wanted}")
        return self.preprocessing(pixels)


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
    instance = instantiate(family, config).family
    with written_aside(folder / "model.pt") as aside:
        write_tensors(aside, dict(state))
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
    failpoint("amid-best")
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
            f"load_model(folder, [{contents['family']}]), or to `optimize predict` the study that "
            "declares it, as in --study studies/mine.py"
        )
    try:
        data = DataSpec.of(contents["data"])
        instance = instantiate(by_name[contents["family"]], contents["config"]).family
    except (TypeError, AttributeError) as error:
        raise StudyError(
            f"{folder / 'config.json'} is damaged or of another version ({error})"
        ) from None
    network = instance.deployed(data)
    path = folder / "model.pt"
    try:
        network.load_state_dict(read_tensors(path))
    except FileNotFoundError:
        raise StudyError(f"{folder} is not a saved model: it has no model.pt") from None
    except Damaged as error:
        raise StudyError(
            f"{path} is damaged ({error}); `optimize run` of its study writes it again"
        ) from None
    except (RuntimeError, TypeError) as error:
        raise StudyError(f"{path} does not fit: {error}") from None
    calibration = read_calibration(folder)
    return SavedModel(
        network=network.eval(),
        family=instance,
        data=data,
        preprocessing=instance.preprocessing(data),
        temperature=None if calibration is None else calibration.temperature,
    )


def _contents(folder: Path) -> dict[str, Any]:
    try:
        contents = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise StudyError(_no_model(folder)) from None
    except OSError as error:
        raise StudyError(f"{folder} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise StudyError(
            f"{folder / 'config.json'} is damaged ({error}); `optimize run` of its study writes it "
            "again"
        ) from None
    if not isinstance(contents, dict) or (missing := WRITTEN - contents.keys()):
        lacks = f", as it lacks {', '.join(sorted(missing))}" if isinstance(contents, dict) else ""
        raise StudyError(
            f"{folder} is not a saved model: its config.json is of another kind{lacks}"
        )
    return contents


def _no_model(folder: Path) -> str:
    """That a folder holds no model, and which ones below it do, if it is a study's or one up."""
    if not folder.exists():
        return f"{folder} is not a saved model: there is no such folder"
    if not folder.is_dir():
        return f"{folder} is not a saved model, which is a folder with config.json and model.pt"
    below = sorted(path.parent for deep in DEEPER for path in folder.glob(f"{deep}config.json"))
    hint = f"; there is {', '.join(map(str, below[:5]))}" if below else ""
    return f"{folder} is not a saved model: it has no config.json{hint}"
