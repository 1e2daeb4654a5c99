"""The page carries the examples of as many trials as it has room for, the best of each first."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.example_records import write_records
from tests.pages import drawn
from tests.report_data import Made, write_study
from tests.report_kinds import write_kind

from torchstudy.analysis.examples import read_examples
from torchstudy.analysis.tables import Results, read_results
from torchstudy.report import examples
from torchstudy.report.examples import shown_examples, strip
from torchstudy.report.page import render
from torchstudy.report.story import Story


def _shown(results: Results) -> dict[str, Any]:
    found = shown_examples(Story(results))
    assert found
    assert "problem" not in found
    return found


@pytest.fixture
def digits(tmp_path: Path) -> Results:
    folder = write_study(tmp_path, Made(families=("CNN", "Transfer"), trials=6))
    write_records(folder)
    return read_results(folder)


def _after_one_epoch(results: Results, trial: dict[str, Any], column: str) -> float:
    own = results.epochs[results.epochs["seed"] == trial["seed"]]
    return float(own.loc[own["epoch"] == 1, column].iloc[0])


def test_answers_are_those_of_the_table(digits: Results) -> None:
    found = _shown(digits)
    table = read_examples(digits.folder)
    assert table
    for row, trial in enumerate(digits.trials.to_dict("records")):
        own = table.table[
            (table.table["family"] == trial["family"]) & (table.table["trial"] == trial["trial"])
        ]
        guesses = [[int(name), round(100 * share)] for name, share in
                   zip(own["predicted"], own["confidence"], strict=True)]  # fmt: skip
        score = _after_one_epoch(digits, trial, "valid_accuracy")
        entry = {"epoch": 1, "guesses": guesses}
        if score == score:  # those that diverged have none
            entry["score"] = f"{100 * score:.1f}%"
        assert found["rows"][row] == entry
    assert [item["target"] for item in found["items"]] == table.targets.tolist()
    assert found["about"] == "The same 8 validation images for every trial"
    assert found["original"] is None
    assert (found["metric"], found["all"]) == (None, "all 270 validation images")


@pytest.mark.parametrize(
    ("kind", "words", "written"),
    [
        ("regression", "R\u00b2", lambda value: f"{value:.3f}".replace("-", "\u2212")),
        ("denoise", "PSNR", lambda value: f"{value:.2f} dB"),
    ],
)
def test_beside_a_few_items_stands_the_score_of_all(
    tmp_path: Path, kind: str, words: str, written: Callable[[float], str]
) -> None:
    folder = write_kind(tmp_path, kind, trials=2)
    write_records(folder, has_answers=kind == "regression", captions=("restored",))
    results = read_results(folder)
    found = _shown(results)
    assert found["metric"] == words
    assert found["all"].startswith("all 120 validation ")
    for row, trial in enumerate(results.trials.to_dict("records")):
        value = _after_one_epoch(results, trial, f"valid_{results.objective.metric}")
        assert found["rows"][row].get("score", written(value)) == written(value)
    assert sum("score" in row for row in found["rows"]) > 0


def test_numbers_have_four_digits(tmp_path: Path) -> None:
    write_records(write_kind(tmp_path, "regression", trials=3))
    found = _shown(read_results(tmp_path))
    values = found["rows"][0]["values"]
    assert values == [float(f"{value:.4g}") for value in values]
    assert found["items"][0]["target"] == pytest.approx(values[0], abs=0.5)
    assert found["about"].startswith("The same 8 validation items")


def test_of_a_logarithm_people_see_what_is_meant_by_it(tmp_path: Path) -> None:
    write_records(write_kind(tmp_path, "regression", trials=3))
    logs = _shown(read_results(tmp_path))
    assert logs["target"] == "log price"  # of results of earlier versions nothing is known
    summary = json.loads((tmp_path / "study.json").read_text())
    summary["data"]["log_target"] = True
    (tmp_path / "study.json").write_text(json.dumps(summary))
    found = _shown(read_results(tmp_path))
    assert found["target"] == "price"
    table = read_examples(tmp_path)
    assert table
    assert [item["target"] for item in found["items"]] == [
        float(f"{np.exp(value):.4g}") for value in table.targets
    ]
    own = table.table[(table.table["family"] == "MLP") & (table.table["trial"] == 0)]
    assert found["rows"][0]["values"] == [
        float(f"{np.exp(value):.4g}") for value in own["predicted_value"]
    ]


def test_a_number_beyond_all_floats_is_none(tmp_path: Path) -> None:
    write_records(write_kind(tmp_path, "regression", trials=1))
    summary = json.loads((tmp_path / "study.json").read_text())
    summary["data"]["log_target"] = True
    (tmp_path / "study.json").write_text(json.dumps(summary))
    path = tmp_path / "evidence" / "examples.parquet"
    pd.read_parquet(path).assign(predicted_value=1e4).to_parquet(path)
    assert _shown(read_results(tmp_path))["rows"][0]["values"] == [None] * 8


def test_rows_of_a_table_are_shown_to_whoever_saw_no_picture(tmp_path: Path) -> None:
    folder = write_kind(tmp_path, "regression", trials=2)
    columns = ("bedrooms", "area", "a column with a very long name indeed")
    write_records(folder, columns=columns, blind=("MLP", "LinearModel"))
    results = read_results(folder)
    found = _shown(results)
    assert [row.get("sees", True) for row in found["rows"]] == [
        family == "MultiInput" for family in results.trials["family"]
    ]
    assert found["items"][1]["row"] == [
        ["bedrooms", "0.1"],
        ["area", "1.1"],
        ["a column with a very lo…", "2.1"],
    ]


def test_of_many_columns_the_first_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    folder = write_kind(tmp_path, "regression", trials=1)
    write_records(folder, columns=tuple(f"column {n}" for n in range(9)))
    row = _shown(read_results(folder))["items"][0]["row"]
    assert [name for name, _ in row] == [*(f"column {n}" for n in range(5)), "and 4 columns more"]


def test_records_of_earlier_versions_are_taken_to_have_seen_the_pictures(digits: Results) -> None:
    path = digits.folder / "evidence" / "examples.parquet"
    pd.read_parquet(path).drop(columns="sees_images").to_parquet(path)
    assert all("sees" not in row for row in _shown(digits)["rows"])


def test_pictures_stand_side_by_side_with_clear_gaps() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 5, 4), dtype=np.uint8)
    address, width, height = strip(images)
    head, _, body = address.partition(",")
    assert head == "data:image/webp;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGBA"))
    assert pixels.shape == (5, 14, 4)
    assert (width, height) == (11 * 14, 11 * 5)
    for place in range(3):
        shown = pixels[:, 5 * place :][:, :4]
        assert np.array_equal(shown[..., 0], images[place, 0])
    assert (pixels[:, [4, 9], 3] == 0).all()


def test_colours_of_larger_pictures_are_close() -> None:
    ramp = np.linspace(0, 255, 40).astype(np.uint8)
    image = np.stack([ramp[:, None].repeat(40, 1), ramp[None].repeat(40, 0), np.full((40, 40), 90)])
    address, width, _ = strip(image[None].astype(np.uint8))
    body = base64.b64decode(address.partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).astype(int)
    assert np.abs(pixels - image.transpose(1, 2, 0)).mean() < 8
    assert width == 40


def test_what_many_trials_make_alike_is_kept_once(tmp_path: Path) -> None:
    folder = write_kind(tmp_path, "denoise", trials=4)
    write_records(folder, has_answers=False, captions=("restored",))
    path = folder / "evidence" / "Denoiser" / "examples.npz"
    with np.load(path) as saved:
        first = saved["0/1/restored"]
        np.savez(path, **{f"{trial}/1/restored": first for trial in range(4)})
    found = _shown(read_results(folder))
    assert [row["strips"] for row in found["rows"]] == [[["restored", 0]]] * 4
    assert (len(found["strips"]), found["original"]) == (2, 1)  # and the items as they are


def test_a_gan_is_shown_without_items(tmp_path: Path) -> None:
    write_records(write_kind(tmp_path, "gan", trials=2), has_answers=False, captions=("samples",))
    found = _shown(read_results(tmp_path))
    assert (found["title"], found["items"], found["original"]) == (
        "What it makes of noise",
        [],
        None,
    )
    assert "nobody picked" in found["about"]
    assert not any("score" in row for row in found["rows"])  # eight made-up images have none


def test_the_best_of_each_family_come_first_and_the_rest_is_said_to_be_left_out(
    digits: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = len(json.dumps(_shown(digits)["rows"][0]))
    monkeypatch.setattr(examples, "MOST_CHARACTERS", int(3.5 * one))
    rows = _shown(digits)["rows"]
    kept = {place for place, row in enumerate(rows) if row}
    assert all(row == {} for place, row in enumerate(rows) if place not in kept)
    best = [
        place
        for family in ("CNN", "Transfer")
        for place in digits.values[digits.trials["family"] == family].nlargest(2).index
    ]
    assert kept == set(best)


def test_at_five_thousand_trials_they_take_less_than_a_megabyte(tmp_path: Path) -> None:
    folder = write_kind(tmp_path, "codes", trials=200, epochs=4)
    write_records(folder, has_answers=False, captions=("reconstruction",), side=28)
    found = _shown(read_results(folder))
    assert len(json.dumps(found)) < 1.2 * examples.MOST_CHARACTERS
    assert 20 < sum(bool(row) for row in found["rows"]) < 200


def test_the_same_results_give_the_same_page(digits: Results) -> None:
    assert render(digits) == render(read_results(digits.folder))


def test_a_damaged_file_is_said_in_the_drawer_and_nowhere_else(digits: Results) -> None:
    path = digits.folder / "evidence" / "examples.npz"
    path.write_bytes(b"damaged")
    found = shown_examples(Story(digits))
    assert found
    assert str(found["problem"]).startswith(f"{path} is damaged")
    assert "Download CSV" in drawn(digits, "trials")


def test_results_of_earlier_versions_have_none(tmp_path: Path) -> None:
    assert shown_examples(Story(read_results(write_study(tmp_path, Made(trials=3))))) is None
