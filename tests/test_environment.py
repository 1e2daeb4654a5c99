"""What a study is trained with: found quickly, the same when nothing changed, told when it did."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.command import write_study
from tests.test_runner import linear_study

from torchstudy.analysis.environments import changes, ids_of, recorded, spans
from torchstudy.execution.environment import PACKAGE, Environment, digest_of, environment_of
from torchstudy.study import Study
from torchstudy.study_files import load_study

FAMILY = """
import torch
from torchstudy import Family, Int, family
from layers import hidden

@family
class Tiny(Family):
    width: int = Int(2, 4, default=2)

    def build(self, data):
        return hidden(self.width)

CHANGES = dict(families=[Tiny], space={})
study = Study(**GOOD | CHANGES)
"""
LAYERS = "import torch\n\ndef hidden(width):\n    return torch.nn.Linear(width, width)\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a study of its own family and the layers that this uses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "studies")
    write_study(tmp_path, "tiny", FAMILY)
    (tmp_path / "studies" / "layers.py").write_text(LAYERS)
    monkeypatch.delitem(sys.modules, "layers", raising=False)
    yield tmp_path
    sys.modules.pop("layers", None)


def found(study: Study) -> Environment:
    return environment_of(study, device="cpu", threads=1)


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_environment_says_what_makes_numbers_repeat() -> None:
    facts = found(linear_study()).facts
    assert facts["torch"] == torch.__version__
    assert facts["threads"] == "1"
    assert facts["device"] == "cpu"
    assert {"python", "ax-platform", "botorch", "numpy", "processor", "system"} <= facts.keys()
    assert facts["code of torchstudy"] == digest_of(PACKAGE)
    assert {"code of Linear", "code of test_runner.py", "code of conftest.py"} <= facts.keys()
    own = environment_of(linear_study(), device="cpu", threads=None)
    assert own.facts["threads"] == str(torch.get_num_threads())


def test_the_id_is_short_and_depends_on_the_facts_alone() -> None:
    one = Environment(facts={"torch": "2.15.0", "threads": "1"})
    assert one.id == "86c0e743"
    assert Environment(facts={"threads": "1", "torch": "2.15.0"}).id == one.id
    assert Environment(facts={"threads": "2", "torch": "2.15.0"}).id != one.id


def test_editing_a_familys_code_changes_the_id_and_is_named(folder: Path) -> None:
    before = found(load_study("tiny"))
    edited(folder / "studies" / "tiny.py", "hidden(self.width)", "hidden(self.width + 0)")
    after = found(load_study("tiny"))
    assert after.id != before.id
    assert set(changes(before.facts, after.facts)) == {"the code of Tiny", "the code of tiny.py"}


def test_editing_what_a_family_imports_from_its_folder_is_named(folder: Path) -> None:
    before = found(load_study("tiny"))
    edited(folder / "studies" / "layers.py", "Linear(width, width)", "Linear(width, width + 1)")
    assert changes(before.facts, found(load_study("tiny")).facts) == ("the code of layers.py",)


def test_a_larger_budget_in_the_study_file_is_no_other_environment(folder: Path) -> None:
    before = found(load_study("tiny"))
    edited(folder / "studies" / "tiny.py", "GOOD | CHANGES)", "GOOD | CHANGES | dict(trials=9))")
    study = load_study("tiny")
    assert study.trials == 9
    assert found(study).id == before.id


def test_a_torchstudy_of_other_code_is_another_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "module.py").write_text("x = 1\n")
    assert digest_of(tmp_path / "a") == digest_of(tmp_path / "b")
    digest_of.cache_clear()
    (tmp_path / "b" / "module.py").write_text("x = 2\n")
    assert digest_of(tmp_path / "a") != digest_of(tmp_path / "b")
    digest_of.cache_clear()


def test_a_family_typed_at_a_prompt_has_code_that_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = linear_study()
    monkeypatch.delattr(sys.modules[study.families[0].__module__], "__file__")
    assert found(study).facts["code of Linear"] == "not known"


def test_it_takes_less_than_30_milliseconds(folder: Path) -> None:
    study = load_study("tiny")
    digest_of.cache_clear()
    began = time.process_time()
    found(study)
    assert time.process_time() - began < 0.03  # 8 ms on a quiet machine


def environment(**facts: str) -> Environment:
    return Environment(facts=facts)


def test_a_run_in_another_environment_is_told_what_changed_from_what_to_what() -> None:
    old, new = (
        environment(torch="2.14.0", python="3.11"),
        environment(torch="2.15.0", python="3.11"),
    )
    summary = old.added_to({})
    assert old.warning(summary) == ""
    assert new.warning(summary) == (
        "the environment has changed since this study was last trained: torch 2.14.0 -> 2.15.0; "
        f"results from now on are marked {new.id}"
    )
    back = new.added_to(summary)
    assert list(recorded(back)) == [old.id, new.id]
    assert list(recorded(old.added_to(back))) == [new.id, old.id]  # the last to be used
    assert "torch 2.15.0 -> 2.14.0" in old.warning(back)


def test_of_results_that_recorded_versions_alone_these_are_compared() -> None:
    now = environment(torch="2.15.0+cpu", numpy="2.4", system="Linux")
    assert now.warning({"versions": {"torch": "2.15.0", "numpy": "2.4", "pandas": "3.0"}}) == ""
    assert "numpy 2.3 -> 2.4" in now.warning({"versions": {"torch": "2.15.0", "numpy": "2.3"}})
    assert now.warning({}) == ""


def test_facts_that_are_new_or_gone_are_changes() -> None:
    assert changes({"a": "1", "b": "2"}, {"b": "2", "code of X": "9"}) == (
        "a 1 -> none",
        "the code of X",
    )


def test_ids_and_numbers_are_read_and_written_briefly() -> None:
    assert ids_of("a1+b2") == ["a1", "b2"]
    assert ids_of(None) == ids_of("") == []
    assert spans([3, 1, 2, 9, 7, 6]) == "1 to 3, 6 to 7, 9"


def test_precision_and_threads_make_another_environment() -> None:
    study = linear_study()
    ids = {
        found(study).id,
        found(replace(study, precision="fp32")).id,
        environment_of(study, device="cpu", threads=2).id,
    }
    assert len(ids) == 3
