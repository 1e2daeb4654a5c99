"""A saved model says of files and rows what the run has written down for them."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tests.photographs import saved, write_photographs, write_prices
from tests.training_jobs import space_of

from torchstudy.analysis.calibration import read_calibration
from torchstudy.data.dataset import prepare
from torchstudy.data.images import Images
from torchstudy.data.reading import csv_table
from torchstudy.errors import DataError, StudyError
from torchstudy.execution.exhibits import answers_path
from torchstudy.families.compression import Autoencoder
from torchstudy.families.denoising import Denoiser
from torchstudy.families.gan import GAN
from torchstudy.families.mlp import MLP
from torchstudy.families.multi_input import MultiInput
from torchstudy.models.predicting import Asked, answer_files, answer_table
from torchstudy.models.saved import SavedModel, load_model


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_photographs(folder)
    return folder


@pytest.fixture(scope="module")
def denoiser(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    data = prepare(Images(photos, size=12, channels=1), seed=0)
    return load_model(saved(Denoiser, data, tmp_path_factory.mktemp("denoiser"))[0])


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("priced")
    write_prices(folder)
    return folder


def _written_down(folder: Path) -> pd.DataFrame:
    """What the run of `photo_study` has recorded of the saved model's seed, by file."""
    table = pd.read_parquet(folder / "reports/photos/evidence/CNN/predictions.parquet")
    calibration = read_calibration(folder / "reports/photos/best/CNN")
    assert calibration is not None
    own = table[(table["seed"] == calibration.seed) & (table["split"] != "valid")]
    return own.assign(file="photos/" + own["name"]).set_index("file")


def test_the_answers_of_files_are_those_that_the_run_recorded(photo_study: Path) -> None:
    recorded = _written_down(photo_study)
    model = load_model("reports/photos/best/CNN")
    assert len(recorded) > 30
    found = model.predict_files(["photos"], batch_size=7).set_index("file").loc[recorded.index]
    assert found["problem"].isna().all()
    assert list(found["class"]) == list(recorded["predicted"])
    assert list(found["probability"]) == pytest.approx(list(recorded["calibrated"]), abs=1e-5)
    raw = model.predict_files(list(recorded.index), calibrated=False)
    assert list(raw["probability"]) == pytest.approx(list(recorded["confidence"]), abs=1e-5)
    assert (recorded["confidence"] - recorded["calibrated"]).abs().max() > 0.01


def test_the_next_classes_follow_up_to_all_of_them(photo_study: Path) -> None:
    model = load_model("reports/photos/best/CNN")
    table = model.predict_files(["photos/flat"], top=9)
    names = ["class", "probability", "class_2", "probability_2", "class_3", "probability_3"]
    assert list(table.columns) == ["file", *names, "problem"]
    shares = table[["probability", "probability_2", "probability_3"]].to_numpy()
    assert shares.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (np.diff(shares, axis=1) <= 0).all()
    assert all(len({*row}) == 3 for row in table[["class", "class_2", "class_3"]].to_numpy())


def test_the_temperature_is_used_unless_it_is_not_wanted(photo_study: Path) -> None:
    model = load_model("reports/photos/best/CNN")
    assert model.temperature is not None
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (64, *model.data.shape), generator=generator).to(torch.uint8)
    raw, own = model.probabilities(pixels, calibrated=False), model.probabilities(pixels)
    assert own.dtype == raw.dtype == torch.float32
    expected = (raw.double().log() / model.temperature).softmax(dim=1)
    assert own.numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    assert torch.equal(own.argmax(dim=1), raw.argmax(dim=1))
    assert not torch.allclose(own, raw, atol=1e-3)


