"""Damaged and hostile CSV files: a table that works, or one clear error, and in time."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torchstudy.data.columns import _name_problems
from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.errors import DataError

ROWS = 24
NASTY = [
    "", " ", "nan", "NULL", "inf", "-inf", "1e999", "-1e999", "1e308", "0x1f", "1_000", "1,5",
    "2024-02-30", "12:61:00", "True", "é", "😀", "=1+1", "@SUM(A1)", "'", '"', '"a', 'a"b"', "\0",
    "\ufeff", "\u202e", "\r", "\n", "\t", ",", ";", "../../x.png", "</script>", "\x1b[2J",
    "9" * 400, "x" * 3000,
]  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "cache"))


def sound(rows: int = ROWS) -> list[list[str]]:
    """A header and rows of a number, a category and a class."""
    body = [[f"{row * 0.37:.2f}", "ns"[row // 2 % 2], "ab"[row % 2]] for row in range(rows)]
    return [["size", "shop", "kind"], *body]


def text_of(lines: list[list[str]]) -> str:
    return "\n".join(",".join(line) for line in lines) + "\n"


def prepared(folder: Path, content: bytes | str, **changes: object) -> ImageData:
    path = folder / "rows.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    options: dict[str, object] = {"target": "kind", **changes}
    return prepare(Images(path, **options), seed=0)  # type: ignore[arg-type]


def problem(folder: Path, content: bytes | str, **changes: object) -> str:
    with pytest.raises(DataError) as caught:
        prepared(folder, content, **changes)
    return str(caught.value)


def with_cell(row: int, column: int, cell: str) -> str:
    lines = sound()
    lines[row][column] = cell
    return text_of(lines)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (with_cell(3, 0, "inf"), "'size' of {path} is infinite or too large: row 3 has 'inf'"),
        (with_cell(3, 0, "1e999"), "is infinite or too large: row 3 has 'inf'"),
        (with_cell(3, 0, "2024-02-30"), "holds numbers, but row 3 has '2024-02-30'"),
        (with_cell(3, 0, "\x1b[2J"), "row 3 has '\\x1b[2J'"),
        (with_cell(3, 0, "\u202e1"), "row 3 has '\\u202e1'"),
        (with_cell(3, 2, ""), "target 'kind' of {path} is missing in row 3"),
        (with_cell(3, 2, '"  "'), "target 'kind' of {path} is missing in row 3"),
        (with_cell(3, 2, '"\t"'), "target 'kind' of {path} is missing in row 3"),
        (with_cell(3, 1, '"s'), "is no CSV table (EOF inside string starting at row 3)"),
        (with_cell(3, 1, "s,s,s"), "is no CSV table (Expected 3 fields in line 4, saw 5)"),
        (with_cell(0, 0, "kind"), "has the column 'kind' twice"),
        (with_cell(0, 0, '"\x1b[2J"\n'), "entries than its header"),
        (with_cell(3, 1, "x" * 3000), "holds texts of up to 3000 characters"),
        (text_of(sound()).encode("utf-16"), "is not UTF-8 (invalid start byte)"),
        (with_cell(3, 1, "é").encode("latin-1"), "is not UTF-8 (invalid continuation byte)"),
        (text_of(sound()).replace(",", ";"), "separates its columns by semicolons"),
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\0" * 500, "has no rows"),
        (b"\n\n\n", "is empty"),
        (b"size,shop,kind\n", "has no rows"),
    ],
)
def test_a_table_that_cannot_do_is_one_clear_error(
    tmp_path: Path, content: bytes | str, expected: str
) -> None:
    assert expected.format(path=tmp_path / "rows.csv") in problem(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (text_of(sound()).encode("utf-8-sig"), ROWS),
        (text_of(sound()).replace("\n", "\r\n"), ROWS),
        (text_of(sound()).replace("\n", "\r"), ROWS),
        (text_of(sound()) + "\n\n\n", ROWS),
        (text_of(sound()).rstrip("\n"), ROWS),
        (with_cell(3, 0, ""), ROWS),
        (with_cell(3, 1, '"a ""quoted"", part\n of two lines"'), ROWS),
        (with_cell(3, 1, "=cmd|' /C calc'!A0"), ROWS),
        (with_cell(0, 1, "</script>\x1b[2J\u202e[bold]=1"), ROWS),
        (text_of([[*line, "2024-01-01"] for line in sound()]), ROWS),
    ],
)
def test_a_table_that_can_be_read_is_used_whole(
    tmp_path: Path, content: bytes | str, rows: int
) -> None:
    data = prepared(tmp_path, content)
    assert len(data.targets) == rows
    assert data.spec.classes == ("a", "b")
    assert data.numbers is not None
    assert np.isfinite(data.numbers).all()


def test_a_name_of_4000_letters_is_a_name_like_any_other(tmp_path: Path) -> None:
    long = "n" * 4000
    data = prepared(tmp_path, with_cell(0, 1, long).replace(",a\n", f",{long}\n"))
    assert data.spec.categories == (long,)
    assert data.spec.classes == ("b", long)


def test_a_class_keeps_its_hidden_characters(tmp_path: Path) -> None:
    odd = "\u202e\x1b[2J</script>=1"
    data = prepared(tmp_path, text_of(sound()).replace(",a\n", f",{odd}\n"))
    assert data.spec.classes == ("b", odd)


def test_the_names_of_20_000_columns_are_checked_at_once() -> None:
    names = ["kind", *(f"c{number}" for number in range(20_000)), "c7", "c8"]
    began = time.process_time()
    problems = list(_name_problems(names, "t.csv", "kind", {}))
    assert problems == [f"data: t.csv has the column {name!r} twice" for name in ("c7", "c8")]
    assert time.process_time() - began < 2  # 0.01 s; 8 s if each were compared to all others


def test_of_very_many_problems_the_first_are_said_and_the_others_counted(tmp_path: Path) -> None:
    header = ["kind", *(f"c{number}" for number in range(60))]
    rows = [["ab"[row % 2], *["1" if row else "x"] * 60] for row in range(ROWS)]
    lines = problem(tmp_path, text_of([header, *rows])).splitlines()
    assert len(lines) == 22
    assert "column 'c0' of" in lines[1]
    assert lines[-1].endswith("rows.csv has 40 more problems like these")


def test_a_pipe_is_no_table_and_nobody_waits_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    os.mkfifo(folder / "rows.csv")
    said: list[str] = []

    def ask() -> None:
        for source in (folder, folder / "rows.csv"):
            with pytest.raises(DataError) as caught:
                prepare(Images(source, target="kind"), seed=0)
            said.append(str(caught.value))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(10)
    assert len(said) == 2
    assert all("is no regular file, so it is no CSV table" in text for text in said)


def test_a_folder_that_holds_itself_ends(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "again").symlink_to(folder)
    with pytest.raises(DataError, match="holds no CSV file"):
        prepare(Images(folder, target="kind"), seed=0)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    cells=st.lists(
        st.tuples(st.integers(0, ROWS), st.integers(0, 2), st.sampled_from(NASTY) | st.text()),
        max_size=4,
    ),
    quoted=st.booleans(),
    cut=st.none() | st.integers(0, 300),
    extra=st.binary(max_size=8),
    at=st.integers(0, 300),
)
def test_any_table_works_or_is_refused_with_a_data_error(
    tmp_path: Path,
    cells: list[tuple[int, int, str]],
    quoted: bool,
    cut: int | None,
    extra: bytes,
    at: int,
) -> None:
    lines = sound()
    for row, column, cell in cells:
        lines[row][column] = '"' + cell.replace('"', '""') + '"' if quoted else cell
    content = text_of(lines).encode("utf-8", "replace")
    content = (content[:at] + extra + content[at:])[:cut]
    try:
        data = prepared(tmp_path, content, on_bad_image="skip")
    except DataError:
        return
    assert 0 < len(data.targets) <= ROWS + 10
    assert data.numbers is None or np.isfinite(data.numbers).all()
