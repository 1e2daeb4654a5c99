import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from torchstudy.errors import DataError, SpaceError, StudyError
from torchstudy.families.cnn import CNN
from torchstudy.study import Study
from torchstudy.study_files import load_study, study_files

GOOD = """
from torchstudy import CNN, Study

study = Study(data="digits", families=[CNN], maximize="accuracy", seed=7)
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project as working directory; what it imports is forgotten afterwards."""
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(path: str, text: str = GOOD) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def refused(reference: str | Path, message: str, error: type[StudyError] = StudyError) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        load_study(reference)


# Found


def test_study_files_are_listed_by_name_without_running_them(project: Path) -> None:
    for name in ("faces.py", "digits.py", "_draft.py", ".hidden.py", "notes.txt"):
        write(f"studies/{name}", "raise RuntimeError")
    assert study_files() == {"digits": Path("studies/digits.py"), "faces": Path("studies/faces.py")}
    assert list(study_files(project / "studies")) == ["digits", "faces"]
    assert study_files(project / "nowhere") == {}


@pytest.mark.parametrize(
    "reference", ["digits", "studies/digits.py", "./studies/digits.py", Path("studies/digits.py")]
)
def test_a_study_is_found_by_name_or_path_and_named_after_its_file(reference: str | Path) -> None:
    write("studies/digits.py")
    loaded = load_study(reference)
    assert loaded == Study(
        data="digits", families=[CNN], maximize="accuracy", seed=7, name="digits"
    )


