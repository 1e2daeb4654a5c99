"""Layer tables of networks that take tables, several images, or features of a frozen network."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.tables import from_csv, homes_csv
from torch import nn

from torchstudy import CNN, MLP, MultiInput, Study, Transfer
from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.errors import RunError
from torchstudy.families.base import Family, family
from torchstudy.layers import HEADER, layer_lines
from torchstudy.models.summary import layer_table

DIGITS = DataSpec(source="x", channels=1, height=8, width=8, classes=tuple("abc"), num_train=10)
TABLE = replace(
    DIGITS,
    channels=0,
    height=0,
    width=0,
    numbers=("area", "rooms"),
    categories=("town",),
    number_means=(0.0, 0.0),
    number_stds=(1.0, 1.0),
    category_values=(("Bonn", "Ulm"),),
)


@family
class Shared(Family):
    """A layer that is called twice, and one inside another module."""

    def build(self, data: DataSpec) -> nn.Module:
        same = nn.Linear(64, 64, bias=False)
        return nn.Sequential(nn.Flatten(), same, same, nn.Sequential(nn.Linear(64, 3)))


def test_a_layer_is_called_by_its_path_and_a_shared_one_counts_its_parameters_once() -> None:
    table = layer_table(Shared(), DIGITS)
    assert table["layer"].tolist() == ["0", "1", "1", "3.0"]
    assert table["parameters"].tolist() == [0, 64 * 64, 0, 65 * 3]
    assert table["multiply_adds"].tolist() == [0, 64 * 64, 64 * 64, 64 * 3]


def test_a_frozen_backbone_and_its_head_are_one_network() -> None:
    table = layer_table(Transfer(), DIGITS)
    assert table["kind"].tolist().count("Linear") == 1
    assert table["kind"].iloc[-1] == "Linear"
    assert "Conv2d" in set(table["kind"])
    assert table["parameters"].iloc[-1] == 513 * 3
    assert set(table["layer"].str.partition(".")[0]) == {"0", "1"}


@pytest.mark.parametrize("cls", [MLP, MultiInput])
def test_a_table_without_images_has_layers(cls: type[Family]) -> None:
    instance = cls() if cls is MLP else MultiInput(branches="table")
    table = layer_table(instance, TABLE)
    assert table["kind"].tolist()[-1] == "Linear"
    assert table["output_shape"].iloc[-1] == "3"
    network = instance.build(TABLE)
    assert table["parameters"].sum() == sum(p.numel() for p in network.parameters())


@family
class Attending(Family):
    """A layer of torch's own that holds others and does not call them."""

    def build(self, data: DataSpec) -> nn.Module:
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
        return nn.Sequential(nn.Flatten(0, 1), layer)


def test_attention_is_a_layer_and_a_linear_layer_counts_every_row_it_sees() -> None:
    table = layer_table(Attending(), DIGITS).set_index("layer")
    assert table.loc["1.self_attn", "kind"] == "MultiheadAttention"
    assert table.loc["1.self_attn", "parameters"] == 4 * 8 * 9
    assert table.loc["1.linear1", "multiply_adds"] == 8 * 8 * 16


def test_several_views_go_through_the_same_layers() -> None:
    one = layer_table(MultiInput(branches="image"), DIGITS)
    three = layer_table(MultiInput(branches="image"), replace(DIGITS, views=3))
    assert one["kind"].tolist() == three["kind"].tolist()
    layers = (one["kind"] == "Conv2d") | (one["layer"] == "1.images.project.1")
    assert layers.sum() == 4
    assert (three["multiply_adds"] == 3 * one["multiply_adds"])[layers].all()
    assert (three["parameters"] == one["parameters"])[layers].all()


def test_a_table_leaves_the_random_state_as_it_is(striped: ImageData) -> None:
    before = torch.get_rng_state()
    layer_table(CNN(), striped.spec)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_study_is_summed_up_without_an_image_being_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(
        data=from_csv(homes_csv(tmp_path)), families=[MultiInput], minimize="mae", trials=1
    )

    def refuse(image: Image.Image) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", refuse)
    lines, costs = layer_lines(study, MultiInput)
    assert {len(line) for line in lines} == {len(HEADER)}
    assert costs.startswith("in all ")
    assert " floating-point operations, " in costs


@family
class Misspelt(Family):
    """A family with a mistake in its network."""

    def build(self, data: DataSpec) -> nn.Module:
        return nn.Flatten(self.no_such_setting)  # type: ignore[attr-defined]


def test_a_family_that_cannot_be_built_is_shown_by_its_own_lines_alone(tmp_path: Path) -> None:
    study = Study(
        data=from_csv(homes_csv(tmp_path)), families=[MultiInput], minimize="mae", trials=1
    )
    with pytest.raises(RunError, match="Misspelt: its recipe cannot be built:") as raised:
        layer_lines(replace(study, families=[Misspelt]), Misspelt)
    said = str(raised.value)
    assert "self.no_such_setting" in said
    assert "models/summary.py" not in said
    assert said.endswith("AttributeError: 'Misspelt' object has no attribute 'no_such_setting'")
