"""Rows of a table as data: numbers, categories, images, quantities to predict, and bad tables."""

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.conftest import SHARED

from torchstudy.data.dataset import ImageData, open_data, prepare
from torchstudy.data.encoding import encode_table
from torchstudy.data.images import Images
from torchstudy.data.sources import scan
from torchstudy.data.spec import DataSpec
from torchstudy.errors import DataError


def homes(count: int = 60) -> pd.DataFrame:
    """Homes with an area, a town and a price that follows from both."""
    generator = np.random.default_rng(0)
    area = generator.uniform(40, 200, count).round(1)
    town = np.array(["Ulm", "Köln", "Bonn"])[np.arange(count) % 3]
    price = 1000 * area * (1 + (town == "Köln")) + generator.normal(0, 500, count).round(2)
    return pd.DataFrame({"id": np.arange(count), "area": area, "town": town, "price": price})


def homes_csv(folder: Path, *, views: int = 2, table: pd.DataFrame | None = None) -> Path:
    """A CSV file of homes with `views` noisy PNG images each, in a folder beside it."""
    table = homes() if table is None else table
    generator = np.random.default_rng(1)
    (folder / "images").mkdir(parents=True)
    for view in range(views):
        names = [f"images/{row}_{view}.png" for row in range(len(table))]
        for name in names:
            noise = generator.integers(0, 256, (9, 12), dtype=np.uint8)
            Image.fromarray(noise).save(folder / name)
        table[f"view{view}"] = names
    table.to_csv(folder / "homes.csv", index=False)
    return folder / "homes.csv"


def from_frame(table: pd.DataFrame, **options: object) -> Images:
    def rows() -> pd.DataFrame:
        return table

    options = {"target": "price", "columns": {"id": "ignore"}, **options}
    return Images(rows, **options)  # type: ignore[arg-type]


def problems(images: Images) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        prepare(images, seed=0)
    return caught.value.problems


# -- what becomes of a table -----------------------------------------------------------------------


def test_columns_are_told_apart_and_standardised_by_the_training_split() -> None:
    table = homes()
    data = prepare(from_frame(table), seed=0)
    spec, train = data.spec, data.splits["train"]
    assert (spec.task, spec.target, spec.classes, spec.num_outputs) == (
        "regression",
        "price",
        (),
        1,
    )
    assert (spec.numbers, spec.categories) == (("area",), ("town",))
    assert spec.category_values == (("Bonn", "Köln", "Ulm"),)
    assert spec.cardinalities == (4,)
    assert not spec.has_images
    assert spec.has_table
    assert data.pixels.shape == (60, 0)
    assert data.targets.tolist() == table["price"].astype("float32").tolist()
    assert spec.target_mean == pytest.approx(table["price"][train].mean())
    assert spec.target_std == pytest.approx(table["price"][train].std(ddof=0))
    assert data.numbers is not None
    assert data.numbers[train].mean() == pytest.approx(0, abs=1e-6)
    assert data.numbers[train].std() == pytest.approx(1, abs=1e-6)
    assert data.categories is not None
    assert data.categories[:3, 0].tolist() == [3, 2, 1]


def test_a_table_opens_as_it_was_prepared() -> None:
    data = prepare(from_frame(homes()), seed=0)
    again = open_data(data.handle)
    assert again.spec == data.spec
    for name in ("targets", "numbers", "categories", "pixels"):
        assert (getattr(again, name) == getattr(data, name)).all(), name


def test_the_logarithm_of_a_target_is_predicted_where_asked() -> None:
    data = prepare(from_frame(homes(), log_target=True), seed=0)
    assert data.spec.target == "log price"
    assert data.targets == pytest.approx(np.log(homes()["price"]), rel=1e-6)


def test_splits_have_alike_targets_and_depend_on_content_and_seed_alone() -> None:
    table = homes(400)
    data = prepare(from_frame(table), seed=0)
    assert sorted(np.concatenate(list(data.splits.values()))) == list(range(400))
    means = [data.targets[rows].mean() for rows in data.splits.values()]
    assert max(means) - min(means) < 0.15 * data.targets.std()
    order = np.random.default_rng(3).permutation(400)
    moved = prepare(from_frame(table.iloc[order].reset_index(drop=True)), seed=0)
    same = set(table["price"][data.splits["test"]])
    kept = set(table["price"].iloc[order].iloc[moved.splits["test"]])
    assert same == kept
    other = prepare(from_frame(table), seed=1)
    assert set(data.splits["test"]) != set(other.splits["test"])


