"""The network that a family leaves for use, calibrated: `best/<family>/` in the study's folder."""

from pathlib import Path

import numpy as np

from torchstudy.analysis.calibration import Calibration, expected_error, write_calibration
from torchstudy.data.dataset import ImageData
from torchstudy.execution import job as jobs
from torchstudy.execution.arrays import read_arrays
from torchstudy.execution.exhibits import answers_path
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
    write_calibration(folder / "best" / family.__name__, _calibration(source, data, training))
    return ""


def _calibration(source: Path, data: ImageData, training: Training) -> Calibration | None:
    """What a training's answers say of its confidence; None where no temperature was fitted."""
    selected, tested = (read_arrays(answers_path(source, name)) for name in ("select", "test"))
    if not (selected and tested and "temperature" in selected and "calibrated" in tested):
        return None
    is_correct = tested["predicted"] == data.targets[data.splits["test"]]
    return Calibration(
        temperature=float(selected["temperature"]),
        items=len(selected["predicted"]),
        trial=training.trial.number,
        seed=training.seed,
        test_items=len(is_correct),
        test_ece_before=expected_error(tested["confidence"].astype(np.float64), is_correct),
        test_ece_after=expected_error(tested["calibrated"].astype(np.float64), is_correct),
        test_nll_before=float(tested["nll"][0]),
        test_nll_after=float(tested["nll"][1]),
        select_nll_before=float(selected["nll"][0]),
        select_nll_after=float(selected["nll"][1]),
    )
