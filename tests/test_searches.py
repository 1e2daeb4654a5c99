"""Which search of several a command is about, and that fewer repeats take none away."""

import json
import shutil
from pathlib import Path

import pytest
from tests.command import optimize, write_study
from tests.test_repeating import two_families
from tests.test_runner import run_inline

from torchstudy.analysis.tables import Results, read_results
from torchstudy.errors import StudyError
from torchstudy.exporting import _chosen
from torchstudy.overview import best_models, status_lines, study_lines
from torchstudy.repeats import choice_words, kept_words

QUICK = "study = Study(**{**GOOD, 'trials': 1, 'epochs': 1, 'confirm': (1, 1)})"


@pytest.fixture(scope="module")
def _searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    write_study(folder, "tiny", QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ended = optimize("run", "tiny", "--repeats", 3, "--executor", "inline")
    assert ended.exit_code == 0, ended.stderr
    return folder


@pytest.fixture
def searched(_searched: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, where `tiny` was searched three times; it must be left as it is."""
    monkeypatch.chdir(_searched)
    return _searched


def results_of(number: int) -> Results:
    return read_results(Path("reports/tiny") / ("" if number == 1 else f"repeats/{number}"))


@pytest.mark.usefixtures("searched")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_best_answers_from_the_search_that_is_asked_for(number: int) -> None:
    (found,) = best_models(Path("reports"), None, "tiny", None, number)
    results = results_of(number)
    fresh = results.confirmation
    assert found["scores"] == {
        "valid accuracy": round(float(results.trials["best_valid_accuracy"].iloc[0]), 4),
        "test accuracy (1 seed)": round(float(fresh["test_accuracy"].iloc[0]), 4),
    }
    assert found["model"] == str(results.folder / "best" / "CNN")
    assert (found["repeat"], found["searches"]) == (number, 3)
    said = optimize("best", "tiny", "--repeat", number).stdout
    assert said.startswith(f"tiny: search {number} of 3\nCNN #0: ")
    assert json.loads(optimize("best", "tiny", "--repeat", number, "--json").stdout) == [found]


@pytest.mark.usefixtures("searched")
def test_without_a_number_it_is_the_first_and_that_is_said() -> None:
    first, (found,) = results_of(1), best_models(Path("reports"), None, "tiny", None)
    assert found["model"] == str(first.folder / "best" / "CNN")
    mean = first.repeats["test_accuracy"].mean()
    assert found["scores"]["test accuracy (mean of 3 searches)"] == pytest.approx(mean, abs=1e-4)
    which = (
        "tiny: the first of 3 searches, not chosen for its score; --repeat 2 to 3 are the others\n"
    )
    assert optimize("best", "tiny").stdout.startswith(which)
    assert optimize("table", "tiny").stdout.endswith(which)
    assert which not in optimize("table", "tiny", "--what", "repeats").stdout
    shown = optimize("table", "tiny", "--format", "csv").stdout
    assert shown == (first.folder / "trials.csv").read_text()


@pytest.mark.usefixtures("searched")
@pytest.mark.parametrize("what", ["trials", "epochs", "confirmation", "proposals"])
def test_tables_are_those_of_the_search_that_is_asked_for(what: str) -> None:
    words = ("table", "tiny", "--what", what, "--repeat", 2, "--format", "csv")
    assert optimize(*words).stdout == (results_of(2).folder / f"{what}.csv").read_text()


@pytest.mark.usefixtures("searched")
def test_status_and_report_are_of_the_search_that_is_asked_for() -> None:
    ((title, _),) = status_lines(Path("reports"), None, "tiny", 2)
    assert title == "tiny, repeat 2: finished"
    assert len(status_lines(Path("reports"), None, "tiny")) == 3
    drawn = Path(optimize("report", "tiny", "--repeat", 2).stdout.strip())
    assert drawn == Path("reports/tiny/repeats/2/report.html")
    with pytest.raises(StudyError, match="--repeat 2 says which search of a study; name the"):
        status_lines(Path("reports"), None, None, 2)


@pytest.mark.usefixtures("searched")
def test_the_list_says_how_many_searches_there_are_and_of_which_the_best_is() -> None:
    ((name, state, searches, trials, best, _),) = study_lines(Path("reports"), None)
    assert (name, state, searches, trials) == ("tiny", "finished", "3", "3")
    value = results_of(1).trials["best_valid_accuracy"].iloc[0]
    assert best == f"valid accuracy {value:.4f} (CNN #0) in the first search"


@pytest.mark.usefixtures("searched")
def test_an_export_is_of_the_search_that_is_asked_for(tmp_path: Path) -> None:
    said = optimize("export", "tiny", "--repeat", 2, "--to", tmp_path / "second")
    assert said.exit_code == 0, said.stderr
    assert said.stdout.startswith("tiny: search 2 of 3\n")
    card = (tmp_path / "second" / "README.md").read_text()
    assert "It is of search 2 of 3 of the study, and was not chosen among them." in card
    score = results_of(2).confirmation["test_accuracy"].iloc[0]
    assert f"Test accuracy: {score:.1%}" in card
    # All searches have the splits of the first: other ones would hold test items in train.
    chosen = _chosen("tiny", None, Path("reports"), None, 2)
    assert chosen.split_seed == results_of(1).summary["seed"] != results_of(2).summary["seed"]
    first = optimize("export", "tiny", "--to", tmp_path / "first").stdout
    assert first.startswith("tiny: the first of 3 searches, not chosen for its score")


@pytest.mark.usefixtures("searched")
def test_a_refit_of_a_repeat_learns_from_the_splits_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchstudy.data import dataset

    seeds, prepare = [], dataset.prepare
    monkeypatch.setattr(
        dataset, "prepare", lambda images, *, seed: seeds.append(seed) or prepare(images, seed=seed)
    )
    ended = optimize("export", "tiny", "--repeat", 3, "--refit", "--to", tmp_path / "refit")
    assert ended.exit_code == 0, ended.stderr
    assert set(seeds) == {results_of(1).summary["seed"]}


@pytest.mark.slow
@pytest.mark.usefixtures("searched")
def test_a_trial_of_a_repeat_is_replayed_bit_for_bit() -> None:
    """Slow: a replay starts worker processes that load torch."""
    found = optimize("replay", "tiny", 0, "--repeat", 2)
    assert found.exit_code == 0, found.stdout + found.stderr
    assert "(search, repeat 2)" in found.stdout
    assert "determinism: bit for bit" in found.stdout


@pytest.mark.usefixtures("searched")
@pytest.mark.parametrize("number", [0, -1, 4])
@pytest.mark.parametrize(
    "words",
    [["best"], ["table"], ["status"], ["report"], ["replay", "0"], ["export", "--to", "x"]],
    ids=lambda words: words[0],
)
def test_a_search_that_is_not_there_is_one_error(words: list[str], number: int) -> None:
    command, *rest = words
    ended = optimize(command, "tiny", *rest, "--repeat", number)
    assert ended.exit_code == 2
    assert ended.stderr == (
        f"error: study 'tiny' has no repeat {number}; it has 3 searches, 1 to 3\n"
    )


def test_a_study_of_one_search_has_no_second(finished_study: Path) -> None:
    ended = optimize("best", "tiny", "--repeat", 2)
    assert ended.stderr == (
        "error: study 'tiny' has no repeat 2; it has one search; `optimize run` does more with "
        "--repeats\n"
    )
    assert optimize("best", "tiny", "--repeat", 1).exit_code == 0
    assert optimize("best", "tiny").stdout.startswith("CNN #")


@pytest.mark.usefixtures("searched")
def test_the_table_of_repeats_is_of_all_of_them() -> None:
    ended = optimize("table", "tiny", "--what", "repeats", "--repeat", 2)
    assert ended.exit_code == 2
    assert "the table of repeats has a row for every search: leave out --repeat" in ended.stderr


@pytest.fixture
def growing(_searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of all that the three searches left."""
    folder = shutil.copytree(_searched, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("growing")
def test_fewer_repeats_keep_and_count_all_searches_and_go_on_with_so_many() -> None:
    kept = (
        "3 searches are there; all are kept and counted, and the first 2 are gone on with "
        "(--repeats 3 goes on with all)"
    )
    words = ("run", "tiny", "--repeats", 2, "--executor", "inline", "--trials", 2)
    assert kept in optimize(*words, "--dry-run").stdout
    ended = optimize(*words)
    assert kept in ended.stdout
    assert "tiny, repeat 1 of 3: CNN" in ended.stdout
    assert "tiny, repeat 2 of 3: CNN" in ended.stdout
    assert "repeat 3 of 3" not in ended.stdout
    assert "over 3 searches" in ended.stdout
    found = results_of(1)
    assert found.repeats["trials"].tolist() == [2, 2, 1]
    assert found.summary["state"] == "finished"
    assert found.summary["budget"]["repeats"] == 3


def test_one_search_asked_for_of_three_finishes_the_study(tmp_path: Path) -> None:
    study = {"trials": 1, "epochs": 1, "confirm": (1, 1)}
    run_inline(two_families(repeats=2, **study), tmp_path)
    results = run_inline(two_families(**{**study, "trials": 2}), tmp_path)
    assert results.summary["state"] == "finished"
    assert results.repeats["trials"].tolist() == [2, 2, 1, 1]
    assert "still running" not in (results.folder / "report.html").read_text()


def test_what_is_said_of_searches_fits_their_number() -> None:
    assert choice_words("a", None, 1) == choice_words("a", 1, 1) == ""
    assert choice_words("a", None, 2).endswith("--repeat 2 is the other")
    assert kept_words(3, 3) == kept_words(1, 0) == ""
    assert kept_words(1, 2).startswith("2 searches are there; all are kept and counted, and the ")