def test_equal_rows_never_straddle_two_splits() -> None:
    table = pd.concat([homes(), homes()], ignore_index=True)
    data = prepare(from_frame(table), seed=0)
    for rows in data.splits.values():
        assert {row % 60 for row in rows} == {row % 60 for row in rows if row < 60}


def test_a_target_of_text_or_few_whole_numbers_is_a_class() -> None:
    table = homes()
    by_town = prepare(from_frame(table, target="town"), seed=0)
    assert by_town.spec.classes == ("Bonn", "Köln", "Ulm")
    assert by_town.spec.numbers == ("area", "price")
    assert sum(by_town.spec.class_counts) == len(by_town.splits["train"])
    table["rooms"] = np.arange(60) % 4
    assert prepare(from_frame(table, target="rooms"), seed=0).spec.task == "classification"
    as_number = prepare(from_frame(table, target="rooms", task="regression"), seed=0)
    assert as_number.spec.task == "regression"


def test_missing_numbers_count_as_the_mean_and_rare_values_as_unknown() -> None:
    table = homes()
    table.loc[[3, 7], "area"] = np.nan
    table["zip"] = [f"{10000 + row}" for row in range(60)]
    data = prepare(from_frame(table, columns={"id": "ignore", "zip": "category"}), seed=0)
    assert data.numbers is not None
    assert data.numbers[[3, 7], 0].tolist() == [0.0, 0.0]
    assert data.categories is not None
    outside = np.concatenate([data.splits[name] for name in ("valid", "select", "test")])
    assert (data.categories[outside, 1] == 0).all()
    assert (data.categories[data.splits["train"], 1] > 0).all()
    assert data.notes == (
        "column 'area': 2 missing numbers count as the training mean",
        f"column 'zip': {len(outside)} entries are missing or do not occur in training",
    )


@pytest.mark.parametrize("views", [1, 2])
def test_a_row_has_one_or_several_images(tmp_path: Path, views: int) -> None:
    path = homes_csv(tmp_path / "homes", views=views)
    data = prepare(
        Images(path, target="price", columns={"id": "ignore"}, size=8, channels=1), seed=0
    )
    assert data.spec.views == views
    assert data.spec.shape == (1, 8, 8)
    assert data.pixels.shape == ((60, 1, 8, 8) if views == 1 else (60, 2, 1, 8, 8))
    shown = data.pixels[data.splits["train"]] / 255
    assert data.spec.mean[0] == pytest.approx(shown.mean(), abs=1e-6)
    assert data.spec.std[0] == pytest.approx(shown.std(), abs=1e-6)
    assert data.spec.numbers == ("area",)


def test_a_folder_or_archive_with_one_table_is_found(tmp_path: Path) -> None:
    homes_csv(tmp_path / "outer" / "homes")
    data = prepare(
        Images(tmp_path / "outer", target="price", columns={"id": "ignore"}, size=8), seed=0
    )
    assert data.spec.views == 2
    with tarfile.open(tmp_path / "packed.tar", "w") as tar:
        tar.add(tmp_path / "outer" / "homes", "homes")
    packed = Images(tmp_path / "packed.tar", target="price", columns={"id": "ignore"}, size=8)
    assert (prepare(packed, seed=0).pixels == data.pixels).all()


def test_rows_that_share_an_image_stay_together(tmp_path: Path) -> None:
    path = homes_csv(tmp_path / "homes")
    table = pd.read_csv(path)
    table.loc[30:59, "view1"] = table.loc[0:29, "view1"].to_numpy()
    table.to_csv(path, index=False)
    data = prepare(Images(path, target="price", columns={"id": "ignore"}, size=8), seed=0)
    for rows in data.splits.values():
        assert {row % 30 for row in rows} == {row % 30 for row in rows if row < 30}


def test_a_changed_entry_or_image_is_seen(tmp_path: Path) -> None:
    path = homes_csv(tmp_path / "homes")
    images = Images(path, target="price", columns={"id": "ignore"}, size=8)
    first = prepare(images, seed=0)
    table = pd.read_csv(path)
    table.loc[5, "area"] = 999.5
    table.to_csv(path, index=False)
    second = prepare(images, seed=0)
    assert second.spec.fingerprint != first.spec.fingerprint
    Image.fromarray(np.full((9, 12), 7, np.uint8)).save(tmp_path / "homes" / "images" / "5_0.png")
    third = prepare(images, seed=0)
    assert third.spec.fingerprint != second.spec.fingerprint


