"""A temperature is found where there is one, never from test, and confidence is right after it."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from torchstudy.analysis import calibration
from torchstudy.analysis.calibration import (
    Calibration,
    crossfitted,
    expected_error,
    expected_noise,
    fitted,
    nll,
    read_calibration,
    reliability,
    tempered,
    write_calibration,
)
from torchstudy.errors import StudyError

SOME = Calibration(
    temperature=1.8,
    items=270,
    trial=3,
    seed=2**62 + 1,
    test_items=270,
    test_ece_before=0.041,
    test_ece_after=0.013,
    test_nll_before=0.21,
    test_nll_after=0.15,
    select_nll_before=0.2,
    select_nll_after=0.14,
)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def _simulated(
    items: int, *, factor: float = 1.0, classes: int = 5, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities, of logits times `factor`, and targets drawn from the right probabilities."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (items, classes))
    noise = generator.gumbel(size=logits.shape)
    return _softmax(factor * logits), (logits + noise).argmax(axis=1)


@pytest.mark.parametrize(("factor", "classes"), [(2.0, 5), (2.0, 2), (0.5, 5), (1.0, 20)])
def test_a_known_miscalibration_is_recovered(factor: float, classes: int) -> None:
    probabilities, targets = _simulated(20_000, factor=factor, classes=classes)
    found = fitted(probabilities, targets)
    assert found is not None
    # The spread of the estimate over 100 seeds is at most 1.4% of it.
    assert found.value == pytest.approx(factor, rel=0.07)
    assert found.items == 20_000
    assert found.nll_after == pytest.approx(
        nll(_simulated(20_000, classes=classes)[0], targets), abs=2e-3
    )
    assert found.nll_after <= found.nll_before


def test_the_temperature_is_the_most_likely_one() -> None:
    probabilities, targets = _simulated(400, factor=3.0)
    found = fitted(probabilities, targets)
    assert found is not None
    for other in (0.99, 1.01):
        assert nll(probabilities, targets, found.value) < nll(
            probabilities, targets, other * found.value
        )


def test_many_probabilities_are_computed_with_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, targets = _simulated(1_003, factor=2.0)
    whole, scaled = fitted(probabilities, targets), tempered(probabilities, 2.0)
    monkeypatch.setattr(calibration, "BLOCK", 5 * 100)
    parts = fitted(probabilities, targets)
    assert whole is not None
    assert parts is not None
    assert parts.value == pytest.approx(whole.value, rel=1e-6)
    assert parts.nll_after == pytest.approx(whole.nll_after, rel=1e-9)
    assert (tempered(probabilities, 2.0) == scaled).all()


def test_confidence_is_right_after_the_temperature_on_items_it_was_not_fitted_on() -> None:
    found = fitted(*_simulated(5_000, factor=2.0))
    assert found is not None
    probabilities, targets = _simulated(5_000, factor=2.0, seed=1)
    is_correct = probabilities.argmax(axis=1) == targets
    before = expected_error(probabilities.max(axis=1), is_correct)
    confidence = tempered(probabilities, found.value).max(axis=1)
    after = expected_error(confidence, is_correct)
    assert before > 0.1
    # Over 300 seeds the error was 0.0156 on mean with a spread of 0.0037, as it is of mere noise.
    assert after < 0.035
    assert expected_noise(confidence) == pytest.approx(0.0156, abs=0.002)


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_crossfitted_confidence_is_right_and_no_item_has_a_say_in_its_own(factor: float) -> None:
    probabilities, targets = _simulated(20_000, factor=factor)
    is_correct = probabilities.argmax(axis=1) == targets
    found = crossfitted(probabilities, targets).astype(np.float64)
    before = expected_error(probabilities.max(axis=1).astype(np.float64), is_correct)
    # 0.02 is thrice the error by chance, `expected_noise`, at so many items.
    assert expected_error(found, is_correct) < 0.02 < before
    own = np.random.default_rng(0).permutation(len(targets)) % calibration.FOLDS == 2
    changed = np.where(own, (targets + 1) % 5, targets)
    again = crossfitted(probabilities, changed).astype(np.float64)
    assert (again[own] == found[own]).all()
    assert (again[~own] != found[~own]).mean() > 0.9


def test_crossfitted_confidence_stays_where_the_other_folds_have_no_mistake() -> None:
    probabilities, targets = _simulated(50, factor=2.0)
    right = probabilities.argmax(axis=1)
    assert (crossfitted(probabilities, right) == probabilities.max(axis=1)).all()
    assert len(crossfitted(probabilities[:2], targets[:2])) == 2


@pytest.mark.parametrize("items", [100, 1_000, 10_000])
def test_the_error_of_right_confidence_is_its_noise(items: int) -> None:
    errors = []
    for seed in range(20):
        probabilities, targets = _simulated(items, seed=seed)
        is_correct = probabilities.argmax(axis=1) == targets
        errors.append(expected_error(probabilities.max(axis=1), is_correct))
    noise = expected_noise(_simulated(items)[0].max(axis=1))
    # The spread of one error is a quarter of its mean, so of a mean of 20 it is a twentieth.
    assert np.mean(errors) == pytest.approx(noise, rel=0.25)


def test_the_noise_falls_with_the_square_root_of_the_items() -> None:
    few, many = (expected_noise(np.full(items, 0.75)) for items in (400, 6_400))
    # One bin: the mean distance of a share from its mean, sqrt(2 / pi) of its spread.
    assert few == pytest.approx(np.sqrt(2 / np.pi * 0.75 * 0.25 / 400), rel=0.25)
    assert few / many == pytest.approx(4, rel=0.4)


def test_answers_never_change_whatever_the_temperature() -> None:
    generator = np.random.default_rng(0)
    probabilities = _softmax(generator.normal(0, 30, (2_000, 4)))
    close = np.float32(0.5)
    ties = np.array([[np.nextafter(close, np.float32(0)), close], [0.0, 1.0]], dtype=np.float32)
    for temperature in (0.1, 0.7, 1.0, 1.8, 10.0):
        for given in (probabilities, ties):
            scaled = tempered(given, temperature)
            assert scaled.dtype == np.float32
            assert (scaled.argmax(axis=1) == given.argmax(axis=1)).all()
            assert scaled.sum(axis=1) == pytest.approx(1, abs=1e-5)
    rounded = np.exp(np.log(ties.astype(np.float64)[:1]) / 10.0)
    assert len(np.unique((rounded / rounded.sum()).astype(np.float32))) == 1  # so it takes care


def test_a_temperature_of_one_changes_nothing() -> None:
    probabilities, _ = _simulated(100)
    assert tempered(probabilities, 1.0) == pytest.approx(probabilities, rel=1e-5)


def test_one_temperature_divides_the_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 4))
    assert tempered(_softmax(logits), 2.5) == pytest.approx(_softmax(logits / 2.5), rel=1e-4)


def test_there_is_no_temperature_where_there_is_none_to_find() -> None:
    probabilities, targets = _simulated(50)
    one_class = np.zeros(50, dtype=np.int64)
    endless = np.where(np.arange(5) == 0, np.nan, probabilities)
    assert fitted(probabilities[:0], targets[:0]) is None
    assert fitted(probabilities, one_class) is None
    assert fitted(endless, targets) is None
    assert fitted(probabilities, probabilities.argmax(axis=1)) is None
    assert fitted(probabilities, targets) is not None


def test_a_temperature_stays_in_its_range() -> None:
    probabilities, _ = _simulated(50)
    hopeless = fitted(_softmax(40 * np.log(probabilities)), probabilities.argmin(axis=1))
    assert hopeless is not None
    assert hopeless.value == pytest.approx(calibration.HOTTEST, rel=1e-3)
    right = probabilities.argmax(axis=1)
    right[0] = (right[0] + 1) % 5
    even = np.full((50, 5), 0.2, dtype=np.float32)
    even[np.arange(50), probabilities.argmax(axis=1)] += np.float32(1e-4)
    timid = fitted(even, right)
    assert timid is not None
    assert timid.value == pytest.approx(calibration.COLDEST, rel=1e-3)


def test_bins_hold_their_upper_end_and_empty_ones_are_left_out() -> None:
    confidence = np.array([0.5, 0.4, 1.0, 0.95, 0.51])
    is_correct = np.array([True, False, True, False, True])
    table = reliability(confidence, is_correct, bins=10)
    assert table["low"].tolist() == pytest.approx([0.3, 0.4, 0.5, 0.9])
    assert table["high"].tolist() == pytest.approx([0.4, 0.5, 0.6, 1.0])
    assert table["items"].tolist() == [1, 1, 1, 2]
    assert table["confidence"].tolist() == pytest.approx([0.4, 0.5, 0.51, 0.975])
    assert table["accuracy"].tolist() == [0, 1, 1, 0.5]


def test_the_error_is_that_of_the_bins() -> None:
    probabilities, targets = _simulated(500, factor=2.0)
    confidence, is_correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    table = reliability(confidence, is_correct)
    gaps = (table["accuracy"] - table["confidence"]).abs()
    assert expected_error(confidence, is_correct) == pytest.approx(
        float((gaps * table["items"]).sum() / 500)
    )
    assert np.isnan(expected_error(confidence[:0], is_correct[:0]))


def test_a_calibration_is_read_as_it_was_written_and_goes_where_there_is_none(
    tmp_path: Path,
) -> None:
    assert read_calibration(tmp_path) is None
    write_calibration(tmp_path, SOME)
    assert read_calibration(tmp_path) == SOME
    write_calibration(tmp_path, None)
    assert read_calibration(tmp_path) is None
    write_calibration(tmp_path, None)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"temperature": "warm"}', "TEMPERATURE:0", "TEMPERATURE:NaN"]
)
def test_a_damaged_calibration_says_so(tmp_path: Path, text: str) -> None:
    write_calibration(tmp_path, SOME)
    path = tmp_path / calibration.FILE
    if text.startswith("TEMPERATURE"):
        whole = json.loads(path.read_text())
        text = json.dumps(whole | {"temperature": float(text.partition(":")[2])})
    path.write_text(text)
    with pytest.raises(StudyError, match=r"calibration.json is damaged \(.*\); `optimize run` of"):
        read_calibration(tmp_path)