def test_a_study_is_found_by_an_absolute_path_from_anywhere(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("elsewhere/faces.py").absolute()
    monkeypatch.chdir(project / "studies")
    assert load_study(path).name == "faces"


def test_a_name_given_in_the_file_stays() -> None:
    write("studies/digits.py", GOOD.replace("seed=7", "name='small'"))
    assert load_study("digits").name == "small"


def test_the_only_study_of_a_file_is_found_whatever_it_is_called() -> None:
    write("studies/digits.py", GOOD.replace("study =", "mine ="))
    assert load_study("digits").seed == 7


def test_among_several_the_one_called_study_is_taken() -> None:
    write("studies/digits.py", GOOD + "from dataclasses import replace\nb = replace(study, seed=8)")
    assert load_study("digits").seed == 7


def test_a_file_is_executed_once_and_hides_no_module() -> None:
    count = "from pathlib import Path\nwith Path('count').open('a') as file: file.write('x')\n"
    write("studies/json.py", count + GOOD)
    load_study("json")
    assert Path("count").read_text() == "x"
    import json

    assert hasattr(json, "dumps")


def test_an_edit_is_seen_at_once_and_no_bytecode_is_left(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    write("studies/digits.py")
    assert load_study("digits").seed == 7
    write("studies/digits.py", GOOD.replace("seed=7", "seed=8"))  # same length, same second
    assert load_study("digits").seed == 8
    assert [path.name for path in (project / "studies").iterdir()] == ["digits.py"]


def test_a_file_knows_where_it_is() -> None:
    write("studies/digits.py", GOOD + "assert __file__.endswith('studies/digits.py')\n")
    load_study("digits")


# Not found


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    write("studies/digits.py")
    write("studies/faces.py")
    refused(
        "digist",
        "study 'digist' is not known (did you mean 'digits'?); ./studies has digits, faces",
    )


def test_an_unknown_name_is_answered_with_what_there_is() -> None:
    refused("digits", "study 'digits' is not known; ./studies has none")
    write("studies/faces.py")
    refused("xyzzy", "study 'xyzzy' is not known; ./studies has faces")


def test_a_missing_path_is_answered_with_the_nearest_beside_it() -> None:
    refused("nowhere/digits.py", "study 'nowhere/digits.py': there is no such file")
    write("studies/digits.py")
    refused(
        "studies/digist.py",
        "study 'studies/digist.py': there is no such file (did you mean 'digits.py'?)",
    )
    refused(
        "studies/digits",
        "study 'studies/digits': there is no such file (did you mean 'digits.py'?)",
    )


def test_a_folder_is_no_study() -> None:
    Path("studies/deep.py").mkdir()
    refused("studies/deep.py", "study 'studies/deep.py': there is no such file")


def test_a_file_that_is_not_python_is_refused() -> None:
    write("studies/notes.txt", "hello")
    refused(
        "studies/notes.txt",
        "study 'studies/notes.txt': not a Python file; a study's name ends in .py",
    )


# Failing


@pytest.mark.parametrize("place", ["digits", "studies/digits.py"])
def test_a_syntax_error_names_file_and_line(place: str) -> None:
    write("studies/digits.py", "x = 1\n\ndef f(:\n    pass\n")
    refused(
        place,
        "studies/digits.py, line 3: SyntaxError: invalid syntax (digits.py, line 3)",
    )


def test_an_exception_names_file_and_line() -> None:
    write("studies/digits.py", "x = 1\n\ny = x / 0\n")
    refused("digits", "studies/digits.py, line 3: ZeroDivisionError: division by zero")


def test_an_exception_in_a_function_names_the_deepest_line_of_the_file() -> None:
    write("studies/digits.py", "def f(text):\n    return int(text)\n\nf('x')\n")
    refused(
        "digits",
        "studies/digits.py, line 2: ValueError: invalid literal for int() with base 10: 'x'",
    )


def test_a_failing_import_names_the_line_of_the_import() -> None:
    write("studies/digits.py", "\nimport torchstudy_no_such_module\n")
    refused(
        "digits",
        "studies/digits.py, line 2: ModuleNotFoundError: "
        "No module named 'torchstudy_no_such_module'",
    )


def test_a_syntax_error_elsewhere_is_not_blamed_on_a_line_of_this_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(project)
    write("broken_part.py", "\n\n\n\n\ndef f(:\n")
    write("studies/digits.py", "\nimport broken_part\n")
    refused(
        "digits",
        "studies/digits.py, line 2: SyntaxError: invalid syntax (broken_part.py, line 6)",
    )


def test_a_wrong_keyword_names_the_line() -> None:
    write("studies/digits.py", GOOD.replace("seed=7", "sed=7"))
    with pytest.raises(StudyError, match=r"line 4: Study has no field 'sed' .*'seed'\?"):
        load_study("digits")
    write(
        "studies/digits.py",
        GOOD.replace("seed=7", "speed=7").replace("Study(", "dict(") + "dict(1)",
    )
    with pytest.raises(StudyError, match=r"^studies/digits\.py, line 5: TypeError: "):
        load_study("digits")


def test_every_problem_of_the_study_carries_its_file() -> None:
    write("studies/digits.py", GOOD.replace("seed=7", "trials=0, epochs=0"))
    refused(
        "digits",
        "2 problems:\n"
        "  - studies/digits.py: trials: must be a whole number of at least 1; got 0\n"
        "  - studies/digits.py: epochs: must be a whole number of at least 1; got 0",
    )


def test_the_kind_of_error_stays() -> None:
    write("studies/space.py", "from torchstudy import Float, SearchSpace\nSearchSpace({'a': None})")
    refused(
        "space",
        "studies/space.py: a cannot be None; give a value, Float, Int or Choice",
        SpaceError,
    )
    write("studies/data.py", "from torchstudy import DataError\nraise DataError('no images')")
    refused("data", "studies/data.py: no images", DataError)


def test_a_file_without_a_study_says_what_was_expected() -> None:
    write("studies/digits.py", "study = 3\n")
    refused("digits", "studies/digits.py: expected `study = Study(...)`, found 0 studies")


def test_two_studies_without_the_expected_name_are_refused() -> None:
    write("studies/digits.py", GOOD.replace("study =", "a =") + GOOD.replace("study =", "b ="))
    refused("digits", "studies/digits.py: expected `study = Study(...)`, found 2 studies")


def test_a_file_whose_name_cannot_name_a_folder_is_refused() -> None:
    write("studies/my digits.py")
    refused(
        "my digits",
        "name: 'my digits' cannot name a folder; use letters, digits, '-', '_' and '.'",
    )


# module:attribute


def test_a_study_in_a_module_is_named_after_its_attribute() -> None:
    write("own_questions/faces.py", GOOD.replace("study =", "smiles ="))
    assert load_study("own_questions.faces:smiles").name == "smiles"


def test_a_study_called_study_is_named_after_its_module() -> None:
    write("own_questions/faces.py")
    assert load_study("own_questions.faces:study").name == "faces"


def test_looking_in_the_working_directory_leaves_the_search_path_as_it_was() -> None:
    before = list(sys.path)
    write("own_questions/faces.py")
    load_study("own_questions.faces:study")
    assert sys.path == before
    with pytest.raises(StudyError):
        load_study("own_questions.nowhere:study")
    assert sys.path == before


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (":study", "study ':study': write module:attribute, such as my_package.studies:digits"),
        (
            "own_faces:",
            "study 'own_faces:': write module:attribute, such as my_package.studies:digits",
        ),
        (
            "own_missing:study",
            "study 'own_missing:study': ModuleNotFoundError: No module named 'own_missing'",
        ),
        (
            "own_faces:studdy",
            "study 'own_faces:studdy': own_faces has no 'studdy' (did you mean 'study'?)",
        ),
        ("own_faces:xyzzy", "study 'own_faces:xyzzy': own_faces has no 'xyzzy'"),
        ("own_faces:number", "study 'own_faces:number': that is 3, not a Study"),
        (
            "own_broken:study",
            "study 'own_broken:study': ZeroDivisionError: division by zero",
        ),
        (
            "own_typo:study",
            "study 'own_typo:study': SyntaxError: invalid syntax (own_typo.py, line 2)",
        ),
        (
            "own_wrong:study",
            "study 'own_wrong:study': trials: must be a whole number of at least 1; got 0",
        ),
    ],
)
def test_a_reference_into_a_module_that_cannot_work_says_why(reference: str, message: str) -> None:
    write("own_faces.py", GOOD + "number = 3\n")
    write("own_broken.py", "1 / 0\n")
    write("own_typo.py", "\ndef f(:\n")
    write("own_wrong.py", GOOD.replace("seed=7", "trials=0"))
    refused(reference, message)
