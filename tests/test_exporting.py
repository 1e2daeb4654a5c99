"""`optimize export`: the right model, on real inputs, with what the study knows of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.command import optimize, write_study
from tests.conftest import stripes
from tests.test_runner import Linear, linear_study, run_inline

from torchstudy import exporting
from torchstudy.analysis.tables import Results
from torchstudy.errors import StudyError
from torchstudy.execution import refit
from torchstudy.exporting import export_and_show, export_model
from torchstudy.families.base import Family
from torchstudy.families.linear import LinearModel
from torchstudy.modelcards import facts_of
from torchstudy.models import formats
from torchstudy.models.saved import load_model
from torchstudy.records import Epoch
from torchstudy.values import Value

pytestmark = pytest.mark.usefixtures("short_reports")


@pytest.fixture(autouse=True)
def _without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds, and is tested elsewhere."""
    monkeypatch.setattr(formats, "ONNX_PACKAGES", ("no_such_package",))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A study of two families, both confirmed."""
    folder = tmp_path_factory.mktemp("two")
    return run_inline(linear_study(families=[Linear, LinearModel]), folder)


def reports_of(results: Results) -> Path:
    return results.folder.parent


def card_in(folder: Path) -> str:
    return (folder / "README.md").read_text()


def test_the_command_writes_the_winner_and_says_what(finished_study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = optimize("export", "tiny", "--to", out)
    assert ended.exit_code == 0, ended.stderr
    said = ended.stdout.splitlines()
    best = json.loads(optimize("best", "tiny", "--json").stdout)[0]
    assert said[0] == f"CNN #{best['trial']}: {out}"
    assert said[-1] == "compared with the network on 27 validation images"
    names = [line.split()[0] for line in said[1:-1]]
    assert names == [
        "model.pt", "model.safetensors", "model.pt2", "model.onnx", "config.json",
        "preprocessing.json", "metrics.json", "predict.py", "README.md",
    ]  # fmt: skip
    images = torch.from_numpy(stripes()[0][:20, None])
    program = torch.export.load(out / "model.pt2").module()
    saved = load_model(finished_study / "reports" / "tiny" / "best" / "CNN")
    assert torch.equal(program(images), saved.predict(images))
    assert torch.equal(load_model(out).predict(images), saved.predict(images))


def test_the_card_states_score_origin_data_and_limits(two: Results, tmp_path: Path) -> None:
    study = linear_study(families=[Linear, LinearModel])
    found = export_model(study, tmp_path / "out", family="Linear", reports=reports_of(two))
    text = card_in(found.folder)
    from torchstudy.analysis.statistics import family_scores

    row = family_scores(two).set_index("family").loc["Linear"]
    assert f"Test accuracy: {100 * row['mean']:.1f}%, 95% interval {100 * row['low']:.1f}%" in text
    assert "mean of 2 fresh trainings of this configuration with new seeds" in text
    assert f"Trial {row['trial']} of 3 configurations of Linear" in text
    assert two.summary["data"]["fingerprint"] in text
    assert "train 99, valid 27, select 27 and test 27" in text
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert "It knows items of stripes alone: how it does on items of another origin" in text
    config = json.loads((found.folder / "config.json").read_text())["config"]
    for name in config:
        assert f"| {name.replace('_', chr(92) + '_')} | " in text


@pytest.mark.parametrize(("split", "spoken"), [("test", "test"), ("valid", "validation")])
def test_a_card_says_where_a_constant_answer_is_no_worse(
    split: str, spoken: str, two: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With items that are all of one class; the model was confirmed, or it was not."""
    own = pd.DataFrame({"split": split, "seed": 1, "item": range(27), "target": "flat"})
    own = own.astype({"split": "string", "seed": "Int64", "target": "string"})
    confirmation = two.confirmation if split == "test" else two.confirmation.head(0)
    alike = replace(two, predictions={"Linear": own}, confirmation=confirmation)
    monkeypatch.setattr(
        exporting, "facts_of", lambda saved, origin: facts_of(saved, replace(origin, results=alike))
    )
    study = linear_study(families=[Linear, LinearModel])
    found = export_model(study, tmp_path / "out", family="Linear", reports=reports_of(two))
    text = " ".join(card_in(found.folder).split())
    said = "On the 27 {0} items, always answering the most frequent class, flat, has 100.0% {0} "
    assert f"{said.format(spoken)}accuracy; Linear has " in text
    monkeypatch.undo()
    again = export_model(study, tmp_path / "again", family="Linear", reports=reports_of(two))
    assert "always answering" not in card_in(again.folder)


