"""Bad input: exit code 2, one message with every problem, nothing written, no traceback."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from tests.command import optimize, write_study

FAMILY = """
from torch import nn
@family
class Mine(Family):
    b: str = {}
    def build(self, data): ...
"""
TRANSFER = (
    'study = Study(**{**GOOD, "families": [Transfer], "space": '
    '{"Transfer.backbone": "resnet18", "Transfer.weights": "given.pth"}})'
)


def refused(folder: Path, change: str) -> str:
    """What `optimize run bad` says, which must be all that it does."""
    write_study(folder, "bad", change)
    before = sorted(path for path in folder.rglob("*") if "__pycache__" not in str(path))
    ended = optimize("run", "bad", "--executor", "inline")
    assert ended.exit_code == 2, ended.stdout
    assert sorted(path for path in folder.rglob("*") if "__pycache__" not in str(path)) == before
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("error: ")
    return ended.stderr.removeprefix("error: ").replace("studies/bad.py: ", "").strip()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def images(folder: Path, counts: dict[str, int]) -> None:
    """Noise of 16 x 16 px, so many files in each class folder."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for name, count in counts.items():
        (folder / name).mkdir()
        for number in range(count):
            pixels = generator.integers(0, 256, size=(16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def with_(**changes: str) -> str:
    listed = ", ".join(f'"{name}": {value}' for name, value in changes.items())
    return f"study = Study(**{{**GOOD, {listed}}})"


DECLARATIONS: dict[str, tuple[str, str]] = {
    "a metric that does not exist": (
        with_(maximize='"acuracy"'),
        "objective: CNN does not report 'acuracy' (did you mean 'accuracy'?); it reports "
        "accuracy, loss, mse, mae, r2",
    ),
    "an objective that one of the families does not report": (
        with_(
            families="[CNN, AutoencoderProbe]", maximize="None", minimize='"reconstruction_error"'
        ).replace('"CNN.width"', '"width"'),
        "objective: CNN does not report 'reconstruction_error'; it reports accuracy, loss, mse, "
        "mae, r2",
    ),
    "unknown hyperparameters and families in space": (
        with_(space='{"learning_rat": 0.1, "CNN.widht": 8, "CMN.depth": 1}'),
        "3 problems:\n"
        "  - space.learning_rat is not a hyperparameter of CNN (did you mean 'learning_rate'?)\n"
        "  - space.CNN.widht: 'widht' is not a hyperparameter of CNN (did you mean 'width'?)\n"
        "  - space.CMN.depth: the study has no family 'CMN' (did you mean 'CNN'?)",
    ),
    "ranges that are inverted, empty, from zero on a log scale, or without their default": (
        with_(
            space='{"dropout": Float(0.5, 0.1), "learning_rate": Float(0.0, 1.0, log=True), '
            '"width": Int(8, 8), "weight_decay": Float(1e-4, 1e-2, default=1.0)}'
        ),
        "4 problems:\n"
        "  - space.CNN.dropout has an inverted range: low 0.5 is above high 0.1\n"
        "  - space.learning_rate has a log scale from 0.0: a log range must start above 0\n"
        "  - space.CNN.width has an empty range: low and high are both 8; write the value itself\n"
        "  - space.weight_decay has a default outside its range: 1.0 is not in [0.0001, 0.01]",
    ),
    "conditions on nothing and on itself": (
        with_(
            space='{"dropout": Float(0.1, 0.2, when={"nothing": 1}), '
            '"width": Int(8, 16, when={"width": 8})}'
        ),
        "2 problems:\n"
        "  - space.CNN.dropout depends on 'nothing', which is not a hyperparameter here\n"
        "  - space.CNN.width depends on itself",
    ),
    "a family whose hyperparameter depends on nothing": (
        FAMILY.format('Choice("x", "y", when={"kernal": 1})'),
        "Mine.b depends on 'kernal', which is not a hyperparameter here",
    ),
    "a family whose hyperparameter depends on itself": (
        FAMILY.format('Choice("x", "y", when={"b": "x"})'),
        "Mine.b depends on itself",
    ),
    "a family whose default is outside its range": (
        FAMILY.format("Int(1, 5, default=9)"),
        "Mine.b has a default outside its range: 9 is not in [1, 5]",
    ),
    "something that is no family, and budgets that are no numbers": (
        with_(families="[CNN, 3]", trials="0", epochs="-1", confirm="3", seed='"x"'),
        "5 problems:\n"
        "  - families: 3 is not a Family class decorated with @family\n"
        "  - trials: must be a whole number of at least 1; got 0\n"
        "  - epochs: must be a whole number of at least 1; got -1\n"
        "  - seed: must be a whole number of at least 0; got 'x'\n"
        "  - confirm: must be (configurations, seeds), both at least 1, or None; got 3",
    ),
    "images too small for the network": (
        with_(space='{"CNN.depth": Int(1, 4)}'),
        "CNN: depth=4 halves the image 4 times and needs at least 16 px, but the images have "
        "8 x 8: narrow depth or raise the image size",
    ),
}


@pytest.mark.parametrize("what", DECLARATIONS)
def test_a_declaration_that_cannot_work_is_refused(what: str, here: Path) -> None:
    change, message = DECLARATIONS[what]
    assert refused(here, change) == message


def test_a_file_that_fails_is_named_with_its_line(here: Path) -> None:
    message = refused(here, "1 / 0")
    assert message == "studies/bad.py, line 18: ZeroDivisionError: division by zero"


def test_a_data_function_that_fails_is_named(here: Path) -> None:
    change = 'def lost(): raise OSError("disk")\n' + with_(data="lost")
    assert refused(here, change) == "data: lost() failed with OSError: disk"


def test_an_unknown_study_is_refused_with_what_there_is(here: Path) -> None:
    write_study(here, "digits")
    ended = optimize("run", "digit")
    assert ended.exit_code == 2
    assert ended.stderr == (
        "error: study 'digit' is not known (did you mean 'digits'?); ./studies has digits\n"
    )


FOLDERS: dict[str, tuple[dict[str, int], str]] = {
    "an empty folder": (
        {},
        "data: 'given' holds no class folders; give root/<class>/*.jpg or "
        "root/train/<class>/*.jpg, root/val/<class>/*.jpg",
    ),
    "one class only": (
        {"a": 12},
        "data: there is one class only, 'a'; a study needs at least two",
    ),
    "a class with fewer images than the splits need": (
        {"a": 30, "b": 3},
        "data: every class needs at least 5 images (2 for train, 1 for valid, 1 for select, 1 for "
        "test), but 'b' has 3; add images or remove the class",
    ),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_a_folder_of_images_that_cannot_do_is_refused(what: str, here: Path) -> None:
    counts, message = FOLDERS[what]
    images(here / "given", counts)
    assert refused(here, with_(data='"given"')) == message


@pytest.fixture
def damaged(here: Path) -> None:
    images(here / "given", {"a": 20, "b": 20})
    (here / "given" / "a" / "3.png").write_bytes(b"nothing")
    (here / "given" / "b" / "7.png").write_bytes(b"")


@pytest.mark.usefixtures("damaged")
def test_unreadable_images_are_counted_and_named(here: Path) -> None:
    assert refused(here, with_(data='"given"')) == (
        "data: 2 images cannot be read ('a/3.png': not an image in a known format; 'b/7.png': not "
        "an image in a known format); repair or remove them, or pass on_bad_image='skip'"
    )


@pytest.mark.usefixtures("damaged")
def test_unreadable_images_can_be_skipped_and_that_is_said(here: Path) -> None:
    change = with_(data='Images("given", size=8, on_bad_image="skip")', trials="1", confirm="None")
    write_study(here, "skipping", change)
    ended = optimize("run", "skipping", "--executor", "inline")
    assert ended.exit_code == 0, ended.stderr
    assert (
        "data: 2 unreadable images were left out, the first 'a/3.png': not an image in a known "
        "format\n"
    ) in ended.stdout


def of_another_model(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"a": torch.zeros(2)}


def nearly_right(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state["layer1.0.conv1.weight"] = torch.zeros(3, 3)
    del state["bn1.weight"]
    return {**state, "extra": torch.zeros(1)}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            of_another_model,
            "122 keys missing (conv1.weight, bn1.weight, bn1.bias, bn1.running_mean, "
            "bn1.running_var and 117 more); 1 keys not expected (a)",
        ),
        (
            nearly_right,
            "1 keys missing (bn1.weight); 1 keys not expected (extra); 1 keys of another shape "
            "(layer1.0.conv1.weight is (3, 3), needed (64, 64, 3, 3))",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_keys(
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], problem: str, here: Path
) -> None:
    torch.save(change(torchvision.models.resnet18(weights=None).state_dict()), here / "given.pth")
    message = refused(here, TRANSFER)
    assert message == f"Transfer: weights given.pth do not fit resnet18: {problem}"


def test_results_that_cannot_be_written_are_refused(here: Path) -> None:
    write_study(here, "tiny")
    (here / "file").touch()
    ended = optimize("run", "tiny", "--reports", "file/reports", "--executor", "inline")
    assert ended.exit_code == 2
    assert (
        ended.stderr == "error: results cannot be written to file/reports/tiny: Not a directory\n"
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "nonsense",
            "storage 'nonsense' is not a database URL; give one like "
            "sqlite:///reports/studies.sqlite",
        ),
        (
            "sqlite:///missing/x.sqlite",
            "storage sqlite:///missing/x.sqlite cannot be used: unable to open database file",
        ),
        (
            "sqlite:///studies/tiny.py",
            "storage sqlite:///studies/tiny.py cannot be used: file is not a database; nothing in "
            "it is a ledger's, so it is left as it is; move it away to start anew",
        ),
    ],
)
def test_a_database_that_cannot_be_used_is_refused(url: str, message: str, here: Path) -> None:
    write_study(here, "tiny")
    ended = optimize("run", "tiny", "--storage", url, "--executor", "inline")
    assert ended.exit_code == 2
    assert ended.stderr == f"error: {message}\n"
    assert not (here / "reports").exists()


def test_a_cache_that_cannot_be_written_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "file").touch()
    monkeypatch.setenv("TORCHSTUDY_CACHE", "file/cache")
    assert refused(here, "").startswith("data: the cache folder file/cache cannot be used (")