def test_unreadable_files_keep_their_place_and_say_why(photo_study: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    places = ["photos/flat/1.png", broken, "photos/flat/2.png", "gone.png"]
    table = load_model("reports/photos/best/CNN").predict_files(places)
    assert list(table["file"]) == [
        "gone.png",
        "photos/flat/1.png",
        str(broken),
        "photos/flat/2.png",
    ]
    assert list(table["problem"].notna()) == [True, False, True, False]
    assert table["class"].isna().tolist() == [True, False, True, False]
    alone = load_model("reports/photos/best/CNN").predict_files([broken])
    assert list(alone.columns) == ["file", "problem"]


def test_progress_is_told_after_every_batch(photo_study: Path) -> None:
    told: list[tuple[str, int, int]] = []
    model = load_model("reports/photos/best/CNN")
    model.predict_files(["photos/flat"], batch_size=16, progress=lambda *given: told.append(given))
    assert told == [("predict", 16, 40), ("predict", 32, 40), ("predict", 40, 40)]


@pytest.mark.parametrize("name", ["top", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_counts_are_whole_and_positive(photo_study: Path, name: str, value: object) -> None:
    model = load_model("reports/photos/best/CNN")
    with pytest.raises(StudyError, match=f"{name.replace('_', '-')}: must be a whole number"):
        Asked(model=model, **{name: value})  # type: ignore[arg-type]


def test_images_of_another_kind_are_told(denoiser: SavedModel, photo_study: Path) -> None:
    colour, grey = Asked(model=denoiser), Asked(model=load_model("reports/photos/best/CNN"))
    assert colour.notes == grey.notes == []
    colour.read, colour.greys = 5, 0
    grey.read = grey.greys = 5
    assert "every image is in colour, but the model takes grey ones" in colour.notes[0]
    assert grey.notes == ["every image is grey, but the model takes images in colour"]
    colour.greys, grey.greys = 1, 4
    assert colour.notes == grey.notes == []


# -- numbers and tables ------------------------------------------------------------------------


def _asked_of_table(model: SavedModel, path: Path, **options: object) -> pd.DataFrame:
    asked = Asked(model=model, **options)  # type: ignore[arg-type]
    answer_table(asked, csv_table(path, str(path))[0], path.parent)
    return asked.table()


@pytest.mark.parametrize("cls", [MLP, MultiInput])
def test_rows_are_answered_in_the_targets_own_unit(
    cls: type[MLP] | type[MultiInput], priced: Path, tmp_path: Path
) -> None:
    images = Images(priced, target="price", log_target=True, size=16)
    data = prepare(images, seed=0)
    assert data.spec.image_columns == ("front", "back")
    config = space_of(cls).recipe
    if cls is MultiInput:
        config |= {"backbone": "none"}
    place, run = saved(cls, data, tmp_path, config)
    table = _asked_of_table(load_model(place), priced / "rows.csv", batch_size=7)
    assert list(table["row"]) == list(range(1, 121))
    with np.load(answers_path(run, "select")) as recorded:
        logs = recorded["value"]
    found = table["value"].to_numpy()[data.splits["select"]]
    assert np.log(found) == pytest.approx(logs, abs=1e-4)


def test_a_row_whose_image_is_bad_has_a_problem_and_the_rest_answers(
    priced: Path, tmp_path: Path
) -> None:
    data = prepare(Images(priced, target="price", size=16), seed=0)
    config = space_of(MultiInput).recipe | {"backbone": "none"}
    model = load_model(saved(MultiInput, data, tmp_path, config)[0])
    table = pd.read_csv(priced / "rows.csv").head(4)
    table.loc[1, "back"] = "gone.png"
    table.loc[2, "front"] = "broken.png"
    (priced / "broken.png").write_text("no image")
    path = priced / "few.csv"
    table.to_csv(path, index=False)
    found = _asked_of_table(model, path)
    assert found["value"].isna().tolist() == [False, True, True, False]
    assert found["problem"].tolist()[1] == "no such file"
    assert "not an image in a known format" in found["problem"].tolist()[2]
    with pytest.raises(
        StudyError, match="MultiInput takes rows of a table, not images alone: give"
    ):
        model.predict_files([priced])
    with pytest.raises(DataError, match=r"lacks? .*'size'|column 'size'"):
        _asked_of_table(model, _without(path, "size"))
    with pytest.raises(DataError, match="the table has the column 'back' not"):
        _asked_of_table(model, _without(path, "back"))
    table.loc[3, "shop"] = "west"
    table.to_csv(path, index=False)
    with pytest.raises(DataError, match="row 4 has 'west'"):
        _asked_of_table(model, path, batch_size=1)
    assert _asked_of_table(model, path, unknown="other")["value"].notna().sum() == 2


def _without(path: Path, name: str) -> Path:
    other = path.with_name(f"without-{name}.csv")
    pd.read_csv(path).drop(columns=name).to_csv(other, index=False)
    return other


def test_a_model_of_images_takes_a_table_that_names_them(photo_study: Path, tmp_path: Path) -> None:
    model = load_model("reports/photos/best/CNN")
    path = tmp_path / "rows.csv"
    Image.open("photos/flat/1.png").save(tmp_path / "1.png")
    pd.DataFrame({"id": [7], "photo": ["1.png"]}).to_csv(path, index=False)
    found = _asked_of_table(model, path)
    expected = model.predict_files(["photos/flat/1.png"])
    assert found["probability"].tolist() == pytest.approx(expected["probability"].tolist())
    pd.DataFrame({"id": [7]}).to_csv(path, index=False)
    with pytest.raises(
        DataError, match="has 0 columns with paths of images, but the model takes 1"
    ):
        _asked_of_table(model, path)


# -- pictures ----------------------------------------------------------------------------------


def test_rebuilt_images_have_the_error_that_training_reports(photos: Path, tmp_path: Path) -> None:
    data = prepare(Images(photos, size=12), seed=0)
    place, _ = saved(Autoencoder, data, tmp_path)
    model = load_model(place)
    kept: dict[str, torch.Tensor] = {}
    names = [data.names[item] for item in data.splits["select"]]
    asked = Asked(model=model, keep=kept.__setitem__)
    answer_files(asked, [photos / name for name in names])
    table = asked.table()
    pixels = torch.from_numpy(np.asarray(data.pixels[data.splits["select"]]))
    shown = model.pictures(pixels)
    errors = (shown["reconstruction"] - shown["original"]).square().flatten(1).mean(dim=1)
    assert table["reconstruction_error"].to_numpy() == pytest.approx(errors.numpy(), rel=1e-4)
    assert list(kept) == [str(photos / name) for name in names]
    expected = shown["reconstruction"].clamp(0, 1) * 255
    images = torch.stack(list(kept.values()))
    assert images.dtype == torch.uint8
    assert (images.float() - expected).abs().max() <= 0.51


def test_a_denoiser_restores_what_it_is_given_and_adds_no_noise(
    denoiser: SavedModel, photos: Path
) -> None:
    kept: dict[str, torch.Tensor] = {}
    asked = Asked(model=denoiser, keep=kept.__setitem__)
    answer_files(asked, [photos / "flat" / "1.png"])
    pixels = torch.from_numpy(
        prepare(Images(photos, size=12, channels=1), seed=0).pixels[_place(photos)][None]
    )
    with torch.inference_mode():
        restored = denoiser.network(pixels.float() / 255)
    (image,) = kept.values()
    assert (image.float() - restored[0] * 255).abs().max() <= 0.51
    change = float((restored - pixels.float() / 255).square().mean())
    assert asked.table()["squared_change"].tolist() == pytest.approx([change], rel=1e-4)
    assert math.isfinite(change)


def _place(photos: Path) -> int:
    return list(prepare(Images(photos, size=12, channels=1), seed=0).names).index("flat/1.png")


def test_a_model_that_makes_images_looks_at_none(photos: Path, tmp_path: Path) -> None:
    data = prepare(Images(photos, size=12, channels=1), seed=0)
    model = load_model(saved(GAN, data, tmp_path)[0])
    with pytest.raises(StudyError, match="GAN makes new images from noise and looks at none: say"):
        model.predict_files([photos])
    images = model.samples(70, seed=3)
    assert (images.dtype, images.shape) == (torch.uint8, (70, 1, 12, 12))
    assert torch.equal(model.samples(3, seed=3), images[:3])
    assert not torch.equal(model.samples(3, seed=4), images[:3])
    state = torch.get_rng_state()
    model.samples(1)
    assert torch.equal(torch.get_rng_state(), state)
    for count in (0, -1, True):
        with pytest.raises(StudyError, match="samples: must be a whole number above 0; got"):
            model.samples(count)


def test_a_model_that_looks_at_images_makes_none(denoiser: SavedModel) -> None:
    with pytest.raises(StudyError, match="Denoiser makes no images from noise: name image files"):
        denoiser.samples(4)
