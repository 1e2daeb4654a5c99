"""Exports of every kind of model: each file answers as the network does, by itself as well."""

import contextlib
import io
import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tests.conftest import rows_table, stripes
from tests.training_jobs import saved_model, space_of
from torch import Tensor, nn
from typing_extensions import override

from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.data.spec import DataSpec
from torchstudy.errors import RunError, StudyError
from torchstudy.execution.inputs import split_of
from torchstudy.families.base import Family, family
from torchstudy.families.cnn import CNN
from torchstudy.families.compression import Autoencoder
from torchstudy.families.denoising import Denoiser
from torchstudy.families.gan import GAN
from torchstudy.families.linear import LinearModel
from torchstudy.families.mlp import MLP
from torchstudy.families.multi_input import MultiInput
from torchstudy.families.transfer import Transfer
from torchstudy.models import exported, formats
from torchstudy.models.card import Facts
from torchstudy.models.deployed import Deployed, Probe, random_probe, real_probe, tolerance
from torchstudy.models.exported import Export, lines, write_export
from torchstudy.models.formats import Format, verified
from torchstudy.models.saved import SavedModel, load_model
from torchstudy.values import Value

FACTS = Facts(
    study="stripes",
    family="Any",
    description="A network.",
    trial=3,
    config={"width": 8, "rate": 0.25},
    score=("Test accuracy: 93.3%.",),
    obtained=("Trial 3 of 12.",),
    data=("Source: stripes.",),
    limits=("Stripes alone.",),
)
ALONE = ("classification", "images and a table")  # cases in which the script runs by itself too
WITHOUT_ONNX = ("regression from images", "regression from a table", "a table", "restoration")
NETWORKS = ("model.pt", "model.safetensors", "model.pt2", "model.onnx")
# An import of any of these fails where `predict.py` runs: it needs torch, torchvision and pillow.
MISSING = ("torchstudy", "pandas", "ax", "sklearn", "safetensors", "onnx")


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    """The stripes as rows whose number is to be predicted."""
    folder = tmp_path_factory.mktemp("sized")
    table = rows_table()
    for name, image in zip(table["photo"], stripes()[0], strict=True):
        Image.fromarray(image).save(folder / name)
    table.to_csv(folder / "rows.csv", index=False)
    return prepare(Images(folder, target="size", size=8, channels=1), seed=0)


@pytest.fixture(scope="module")
def priced(sized: ImageData) -> ImageData:
    """The same images with a positive number, whose logarithm is predicted."""
    prices = Path(sized.spec.source) / "prices.csv"
    table = rows_table()
    table.assign(price=np.exp(9 + table["size"]))[["photo", "price"]].to_csv(prices, index=False)
    return prepare(Images(prices, target="price", log_target=True, size=8, channels=1), seed=0)


