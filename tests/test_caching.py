"""The cache: what is in use stays, the longest unused leaves, and the command tells and clears."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.command import optimize
from tests.conftest import stripes

from torchstudy import eviction
from torchstudy.cacheview import as_size
from torchstudy.caching import entries, held, hold, is_used, stamp_of
from torchstudy.data.archives import extracted
from torchstudy.data.cachefolder import building, cache_errors
from torchstudy.data.dataset import open_data, prepare
from torchstudy.data.images import Images
from torchstudy.errors import StudyError
from torchstudy.eviction import cache_limit, clear, make_room

HEAVY = ("torch", "ax", "pandas", "plotly", "sqlalchemy")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCHSTUDY_CACHE_LIMIT", raising=False)
    return tmp_path / "cache"


def entry(cache: Path, name: str, *, age: float = 0, num_bytes: int = 1000) -> Path:
    """A folder of data last used `age` seconds ago."""
    folder = cache / "data" / name
    folder.mkdir(parents=True)
    (folder / "images.npy").write_bytes(bytes(num_bytes))
    with held(folder):
        pass
    used = time.time() - age
    os.utime(stamp_of(folder), (used, used))
    return folder


def names(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "data").iterdir())


# the limit


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ("20GB", 20_000_000_000),
        ("1.5 TB", 1_500_000_000_000),
        ("500mb", 500_000_000),
        ("2GiB", 2_147_483_648),
        ("12345", 12_345),
        ("0", 0),
    ],
)
def test_a_limit_is_a_size_in_any_usual_unit(
    monkeypatch: pytest.MonkeyPatch, given: str, limit: int
) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", given)
    assert cache_limit() == limit


@pytest.mark.parametrize("given", ["much", "20 gigs", "-1GB", "GB", "1,5GB", "1e9"])
def test_a_limit_that_is_no_size_is_refused_before_anything_is_done(
    cache: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", given)
    with pytest.raises(StudyError) as caught:
        prepare(Images(stripes), seed=0)
    assert str(caught.value) == (
        f"TORCHSTUDY_CACHE_LIMIT: {given!r} is no size; give bytes or a number with KB, MB, GB or "
        "TB, for example 20GB"
    )
    assert not cache.exists()


@pytest.mark.parametrize(("total", "limit"), [(10**13, 20 * 10**9), (10**10, 10**9)])
def test_the_usual_limit_is_20_gb_or_a_tenth_of_a_small_disk(
    monkeypatch: pytest.MonkeyPatch, total: int, limit: int
) -> None:
    usage = shutil._ntuple_diskusage(total, 0, total)
    monkeypatch.setattr(eviction.shutil, "disk_usage", lambda path: usage)
    assert cache_limit() == limit


# what leaves


def test_the_longest_unused_leave_until_the_rest_fits(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, age in (("c", 10), ("a", 3000), ("b", 200)):
        entry(cache, name, age=age)
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "2500")
    assert make_room() == 1000
    assert names(cache) == ["b", "c"]
    assert make_room() == 0
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "0")
    assert make_room() == 2000
    assert (names(cache), [path.name for path in (cache / "uses").iterdir()]) == ([], [".lock"])


def test_using_an_entry_makes_it_the_last_to_leave(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = entry(cache, "old", age=3000), entry(cache, "new", age=10)
    with held(old):
        pass
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "1500")
    make_room()
    assert (old.exists(), new.exists()) == (True, False)


def test_an_entry_counts_as_used_until_its_use_has_ended(cache: Path) -> None:
    folder = entry(cache, "a")
    holding = hold(folder)
    assert holding is not None
    os.utime(stamp_of(folder), (0, 0))
    holding.release()
    holding.release()
    assert time.time() - stamp_of(folder).stat().st_mtime < 60


def test_what_is_in_use_stays_however_old_and_full(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, free = entry(cache, "used", age=3000), entry(cache, "free", age=10)
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "0")
    one, two = hold(used), hold(used)
    os.utime(stamp_of(used), (0, 0))
    assert make_room() == 1000
    assert (used.exists(), free.exists()) == (True, False)
    assert one is not None
    one.release()
    assert make_room() == 0
    del two  # nobody refers to it any more: that ends a hold too
    assert make_room() == 1000
    assert not used.exists()


def test_other_processes_hold_too_and_a_killed_one_holds_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = entry(cache, "a", age=3000)
    code = (
        "import sys; from pathlib import Path; from torchstudy.caching import hold\n"
        "holding = hold(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "0")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert is_used(folder)
        assert make_room() == 0
        assert clear().kept[0].path == folder
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not is_used(folder)
    assert time.time() - stamp_of(folder).stat().st_mtime < 60  # it was used all the same
    assert make_room() == 1000


def test_who_comes_while_an_entry_is_removed_waits_and_holds_the_next_one(cache: Path) -> None:
    folder = entry(cache, "a")
    stamp = stamp_of(folder)
    with ThreadPoolExecutor(1) as pool:
        with stamp.open("rb+") as removing:
            fcntl.flock(removing, fcntl.LOCK_EX)
            waiting = pool.submit(hold, folder)
            time.sleep(0.1)
            assert not waiting.done()
            stamp.unlink()
        holding = waiting.result(10)
    assert holding is not None
    assert is_used(folder)
    holding.release()
    assert not is_used(folder)


def test_several_that_make_room_at_once_remove_no_more_than_one_would(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        entry(cache, str(number), age=100 - number)
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "5000")
    with ThreadPoolExecutor(4) as pool:
        freed = list(pool.map(lambda _: make_room(), range(4)))
    assert sorted(freed) == [0, 0, 0, 5000]
    assert names(cache) == ["5", "6", "7", "8", "9"]


def test_what_vanishes_meanwhile_is_no_error(cache: Path) -> None:
    ending = threading.Event()

    def come_and_go() -> None:
        while not ending.is_set():
            entry(cache, "fleeting")
            shutil.rmtree(cache / "data" / "fleeting")

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(come_and_go)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            assert {found.path.name for found in entries()} <= {"fleeting"}
        ending.set()
        coming.result(10)


def test_entries_that_cannot_be_read_are_told_and_removed(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry(cache, "odd")
    (cache / "data" / "odd" / "meta.json").write_text("[1, {")
    (cache / "data" / "file").write_text("a file where a folder should be")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").touch()
    (cache / "data" / "link").symlink_to(outside)
    (cache / "data" / "dangling").symlink_to(tmp_path / "nowhere")
    (cache / "features").mkdir()
    (cache / "features" / "0.npy").write_text("no array")
    assert {found.about for found in entries()} == {"unknown"}
    assert len(entries()) == 5
    assert len(clear().removed) == 5
    assert entries() == []
    assert (outside / "keep").exists()


def test_what_was_left_half_built_goes_unless_it_is_being_built(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [
        cache / "data" / ".a.x1.part" / "images.npy",
        cache / "archives" / ".pets-1.2.x1.old" / "1.png",
        cache / "features" / ".0.npy.77.ab.part",
        cache / "features" / "0.json",
        cache / "features" / "0.lock",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100))
    with (
        held(cache / "data" / "a"),
        held(cache / "archives" / "pets-1.2"),
        held(cache / "features" / "0.npy"),
        building(cache / "data" / "b") as half,
    ):
        monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "0")
        assert (make_room(), clear().freed) == (0, 0)
        assert all(path.exists() for path in [half, *left])
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "500")
    assert make_room() == 0
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "499")
    assert make_room() == 500
    assert not any(path.exists() for path in left)
    assert names(cache) == ["b"]
    clear()
    assert (names(cache), [path.name for path in (cache / "uses").iterdir()]) == ([], [".lock"])


def test_a_new_entry_takes_the_place_of_the_oldest_and_may_be_larger_than_the_limit(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry(cache, "old", age=100)
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "1500")
    with building(cache / "data" / "new") as aside:
        (aside / "images.npy").write_bytes(bytes(2000))
    assert names(cache) == ["new"]
    with building(cache / "archives" / "small") as aside:
        (aside / "1.png").write_bytes(bytes(10))
    assert [found.path.name for found in entries()] == ["small"]


def test_features_are_in_use_while_the_data_they_are_of_are(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = entry(cache, "pets")
    features = cache / "features" / "0.npy"
    features.parent.mkdir()
    np.save(features, np.zeros((3, 2), dtype=np.float32))
    stated = {"backbone": "small", "source": "pets", "data": "pets"}
    features.with_suffix(".json").write_text(json.dumps(stated))
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "0")
    with held(data):
        assert make_room() == 0
        assert {found.about for found in entries() if found.is_used} == {"small on pets", "unknown"}
    make_room()
    assert entries() == []
    assert not any((cache / "features").iterdir())


def test_prepared_data_stay_while_anybody_has_them(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "0")
    data = prepare(Images(stripes), seed=0)
    again = open_data(data.handle)
    folder = data.handle.folder
    del data
    assert (make_room(), len(again.names)) == (0, 180)
    del again
    assert make_room() > 0
    assert not folder.exists()


def test_an_extracted_archive_stays_until_the_process_ends(cache: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        archive.writestr("cats/1.png", b"")
    folder = extracted(tmp_path / "pets.zip")
    assert not clear().removed
    assert (folder / "cats" / "1.png").exists()
    assert [found.about for found in entries() if found.is_used] == ["pets"]


def test_where_nothing_can_be_locked_nothing_is_held_and_nothing_fails(cache: Path) -> None:
    cache.mkdir()
    (cache / "uses").write_text("in the way")
    assert hold(cache / "data" / "a") is None
    with held(cache / "data" / "a"):
        assert make_room() == 0
    with pytest.raises(StudyError, match="cannot be cleared"):
        clear()


def test_a_cache_that_cannot_be_written_is_said_before_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StudyError, match="set TORCHSTUDY_CACHE to a folder"), cache_errors():
        (tmp_path / "file" / "cache").mkdir()


# the command


def test_the_command_tells_what_is_there(cache: Path) -> None:
    assert optimize("cache").stdout == f"0 B of at most {as_size(cache_limit())} in {cache}\n"
    data = prepare(Images(stripes), seed=0)
    (cache / "archives" / "pets-0123").mkdir(parents=True)
    (cache / "archives" / "pets-0123" / "1.png").write_bytes(bytes(2048))
    with held(data.handle.folder):
        shown = optimize("cache").stdout.splitlines()
    assert shown[0].split() == ["kind", "of", "items", "size", "last", "used", "in", "use"]
    told = {line.split()[0]: line.split() for line in shown[2:-1]}
    assert told["data"][1:7] == ["stripes", "as", "1", "x", "8", "x"]
    assert (told["data"][8], told["data"][-1]) == ("180", "yes")
    assert told["archives"][:5] == ["archives", "pets", "1", "2.0", "KB"]


def test_the_command_tells_machines_in_json(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = entry(cache, "a", age=100)
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "1GB")
    told = json.loads(optimize("cache", "--json").stdout)
    (found,) = told.pop("entries")
    assert told == {"folder": str(cache), "bytes": 1000, "limit": 10**9}
    assert found.pop("last_used").endswith("+00:00")
    assert found == {
        "kind": "data",
        "of": "unknown",
        "items": None,
        "bytes": 1000,
        "in_use": False,
        "path": str(folder),
    }


def test_clearing_says_what_it_freed_and_what_stayed(cache: Path) -> None:
    used = entry(cache, "used")
    entry(cache, "free", num_bytes=2_500_000)
    with held(used):
        ended = optimize("cache", "--clear")
    assert ended.stdout == ("removed 1 entry: 2.5 MB\nkept data of unknown (1.0 KB): in use\n")
    assert names(cache) == ["used"]
    told = json.loads(optimize("cache", "--clear", "--json").stdout)
    assert (told["freed"], len(told["removed"]), told["kept"]) == (1000, 1, [])
    assert optimize("cache", "--clear").stdout == "removed 0 entries: 0 B\n"


def test_a_limit_that_is_no_size_is_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE_LIMIT", "plenty")
    ended = optimize("cache")
    assert ended.exit_code == 2
    assert ended.stderr.startswith("error: TORCHSTUDY_CACHE_LIMIT: 'plenty' is no size")


@pytest.mark.parametrize("words", [["cache"], ["cache", "--json"], ["cache", "--clear"]])
def test_the_command_imports_nothing_heavy(cache: Path, words: list[str]) -> None:
    prepare(Images(stripes), seed=0)
    code = (
        f"import sys; sys.argv = ['optimize', *{words}]\n"
        "from torchstudy.cli import app\n"
        "try: app()\n"
        f"except SystemExit: print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (999_600, "1.0 MB"), (20 * 10**9, "20.0 GB")],
)
def test_sizes_have_few_digits(num_bytes: int, text: str) -> None:
    assert as_size(num_bytes) == text
