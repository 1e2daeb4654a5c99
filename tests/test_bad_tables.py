"""Tables that cannot be used: each wrong thing is one clear sentence, all of them at once."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.tables import from_csv, from_frame, homes, homes_csv, problems

from torchstudy.data.dataset import prepare
from torchstudy.data.images import Images


def broken(column: str, row: int, value: object) -> pd.DataFrame:
    table = homes().astype(object)
    table.loc[row, column] = value
    return table


def two_columns(first: str, second: str) -> pd.DataFrame:
    return homes().rename(columns={"id": first, "area": second})


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (from_frame(homes(), target="prize"), "target names 'prize', which .* 'price'.*has id, ar"),
        (from_frame(homes(), columns={"aera": "number"}), "columns names 'aera', .* 'area'"),
        (from_frame(homes(), columns={"price": "number"}), "gives a kind to the target 'price'"),
        (from_frame(two_columns("x", "x"), columns={}), "has the column 'x' twice"),
        (
            from_frame(broken("area", 4, "big")),
            r"'area' .* holds numbers, but row 5 has 'big'; correct them, or declare columns=\{'ar",
        ),
        (
            from_frame(homes(), columns={"town": "number"}),
            "'town' .* row 1 has 'Ulm', row 2 has 'Köln', row 3 has 'Bonn' and 57 more",
        ),
        (from_frame(broken("area", 4, np.inf)), "'area' .* is infinite or too large: row 5 has"),
        (
            from_frame(homes().assign(sold=pd.date_range("2020", periods=60))),
            r"'sold' .* of type Timestamp .* neither numbers nor text; convert it, or declare col",
        ),
        (from_frame(homes().assign(text="long " * 60)), "'text' .* texts of up to 300 characters"),
        (from_frame(broken("price", 4, None)), "target 'price' .* is missing in row 5"),
        (from_frame(broken("price", 4, "?")), "to be a number, but row 5 has '\\?'"),
        (from_frame(broken("price", 4, 1e300)), "infinite or too large: row 5 has '1e.300'"),
        (
            from_frame(homes().assign(price=1.7e9 + np.arange(len(homes())))),
            r"would round them by up to .* of their spread; take a constant off them, as 1\.7e\+09",
        ),
        (
            from_frame(homes().assign(price=1e30 * (1 + 1e-5 * np.arange(60))), log_target=True),
            r"logarithms so large for .* their spread; divide them by a constant, as 1e\+30",
        ),
        (
            from_frame(homes().assign(price=1e-42 * np.arange(60))),
            r"values too small for networks, .* the largest is 5.9e-41; multiply them by a const",
        ),
        (
            from_frame(homes().assign(price=1e-300 * np.arange(60))),
            r"values too small for networks, .* the largest is 5.9e-299; multiply them",
        ),
        (
            from_frame(homes().assign(price=["1", "1.0"] * 30), task="regression"),
            r"target 'price' .* has one value only, 1; there is nothing to learn",
        ),
        (
            from_frame(broken("price", 4, -3.0), log_target=True),
            "has no logarithm: row 5 has '-3.0'; correct them, or leave log_target out",
        ),
        (from_frame(homes(), target="town", log_target=True), "is a class: log_target is for num"),
        (from_frame(homes().assign(price=7.5)), "has one value only, '7.5'"),
        (from_frame(homes().iloc[:0]), "has no rows"),
        (from_frame(homes()[["price"]], columns={}), "no column to predict 'price' from"),
        (from_frame(homes(12)), "12 rows are too few to be split four ways; give at least 20"),
        (from_frame(homes(), valid=1), "valid gets 1 row, but a measure of it needs at least 2"),
        (
            from_frame(homes().assign(town=["Rom"] + ["Ulm"] * 59), target="town"),
            "every class needs at least 5 rows .* 'Rom' has 1",
        ),
        (Images("digits", target="class"), "'digits' are images with classes, no table"),
        (Images(lambda: ([], []), target="y"), r"with target=, .* returns a DataFrame, not a tup"),
        (Images(homes), r"homes\(\) returns a table; name the target= column"),
    ],
)
def test_a_bad_table_is_one_clear_message(images: Images, expected: str) -> None:
    (problem,) = problems(images)
    assert re.search(expected, problem), problem


def test_every_problem_of_a_table_is_said_at_once(tmp_path: Path) -> None:
    path = homes_csv(tmp_path / "homes")
    table = pd.read_csv(path).astype({"area": object})
    table.loc[4, "area"] = "big"
    table.loc[9, "price"] = None
    table.loc[11, "view1"] = "images/gone.png"
    table.to_csv(path, index=False)
    target, number, image = problems(from_csv(path))
    assert "target 'price'" in target
    assert "is missing in row 10; " in target
    assert "row 5 has 'big'" in number
    assert "'row 12, images/gone.png': no such file" in image


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"columns": {"a": "number"}}, "columns is for tables; name the target= column too"),
        ({"log_target": True}, "log_target is for tables; name the target= column too"),
        ({"target": 3}, "target is the name of a column, not 3"),
        ({"target": ""}, "target is the name of a column, not ''"),
        ({"target": "y", "log_target": "yes"}, "log_target is True or False, not 'yes'"),
        (
            {"target": "y", "log_target": True, "task": "classification"},
            "log_target is for numbers, but task is 'classification'",
        ),
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
        ({"target": "y", "columns": {1: "number"}}, "columns names columns by text, not 1"),
        ({"target": "y", "columns": ["a"]}, "columns maps names to kinds, not ['a']"),
    ],
)
def test_a_bad_declaration_is_refused_before_the_data_are_looked_at(
    options: dict[str, object], expected: str
) -> None:
    assert Images("x", **options).problems() == [f"data: {expected}"]  # type: ignore[arg-type]


ROWS = "\n".join(f"{row},{row % 7}.5" for row in range(40))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty$"),
        (b"x,y\n", "has no rows$"),
        ("x,y\nKöln,1\n".encode("latin-1"), "is not UTF-8 .*; save it as UTF-8"),
        (b"x,x,y\n1,2,3\n", "has the column 'x' twice"),
        (b"x,y\n1,2\n5,6,7\n", "is no CSV table .Expected 2 fields in line 3, saw 3.$"),
        (b"x,y\n7,1,2\n7,5,6\n", "has rows with more entries than its header; quote entries"),
        (b"x;y\n1;2\n3;4\n", "separates its columns by semicolons; save it with commas"),
        (b"x\ty\n1\t2\n", "separates its columns by tabs"),
    ],
)
def test_a_file_that_is_no_table_says_so(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    (problem,) = problems(Images(tmp_path / "bad.csv", target="y"))
    assert re.search(expected, problem), problem


def test_a_table_that_is_not_where_it_should_be(tmp_path: Path) -> None:
    (tmp_path / "homes.csv").write_text("x,y\n" + ROWS)
    (problem,) = problems(Images(tmp_path / "house.csv", target="y"))
    assert "no CSV file, folder or archive" in problem
    assert f"(did you mean '{tmp_path / 'homes.csv'}'?)" in problem
    (tmp_path / "more.csv").write_text("x,y\n" + ROWS)
    (problem,) = problems(Images(tmp_path, target="y"))
    assert "holds several CSV files ('homes.csv', 'more.csv'); name one of them" in problem
    (tmp_path / "none").mkdir()
    (problem,) = problems(Images(tmp_path / "none", target="y"))
    assert "holds no CSV file; add one, or leave target= out" in problem
    (tmp_path / "text.txt").write_text("x")
    (problem,) = problems(Images(tmp_path / "text.txt", target="y"))
    assert "is to be a CSV file, or a folder or archive (.tar" in problem
    (problem,) = problems(Images(tmp_path / "homes.csv"))
    assert "is a table; name the column to predict with target=" in problem


def test_missing_and_unreadable_images_are_named_or_their_rows_left_out(tmp_path: Path) -> None:
    path = homes_csv(tmp_path / "homes")
    table = pd.read_csv(path)
    table.loc[3, "view0"] = None
    table.to_csv(path, index=False)
    (tmp_path / "homes" / "images" / "5_1.png").unlink()
    (tmp_path / "homes" / "images" / "7_0.png").write_bytes(b"no image")
    (problem,) = problems(from_csv(path))
    assert problem == (
        "data: 2 images cannot be read ('row 4, column view0': names no image; 'row 6, "
        "images/5_1.png': no such file); repair or remove them, or pass on_bad_image='skip'"
    )
    data = prepare(from_csv(path, on_bad_image="skip"), seed=0)
    kept = [row for row in range(60) if row not in (3, 5, 7)]
    assert data.targets == pytest.approx(homes()["price"][kept])
    assert list(data.names) == [f"row {row + 1}" for row in kept]
    assert data.pixels.shape == (57, 2, 1, 8, 8)
    whole = prepare(from_csv(homes_csv(tmp_path / "whole")), seed=0)
    assert (data.pixels == whole.pixels[kept]).all()
    assert data.numbers is not None
    assert len(data.numbers) == 57
    assert sum(len(rows) for rows in data.splits.values()) == 57
    assert data.notes == (
        "3 unreadable images were left out with their rows, the first 'row 4, column view0': "
        "names no image",
    )


def test_an_unreadable_image_is_named_with_its_row(tmp_path: Path) -> None:
    path = homes_csv(tmp_path / "homes")
    (tmp_path / "homes" / "images" / "7_0.png").write_bytes(b"no image")
    (problem,) = problems(from_csv(path))
    assert "('row 8, images/7_0.png': not an image in a known format)" in problem


def test_rows_whose_images_are_all_gone_leave_nothing(tmp_path: Path) -> None:
    path = homes_csv(tmp_path / "homes")
    for image in (tmp_path / "homes" / "images").iterdir():
        image.unlink()
    (problem,) = problems(from_csv(path, on_bad_image="skip"))
    assert problem == "data: there are no rows that can be used"