def test_a_changed_study_is_refused_with_the_difference(finished_study: Path) -> None:
    report = finished_study / "reports" / "tiny" / "report.html"
    before = report.stat().st_mtime_ns
    ended = optimize("run", "tiny", "--epochs", 3, "--seed", 5, "--executor", "inline")
    assert ended.exit_code == 2
    assert ended.stderr == (
        "error: study 'tiny' differs from the one its stored results belong to:\n"
        "  - epochs: was 2, now 3\n"
        "  - seed: was 0, now 5\n"
        "Undo the change, give the study another name, or start over with --fresh (which deletes "
        "those results).\n"
    )
    assert report.stat().st_mtime_ns == before


def test_the_problems_of_all_studies_and_options_come_in_one_message(here: Path) -> None:
    write_study(here, "tiny")
    write_study(here, "broken", "1 / 0")
    options = ["--workers", "0", "--executor", "remote", "--seed", "-1"]
    ended = optimize("run", "tiny", "broken", "tinny", *options)
    assert ended.exit_code == 2
    assert ended.stderr == (
        "error: 5 problems:\n"
        "  - workers: must be 'auto' or a whole number above 0; got '0'\n"
        "  - executor: 'remote' is not one of local, inline\n"
        "  - seed: must be a whole number of at least 0; got -1\n"
        "  - studies/broken.py, line 18: ZeroDivisionError: division by zero\n"
        "  - study 'tinny' is not known (did you mean 'tiny'?); ./studies has broken, tiny\n"
    )


def test_of_several_studies_none_runs_while_the_data_of_one_cannot_do(here: Path) -> None:
    write_study(here, "tiny")
    write_study(here, "later", with_(data='"absent"'))
    ended = optimize("run", "tiny", "later", "--executor", "inline")
    assert ended.exit_code == 2
    assert ended.stderr.startswith("error: later: data: 'absent' is no known name (digits, ")
    assert not (here / "reports").exists()