def test_the_family_with_the_best_confirmed_score_is_exported(two: Results, tmp_path: Path) -> None:
    from torchstudy.analysis.statistics import family_scores

    study = linear_study(families=[Linear, LinearModel])
    ranking = list(family_scores(two)["family"])
    assert len(ranking) == 2
    found = export_model(study, tmp_path / "out", reports=reports_of(two))
    assert found.family == ranking[0]
    other = export_model(study, tmp_path / "other", family=ranking[1], reports=reports_of(two))
    assert other.family == ranking[1]


def test_without_confirmation_the_best_trial_is_exported_and_said_to_be_optimistic(
    tmp_path: Path,
) -> None:
    study = linear_study(confirm=None)
    results = run_inline(study, tmp_path)
    found = export_model(study, tmp_path / "out", reports=tmp_path)
    values = results.trials["best_valid_accuracy"]
    assert values[found.trial] == values.max()
    text = card_in(found.folder)
    assert f"Validation accuracy: {100 * values.max():.1f}%" in text
    assert "It is optimistic: these items decided between 3 trials" in text
    assert "Test accuracy" not in text


@pytest.mark.parametrize(
    ("cls", "space", "has_epochs"), [(Linear, {"batch_size": 16}, True), (LinearModel, {}, False)]
)
def test_a_card_speaks_of_epochs_only_where_there_are_some(
    cls: type[Family], space: dict[str, Value], has_epochs: bool, tmp_path: Path
) -> None:
    study = linear_study(families=[cls], confirm=None, space=space)
    run_inline(study, tmp_path)
    text = card_in(export_model(study, tmp_path / "out", reports=tmp_path).folder)
    assert "between 3 trials" in text
    assert "The network of the training with seed" in text
    for words in ("and between epochs", "a full training has", "after its best epoch"):
        assert (words in text) is has_epochs, words


