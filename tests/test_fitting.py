"""What cannot be compared or cannot work is refused, with the reason, before training."""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import pytest
from torch import nn

from torchstudy.data.spec import DataSpec, Task
from torchstudy.errors import StudyError
from torchstudy.families.base import Family, Goal, family
from torchstudy.families.cnn import CNN
from torchstudy.families.compression import Autoencoder
from torchstudy.families.denoising import Denoiser
from torchstudy.families.transfer import Transfer
from torchstudy.fitting import config_problems, incomparable, instantiate, misfits
from torchstudy.study import Study
from torchstudy.training.augmentation import Augmentation

PHOTOS = DataSpec(
    source="photos", channels=1, height=28, width=28, classes=("a", "b", "c"), num_train=100
)
ROWS = DataSpec(
    source="rows.csv",
    channels=0,
    height=0,
    width=0,
    classes=(),
    num_train=100,
    task="regression",
    target="price",
    numbers=("area",),
)


@family
class Restorer(Family):
    """Restores images."""

    metrics: ClassVar[tuple[str, ...]] = ("psnr", "loss")
    goal: ClassVar[Goal] = "reconstruction"

    def build(self, data: DataSpec) -> nn.Module:
        return nn.Identity()


@family
class Painter(Family):
    """Paints images."""

    metrics: ClassVar[tuple[str, ...]] = ("distance", "loss")
    goal: ClassVar[Goal] = "generation"

    def build(self, data: DataSpec) -> nn.Module:
        return nn.Identity()


@family
class ClassesOnly(Family):
    """Tells classes apart."""

    tasks: ClassVar[tuple[Task, ...]] = ("classification",)

    def build(self, data: DataSpec) -> nn.Module:
        return nn.Identity()


def test_a_loss_that_means_different_things_is_never_ranked() -> None:
    with pytest.raises(StudyError) as caught:
        Study(data="digits", families=[CNN, Restorer, Painter], minimize="loss")
    assert caught.value.problems == (
        "objective: loss does not compare between these families: it is an error of predictions "
        "for CNN, a reconstruction error for Restorer, a distance between generated and real "
        "images for Painter; compare families with one goal, in a study of their own",
    )
    assert list(incomparable([CNN, Transfer], "loss")) == []


def test_noise_taken_out_is_not_ranked_with_codes() -> None:
    (problem,) = incomparable([Autoencoder, Denoiser], "loss")
    assert "a reconstruction error for Autoencoder, an error of restored images for" in problem


def test_families_of_other_goals_are_sent_to_a_study_of_their_own() -> None:
    with pytest.raises(StudyError) as caught:
        Study(data="digits", families=[CNN, Painter], maximize="accuracy")
    assert caught.value.problems == (
        "objective: Painter does not report 'accuracy'; it reports distance, loss. Painter is for "
        "generation: it cannot be ranked with CNN; give it a study of its own",
    )


@pytest.mark.parametrize(
    ("cls", "metric", "data", "expected"),
    [
        (CNN, "accuracy", PHOTOS, []),
        (CNN, "mse", replace(PHOTOS, classes=(), task="regression", target="age"), []),
        (
            CNN,
            "mse",
            PHOTOS,
            [
                "does not report 'mse' where 'class' is a class; it reports accuracy, loss",
            ],
        ),
        (
            CNN,
            "accuracy",
            ROWS,
            [
                "needs images, but the data have none; MLP takes a table alone",
                "does not report 'accuracy' where 'price' is a number; it reports loss, mse, mae, "
                "r2",
            ],
        ),
        (
            ClassesOnly,
            "mse",
            replace(ROWS, channels=1),
            ["is for classification, but 'price' is a number"],
        ),
        (Restorer, "psnr", replace(ROWS, channels=1), []),
    ],
)
def test_a_family_that_does_not_fit_the_data_says_why(
    cls: type[Family], metric: str, data: DataSpec, expected: list[str]
) -> None:
    assert list(misfits(cls, metric, data)) == expected


def test_augmentation_of_frozen_features_is_refused_and_of_images_is_not() -> None:
    def problems(cls: type[Family], **config: float | str) -> Iterable[str]:
        return list(config_problems(instantiate(cls, config), PHOTOS))

    assert problems(CNN, crop=0.1) == []
    assert problems(Transfer, crop=0.0) == []
    assert problems(Transfer, crop=0.1, unfreeze=1) == []
    assert problems(Transfer, crop=0.1) == [
        "augmentation has no effect on the features of a frozen network, which are computed once; "
        "open it for the other families only (as in 'CNN.crop')"
    ]


def test_a_study_names_the_family_that_does_not_fit() -> None:
    study = Study(data="digits", families=[CNN], maximize="accuracy")
    study.check(PHOTOS)
    with pytest.raises(StudyError, match="CNN: needs images, but the data have none"):
        study.check(ROWS)


def test_augmentation_values_that_cannot_be_are_problems_of_the_declaration() -> None:
    assert Augmentation().is_on is False
    with pytest.raises(StudyError, match=r"space.crop must be in \[0, 0.5\]"):
        Study(data="digits", families=[CNN], maximize="accuracy", space={"crop": 0.9})
