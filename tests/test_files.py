import hashlib
import json
import os
from pathlib import Path

import pytest

from torchstudy.files import (
    cache_folder,
    data_folders,
    find_in_data_folders,
    sha256_of,
    write_json,
    write_text,
    written_aside,
)


def test_text_is_written_in_folders_made_on_the_way(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "note.txt"
    write_text(path, "naïve ✓\n")
    assert path.read_bytes() == "naïve ✓\n".encode()
    assert [item.name for item in path.parent.iterdir()] == ["note.txt"]


def test_a_file_is_replaced_only_once_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with written_aside(path) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
        assert aside.parent == path.parent
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_in_one_process_do_not_take_each_others_half(
    tmp_path: Path,
) -> None:
    path = tmp_path / "table.csv"
    with written_aside(path) as one:
        one.write_text("one")
        with written_aside(path) as two:
            two.write_text("two")
        assert path.read_text() == "two"
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def write_half(path: Path) -> None:
    with written_aside(path) as aside:
        aside.write_text("half of the n")
        raise RuntimeError("disk full")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk full"):
        write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), written_aside(path):
        pass
    assert path.read_text() == "old"


def test_json_is_indented_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    value = {"name": "digits", "seeds": [0, 1], "best": 0.5, "note": None}
    write_json(path, value)
    assert json.loads(path.read_text()) == value
    assert path.read_text().startswith('{\n  "name": "digits"')
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_json_without_a_meaning_is_refused_and_keeps_the_old_file(
    tmp_path: Path, number: float
) -> None:
    path = tmp_path / "study.json"
    write_json(path, {"best": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"best": number})
    assert json.loads(path.read_text()) == {"best": 0.5}


def test_a_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"abc" * 100_000)
    assert sha256_of(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("TORCHSTUDY_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "torchstudy"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "torchstudy"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with empty data folders around it, none of them the machine's own."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCHSTUDY_DATA", raising=False)
    return folder


def test_named_folders_come_before_the_usual_ones(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project))
    monkeypatch.setenv("TORCHSTUDY_DATA", os.pathsep.join(["/first", "", "~/second"]))
    assert data_folders() == [
        Path("/first"),
        project / "second",
        Path("data"),
        Path("../data"),
        Path("../shared/data"),
        project.parent / "cache" / "downloads",
        Path("/usr/share/datasets"),
    ]


def test_an_existing_path_is_found_before_any_data_folder(project: Path) -> None:
    (project / "data" / "cats").mkdir(parents=True)
    assert find_in_data_folders("cats") == Path("data/cats")
    (project / "cats").mkdir()
    assert find_in_data_folders("cats") == Path("cats")


def test_the_first_folder_that_has_the_name_is_used(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b"):
        (project / folder).mkdir()
    monkeypatch.setenv("TORCHSTUDY_DATA", os.pathsep.join([str(project / "a"), str(project / "b")]))
    (project / "b" / "cats.tar").touch()
    assert find_in_data_folders("cats.tar") == project / "b" / "cats.tar"
    (project / "a" / "cats.tar").touch()
    assert find_in_data_folders("cats.tar") == project / "a" / "cats.tar"


def test_the_home_folder_is_understood(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project))
    (project / "cats").mkdir()
    assert find_in_data_folders("~/cats") == project / "cats"


def test_what_is_nowhere_is_none(project: Path) -> None:
    assert find_in_data_folders("torchstudy-no-such-data") is None
    assert find_in_data_folders(str(project / "nowhere")) is None
