"""`optimize predict` as it is typed: what it prints, writes and refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.command import optimize
from tests.photographs import saved, write_photographs, write_prices

from torchstudy import predictions
from torchstudy.data.dataset import prepare
from torchstudy.data.images import Images
from torchstudy.errors import StudyError
from torchstudy.families.compression import Autoencoder
from torchstudy.families.gan import GAN
from torchstudy.families.mlp import MLP
from torchstudy.models.saved import load_model
from torchstudy.predictions import picture_places

MODEL = "reports/photos/best/CNN"

OWN = '''"""A family of one's own."""
from torch import nn
from torchstudy import *


@family
class Mine(Family):
    """One layer."""

    def build(self, data):
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, data.num_outputs))


study = Study(data=Images("photos", size=12), families=[Mine], maximize="accuracy")
'''


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photographs, and a model of each kind that is not a classifier."""
    folder = tmp_path_factory.mktemp("made")
    write_photographs(folder / "photos")
    data = prepare(Images(folder / "photos", size=12), seed=0)
    for cls in (Autoencoder, GAN):
        shutil.move(saved(cls, data, folder / cls.__name__)[0], folder / f"{cls.__name__}-model")
    write_prices(folder / "houses")
    rows = prepare(Images(folder / "houses", target="price", log_target=True, size=8), seed=0)
    shutil.move(saved(MLP, rows, folder / "MLP")[0], folder / "MLP-model")
    return folder


def test_classes_are_printed_as_a_table(photo_study: Path) -> None:
    ended = optimize("predict", MODEL, "photos/flat/1.png", "photos/tall/2.png", "--top", 3)
    assert (ended.exit_code, ended.stderr) == (0, "")
    header, _, *lines = ended.stdout.splitlines()
    assert header.split() == ["file", "class", "probability", "2nd", "3rd"]
    expected = load_model(MODEL).predict_files(["photos/flat/1.png"], top=3).loc[0]
    assert lines[0].split() == [
        "photos/flat/1.png",
        expected["class"],
        f"{100 * expected['probability']:.1f}%",
        expected["class_2"],
        f"{100 * expected['probability_2']:.1f}%",
        expected["class_3"],
        f"{100 * expected['probability_3']:.1f}%",
    ]
    assert len(lines) == 2


def test_json_has_the_top_as_a_list(photo_study: Path) -> None:
    ended = optimize("predict", MODEL, "photos/*/1.png", "--json", "--top", 2)
    records = json.loads(ended.stdout)
    assert [record["file"] for record in records] == [
        f"photos/{kind}/1.png" for kind in ("flat", "plain", "tall")
    ]
    for record in records:
        assert set(record) == {"file", "class", "probability", "top"}
        first, second = record["top"]
        assert first == {name: record[name] for name in ("class", "probability")}
        assert first["probability"] >= second["probability"]
    (alone,) = json.loads(optimize("predict", MODEL, "photos/flat/1.png", "--json").stdout)
    assert set(alone) == {"file", "class", "probability"}


def test_csv_and_parquet_hold_the_exact_numbers(photo_study: Path, tmp_path: Path) -> None:
    expected = load_model(MODEL).predict_files(["photos"], top=2).drop(columns="problem")
    for name in ("a.csv", "a.parquet"):
        ended = optimize("predict", MODEL, "photos", "--top", 2, "--out", tmp_path / name)
        assert ended.stdout == f"{tmp_path / name}\n"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), expected, check_dtype=False)
    found = pd.read_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    printed = optimize("predict", MODEL, "photos", "--top", 2, "--format", "csv").stdout
    assert printed == (tmp_path / "a.csv").read_text()


def test_without_the_temperature_probabilities_are_those_of_the_network(photo_study: Path) -> None:
    words = ("predict", MODEL, "photos/flat/1.png", "--json")
    (own,), (raw,) = (json.loads(optimize(*words, *w).stdout) for w in ((), ("--uncalibrated",)))
    assert own["class"] == raw["class"]
    expected = load_model(MODEL).predict_files(["photos/flat/1.png"], calibrated=False)
    assert raw["probability"] == expected["probability"].item() != own["probability"]


def test_what_cannot_be_read_is_named_and_the_rest_is_done(
    photo_study: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    shutil.copy("photos/flat/1.png", tmp_path / "fine.png")
    ended = optimize("predict", MODEL, tmp_path, "gone\n.png", "--format", "csv")
    assert ended.exit_code == 1
    assert ended.stderr.splitlines() == [
        "not read: gone\\n.png: no such file or folder",
        f"not read: {tmp_path}/empty.png: not an image in a known format",
        f"not read: {tmp_path}/text.png: not an image in a known format",
    ]
    _, row = ended.stdout.splitlines()
    assert row.startswith(f"{tmp_path}/fine.png,")
    alone = optimize("predict", MODEL, tmp_path / "text.png", "--json")
    assert (alone.exit_code, alone.stdout) == (1, "")


def test_images_of_another_kind_are_answered_with_a_note(photo_study: Path, tmp_path: Path) -> None:
    Image.new("L", (30, 30), 90).save(tmp_path / "grey.png")
    ended = optimize("predict", MODEL, tmp_path)
    assert ended.exit_code == 0
    note = "note: every image is grey, but the model takes images in colour\n"
    assert ended.stderr == note


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([MODEL], "nothing to predict from: name image files, folders or a glob in quotes"),
        ([MODEL, "gone"], "no image to predict from ('gone': no such file or folder)"),
        ([MODEL, "studies"], "no image to predict from ('studies': a folder without images"),
        ([MODEL, "photos", "--top", "0"], "top: must be a whole number above 0; got 0"),
        ([MODEL, "photos", "--batch-size", "-2"], "batch-size: must be a whole number above 0"),
        ([MODEL, "photos", "--format", "jsn"], "'jsn' is not one of table, csv, json, parquet"),
        ([MODEL, "photos", "--json", "--format", "csv"], "--json and --format csv do not go"),
        ([MODEL, "photos", "--out", "a.txt"], "format: 'txt' is not one of csv, json, parquet"),
        ([MODEL, "photos", "--unknown", "any"], "unknown: 'any' is not one of error, other"),
        ([MODEL, "photos", "--samples", "4"], "images and --samples do not go together"),
        ([MODEL, "--samples", "4", "--out", "x"], "CNN makes no images from noise: name image"),
        ([MODEL, "--table", "gone.csv"], "gone.csv is no regular file, so it is no CSV table"),
        (["gone", "photos"], "gone is not a saved model: there is no such folder"),
        (["photos", "photos"], "photos is not a saved model: it has no config.json\n"),
        (["reports/photos", "photos"], "it has no config.json; there is reports/photos/best/CNN"),
        (["reports/photos/best", "photos"], "there is reports/photos/best/CNN"),
        (["studies/photos.py", "photos"], "is not a saved model, which is a folder with config"),
        ([MODEL, "photos", "--study", "gone"], "study 'gone' is not known; ./studies has photos"),
    ],
)
def test_wrong_use_is_one_clear_message(photo_study: Path, words: list[str], message: str) -> None:
    ended = optimize("predict", *words)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json is damaged"),
        ("[]", "is not a saved model: its config.json is of another kind"),
        ('{"model_type": "vit"}', "of another kind, as it lacks config, data, family"),
        ('{"family": "CNN", "config": {}, "data": {"a": 1}}', "damaged or of another version"),
        ('{"family": "CNN", "config": {}, "data": 5}', "damaged or of another version"),
        ('{"family": "Mine", "config": {}, "data": {}}', "is of family 'Mine'; pass its class"),
    ],
)
def test_a_folder_of_another_kind_is_one_clear_message(
    photo_study: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "config.json").write_text(text)
    ended = optimize("predict", tmp_path, "photos")
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_study_teaches_a_family_of_ones_own(photo_study: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    from torchstudy.study_files import load_study

    (cls,) = load_study(str(tmp_path / "own.py")).families
    place, _ = saved(cls, prepare(Images("photos", size=12), seed=0), tmp_path)
    ended = optimize("predict", place, "photos/flat/1.png")
    assert ended.exit_code == 2
    assert "--study studies/mine.py" in ended.stderr
    taught = optimize("predict", place, "photos/flat/1.png", "--study", tmp_path / "own.py")
    assert (taught.exit_code, taught.stderr) == (0, "")


def test_rebuilt_images_are_written_and_their_errors_printed(made: Path, tmp_path: Path) -> None:
    model, photos = made / "Autoencoder-model", made / "photos"
    ended = optimize("predict", model, photos, "--out", tmp_path, "--format", "csv")
    assert ended.exit_code == 0
    (tmp_path / "printed.csv").write_text(ended.stdout)
    table = pd.read_csv(tmp_path / "printed.csv")
    assert list(table.columns) == ["file", "reconstruction_error", "picture"]
    assert len(table) == 120
    assert table["picture"].iloc[0] == str(tmp_path / "flat/0.png")
    for path in table["picture"]:
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((12, 12), "RGB")
    alone = optimize("predict", model, photos / "flat" / "0.jpg")
    header, _, line = alone.stdout.splitlines()
    assert header.split() == ["file", "reconstruction", "error"]
    assert float(line.split()[1]) == pytest.approx(table["reconstruction_error"].iloc[0], rel=1e-4)
    refused = optimize("predict", model, photos / "flat" / "1.png", "--out", photos / "flat")
    assert refused.exit_code == 2
    assert "holds the images themselves; give another folder to --out" in refused.stderr


def test_samples_are_written_one_by_one_and_as_a_sheet(made: Path, tmp_path: Path) -> None:
    model, out = made / "GAN-model", tmp_path / "out"
    ended = optimize("predict", model, "--samples", 10, "--out", out, "--seed", 4)
    assert ended.stdout == f"10 images in {out}, all of them in samples.png\n"
    names = [f"sample_{number:02}.png" for number in range(1, 11)]
    assert sorted(path.name for path in out.iterdir()) == [*names, "samples.png"]
    expected = load_model(model).samples(10, seed=4).numpy()
    for name, image in zip(names, expected, strict=True):
        assert np.array_equal(np.asarray(Image.open(out / name)), image.transpose(1, 2, 0))
    with Image.open(out / "samples.png") as page:
        assert page.size == (4 * 14 - 2, 3 * 14 - 2)
    told = json.loads(optimize("predict", model, "--samples", 2, "--out", out, "--json").stdout)
    assert told == [{"picture": str(out / f"sample_{number}.png")} for number in (1, 2)]
    for words, message in (
        (["--samples", 3], "say where the images go: --out FOLDER"),
        (["--samples", 0, "--out", out], "samples: must be a whole number above 0; got 0"),
        ([made / "photos"], "GAN makes new images from noise and looks at none"),
        (["--samples", 3, "--out", out / "samples.png"], "cannot be written"),
    ):
        ended = optimize("predict", model, *words)
        assert ended.exit_code == 2, words
        assert message in ended.stderr


def test_rows_of_a_table_are_answered_in_the_unit_of_the_target(made: Path, tmp_path: Path) -> None:
    model, rows = made / "MLP-model", made / "houses" / "rows.csv"
    ended = optimize("predict", model, "--table", rows)
    header, _, *lines = ended.stdout.splitlines()
    assert header.split() == ["row", "price"]
    assert len(lines) == 120
    table = pd.read_csv(rows)
    printed = optimize("predict", model, "--table", rows, "--format", "csv", "--batch-size", 7)
    (tmp_path / "a.csv").write_text(printed.stdout)
    values = pd.read_csv(tmp_path / "a.csv")["value"]
    assert np.corrcoef(np.log(values), np.log(table["price"]))[0, 1] > 0.5
    assert values.median() == pytest.approx(table["price"].median(), rel=1)
    ended = optimize("predict", model, made / "photos")
    assert ended.exit_code == 2
    assert "MLP takes rows of a table, not images alone: give a CSV file with" in ended.stderr
    assert "the columns front, back, size, shop by --table FILE.csv" in ended.stderr


def test_a_pipe_gets_no_progress(photo_study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with predictions.progress_line() as progress:
        assert progress is None
    assert capfd.readouterr().err == ""


def test_a_terminal_gets_one_line_that_goes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with predictions.progress_line() as progress:
        assert progress is not None
        progress("predict", 3, 40)
    said = capfd.readouterr().err
    assert "predict" in said
    assert "3/40" in said.replace(" ", "")
    assert said.rstrip().endswith("\x1b[2K")


def test_pictures_keep_their_folders_and_never_meet(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("a/x.jpg", "a/x.png", "b/x.jpg", "a/x.jpg.png")]
    places = picture_places(files, Path("out"))
    assert [str(places[file]) for file in files] == [
        "out/a/x.png",
        "out/a/x.png.png",
        "out/b/x.png",
        "out/a/x.jpg.png",
    ]
    again = picture_places([*files, str(tmp_path / "a/x.gif")], Path("out"))
    assert len(set(again.values())) == 5
    assert picture_places(files[:1], Path("out")) == {files[0]: Path("out/x.png")}
    with pytest.raises(StudyError, match="holds the images themselves; give another folder"):
        picture_places(files[1:2], tmp_path / "a")