@pytest.mark.slow
def test_the_card_of_a_refit_without_confirmation_does_not_say_that_test_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slow: a network is fitted in a process of its own."""
    study = linear_study(families=[LinearModel], confirm=None, space={})
    run_inline(study, tmp_path)
    capsys.readouterr()
    options = {"reports": tmp_path, "storage": None, "repeat": None}
    export_and_show(study, tmp_path / "out", refit=True, **options)
    assert "nan" not in capsys.readouterr().out
    text = card_in(tmp_path / "out")
    assert "read once" not in text
    assert "the test split, and that is not read for it" in text
    assert "items; mean and spread for scaling are those of the train split" in text


@pytest.mark.slow
def test_a_refit_sees_all_but_the_test_split(two: Results, tmp_path: Path) -> None:
    """Slow: two networks are trained, each in a process of its own."""
    study = linear_study(families=[Linear, LinearModel])
    said: list[Epoch] = []
    found = export_model(
        study,
        tmp_path / "out",
        family="Linear",
        refit=True,
        reports=reports_of(two),
        on_epoch=said.append,
    )
    text = card_in(found.folder)
    assert "it was trained on 153 items, those of train, valid and select together" in text
    assert "This network itself has not been measured" in text
    assert "trained on the 99 items of train alone" in text
    again = load_model(found.folder, [Linear])
    first = load_model(two.folder / "best" / "Linear", [Linear])
    assert again.data.num_train == 153
    assert again.data.class_counts == (51, 51, 51)
    assert again.preprocessing == first.preprocessing
    weights = [model.network.state_dict()["2.weight"] for model in (first, again)]
    assert not torch.equal(*weights)
    metrics = json.loads((found.folder / "metrics.json").read_text())
    assert metrics["refit_epochs"] == len(said)
    assert [row.epoch for row in said] == list(range(1, len(said) + 1))
    assert not [path for path in reports_of(two).iterdir() if path.name.startswith(".refit-")]
    export_model(study, tmp_path / "b", family="Linear", refit=True, reports=reports_of(two))
    repeated = load_model(tmp_path / "b", [Linear]).network.state_dict()["2.weight"]
    assert torch.equal(repeated, weights[1])


@pytest.mark.slow
def test_a_refit_does_without_the_calibration_of_another_network(
    two: Results, tmp_path: Path
) -> None:
    """Slow: a network is trained in a process of its own."""
    reports = tmp_path / "reports"
    shutil.copytree(reports_of(two), reports)
    counts = dict.fromkeys(("items", "trial", "seed", "test_items"), 27)
    errors = [f"{split}_nll_{when}" for split in ("test", "select") for when in ("before", "after")]
    measured = dict.fromkeys([*errors, "test_ece_before", "test_ece_after"], 0.5)
    stated = json.dumps({"temperature": 2.0, **counts, **measured})
    (reports / "lines" / "best" / "LinearModel" / "calibration.json").write_text(stated)
    study = linear_study(families=[Linear, LinearModel])
    out = tmp_path / "out"
    export_model(study, out, family="LinearModel", reports=reports)
    assert (out / "calibration.json").read_text() == stated
    assert "has not been checked" not in card_in(out)
    export_model(study, out, family="LinearModel", reports=reports, refit=True)
    assert not (out / "calibration.json").exists()
    assert "has not been checked" in card_in(out)


def test_a_study_whose_file_is_gone_is_exported_on_random_inputs(
    finished_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished_study / "reports", tmp_path / "reports")
    monkeypatch.chdir(tmp_path)
    ended = optimize("export", "tiny", "--to", "out")
    assert ended.exit_code == 0, ended.stderr
    on = "64 random inputs, as the study has no file in ./studies"
    assert ended.stdout.splitlines()[-1] == f"compared with the network on {on}"
    assert on in card_in(tmp_path / "out")
    refused = optimize("export", "tiny", "--to", "out", "--refit")
    assert refused.exit_code == 2
    assert refused.stderr == (
        "error: --refit needs the study itself: there is no file of 'tiny' in ./studies\n"
    )


def test_a_family_of_the_studys_own_needs_its_file(two: Results, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        export_model("lines", tmp_path / "out", family="Linear", reports=reports_of(two))
    assert str(caught.value) == (
        "Linear is a family of the study's own, but the study has no file in ./studies: name the "
        "file or module that declares it"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: (stripes()[0] // 2, stripes()[1]), "its data have changed since it was run"),
        (lambda: 1 / 0, "its data cannot be read any more (data: "),
    ],
)
def test_data_that_are_gone_or_changed_are_not_used(
    data: object, reason: str, two: Results, tmp_path: Path
) -> None:
    study = linear_study(families=[Linear, LinearModel], data=data)
    found = export_model(study, tmp_path / "out", family="LinearModel", reports=reports_of(two))
    assert found.verified_on.startswith(f"64 random inputs, as {reason}")
    with pytest.raises(StudyError) as caught:
        export_model(study, tmp_path / "out", reports=reports_of(two), refit=True)
    assert str(caught.value).startswith(f"--refit needs the study's data, but {reason}")


def test_a_refit_that_diverges_is_one_message_and_writes_nothing(
    two: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchstudy.errors import RunError
    from torchstudy.records import Outcome, Status

    def ended(*args: object, **options: object) -> tuple[list[Epoch], Outcome]:
        return [], Outcome(status=Status.DIVERGED, reason="a weight was not finite in epoch 1")

    monkeypatch.setattr(refit, "retrained", ended)
    study = linear_study(families=[Linear, LinearModel])
    with pytest.raises(RunError) as caught:
        export_model(study, tmp_path / "out", reports=reports_of(two), refit=True)
    assert "ended as diverged (a weight was not finite in epoch 1); nothing was" in str(
        caught.value
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope"], "error: study 'nope' has not been run yet; there are results of tiny\n"),
        (
            ["tiny", "--family", "CNM"],
            "error: study 'tiny' has no family 'CNM' (did you mean 'CNN'?); it has CNN\n",
        ),
    ],
)
def test_what_was_not_run_is_refused(
    words: list[str], message: str, finished_study: Path, tmp_path: Path
) -> None:
    ended = optimize("export", *words, "--to", tmp_path / "out")
    assert ended.exit_code == 2
    assert ended.stderr == message
    assert not (tmp_path / "out").exists()


def test_a_study_without_finished_trials_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = "study = Study(**{**GOOD, 'space': {'learning_rate': 1e30, 'optimizer': 'sgd'}})"
    write_study(tmp_path, "wild", change)
    monkeypatch.chdir(tmp_path)
    optimize("run", "wild", "--executor", "inline", "--no-confirm", "--quiet")
    ended = optimize("export", "wild", "--to", "out")
    assert ended.exit_code == 2
    assert ended.stderr == "error: study 'wild' has no finished trial yet\n"
    assert not Path("out").exists()


def test_a_model_that_was_not_written_yet_is_refused(
    finished_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished_study / "reports", tmp_path / "reports")
    shutil.rmtree(tmp_path / "reports" / "tiny" / "best")
    ended = optimize("export", "tiny", "--to", tmp_path / "out", "--reports", tmp_path / "reports")
    assert ended.exit_code == 2
    place = tmp_path / "reports" / "tiny" / "best" / "CNN"
    assert ended.stderr == (
        f"error: study 'tiny' has no model of CNN in {place} yet; `optimize run` writes it when it "
        "ends or is stopped\n"
    )


def test_folders_that_cannot_be_written_are_refused_before_a_refit(
    finished_study: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    for target, message in (
        (tmp_path, f"{tmp_path} is not empty and holds no export (it has no export.json)"),
        (tmp_path / "file", f"{tmp_path / 'file'} is a file; an export is a folder"),
    ):
        ended = optimize("export", "tiny", "--to", target, "--refit")
        assert ended.exit_code == 2
        assert ended.stderr.startswith(f"error: {message}")
        assert "epoch 1" not in ended.stdout
    below = tmp_path / "file" / "below"
    ended = optimize("export", "tiny", "--to", below)
    assert ended.exit_code == 2
    assert ended.stderr == f"error: {below} cannot be written: Not a directory\n"


@pytest.mark.parametrize("lowered", ["Linear", "LinearModel"])
def test_a_bound_that_is_missed_counts_before_the_score(lowered: str, two: Results) -> None:
    from dataclasses import replace

    trials = two.trials.copy()
    trials.loc[trials["family"] == lowered, "best_valid_accuracy"] = 0.5
    bound = {"metric": "accuracy", "direction": "maximize", "value": 0.9}
    bounded = replace(two, trials=trials, summary={**two.summary, "bounds": [bound]})
    assert exporting._winner(bounded) != lowered
    unbounded = replace(two, trials=trials)
    assert exporting._winner(unbounded) == exporting._winner(two)


def test_a_refit_trains_for_the_median_of_the_best_epochs(two: Results) -> None:
    from dataclasses import replace

    from torchstudy.execution.ledger import Ledger
    from torchstudy.records import Status

    ledger = Ledger(f"sqlite:///{reports_of(two) / 'studies.sqlite'}", read_only=True)
    trainings = ledger.trainings("lines")
    ledger.close()
    fresh = next(t for t in trainings if t.purpose == "confirmation")
    family, number = fresh.key.family, fresh.key.number
    searched = next(
        t for t in trainings if t.purpose == "search" and t.key.number == number
        and t.key.family == family
    )  # fmt: skip
    group = [replace(fresh, best_epoch=epoch) for epoch in (2, 9, 4)]
    failed = replace(fresh, best_epoch=99, status=Status.CRASHED)
    late = replace(searched, best_epoch=20)
    assert refit.epochs_of([late, failed, *group], family, number) == 4
    assert refit.epochs_of([late, failed], family, number) == 20