def test_images_with_quantities_need_no_table() -> None:
    def brightness() -> tuple[np.ndarray, np.ndarray]:
        images = np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8)
        return images, images.mean(axis=(1, 2)) / 255

    data = prepare(Images(brightness), seed=0)
    assert (data.spec.task, data.spec.classes) == ("regression", ())
    assert data.spec.has_images
    assert not data.spec.has_table
    assert data.targets == pytest.approx(np.array(data.pixels).mean(axis=(1, 2, 3)) / 255, abs=1e-6)


def test_a_scan_knows_enough_to_build_networks(tmp_path: Path) -> None:
    path = homes_csv(tmp_path / "homes")
    spec = scan(Images(path, target="price", columns={"id": "ignore"}, size=8)).spec()
    assert (spec.task, spec.views, spec.numbers, spec.cardinalities) == (
        "regression",
        2,
        ("area",),
        (4,),
    )


# -- at prediction ---------------------------------------------------------------------------------


@pytest.fixture
def spec() -> DataSpec:
    return prepare(from_frame(homes()), seed=0).spec


def test_new_rows_are_encoded_as_the_training_ones_were(spec: DataSpec) -> None:
    data = prepare(from_frame(homes()), seed=0)
    numbers, codes = encode_table(homes(), spec)
    assert numbers is not None
    assert codes is not None
    assert (numbers == data.numbers).all()
    assert (codes == data.categories).all()


def test_an_unknown_category_is_an_error_or_another_one(spec: DataSpec) -> None:
    rows = pd.DataFrame({"area": [50.0, 60.0], "town": ["Ulm", "Kölnn"]})
    with pytest.raises(DataError) as caught:
        encode_table(rows, spec)
    assert caught.value.problems == (
        "column 'town': 'Kölnn' in row 2 did not occur in training (did you mean 'Köln'?); known "
        "are Bonn, Köln, Ulm (unknown='other' takes any value)",
    )
    _, codes = encode_table(rows, spec, unknown="other")
    assert codes is not None
    assert codes.tolist() == [[3], [0]]


def test_missing_columns_and_text_among_numbers_are_named_at_prediction(spec: DataSpec) -> None:
    with pytest.raises(DataError, match=r"the table lacks the column 'area' .*'aera'.*area, town"):
        encode_table(pd.DataFrame({"aera": [1.0], "town": ["Ulm"]}), spec)
    with pytest.raises(DataError, match=r"column 'area' .* row 1 has 'large'"):
        encode_table(pd.DataFrame({"area": ["large"], "town": ["Ulm"]}), spec)


# -- bad tables ------------------------------------------------------------------------------------


def broken(column: str, row: int, value: object) -> pd.DataFrame:
    table = homes().astype(object)
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (from_frame(homes(), target="prize"), "target names 'prize', which .* 'price'"),
        (from_frame(homes(), columns={"aera": "number"}), "columns names 'aera', .* 'area'"),
        (from_frame(homes(), columns={"price": "number"}), "gives a kind to the target 'price'"),
        (from_frame(broken("area", 4, "big")), "'area' .* holds numbers, but row 5 has 'big'"),
        (from_frame(broken("area", 4, np.inf)), "'area' .* is infinite: row 5 has 'inf'"),
        (from_frame(broken("price", 4, None)), "target 'price' .* is missing in row 5"),
        (from_frame(broken("price", 4, "?"), task="regression"), "to be a number, but row 5 has"),
        (
            from_frame(broken("price", 4, -3.0), log_target=True, task="regression"),
            "has no logarithm: row 5 has '-3.0'",
        ),
        (from_frame(homes().assign(price=7.5)), "has one value only, '7.5'"),
        (from_frame(homes().iloc[:0]), "has no rows"),
        (from_frame(homes()[["price"]], columns={}), "no column to predict 'price' from"),
        (from_frame(homes(12)), "12 items are too few to be split four ways; give at least 20"),
        (
            from_frame(homes().assign(town=["Rom"] + ["Ulm"] * 59), target="town"),
            "every class needs at least 5 images .* 'Rom' has 1",
        ),
    ],
)
def test_a_bad_table_is_one_clear_message(images: Images, expected: str) -> None:
    (problem,) = problems(images)
    assert re.search(expected, problem), problem


