"""The network that a family leaves for use, calibrated: `best/<family>/` in the study's folder."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.analysis.calibration import Calibration, expected_error, write_calibration
from torchstudy.arrays import read_arrays
from torchstudy.data.dataset import ImageData
from torchstudy.execution import job as jobs
from torchstudy.execution.exhibits import answers_path
from torchstudy.execution.outputs import Row, training_folder
from torchstudy.families.base import Family
from torchstudy.fitting import instantiate
from torchstudy.models.saved import save_model
from torchstudy.records import Training
from torchstudy.training.tensorfiles import Damaged

UNTESTED: dict[str, Any] = {
    "test_items": 0,
    **dict.fromkeys(("test_ece_before", "test_ece_after", "test_nll_before", "test_nll_after")),
}


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
    if not selected or "temperature" not in selected:
        return None
    shared: dict[str, Any] = {
        "temperature": float(selected["temperature"]),
        "items": len(selected["predicted"]),
        "trial": training.trial.number,
        "seed": training.seed,
        "select_nll_before": float(selected["nll"][0]),
        "select_nll_after": float(selected["nll"][1]),
    }
    if "crossfitted" in selected:
        is_correct = selected["predicted"] == data.targets[data.splits["select"]]
        return Calibration(
            **shared,
            **UNTESTED,
            select_ece_before=_error(selected["confidence"], is_correct),
            select_ece_after=_error(selected["crossfitted"], is_correct),
        )
    if not tested or "calibrated" not in tested:
        return None
    is_correct = tested["predicted"] == data.targets[data.splits["test"]]
    return Calibration(
        **shared,
        test_items=len(is_correct),
        test_ece_before=_error(tested["confidence"], is_correct),
        test_ece_after=_error(tested["calibrated"], is_correct),
        test_nll_before=float(tested["nll"][0]),
        test_nll_after=float(tested["nll"][1]),
    )


def _error(confidence: NDArray[Any], is_correct: NDArray[np.bool_]) -> float:
    return expected_error(confidence.astype(np.float64), is_correct)
