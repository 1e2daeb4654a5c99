"""Paths, folders and globs mean the files that one expects, and say so where they mean none."""

import os
from pathlib import Path

import pytest

from torchstudy.data.given import image_files
from torchstudy.errors import DataError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a/2.png", "a/10.PNG", "a/deep/x.jpg", "a/.hidden.png", "a/.git/y.png", "a/t.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "odd.data").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_means_its_images_at_any_depth_by_path(here: Path) -> None:
    assert image_files(["a"]) == (["a/10.PNG", "a/2.png", "a/deep/x.jpg"], [])
    assert image_files([here / "a" / "deep"])[0] == [str(here / "a/deep/x.jpg")]


def test_a_named_file_may_be_called_anything(here: Path) -> None:
    assert image_files(["odd.data", "a/t.txt"])[0] == ["odd.data", "a/t.txt"]


def test_a_glob_means_what_it_matches_and_a_file_with_such_a_name_itself(here: Path) -> None:
    assert image_files(["a/*.png"])[0] == ["a/2.png"]
    assert image_files(["a/**/*.jpg"])[0] == ["a/deep/x.jpg"]
    Path("a/[2].png").touch()
    assert image_files(["a/[2].png"])[0] == ["a/[2].png"]
    assert image_files(["a/[12].png"])[0] == ["a/2.png"]


def test_each_file_comes_once_in_the_order_given(here: Path) -> None:
    assert image_files(["a/deep/x.jpg", "a", "a/2.png"])[0] == [
        "a/deep/x.jpg",
        "a/10.PNG",
        "a/2.png",
    ]


def test_links_to_folders_are_not_followed_and_links_to_files_are(here: Path) -> None:
    os.symlink("..", "a/up")
    os.symlink("2.png", "a/link.png")
    os.symlink("deep", "a/folder.png")
    assert image_files(["a"])[0] == ["a/10.PNG", "a/2.png", "a/deep/x.jpg", "a/link.png"]


def test_what_means_no_file_says_why(here: Path) -> None:
    files, bad = image_files(["a/2.png", "gone.png", "empty", "*.gif", "nul\0.png"])
    assert files == ["a/2.png"]
    assert [(one.name, one.reason.partition(" (")[0]) for one in bad] == [
        ("gone.png", "no such file or folder"),
        ("empty", "a folder without images"),
        ("*.gif", "no file is called like that"),
        ("nul\\x00.png", "no such file or folder"),
    ]


def test_no_file_at_all_is_an_error(here: Path) -> None:
    with pytest.raises(DataError, match=r"no image to predict from \(none was named\)"):
        image_files([])
    with pytest.raises(DataError, match=r"'0': no such file or folder; .*; and 2 more\)"):
        image_files([str(number) for number in range(7)])
