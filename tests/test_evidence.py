"""Confusions, errors, codes and pictures are those of the items, whichever way they were stored."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, mean_absolute_error, median_absolute_error, r2_score
from tests.report_data import Made, write_study
from tests.report_kinds import CLASSES, GALLERY_EPOCHS, ITEMS, SIDE, write_kind

from torchstudy.analysis import evidence
from torchstudy.analysis.tables import Gallery, Results, read_results


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    names = ("regression", "denoise", "codes", "gan")
    return {name: read_results(write_kind(tmp_path_factory.mktemp(name), name)) for name in names}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_study(tmp_path_factory.mktemp("digits"), Made(trials=6)))


def test_classes_are_confused_as_often_as_scikit_learn_counts(digits: Results) -> None:
    found = evidence.classified(digits, "CNN")
    assert found
    assert (found.split, found.seeds, found.items) == ("test", 3, 270)
    classes = [str(digit) for digit in range(10)]
    counts = evidence.confusion(found.table, classes)
    table = found.table
    expected = confusion_matrix(list(table["target"]), list(table["predicted"]), labels=classes)
    assert counts.to_numpy().tolist() == expected.tolist()
    assert list(counts.index) == list(counts.columns) == classes


def test_a_class_that_never_occurs_keeps_its_row_and_a_strange_one_gets_one() -> None:
    table = pd.DataFrame({"target": ["b", "b"], "predicted": ["b", "z"]}, dtype="string")
    counts = evidence.confusion(table, ["a", "b"])
    assert list(counts.index) == ["a", "b", "z"]
    assert counts.loc["b"].tolist() == [0, 1, 1]
    assert counts.loc["a"].sum() == 0


def test_the_most_frequent_mistakes_come_first_and_right_answers_never() -> None:
    counts = pd.DataFrame([[90, 7, 3], [0, 10, 0], [9, 0, 1]], index=list("abc"))
    counts.columns = pd.Index(list("abc"))
    pairs = evidence.confused_pairs(counts, 2)
    assert pairs.to_numpy().tolist() == [["c", "a", 9, 10], ["a", "b", 7, 100]]
    perfect = pd.DataFrame([[4, 0], [0, 6]], index=list("ab"), columns=list("ab"))
    assert evidence.confused_pairs(perfect).empty


def test_errors_of_numbers_are_means_over_the_seeds(kinds: dict[str, Results]) -> None:
    found = evidence.estimated(kinds["regression"], "MLP")
    assert found
    assert (found.split, found.seeds, found.items) == ("test", 3, ITEMS)
    close = evidence.closeness(found.table)
    parts = [own for _, own in found.table.groupby("seed")]
    pairs = [(list(own["target_value"]), list(own["predicted_value"])) for own in parts]
    assert close.r2 == pytest.approx(np.mean([r2_score(*pair) for pair in pairs]))
    assert close.mae == pytest.approx(np.mean([mean_absolute_error(*pair) for pair in pairs]))
    assert close.median == pytest.approx(np.mean([median_absolute_error(*pair) for pair in pairs]))


def test_equal_targets_have_an_error_but_no_share_of_variance() -> None:
    table = pd.DataFrame({"seed": [1, 1], "target_value": [2.0, 2.0], "predicted_value": [1.0, 4]})
    close = evidence.closeness(table)
    assert np.isnan(close.r2)
    assert close.mae == 1.5


def test_numbers_are_no_classes_and_classes_no_numbers(
    kinds: dict[str, Results], digits: Results
) -> None:
    assert evidence.classified(kinds["regression"], "MLP") is None
    assert evidence.estimated(digits, "CNN") is None
    assert evidence.classified(kinds["denoise"], "Denoiser") is None
    assert evidence.coded(digits, "CNN") is None


def test_a_map_shows_one_network_the_one_that_is_kept(kinds: dict[str, Results]) -> None:
    results = kinds["codes"]
    found = evidence.coded(results, "Autoencoder")
    assert found
    assert (found.split, found.seeds, found.items) == ("test", 1, ITEMS)
    chosen = results.confirmation
    best = chosen.loc[chosen["select_reconstruction_error"].idxmin(), "seed"]
    assert set(found.table["seed"]) == {best}
    assert evidence.code_names(found.table) == ["code_1", "code_2"]
    assert set(found.table["target"]) == set(CLASSES)


def test_a_longer_code_is_named_in_order(tmp_path: Path) -> None:
    results = read_results(write_kind(tmp_path, "codes", trials=3, code=11))
    table = results.codes["Autoencoder"]
    assert evidence.code_names(table) == [f"code_{n}" for n in range(1, 12)]


def test_a_sample_is_small_in_order_and_always_the_same() -> None:
    table = pd.DataFrame({"item": range(5000)})
    first = evidence.sampled(table, 3000)
    assert len(first) == 3000
    assert first["item"].is_monotonic_increasing
    assert first.equals(evidence.sampled(table, 3000))
    assert evidence.sampled(table, 5000) is table


def test_what_does_not_change_is_one_row_and_what_does_has_six(kinds: dict[str, Results]) -> None:
    rows = evidence.strips(kinds["denoise"].gallery("Denoiser"))
    named = [(row.caption, row.epoch) for row in rows]
    restored = [("restored", epoch) for epoch in GALLERY_EPOCHS]
    assert named == [("noisy", None), *restored, ("clean", None)]
    assert all(row.images.shape == (8, 1, SIDE, SIDE) for row in rows)


def test_of_many_epochs_the_first_and_the_last_are_shown() -> None:
    epochs = (0, 1, 2, 4, 8, 16, 32, 64, 100)
    gallery = {epoch: {"samples": _images(epoch)} for epoch in epochs}
    shown = [row.epoch for row in evidence.strips(gallery)]
    assert len(shown) <= 6
    assert (shown[0], shown[-1]) == (0, 100)
    assert shown == sorted(set(shown))  # type: ignore[type-var]


def test_what_settles_with_the_first_epoch_counts_as_unchanging() -> None:
    gallery: Gallery = {0: {"pca": _images(0)}, 1: {"pca": _images(5)}, 2: {"pca": _images(5)}}
    (row,) = evidence.strips(gallery)
    assert row.epoch is None
    assert (row.images == 5).all()
    assert evidence.strips({}) == []


def test_a_gan_is_followed_over_the_epochs_of_its_selected_trial(kinds: dict[str, Results]) -> None:
    results = kinds["gan"]
    rows = evidence.contest(results, "GAN")
    chosen = results.confirmation["trial"].iloc[0]
    own = results.epochs[results.epochs["trial"] == chosen]
    assert list(rows["epoch"]) == list(own["epoch"]) == list(range(1, 17))
    for column in evidence.CONTEST:
        assert list(rows[column]) == list(own[column])
    assert evidence.contest(kinds["codes"], "Autoencoder").empty


def _images(value: int) -> np.ndarray:
    return np.full((2, 1, 3, 3), value, dtype=np.uint8)
