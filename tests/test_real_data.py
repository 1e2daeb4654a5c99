"""Real images: what the shipped studies rest on, in small."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import SHARED
from tests.test_families import job_for, run_job, space_of

from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.errors import DataError, StudyError
from torchstudy.execution import job as jobs
from torchstudy.families.base import Family
from torchstudy.families.cnn import CNN
from torchstudy.families.transfer import Transfer
from torchstudy.records import Status
from torchstudy.space import Config
from torchstudy.study import Study

WEIGHTS = "mobilenet_v2_imagenet_int8deq.pth"


def score_on_test(cls: type[Family], data: ImageData, folder: Path, config: Config) -> float:
    job = job_for(cls, data, folder, config, epochs=9)
    outcome, _ = run_job(job)
    assert outcome.status is Status.COMPLETED, outcome.reason
    tested = jobs.run(replace(job, action="test"), lambda payload: None, lambda: False)
    return tested.metrics["test_accuracy"]


@pytest.mark.slow
def test_a_cnn_reads_digits(tmp_path: Path) -> None:
    """Slow: it trains nine epochs."""
    data = prepare(Images("digits"), seed=0)
    assert score_on_test(CNN, data, tmp_path, space_of(CNN).recipe) >= 0.96


@pytest.mark.slow
def test_the_shipped_backbone_reads_digits(tmp_path: Path) -> None:
    """Slow: scikit-learn is imported."""
    data = prepare(Images("digits"), seed=0)
    own: Config = {"backbone": "fashion-small", "weights": "default", "input_size": 0}
    config: Config = {**own, "head": "logistic", "regularisation": 1.0}
    assert score_on_test(Transfer, data, tmp_path, config) >= 0.94


@pytest.mark.slow
@pytest.mark.skipif(
    not (SHARED / WEIGHTS).exists(), reason="needs ImageNet weights beside the project"
)
def test_a_pretrained_backbone_tells_ants_from_bees(tmp_path: Path) -> None:
    """Slow: torchvision is imported and 397 photographs go through MobileNetV2 at 128 px."""
    weights = str(SHARED / WEIGHTS)
    data = prepare(Images(SHARED / "hymenoptera_256.tar", size=128), seed=0)
    assert Transfer(backbone="mobilenet_v2", weights=weights).problems(data.spec) == ()
    own: Config = {"backbone": "mobilenet_v2", "weights": weights, "input_size": 0}
    config: Config = {**own, "head": "logistic", "regularisation": 10.0}
    assert score_on_test(Transfer, data, tmp_path, config) >= 0.80


@pytest.mark.slow
def test_the_shipped_backbone_is_refused_on_fashion_mnist() -> None:
    """Slow: 70,000 images are decoded and compared."""
    study = Study(data=Images("fashion-mnist"), families=[Transfer], maximize="accuracy")
    try:
        data = prepare(study.images, seed=0)
    except DataError as error:
        pytest.skip(f"Fashion-MNIST is not here: {error.problems[0][:80]}")
    with pytest.raises(StudyError, match="'fashion-small' was trained on images of this data set"):
        study.check(data.spec)

    def part() -> tuple[np.ndarray, np.ndarray]:
        return np.array(data.pixels[5000:6500, 0]), data.targets[5000:6500]

    few = prepare(Images(part), seed=3)
    with pytest.raises(StudyError, match="'fashion-small' was trained on images of this data set"):
        study.check(few.spec)
