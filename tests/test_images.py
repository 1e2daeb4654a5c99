import json
from pathlib import Path

import numpy as np
import pytest

from torchstudy.data.images import Images
from torchstudy.errors import DataError


def shapes() -> tuple[np.ndarray, list[int]]:
    return np.zeros((2, 8, 8), np.uint8), [0, 1]


def test_a_plain_name_path_or_function_becomes_images() -> None:
    assert Images.of("digits") == Images("digits")
    assert Images.of(Path("cats")).source == Path("cats")
    assert Images.of(shapes).source is shapes


def test_images_pass_through_unchanged() -> None:
    images = Images("digits", size=16)
    assert Images.of(images) is images


def test_anything_else_is_refused_with_what_was_given() -> None:
    with pytest.raises(DataError, match=r"data: images are a name, .* not 17"):
        Images.of(17)


def test_a_sound_declaration_has_no_problems() -> None:
    images = Images("digits", size=16, channels=3, train=0.7, valid=0.1, select=0.1, test=0.1)
    assert images.problems() == []


def test_every_problem_of_a_declaration_is_listed_at_once() -> None:
    images = Images("digits", size=2, channels=4, train=0, valid=1.5, on_bad_image="skpi")
    assert images.problems() == [
        "data: size is a whole number of pixels from 4, not 2",
        "data: channels is 1 (grey), 3 (colour) or None, not 4",
        "data: train is a count from 1 or a fraction between 0 and 1, not 0",
        "data: valid is a count from 1 or a fraction between 0 and 1, not 1.5",
        "data: the fractions add up to more than 1 (valid 1.5)",
        "data: on_bad_image is 'error' or 'skip', not 'skpi' (did you mean 'skip'?)",
    ]


@pytest.mark.parametrize("value", [float("nan"), -1, True, "half", float("inf"), -0.5, 1.0])
def test_a_split_is_a_count_or_a_fraction(value: object) -> None:
    assert any(
        problem.startswith("data: test is a count")
        for problem in Images("digits", test=value).problems()
    )  # type: ignore[arg-type]


def test_fractions_that_add_up_to_one_are_fine_despite_rounding() -> None:
    assert Images("digits", train=0.7, valid=0.1, select=0.1, test=0.1).problems() == []
    listed = Images("digits", train=0.8, test=0.3).problems()
    assert listed == ["data: the fractions add up to more than 1 (train 0.8, test 0.3)"]


@pytest.mark.parametrize("source", ["", "  ", "a\0b", 3, None, b"digits"])
def test_a_source_that_cannot_be_looked_up_is_a_problem(source: object) -> None:
    assert Images(source).problems()  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [True, 8.0, "8"])
def test_a_size_is_a_whole_number(size: object) -> None:
    assert len(Images("digits", size=size).problems()) == 1  # type: ignore[arg-type]


def test_the_description_is_json_and_notices_a_change() -> None:
    described = Images(Path("cats"), size=32).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["source"] == "cats"
    assert described != Images(Path("cats"), size=33).describe()
    assert Images(shapes).describe()["source"] == "shapes"


def test_a_callable_object_is_described_by_its_class() -> None:
    class Maker:
        def __call__(self) -> tuple[np.ndarray, list[int]]:
            return shapes()

    assert "Maker" in str(Images(Maker()).describe()["source"])
    assert "0x" not in str(Images(Maker()).describe()["source"])