def test_every_problem_of_a_table_is_said_at_once() -> None:
    table = broken("area", 4, "big")
    table.loc[9, "price"] = None
    assert len(problems(from_frame(table, task="regression"))) == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"columns": {"a": "number"}}, "columns is for tables; name the target= column too"),
        ({"log_target": True}, "log_target is for tables; name the target= column too"),
        ({"target": 3}, "target is the name of a column, not 3"),
        (
            {"target": "y", "task": "regresion"},
            "task is 'classification' or 'regression', not 'regresion' (did you mean "
            "'regression'?)",
        ),
        (
            {"target": "y", "columns": {"a": "nummer"}},
            "column 'a' is one of 'number', 'category', 'image', 'ignore', not 'nummer' "
            "(did you mean 'number'?)",
        ),
        ({"target": "y", "columns": ["a"]}, "columns maps names to kinds, not ['a']"),
    ],
)
def test_a_bad_declaration_is_refused_before_the_data_are_looked_at(
    options: dict[str, object], expected: str
) -> None:
    assert Images("digits", **options).problems() == [f"data: {expected}"]  # type: ignore[arg-type]


def test_files_that_are_no_table_say_so(tmp_path: Path) -> None:
    def problem(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        (found,) = problems(Images(tmp_path / name, target="y"))
        return found

    assert "is no CSV table (No columns" in problem("empty.csv", b"")
    assert "is not UTF-8" in problem("latin.csv", "x,y\nKöln,1\n".encode("latin-1"))
    assert "has the column 'x' twice" in problem("twice.csv", b"x,x,y\n1,2,3\n")
    assert "is no CSV table (" in problem("ragged.csv", b"x,y\n1,2,3,4\n5,6\n1,2,3,4,5\n")
    (found,) = problems(Images(tmp_path / "nowhere.csv", target="y"))
    assert "is no known name" in found
    (found,) = problems(Images(tmp_path, target="y"))
    assert "holds several CSV files ('empty.csv', " in found
    (tmp_path / "none").mkdir()
    (found,) = problems(Images(tmp_path / "none", target="y"))
    assert found.endswith("holds no CSV file")


def test_missing_and_unreadable_images_are_named_or_left_out(tmp_path: Path) -> None:
    path = homes_csv(tmp_path / "homes")
    (tmp_path / "homes" / "images" / "5_1.png").unlink()
    (tmp_path / "homes" / "images" / "7_0.png").write_bytes(b"no image")
    strict = Images(path, target="price", columns={"id": "ignore"}, size=8)
    (problem,) = problems(strict)
    assert "5_1.png': row 6 names it, but there is no such file" in problem
    lenient = Images(path, target="price", columns={"id": "ignore"}, size=8, on_bad_image="skip")
    data = prepare(lenient, seed=0)
    assert len(data.targets) == 58
    assert data.targets[5] == pytest.approx(homes()["price"][6])
    assert data.targets[6] == pytest.approx(homes()["price"][8])
    assert data.pixels.shape == (58, 2, 1, 8, 8)
    assert data.numbers is not None
    assert len(data.numbers) == 58
    assert any("2 unreadable images were left out" in note for note in data.notes)


def test_the_declaration_is_json_and_names_a_table_only_where_there_is_one() -> None:
    assert "target" not in Images("digits").describe()
    stated = Images("homes", target="price", columns={"id": "ignore"}, log_target=True).describe()
    assert json.loads(json.dumps(stated))["columns"] == {"id": "ignore"}
    assert stated["log_target"] is True


# -- real houses -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def houses() -> ImageData:
    if not (SHARED / "houses.tar").exists():
        pytest.skip("houses.tar is not at hand")
    columns = {"id": "ignore", "zipcode": "category"}
    images = Images(
        SHARED / "houses.tar", target="price", log_target=True, columns=columns, size=32
    )
    return prepare(images, seed=0)


def test_real_houses_have_four_views_and_a_price(houses: ImageData) -> None:
    assert houses.pixels.shape == (535, 4, 3, 32, 32)
    assert houses.spec.numbers == ("bedrooms", "bathrooms", "area")
    assert houses.spec.categories == ("zipcode",)
    assert houses.spec.target == "log price"
    assert sum(len(rows) for rows in houses.splits.values()) == 535
    assert 11 < houses.spec.target_mean < 15
