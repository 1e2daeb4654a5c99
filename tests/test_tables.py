"""Reading, writing and summarising a study's tables."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.report_data import Made, write_study
from tests.report_kinds import SIDE, write_kind

from torchstudy.analysis.failures import failure_reasons, outcome_counts
from torchstudy.analysis.progress import best_so_far, learning_curves, search_epochs, steps
from torchstudy.analysis.tables import (
    Results,
    best_trials,
    config_of,
    frame,
    read_results,
    selected_trials,
    usable_values,
    write_table,
)
from torchstudy.errors import StudyError
from torchstudy.records import Objective
from torchstudy.schemas import CONFIRMATION_COLUMNS, EPOCH_COLUMNS, LATER_COLUMNS, TRIAL_COLUMNS

ACCURACY = Objective(metric="accuracy", direction="maximize")
SCHEMAS = [TRIAL_COLUMNS, EPOCH_COLUMNS, CONFIRMATION_COLUMNS]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_study(tmp_path_factory.mktemp("digits")))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_empty_frame_has_every_column_of_the_schema(schema: dict[str, str]) -> None:
    table = frame([], schema)
    assert {name: str(kind) for name, kind in table.dtypes.items()} == schema
    assert len(table) == 0


@pytest.mark.parametrize("schema", SCHEMAS)
def test_missing_cells_keep_the_types_of_the_schema(schema: dict[str, str]) -> None:
    table = frame([{}, {"family": "CNN"}], schema)
    assert {name: str(kind) for name, kind in table.dtypes.items()} == schema
    assert table.drop(columns="family").isna().all(axis=None)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None], "Int64"),
        ([np.int64(1), 2], "Int64"),
        ([1, float("nan")], "Int64"),
        ([1, 2.5], "float64"),
        ([0.5, None], "float64"),
        ([True, None], "boolean"),
        (["a", None], "string"),
        (["a", 1], "string"),
        ([True, 1], "string"),
        ([None, None], "float64"),
    ],
)
def test_further_columns_get_the_type_of_their_values(values: list[object], kind: str) -> None:
    table = frame([{"extra": value} for value in values], {"family": "string"})
    assert list(table.columns) == ["family", "extra"]
    assert str(table["extra"].dtype) == kind
    assert list(table["extra"].isna()) == [v is None or v != v for v in values]


def test_further_columns_come_in_order_of_first_appearance() -> None:
    table = frame([{"b": 1}, {"a": 2, "b": 3}, {"c": 4}], {})
    assert list(table.columns) == ["b", "a", "c"]


def test_times_are_read_with_and_without_microseconds() -> None:
    rows = [{"t": "2026-11-01T09:00:00+00:00"}, {"t": "2026-11-01T09:00:00.25+00:00"}, {"t": ""}]
    table = frame(rows, {"t": "datetime64[us, UTC]"})
    assert str(table["t"].dtype) == "datetime64[us, UTC]"
    assert table["t"].isna().tolist() == [False, False, True]
    assert (table["t"][1] - table["t"][0]).total_seconds() == 0.25


def test_a_table_is_the_same_after_writing_and_reading(tmp_path: Path, results: Results) -> None:
    write_table(results.trials, tmp_path / "v1.trials")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "v1.trials.csv",
        "v1.trials.parquet",
    ]
    again = pd.read_parquet(tmp_path / "v1.trials.parquet")
    pd.testing.assert_frame_equal(again, results.trials)
    assert len(pd.read_csv(tmp_path / "v1.trials.csv")) == len(results.trials)


def test_conditional_hyperparameters_are_missing_not_empty(results: Results) -> None:
    cnn = results.trials[results.trials["family"] == "CNN"]
    without = cnn[cnn["config.norm"] == "none"]
    assert len(without)
    assert without["config.norm_momentum"].isna().all()
    assert "norm_momentum" not in config_of(without.iloc[0])
    assert type(config_of(without.iloc[0])["width"]) is int


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="none is not a folder of results"):
        read_results(tmp_path / "none")


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"study\.json is missing"):
        read_results(tmp_path)
    (tmp_path / "study.json").write_text('{"study": ')
    with pytest.raises(StudyError, match=r"study\.json is not readable JSON"):
        read_results(tmp_path)
    (tmp_path / "study.json").write_text('{"study": "digits"}')
    with pytest.raises(StudyError, match="needs families, objective, study"):
        read_results(tmp_path)


def test_a_truncated_table_is_named(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Made(trials=2))
    whole = (folder / "epochs.parquet").read_bytes()
    (folder / "epochs.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StudyError, match=r"epochs\.parquet is damaged or not Parquet"):
        read_results(folder)


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Made(trials=2))
    write_table(pd.DataFrame({"family": ["CNN"]}), folder / "confirmation")
    with pytest.raises(
        StudyError, match=r"confirmation\.parquet lacks the column\(s\) study, trial"
    ):
        read_results(folder)


def test_columns_that_earlier_versions_did_not_have_are_read_as_empty(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Made(trials=2))
    for name in ("trials", "epochs"):
        table = pd.read_parquet(folder / f"{name}.parquet")
        write_table(table.drop(columns=[c for c in LATER_COLUMNS if c in table]), folder / name)
    results = read_results(folder)
    assert results.trials["precision"].isna().all()
    assert results.epochs["seconds_load"].dtype == "float64"
    assert results.epochs["seconds_load"].isna().all()


def test_trials_must_exist_and_the_rest_may_be_absent(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Made(trials=2, confirm=False))
    (folder / "epochs.parquet").unlink()
    results = read_results(folder)
    assert list(results.confirmation.columns) == list(CONFIRMATION_COLUMNS)
    assert results.epochs.empty
    assert not results.predictions
    (folder / "trials.parquet").unlink()
    with pytest.raises(StudyError, match=r"trials\.parquet is missing"):
        read_results(folder)


def test_codes_and_pictures_are_found_where_a_family_left_them(tmp_path: Path) -> None:
    results = read_results(write_kind(tmp_path, "denoise", trials=2))
    assert not results.codes
    gallery = results.gallery("Denoiser")
    assert list(gallery) == [0, 1, 2, 4, 8, 16]
    assert list(gallery[4]) == ["noisy", "restored", "clean"]
    with np.load(tmp_path / "evidence" / "Denoiser" / "gallery.npz") as saved:
        assert np.array_equal(gallery[4]["restored"], saved["4/restored"])
    assert gallery[4]["restored"].shape == (8, 1, SIDE, SIDE)
    assert results.gallery("../Denoiser") == results.gallery("Strange") == {}
    coded = read_results(write_kind(tmp_path / "codes", "codes", trials=2))
    assert coded.codes["Autoencoder"]["code_2"].dtype == "float64"


@pytest.mark.parametrize("damage", [b"", b"PK not a zip", None])
def test_a_damaged_gallery_is_named(tmp_path: Path, damage: bytes | None) -> None:
    results = read_results(write_kind(tmp_path, "gan", trials=2))
    path = tmp_path / "evidence" / "GAN" / "gallery.npz"
    path.write_bytes(path.read_bytes()[:400] if damage is None else damage)
    with pytest.raises(StudyError, match=r"gallery\.npz is damaged or not a gallery"):
        results.gallery("GAN")


def test_a_trial_0_that_is_no_recipe_is_not_taken_for_one(tmp_path: Path) -> None:
    results = read_results(write_kind(tmp_path, "regression", trials=4))
    rows = best_trials(results).set_index("family")
    assert rows.loc["MLP", "recipe_value"] == rows.loc["MLP", "recipe_value"]
    assert np.isnan(rows.loc["MultiInput", "recipe_value"])


def test_the_best_trial_is_the_best_completed_one(results: Results) -> None:
    table = best_trials(results)
    assert list(table["family"]) == ["CNN", "Transfer", "AutoencoderProbe"]
    for row in table.to_dict("records"):
        own = results.trials[results.trials["family"] == row["family"]]
        completed = own[own["status"] == "completed"]
        assert row["value"] == completed["best_valid_accuracy"].max()
        assert row["recipe_value"] == own.loc[own["trial"] == 0, "best_valid_accuracy"].iloc[0]
        assert row["config"]["learning_rate"] > 0


def test_a_lower_loss_is_better(tmp_path: Path) -> None:
    results = read_results(write_study(tmp_path, Made(metric="loss", confirm=False)))
    completed = results.trials[results.trials["status"] == "completed"]
    lowest = completed.groupby("family")["best_valid_loss"].min()
    assert dict(best_trials(results).set_index("family")["value"]) == dict(lowest)


def test_the_selected_trial_is_the_one_confirmation_chose(results: Results) -> None:
    chosen = results.confirmation[results.confirmation["chosen"]]
    expected = dict(chosen.groupby("family")["trial"].first())
    assert dict(selected_trials(results).set_index("family")["trial"]) == expected


def test_best_so_far_counts_the_seconds_of_failed_trials(results: Results) -> None:
    table = best_so_far(results.trials, ACCURACY)
    own = table[table["family"] == "CNN"]
    cnn = results.trials[results.trials["family"] == "CNN"]
    assert own["seconds"].iloc[-1] == pytest.approx(cnn["seconds"].sum())
    assert own["best"].dropna().is_monotonic_increasing
    assert own["best"].iloc[-1] == cnn["best_valid_accuracy"].max()


def test_best_so_far_falls_for_a_loss_and_is_missing_before_the_first_value() -> None:
    rows = [
        {"family": "CNN", "trial": i, "seconds": 1.0, "finished": f"2026-11-01T09:00:0{i}+00:00"}
        | ({} if value is None else {"best_valid_loss": value})
        for i, value in enumerate([None, 0.5, 0.7, 0.2])
    ]
    table = best_so_far(frame(rows, TRIAL_COLUMNS), Objective(metric="loss", direction="minimize"))
    assert table["best"].isna().tolist() == [True, False, False, False]
    assert table["best"].tolist()[1:] == [0.5, 0.5, 0.2]


def test_a_long_line_of_steps_keeps_its_ends_and_every_change() -> None:
    best = [0.1] * 700 + [0.5] * 3 + [0.9] * 297
    table = pd.DataFrame({"seconds": range(1000), "best": best})
    thinned = steps(table, 10)
    assert list(thinned.index) == [0, 111, 222, 333, 444, 555, 666, 700, 703, 777, 888, 999]
    assert steps(table, 1000) is table


def test_a_failed_trial_has_no_value_whatever_it_reached() -> None:
    rows = [
        {"family": "CNN", "trial": 0, "status": "completed", "best_valid_accuracy": 0.9},
        {"family": "CNN", "trial": 1, "status": "diverged", "best_valid_accuracy": 0.99},
        {"family": "CNN", "trial": 2, "status": "stopped", "best_valid_accuracy": float("inf")},
    ]
    values = usable_values(frame(rows, TRIAL_COLUMNS), ACCURACY)
    assert values.isna().tolist() == [False, True, True]


def test_learning_curves_leave_confirmation_trainings_out(results: Results) -> None:
    curves = search_epochs(results)
    per_trial = curves.groupby(["family", "trial", "epoch"]).size()
    assert per_trial.max() == 1
    assert len(curves) < results.epochs["valid_accuracy"].notna().sum()
    bands = learning_curves(search_epochs(results))
    assert (bands["low"] <= bands["median"]).all()
    assert (bands["median"] <= bands["high"]).all()
    first = bands[bands["epoch"] == 1].set_index("family")["n"]
    assert first["CNN"] == curves[curves["family"] == "CNN"]["trial"].nunique()


def test_learning_curves_of_nothing_are_empty(tmp_path: Path) -> None:
    results = read_results(write_study(tmp_path, Made(fail_all=True, trials=2, confirm=False)))
    assert learning_curves(search_epochs(results)).empty
    assert best_trials(results).empty
    assert selected_trials(results).empty


def test_outcomes_are_counted_per_family(results: Results) -> None:
    counts = outcome_counts(results.trials)
    assert counts["n"].sum() == len(results.trials)


def test_a_failure_caused_by_the_learning_rate_is_traced_to_it(results: Results) -> None:
    reasons = failure_reasons(results.trials)
    diverged = reasons[(reasons["status"] == "diverged") & (reasons["n"] >= 3)]
    assert set(diverged["hyperparameter"]) == {"learning_rate"}
    assert (diverged["median_failed"] > 0.03).all()
    assert (diverged["median_rest"] < 0.03).all()


def test_reasons_that_differ_in_numbers_are_one_kind() -> None:
    rows = [
        {"family": "CNN", "trial": i, "status": "diverged", "reason": f"nan in epoch {i}"}
        for i in range(4)
    ]
    table = failure_reasons(frame(rows, TRIAL_COLUMNS))
    assert table[["n", "tried", "reason"]].values.tolist() == [[4, 4, "nan in epoch 0"]]
    assert table["hyperparameter"].isna().all()


@pytest.mark.slow  # a hundred made-up studies
def test_chance_rarely_looks_like_a_region() -> None:
    # 100 studies of 20 trials in which failure has no cause: at most 5% may name one. The chance
    # of 16 or more at 5% is below 1 in 10,000.
    rng = np.random.default_rng(5)
    named = 0
    for _ in range(100):
        rows = [
            {
                "family": "CNN",
                "trial": trial,
                "status": "crashed" if trial < 5 else "completed",
                "reason": "boom",
                **{f"config.p{index}": float(rng.random()) for index in range(4)},
            }
            for trial in range(20)
        ]
        named += int(failure_reasons(frame(rows, TRIAL_COLUMNS))["hyperparameter"].notna().sum())
    assert named < 16


def test_summary_is_what_study_json_says(results: Results) -> None:
    text = (results.folder / "study.json").read_text()
    assert results.summary == json.loads(text)
    assert results.objective == ACCURACY
    assert results.families == ["CNN", "Transfer", "AutoencoderProbe"]
