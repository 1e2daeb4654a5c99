"""Which kind of network, tuned how, is best for your images, and how sure can you be?

Names are imported on first use, so that `import torchstudy` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchstudy.analysis.tables import Results, read_results
    from torchstudy.data.images import Images
    from torchstudy.data.spec import DataSpec
    from torchstudy.domains import Choice, Float, Int
    from torchstudy.errors import (
        DataError,
        Interrupted,
        RunError,
        SpaceError,
        StudyChanged,
        StudyClaimed,
        StudyError,
        TorchstudyError,
    )
    from torchstudy.execution.runner import run
    from torchstudy.exporting import export_model
    from torchstudy.families.autoencoder import AutoencoderProbe
    from torchstudy.families.backbones import register_backbone
    from torchstudy.families.base import Family, family
    from torchstudy.families.cnn import CNN
    from torchstudy.families.compression import Autoencoder
    from torchstudy.families.denoising import Denoiser
    from torchstudy.families.gan import GAN
    from torchstudy.families.linear import LinearModel
    from torchstudy.families.mlp import MLP
    from torchstudy.families.multi_input import MultiInput
    from torchstudy.families.phases import Fit, FrozenEncoder, Phase
    from torchstudy.families.pretraining import PretrainedEncoder
    from torchstudy.families.transfer import Transfer
    from torchstudy.models.saved import SavedModel, load_model
    from torchstudy.report.page import write_report
    from torchstudy.search.functions import tune
    from torchstudy.space import SearchSpace
    from torchstudy.study import Study
    from torchstudy.study_files import load_study
    from torchstudy.training.augmentation import Augmentation
    from torchstudy.training.batches import Batch, Preprocessing, Split
    from torchstudy.training.optim import TrainingConfig

__version__ = "0.1.0"

_HOMES = {
    "torchstudy.analysis.tables": ("Results", "read_results"),
    "torchstudy.data.images": ("Images",),
    "torchstudy.data.spec": ("DataSpec",),
    "torchstudy.domains": ("Choice", "Float", "Int"),
    "torchstudy.errors": (
        "DataError",
        "Interrupted",
        "RunError",
        "SpaceError",
        "StudyChanged",
        "StudyClaimed",
        "StudyError",
        "TorchstudyError",
    ),
    "torchstudy.execution.runner": ("run",),
    "torchstudy.exporting": ("export_model",),
    "torchstudy.families.autoencoder": ("AutoencoderProbe",),
    "torchstudy.families.backbones": ("register_backbone",),
    "torchstudy.families.base": ("Family", "family"),
    "torchstudy.families.cnn": ("CNN",),
    "torchstudy.families.compression": ("Autoencoder",),
    "torchstudy.families.denoising": ("Denoiser",),
    "torchstudy.families.gan": ("GAN",),
    "torchstudy.families.linear": ("LinearModel",),
    "torchstudy.families.mlp": ("MLP",),
    "torchstudy.families.multi_input": ("MultiInput",),
    "torchstudy.families.pretraining": ("PretrainedEncoder",),
    "torchstudy.families.phases": ("Fit", "FrozenEncoder", "Phase"),
    "torchstudy.families.transfer": ("Transfer",),
    "torchstudy.models.saved": ("SavedModel", "load_model"),
    "torchstudy.report.page": ("write_report",),
    "torchstudy.search.functions": ("tune",),
    "torchstudy.space": ("SearchSpace",),
    "torchstudy.study": ("Study",),
    "torchstudy.study_files": ("load_study",),
    "torchstudy.training.augmentation": ("Augmentation",),
    "torchstudy.training.batches": ("Batch", "Preprocessing", "Split"),
    "torchstudy.training.optim": ("TrainingConfig",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - in the order in which a reader meets them
    "Study",
    "run",
    "load_study",
    "Images",
    "Float",
    "Int",
    "Choice",
    "SearchSpace",
    "tune",
    "LinearModel",
    "MLP",
    "CNN",
    "Transfer",
    "MultiInput",
    "AutoencoderProbe",
    "PretrainedEncoder",
    "Autoencoder",
    "Denoiser",
    "GAN",
    "register_backbone",
    "Family",
    "family",
    "DataSpec",
    "Phase",
    "Fit",
    "FrozenEncoder",
    "Batch",
    "Split",
    "Preprocessing",
    "TrainingConfig",
    "Augmentation",
    "Results",
    "read_results",
    "write_report",
    "SavedModel",
    "load_model",
    "export_model",
    "TorchstudyError",
    "StudyError",
    "SpaceError",
    "DataError",
    "RunError",
    "StudyClaimed",
    "StudyChanged",
    "Interrupted",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'torchstudy' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
