"""What the models do is shown with its numbers in words, its pictures pixel by pixel."""

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.report_kinds import write_kind

from torchstudy.analysis.tables import Results, read_results
from torchstudy.report import answer_figures, pictures
from torchstudy.report.caveats import headline
from torchstudy.report.exhibits import exhibits
from torchstudy.report.formats import quantity
from torchstudy.report.looks import class_look, look
from torchstudy.report.predicted import Quantity
from torchstudy.report.sections import Content
from torchstudy.report.story import Story


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    names = ("regression", "denoise", "codes", "gan")
    return {name: read_results(write_kind(tmp_path_factory.mktemp(name), name)) for name in names}


def _panel(content: Content, name: str) -> dict[str, Any]:
    return next(panel for panel in content.context["panels"] if panel["name"] == name)


def _said(panel: dict[str, Any]) -> str:
    return " ".join(panel["about"])


def _decoded(address: str) -> np.ndarray:
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


def test_a_picture_holds_the_pixels_with_clear_gaps_between_them() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 5, 4), dtype=np.uint8)
    row = pictures.row(images)
    pixels = _decoded(row.address)
    assert pixels.shape == (5, 3 * 5 - 1, 4)
    for place in range(3):
        left = 5 * place
        shown = pixels[:, left : left + 4]
        assert np.array_equal(shown[..., :3], images[place].transpose(1, 2, 0))
        assert (shown[..., 3] == 255).all()
    assert (pixels[:, [4, 9], 3] == 0).all()
    assert (row.width, row.height) == (14 * 14, 5 * 14)


@pytest.mark.parametrize(("channels", "mode"), [(1, "LA"), (2, "LA"), (3, "RGBA"), (12, "RGBA")])
def test_any_number_of_channels_makes_a_picture(channels: int, mode: str) -> None:
    images = np.full((1, channels, 4, 4), 100, dtype=np.uint8)
    body = pictures.row(images).address.partition(",")[2]
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    assert image.mode == mode
    assert np.asarray(image)[0, 0, 0] == 100


def test_large_pictures_are_made_smaller_and_many_are_put_into_two_lines() -> None:
    ramp = np.arange(128, dtype=np.uint8)[None, None, None, :].repeat(128, axis=2)
    row = pictures.row(ramp.repeat(20, axis=0))
    assert row.items == 16
    pixels = _decoded(row.address)
    assert pixels.shape == (2 * 64 + 1, 8 * 64 + 7, 2)
    assert pixels[0, :4, 0].tolist() == [1, 3, 5, 7]  # means of two, rounded up


def test_a_gallery_names_what_is_seen_and_when(kinds: dict[str, Results]) -> None:
    (gallery,) = exhibits(Story(kinds["denoise"])).context["galleries"]
    rows = [(row["caption"], row["when"]) for row in gallery["rows"]]
    assert rows[:2] == [("noisy", ""), ("restored", "untrained")]
    assert rows[-2:] == [("restored", "after epoch 16, the last"), ("clean", "")]
    assert gallery["rows"][2]["alt"] == "8 pictures: restored, after epoch 1"
    said = _said(gallery)
    assert "the same items of the validation split" in said
    means = (
        kinds["denoise"].confirmation[["test_psnr", "test_noisy_psnr", "test_median_psnr"]].mean()
    )
    restored, noisy, median = (f"{mean:.2f} dB" for mean in means)
    assert f"On the test split, restored images have a PSNR of {restored}" in said
    assert f"the noisy ones have {noisy}, and a median filter brings them to {median}." in said


def test_a_gan_s_pictures_are_said_to_be_made_up(kinds: dict[str, Results]) -> None:
    (gallery,) = exhibits(Story(kinds["gan"])).context["galleries"]
    said = _said(gallery)
    assert "the same random numbers" in said
    assert "of the real images have a generated one nearby" in said
    assert all(row["row"].items == 16 for row in gallery["rows"])


def test_two_numbers_are_a_map_by_class(kinds: dict[str, Results]) -> None:
    content = exhibits(Story(kinds["codes"]))
    traces = content.figures["codes-0"].data
    assert [trace.name for trace in traces] == ["shirt", "shoe", "bag", "coat"]
    assert sum(len(trace.x) for trace in traces) == 120
    assert "Each mark is one of 120 test images" in _said(_panel(content, "codes-0"))
    (gallery,) = content.context["galleries"]
    assert "of principal components with as many numbers" in _said(gallery)


def test_a_longer_code_is_a_file_and_no_map(tmp_path: Path) -> None:
    results = read_results(write_kind(tmp_path, "codes", trials=3, code=8))
    content = exhibits(Story(results))
    panel = _panel(content, "codes-0")
    assert not panel["is_drawn"]
    assert "codes-0" not in content.figures
    assert "turns each image into 8 numbers" in _said(panel)
    assert "evidence/Autoencoder/codes.parquet" in _said(panel)


