"""The network that a family leaves for use: `best/<family>/` in the study's folder."""

from pathlib import Path

from torchstudy.data.dataset import ImageData
from torchstudy.execution import job as jobs
from torchstudy.execution.outputs import Row, training_folder
from torchstudy.families.base import Family
from torchstudy.fitting import instantiate
from torchstudy.models.saved import save_model
from torchstudy.records import Training
from torchstudy.training.tensorfiles import Damaged


def write_best(
    folder: Path, family: type[Family], data: ImageData, training: Training, metrics: Row
) -> str:
    """Save the network of one training under `best/<family>/`.

    Returns what has become of the weights that it left, where what is there had to stay: that they
    are "gone", or "damaged" and how; else "".
    """
    source = training_folder(folder, training.key)
    instance = instantiate(family, training.trial.config).family
    try:
        state, spec = jobs.deployed_state(source, instance, data.spec)
    except FileNotFoundError:
        return "gone"
    except Damaged as error:
        return f"damaged ({error})"
    save_model(
        folder / "best" / family.__name__,
        family=family,
        config=training.trial.config,
        data=spec,
        state=state,
        metrics={"trial": training.trial.number, "seed": training.seed, **metrics},
    )
    return ""