@pytest.fixture(scope="module")
def viewed(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    """Items with two images and nothing else: the stripes, and the same upside down."""
    folder = tmp_path_factory.mktemp("viewed")
    table = rows_table()[["photo", "kind"]]
    for name, image in zip(table["photo"], stripes()[0], strict=True):
        Image.fromarray(image).save(folder / name)
        Image.fromarray(image[::-1].copy()).save(folder / f"turned {name}")
    table = table.assign(turned="turned " + table["photo"])
    table.to_csv(folder / "rows.csv", index=False)
    return prepare(Images(folder, target="kind", size=8, channels=1), seed=0)


CASES: dict[str, tuple[type[Family], str, dict[str, Value]]] = {
    "classification": (CNN, "striped", {}),
    "regression from images": (CNN, "sized", {}),
    "regression of a logarithm": (CNN, "priced", {}),
    "regression from a table": (MLP, "sized", {}),
    "regression from images and a table": (MultiInput, "sized", {}),
    "a frozen backbone": (Transfer, "striped", {"head": "logistic", "regularisation": 1.0}),
    "neighbours": (Transfer, "striped", {"head": "neighbours", "neighbours": 3}),
    "a fit": (LinearModel, "striped", {}),
    "reconstruction": (Autoencoder, "striped", {}),
    "restoration": (Denoiser, "striped", {}),
    "generation": (GAN, "striped", {}),
    "images and a table": (MultiInput, "tabled", {}),
    "a table": (LinearModel, "tabled", {}),
    "images beside a table": (CNN, "tabled", {}),
    "several images": (MLP, "viewed", {}),
}


def probe_of(saved: SavedModel, data: ImageData, count: int = 9) -> Probe:
    deployed = Deployed(saved)
    if deployed.gives == "samples":
        return random_probe(deployed, count)
    rows = data.splits["valid"]
    return real_probe(deployed, split_of(data, data.pixels, rows, rows).spread(count), "9 images")


def exported_to(folder: Path, source: Path, data: ImageData) -> tuple[SavedModel, Export]:
    saved = load_model(source)
    probe = probe_of(saved, data)
    return saved, write_export(saved, source, folder, probe=probe, facts=FACTS)


def said_by(folder: Path, *words: object) -> list[str]:
    """What `predict.py` prints, while none of MISSING can be imported."""
    script, told = folder / "predict.py", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(told):
        for name in MISSING:
            patch.setitem(sys.modules, name, None)
        patch.setattr(sys, "argv", [str(script), *map(str, words)])
        patch.chdir(folder)
        runpy.run_path(str(script), run_name="__main__")
    return told.getvalue().splitlines()


def said_alone(folder: Path, *words: object) -> list[str]:
    """As `said_by`, in a process of its own, in which nothing has been imported yet."""
    script = folder / "predict.py"
    code = (
        "import runpy, sys\n"
        f"for name in {MISSING}: sys.modules[name] = None\n"
        f"sys.argv = {[str(script), *map(str, words)]}\n"
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def cnn(striped: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = {**space_of(CNN).recipe, "width": 8, "depth": 1}
    return saved_model(CNN, striped, tmp_path_factory.mktemp("cnn"), recipe)


@pytest.fixture
def without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "ONNX_PACKAGES", ("no_such_package",))


@pytest.mark.slow
@pytest.mark.parametrize("case", list(CASES))
def test_every_format_answers_as_the_network_does(
    case: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Slow: torch.export and ONNX take seconds each; cases that bring ONNX nothing new lack it."""
    if case in WITHOUT_ONNX:
        request.getfixturevalue("without_onnx")
    cls, name, changes = CASES[case]
    data: ImageData = request.getfixturevalue(name)
    config = {**space_of(cls).recipe, **changes}
    if changes:
        config = {key: value for key, value in config.items() if key in cls.__dataclass_fields__}
    source = saved_model(cls, data, tmp_path, config)
    saved, found = exported_to(tmp_path / "out", source, data)
    made = {each.name: each for each in found.files}
    assert made["model.pt"].difference == made["model.safetensors"].difference == 0
    for each in NETWORKS[:-1] if case in WITHOUT_ONNX else NETWORKS:
        assert 0 <= made[each].difference <= tolerance(saved)
        assert made[each].size == (tmp_path / "out" / each).stat().st_size
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    for count in (1, 5, 30):
        probe = random_probe(Deployed(saved), count)
        assert torch.allclose(program(*probe.inputs), Deployed(saved)(*probe.inputs), atol=1e-6)
    again = load_model(tmp_path / "out")
    assert type(again.family) is cls
    _check_script(case, tmp_path / "out", saved, data)


def _check_script(case: str, folder: Path, saved: SavedModel, data: ImageData) -> None:
    rows = data.splits["test"][:3]
    pixels = torch.from_numpy(np.array(data.pixels[rows])) if data.spec.has_images else None
    names = [f"image {row}.png" for row in rows]
    for name, image in zip(names, stripes()[0][rows], strict=True):
        Image.fromarray(image).save(folder / name)
    table = rows_table().iloc[rows]
    table.to_csv(folder / "new rows.csv", index=False)
    takes = Deployed(saved).takes
    if case == "generation":
        assert said_by(folder, 6, "made.png") == ["6 images of 8 x 8 pixels: made.png"]
        with Image.open(folder / "made.png") as image:
            assert image.size[0] > 6 * 8
        return
    if saved.family.goal != "prediction":
        said = said_by(folder, *names)
        assert said == [
            f"{name}: image {row}-made.png" for name, row in zip(names, rows, strict=True)
        ]
        with Image.open(folder / f"image {rows[0]}-made.png") as image:
            shown = np.asarray(image.convert("L")) / 255
        assert pixels is not None
        wanted = Deployed(saved)(pixels)[0, 0].numpy()
        assert np.abs(shown - wanted).max() <= 0.5 / 255 + 1e-6
        return
    if case == "several images":
        names = [f"{name} {name}" for name in names]
        assert pixels is not None
        pixels = pixels[:, :1].expand(-1, 2, -1, -1, -1)
    words = ["new rows.csv"] if set(takes) - {"images"} else []
    words += names if "images" in takes else []
    if case == "several images":
        words = [word for name in words for word in (name.split(".png ")[0] + ".png",) * 2]
    said = said_by(folder, *words)
    if case in ALONE:
        assert said_alone(folder, *words) == said
    answers = saved.predict(
        pixels if "images" in takes else None, table if data.spec.has_table else None
    )
    items = names if takes == ("images",) else ["row 1", "row 2", "row 3"]
    if data.spec.task == "regression":  # sums in another order may change the last digit
        told, values = zip(*(line.rsplit(" ", 1) for line in said), strict=True)
        assert list(told) == [f"{name}: {data.spec.quantity}" for name in items]
        assert np.array(values, dtype=float) == pytest.approx(answers.numpy(), rel=1e-5)
        return
    assert said == [f"{n}: {_wanted(saved, each)}" for n, each in zip(items, answers, strict=True)]


def _wanted(saved: SavedModel, answer: Tensor) -> str:
    best = int(answer.argmax())
    return f"{saved.classes[best]!r} {answer[best]:.4f}"


def test_an_export_without_onnx_says_how_to_get_it(
    cnn: Path, striped: ImageData, tmp_path: Path, without_onnx: None
) -> None:
    _, found = exported_to(tmp_path / "out", cnn, striped)
    note = "not written: pip install 'torchstudy[onnx]' adds what it takes"
    assert [each.note for each in found.files if each.name == "model.onnx"] == [note]
    assert not (tmp_path / "out" / "model.onnx").exists()
    assert note in (tmp_path / "out" / "README.md").read_text()
    (line,) = [line for line in lines(found) if "model.onnx" in line]
    assert line.split(maxsplit=1) == ["model.onnx", note]


def test_lines_are_aligned_and_state_sizes_and_differences(
    cnn: Path, striped: ImageData, tmp_path: Path, without_onnx: None
) -> None:
    _, found = exported_to(tmp_path / "out", cnn, striped)
    shown = lines(found)
    sized_lines = [line for line in shown if " bytes  " in line]
    assert len({line.index(" bytes  ") for line in sized_lines}) == 1
    assert len(sized_lines) == len(shown) - 1
    size = (tmp_path / "out" / "model.pt2").stat().st_size
    (line,) = [line for line in shown if "model.pt2" in line]
    assert line.split() == ["model.pt2", f"{size:,}", "bytes", "largest", "difference", "0"]


def test_an_export_replaces_an_earlier_one_and_nothing_else(
    cnn: Path, striped: ImageData, tmp_path: Path, without_onnx: None
) -> None:
    out = tmp_path / "out"
    exported_to(out, cnn, striped)
    (out / "model.onnx").write_text("of an earlier export")
    (out / "calibration.json").write_text("{}")
    (out / "notes.txt").write_text("the user's own")
    (out / "model.pt2").write_text("old")
    exported_to(out, cnn, striped)
    assert (out / "model.pt2").stat().st_size > 1000
    names = {path.name for path in out.iterdir()}
    assert names == {
        "README.md", "config.json", "export.json", "metrics.json", "model.pt", "model.pt2",
        "model.safetensors", "notes.txt", "predict.py", "preprocessing.json",
    }  # fmt: skip


def test_a_calibration_goes_along(
    cnn: Path, striped: ImageData, tmp_path: Path, without_onnx: None
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in cnn.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    (source / "calibration.json").write_text('{"temperature": 2.0}')
    exported_to(tmp_path / "out", cnn, striped)
    assert not (tmp_path / "out" / "calibration.json").exists()
    saved = load_model(cnn)
    write_export(saved, source, tmp_path / "out", probe=probe_of(saved, striped), facts=FACTS)
    assert (tmp_path / "out" / "calibration.json").read_text() == '{"temperature": 2.0}'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", "mine", "holds no export (it has no export.json): nothing was written"),
        ("config.json", "{}", "give a new folder"),
    ],
)
def test_a_folder_of_something_else_is_left_alone(
    name: str, content: str, message: str, cnn: Path, striped: ImageData, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(StudyError, match="is not empty") as caught:
        exported_to(tmp_path, cnn, striped)
    assert message in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(StudyError, match="is a file; an export is a folder"):
        exported_to(tmp_path / name, cnn, striped)


def test_a_format_that_differs_is_refused_and_nothing_is_replaced(
    cnn: Path,
    striped: ImageData,
    tmp_path: Path,
    without_onnx: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    exported_to(out, cnn, striped)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    whole = formats._answers_of_program

    def wrong(saved: SavedModel, path: Path, inputs: tuple[Tensor, ...]) -> Tensor:
        return whole(saved, path, inputs) + 2e-4

    monkeypatch.setattr(formats, "_answers_of_program", wrong)
    with pytest.raises(RunError) as caught:
        exported_to(out, cnn, striped)
    assert str(caught.value) == (
        "model.pt2: its answers differ from those of the network by up to 0.0002 (9 images), and "
        "by rounding alone it would be less than 0.0001; nothing was exported"
    )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("answer", [torch.full((9, 3), float("nan")), torch.zeros(9, 2)])
def test_answers_that_are_no_numbers_or_too_few_are_refused(
    answer: Tensor, cnn: Path, striped: ImageData, tmp_path: Path
) -> None:
    saved = load_model(cnn)
    odd = Format(
        name="model.odd",
        write=lambda saved, path: None,
        answers=lambda saved, path, inputs: answer[: len(inputs[0])],
    )
    with pytest.raises(RunError, match=r"model\.odd: its answers differ .* by up to inf"):
        verified(odd, saved, tmp_path / "odd", probe_of(saved, striped))


def test_an_answer_to_one_item_alone_counts_too(
    cnn: Path, striped: ImageData, tmp_path: Path
) -> None:
    saved = load_model(cnn)

    def answers(saved: SavedModel, path: Path, inputs: tuple[Tensor, ...]) -> Tensor:
        found: Tensor = Deployed(saved)(*inputs)
        return found + 0.25 if len(found) == 1 else found

    odd = Format(name="model.odd", write=lambda saved, path: None, answers=answers)
    with pytest.raises(RunError, match=r"model\.odd: .* by up to 0\.25 \(9 images\)"):
        verified(odd, saved, tmp_path / "odd", probe_of(saved, striped))


def test_a_program_holds_nobodys_data(
    cnn: Path, striped: ImageData, tmp_path: Path, without_onnx: None
) -> None:
    exported_to(tmp_path / "out", cnn, striped)
    program = torch.export.load(tmp_path / "out" / "model.pt2")
    assert program.example_inputs is not None
    (shown,) = program.example_inputs[0]
    assert shown.dtype == torch.uint8
    assert not shown.any()


def test_made_images_are_those_that_the_report_shows(striped: ImageData, tmp_path: Path) -> None:
    images = torch.from_numpy(np.array(striped.pixels[:5]))
    made = load_model(saved_model(GAN, striped, tmp_path / "a"))
    noise = made.network.get_buffer("fixed_noise")
    assert torch.allclose(Deployed(made)(noise), made.pictures(images)["samples"], atol=1e-6)
    squeezed = load_model(saved_model(Autoencoder, striped, tmp_path / "b"))
    wanted = squeezed.pictures(images)["reconstruction"]
    assert torch.allclose(Deployed(squeezed)(images), wanted, atol=1e-6)
    cleaned = load_model(saved_model(Denoiser, striped, tmp_path / "c"))
    with torch.inference_mode():
        wanted = cleaned.network(images / 255)
    assert torch.allclose(Deployed(cleaned)(images), wanted, atol=1e-6)


def test_values_may_differ_by_the_same_share_of_their_spread(
    cnn: Path, sized: ImageData, tmp_path: Path
) -> None:
    saved = load_model(saved_model(LinearModel, sized, tmp_path))
    assert tolerance(saved) == pytest.approx(1e-4 * sized.spec.target_std)
    assert tolerance(load_model(cnn)) == 1e-4


@family
class Branching(Family):
    """A network whose path depends on what it sees."""

    def build(self, data: DataSpec) -> nn.Module:
        return BranchingNet(data)


class BranchingNet(nn.Module):
    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.layer = nn.Linear(data.channels * data.height * data.width, data.num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.layer(images.flatten(1))
        return answers if float(answers.detach().sum()) > 0 else -answers


def test_a_network_that_cannot_be_traced_is_refused_by_name(
    striped: ImageData, tmp_path: Path, without_onnx: None
) -> None:
    source = saved_model(Branching, striped, tmp_path)
    saved = load_model(source, [Branching])
    with pytest.raises(RunError) as caught:
        write_export(saved, source, tmp_path / "out", probe=probe_of(saved, striped), facts=FACTS)
    said = str(caught.value)
    assert said.startswith("model.pt2: the network of Branching cannot be written in this format (")
    assert said.endswith("; nothing was exported")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_only_onnx_cannot_hold_is_exported_without_it(
    cnn: Path, striped: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(saved: SavedModel, path: Path) -> None:
        path.write_text("half of it")
        raise ValueError("no ONNX function for aten.odd\nand much more")

    monkeypatch.setattr(formats, "_write_onnx", refused)
    _, found = exported_to(tmp_path / "out", cnn, striped)
    (line,) = [line for line in lines(found) if "model.onnx" in line]
    assert line.split(maxsplit=1)[1] == (
        "not written: the network of CNN cannot be written in this format (no ONNX function for "
        "aten.odd)"
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "model.onnx" not in names
    assert {"model.pt2", "export.json"} <= names
    assert not [name for name in names if name.endswith(".part")]


@family
class Maker(Family):
    """Says that it generates, without a source of noise."""

    goal = "generation"
    metrics = ("loss",)

    def build(self, data: DataSpec) -> nn.Module:
        return nn.Identity()


def test_a_generator_without_noise_is_refused(striped: ImageData) -> None:
    maker = Maker()
    saved = SavedModel(nn.Identity(), maker, striped.spec, maker.preprocessing(striped.spec))
    with pytest.raises(StudyError, match=r"Maker generates images, but its network has no method"):
        Deployed(saved)


def test_the_card_states_what_is_known_and_harmless(
    cnn: Path, striped: ImageData, tmp_path: Path, without_onnx: None
) -> None:
    saved = load_model(cnn)
    hostile = replace(saved.data, classes=("<b>|`x`", "two\x1b[2J", "three"))
    saved = replace(saved, data=hostile)
    facts = replace(FACTS, study="a*b")
    probe = probe_of(saved, striped)
    write_export(saved, cnn, tmp_path / "out", probe=probe, facts=facts)
    text = (tmp_path / "out" / "README.md").read_text()
    parameters = sum(parameter.numel() for parameter in saved.network.parameters())
    assert f"The network has {parameters:,} parameters" in text
    assert r"\<b\>\|\`x\`, two\\x1b\[2J, three" in text
    assert r"a\*b" in text
    for said in (*FACTS.score, *FACTS.limits, *FACTS.data, *FACTS.obtained):
        assert said in text
    assert "uint8 (items, 1, 8, 8)" in text
    assert "| rate | 0.25 |" in text
    assert "(9 images, all at once and the first alone)" in text
    stated = json.loads((tmp_path / "out" / "export.json").read_text())
    assert stated["files"]["model.pt2"]["largest_difference"] == 0
    assert stated["files"]["README.md"]["largest_difference"] is None


def test_the_script_is_short(cnn: Path, striped: ImageData, tmp_path: Path) -> None:
    from torchstudy.models.standalone import script

    text = script(Deployed(load_model(cnn))).split('"""', 2)[2]
    code = [line for line in text.splitlines() if line.strip() and '"""' not in line]
    assert len([line for line in code if not line.startswith(("import", "from"))]) <= 20


def test_a_temperature_is_inside_the_program(cnn: Path, striped: ImageData) -> None:
    saved = load_model(cnn)
    deployed = Deployed(saved)
    (images,) = probe_of(saved, striped).inputs
    before = deployed(images)
    deployed.temperature = 2.0
    wanted = (before.double().log() / 2).softmax(dim=1)
    assert torch.allclose(deployed(images).double(), wanted, atol=1e-6)
    assert not torch.allclose(before.double(), wanted, atol=1e-2)


@pytest.mark.slow
def test_new_rows_are_read_as_the_product_reads_them(
    tabled: ImageData, tmp_path: Path, without_onnx: None
) -> None:
    """What is missing, unknown or padded counts as it did in training. Slow: torch.export."""
    source = saved_model(LinearModel, tabled, tmp_path)
    out = tmp_path / "out"
    saved, _ = exported_to(out, source, tabled)
    rows = [["1.5", "north"], ["", "south"], ["-2e0", "moon"], ["3", ""], [" 4 ", " north "]]
    complaints = {"x,y\n1,2\n": "has no column 'size'", "size,shop\nbig,north\n": "'big'"}
    for text, complaint in complaints.items():
        (out / "bad.csv").write_text(text)
        with pytest.raises(SystemExit, match=complaint):  # a message, and no traceback
            said_by(out, "bad.csv")
    table = pd.DataFrame(rows, columns=["size", "shop"])
    table.assign(photo="none", kind="flat").to_csv(out / "new.csv", index=False)
    table["size"] = pd.to_numeric(table["size"].replace("", None))
    answers = saved.predict(None, table, unknown="other")
    wanted = [f"row {at}: {_wanted(saved, each)}" for at, each in enumerate(answers, start=1)]
    assert said_by(out, "new.csv") == wanted


def test_the_mark_is_the_first_file_of_an_export(
    cnn: Path,
    striped: ImageData,
    tmp_path: Path,
    without_onnx: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that an export that was cut off can be repeated."""
    order: list[str] = []
    whole = exported.written_aside

    class Noted:
        def __init__(self, path: Path) -> None:
            self.path, self.inner = path, whole(path)

        def __enter__(self) -> Path:
            return self.inner.__enter__()

        def __exit__(self, *error: object) -> None:
            self.inner.__exit__(*error)  # type: ignore[arg-type]
            order.append(self.path.name)

    monkeypatch.setattr(exported, "written_aside", Noted)
    exported_to(tmp_path / "out", cnn, striped)
    assert order[0] == "export.json"
    assert set(order) >= {"model.pt", "model.pt2", "README.md", "predict.py", "config.json"}


@family
class Blind(Family):
    """Predicts, and says of itself that it does not."""

    def build(self, data: DataSpec) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, data.num_outputs))

    @override
    def predict(self, model: nn.Module, data: DataSpec, batch: object) -> Tensor | None:
        return None


def test_a_family_that_predicts_nothing_is_refused(
    striped: ImageData, tmp_path: Path, without_onnx: None
) -> None:
    blind = Blind()
    network = blind.build(striped.spec)
    saved = SavedModel(network, blind, striped.spec, blind.preprocessing(striped.spec))
    with pytest.raises(StudyError, match="Blind predicts nothing"):
        write_export(saved, tmp_path, tmp_path / "out", probe=probe_of(saved, striped), facts=FACTS)