def test_ten_classes_differ_by_colour_and_by_symbol() -> None:
    looks = [class_look(index) for index in range(10)]
    assert len({look.color for look in looks}) == 10
    assert len({look.symbol for look in looks}) == 10


def test_predicted_numbers_are_drawn_against_true_ones(kinds: dict[str, Results]) -> None:
    content = exhibits(Story(kinds["regression"]))
    assert {"truth-0", "truth-1", "truth-2"} <= set(content.figures)
    line, marks = content.figures["truth-0"].data
    assert list(line.x) == list(line.y)
    table = kinds["regression"].predictions["MLP"]
    one = table[table["seed"] == table["seed"].iloc[0]]
    assert list(marks.x) == list(one["target_value"])
    assert list(marks.y) == list(one["predicted_value"])
    said = _said(_panel(content, "truth-0"))
    assert "mean absolute error of log price is 0.2" in said
    assert "on 120 test items (means over 3 fresh seeds)" in said
    assert "accuracy" not in said


def test_of_a_predicted_logarithm_the_quantity_is_drawn(kinds: dict[str, Results]) -> None:
    results = kinds["regression"]
    data = {**results.summary["data"], "log_target": True}
    content = exhibits(Story(replace(results, summary={**results.summary, "data": data})))
    figure = content.figures["truth-0"]
    table = results.predictions["MLP"]
    one = table[table["seed"] == table["seed"].iloc[0]]
    marks = figure.data[1]
    assert list(marks.x) == pytest.approx(np.exp(one["target_value"]))
    assert marks.hovertext[0].endswith(f"predicted {quantity(marks.y[0])}")
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert axis.type == "log"
        low, high = axis.range
        for values in (marks.x, marks.y, axis.tickvals):
            assert low <= np.log10(min(values)) < np.log10(max(values)) <= high
    assert figure.layout.xaxis.title.text == "True price"
    said = _said(_panel(content, "truth-0"))
    assert "mean absolute error of log price is 0.2" in said
    parts = [own["predicted_value"] - own["target_value"] for _, own in table.groupby("seed")]
    factor = np.exp(np.mean([part.abs().median() for part in parts]))
    assert f"Half of the predictions are within a factor of {factor:.3g} of the truth." in said


def test_no_factor_is_told_where_no_number_holds_it(kinds: dict[str, Results]) -> None:
    results = kinds["regression"]
    data = {**results.summary["data"], "log_target": True}
    far = {name: table.assign(predicted_value=1e6) for name, table in results.predictions.items()}
    logs = replace(results, summary={**results.summary, "data": data}, predictions=far)
    said = _said(_panel(exhibits(Story(logs)), "truth-0"))
    assert "mean absolute error of log price is" in said
    assert "factor" not in said


def test_the_verdict_says_that_errors_are_those_of_a_logarithm(kinds: dict[str, Results]) -> None:
    results = kinds["regression"]
    data = {**results.summary["data"], "log_target": True}
    logs = replace(results, summary={**results.summary, "data": data})
    said = "Errors and scores are of the natural logarithm of price: an absolute error of 0.1 is"
    assert headline(Story(logs)).sentences[-1].startswith(said)
    assert not any("logarithm" in sentence for sentence in headline(Story(results)).sentences)


def test_a_predicted_logarithm_may_be_of_what_no_number_holds() -> None:
    table = pd.DataFrame(
        {"name": ["a", "b"], "target_value": [1.0, 2.0], "predicted_value": [1e6, -1e6]}
    )
    asked = Quantity(target="log price", is_log=True)
    figure = answer_figures.predicted(table, asked, look(0))
    assert np.isfinite(figure.data[1].y).all()
    assert np.isfinite(figure.layout.yaxis.range).all()


def test_a_gan_s_losses_and_scores_are_lines(kinds: dict[str, Results]) -> None:
    content = exhibits(Story(kinds["gan"]))
    assert [trace.name for trace in content.figures["losses-0"].data] == [
        "discriminator",
        "generator",
    ]
    real, generated = content.figures["scores-0"].data
    assert (real.name, generated.name) == ("real images", "generated images")
    assert min(real.y) > 0.5 > max(generated.y)
    assert real.line.dash != generated.line.dash


def test_a_study_that_left_nothing_shows_nothing(kinds: dict[str, Results], tmp_path: Path) -> None:
    bare = replace(kinds["regression"], predictions={}, folder=tmp_path)
    content = exhibits(Story(bare))
    assert content.context == {"galleries": [], "panels": []}
    assert not content.figures


def test_cells_of_a_confusion_tell_count_and_share() -> None:
    counts = pd.DataFrame([[9, 1], [0, 0]], index=["<b>", "y"], columns=["<b>", "y"])
    (heat,) = answer_figures.confused(counts).data
    assert [list(row) for row in heat.z] == [[0.9, 0.1], [0.0, 0.0]]
    assert heat.hovertext[0][1] == "true &lt;b&gt;, predicted y<br>1 of 10 (10.0%)"
    assert heat.hovertext[1][0] == "true y, predicted &lt;b&gt;<br>0 of 0"
