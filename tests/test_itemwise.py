"""What single test items contribute to a score, and what can be compared over them."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ttest_1samp
from tests.report_kinds import write_kind

from torchstudy.analysis.itemwise import item_scores
from torchstudy.analysis.statistics import (
    ITEMS_ONLY,
    SEEDS_AND_ITEMS,
    SEEDS_ONLY,
    answers_on_test,
    compare,
    family_scores,
)
from torchstudy.analysis.tables import Results, read_results
from torchstudy.data.spec import DataSpec
from torchstudy.report.caveats import NOTHING_LEARNED, headline
from torchstudy.report.sentences import basis
from torchstudy.report.story import Story
from torchstudy.training.batches import Batch
from torchstudy.training.metrics import REGRESSION_METRICS, regression_metrics

ITEMS = 60
SPEC = DataSpec(
    source="made",
    channels=1,
    height=2,
    width=2,
    classes=(),
    num_train=10,
    task="regression",
    target_mean=4.0,
    target_std=1.7,
)
OFFSETS = {"MLP": 0.0, "LinearModel": 1.5, "MultiInput": 0.1}  # of all answers of a family


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_kind(tmp_path_factory.mktemp("regression"), "regression"))


def answering(bare: Results, metric: str, offsets: dict[str, float] = OFFSETS) -> Results:
    """The study with answers to numbers, and the scores that training would find for them."""
    table, predictions = bare.confirmation.copy(), {}
    for place, (family, offset) in enumerate(offsets.items()):
        is_own = (table["family"] == family) & table["chosen"]
        seeds = [int(seed) for seed in table.loc[is_own, "seed"]]
        predictions[family] = answers(place, seeds, offset)
        scores = [score(predictions[family], seed, metric) for seed in seeds]
        table.loc[is_own, f"test_{metric}"] = scores
    summary = {
        **bare.summary,
        "data": {**bare.summary["data"], "target_std": SPEC.target_std},
        "objective": {
            "metric": metric,
            "direction": "maximize" if metric == "r2" else "minimize",
        },
    }
    trials = bare.trials.assign(**{f"best_valid_{metric}": bare.trials["best_valid_r2"]})
    return replace(
        bare, trials=trials, confirmation=table, predictions=predictions, summary=summary
    )


def answers(family: int, seeds: list[int], offset: float) -> pd.DataFrame:
    """On the items of two splits, by trainings that err alike on an item, some items more."""
    rng, targets = np.random.default_rng(family), np.random.default_rng(9).normal(5.0, 2.0, ITEMS)
    hard = np.linspace(0.5, 1.5, ITEMS) * rng.standard_normal(ITEMS)
    rows = [
        {
            "split": split,
            "seed": seed,
            "item": item,
            "target_value": targets[item],
            "predicted_value": targets[item] + offset + hard[item] + rng.normal(0, 0.3),
        }
        for seed in seeds
        for split in ("select", "test")
        for item in range(ITEMS)
    ]
    return pd.DataFrame(rows).astype({"split": "string", "seed": "Int64", "item": "Int64"})


def score(table: pd.DataFrame, seed: int, metric: str) -> float:
    own = table[(table["split"] == "test") & (table["seed"] == seed)]
    outputs = torch.tensor(own["predicted_value"].to_numpy(dtype=float))[:, None]
    outputs = (outputs - SPEC.target_mean) / SPEC.target_std
    targets = torch.tensor(own["target_value"].to_numpy(dtype=float))
    batch = Batch(inputs=torch.zeros(ITEMS, 0), targets=targets)
    return regression_metrics(SPEC, lambda _: outputs, [batch])[metric]


@pytest.mark.parametrize("metric", REGRESSION_METRICS)
def test_the_mean_over_items_is_the_score_that_training_measures(
    bare: Results, metric: str
) -> None:
    results = answering(bare, metric)
    found = item_scores(results, results.predictions["MLP"])
    assert found is not None
    assert found.shape == (3, ITEMS)
    for seed in found.index:
        measured = score(results.predictions["MLP"], seed, metric)
        assert found.loc[seed].mean() == pytest.approx(measured, rel=1e-9)


def test_the_share_explained_varies_with_the_items_as_its_linearisation_says(
    bare: Results,
) -> None:
    """Against resampled items: the standard error of a ratio, not that of errors alone.

    With 4,000 resamples its relative error is 1%; the linearisation's own is of order 1 / items.
    """
    results = answering(bare, "r2")
    table = results.predictions["MLP"]
    found = item_scores(results, table)
    assert found is not None
    seed = int(found.index[0])
    own = table[(table["split"] == "test") & (table["seed"] == seed)]
    true, told = (own[name].to_numpy() for name in ("target_value", "predicted_value"))
    picked = np.random.default_rng(1).integers(0, ITEMS, (4000, ITEMS))
    squares, spread = ((told - true) ** 2)[picked].mean(axis=1), true[picked].var(axis=1)
    resampled = (1 - squares / spread).std()
    linear = found.loc[seed].std() / np.sqrt(ITEMS)
    assert linear == pytest.approx(resampled, rel=0.1)
    alone = (((told - true) ** 2) / true.var()).std() / np.sqrt(ITEMS)
    assert abs(linear - resampled) < abs(alone - resampled)


def test_errors_of_numbers_are_compared_over_seeds_and_items(bare: Results) -> None:
    results = answering(bare, "mae")
    table = family_scores(results)
    assert set(table["basis"]) == {SEEDS_AND_ITEMS}
    assert set(table["items"]) == {ITEMS}
    assert (table["low"] < table["mean"]).all()
    found = compare(results, "MLP", "LinearModel")
    assert (found.basis, found.items) == (SEEDS_AND_ITEMS, ITEMS)
    assert found.low > 0
    assert found.is_separable
    alike = compare(results, "MLP", "MultiInput")
    assert alike.low < 0 < alike.high


def test_answers_that_are_not_those_of_the_scores_are_not_used(bare: Results) -> None:
    results = answering(bare, "mse")
    assert answers_on_test(results, "MLP") is not None
    table = results.confirmation
    table = table.assign(test_mse=table["test_mse"] * 1.01)
    assert answers_on_test(replace(results, confirmation=table), "MLP") is None
    assert set(family_scores(replace(results, confirmation=table))["basis"]) == {SEEDS_ONLY}


@pytest.mark.parametrize("lost", ["a value", "an item", "the spread"])
def test_where_something_is_missing_there_is_nothing_to_compare(bare: Results, lost: str) -> None:
    results = answering(bare, "loss")
    table = results.predictions["MLP"]
    if lost == "a value":
        table = table.assign(predicted_value=table["predicted_value"].where(table["item"] != 3))
    elif lost == "an item":
        table = table[(table["item"] != 3) | (table["seed"] != table["seed"].iloc[0])]
    else:
        results = replace(results, summary={**results.summary, "data": {}})
    assert item_scores(results, table) is None


def test_targets_that_are_all_equal_explain_nothing(bare: Results) -> None:
    results = answering(bare, "r2")
    table = results.predictions["MLP"].assign(target_value=3.0)
    assert item_scores(results, table) is None


def test_with_one_seed_each_nobody_is_called_better(bare: Results) -> None:
    """What seeds add is unknown: of equal families a quarter to a half would be."""
    results = answering(bare, "mae")
    once = results.confirmation.drop_duplicates(["family", "trial"])
    found = compare(replace(results, confirmation=once), "MLP", "LinearModel")
    assert found.basis == ITEMS_ONLY
    assert found.low > 0
    assert np.isnan(found.p)
    assert not found.is_separable
    said = basis(found, "item")
    assert said.endswith(
        "; one seed does not tell how seeds differ, so no difference is called real."
    )


def test_a_family_with_one_seed_is_compared_over_the_items_alone(bare: Results) -> None:
    """What the three seeds of the other add is left out, as the sentence says."""
    results = answering(bare, "mae")
    table = results.confirmation
    is_more = table["family"].eq("MLP") & table.duplicated(["family", "trial"])
    story = Story(replace(results, confirmation=table[~is_more]))
    found = {pair.b: pair for pair in story.differences}["LinearModel"]
    assert (found.a, found.basis, found.seeds) == ("MLP", ITEMS_ONLY, (1, 3))
    one, two = (answers_on_test(story.results, name) for name in ("MLP", "LinearModel"))
    assert one is not None
    assert two is not None
    apart = (two.mean(axis=0) - one.mean(axis=0)).to_numpy()
    known = ttest_1samp(apart, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((known.low, known.high), rel=1e-9)
    assert not found.is_separable
    assert "no difference is called real" in basis(found, "item")
    assert "Holm" not in basis(found, "item")


def test_p_is_corrected_for_the_pairs_whose_p_is_known(bare: Results) -> None:
    """Of three pairs of families two are with the one that has a single seed."""
    results = answering(bare, "mae")
    table = results.confirmation
    is_more = table["family"].eq("LinearModel") & table.duplicated(["family", "trial"])
    story = Story(replace(results, confirmation=table[~is_more]))
    assert {pair.num_compared for pair in story.differences} == {1}
    assert {pair.num_compared for pair in Story(results).differences} == {3}
    assert basis(Story(results).differences[0], "item").endswith(
        "Holm-corrected for 3 comparisons."
    )


def test_a_difference_of_shares_is_not_more_than_all_of_them(bare: Results) -> None:
    table = bare.confirmation
    rising = table.groupby(["family", "trial"]).cumcount() / 2.0  # 0, 0.5, 1
    goal = {"metric": "accuracy", "direction": "maximize"}
    shares = replace(
        bare,
        confirmation=table.assign(test_accuracy=rising, select_accuracy=rising),
        summary={**bare.summary, "objective": goal},
    )
    found = compare(shares, "MLP", "LinearModel")
    assert (found.low, found.high) == (-1.0, 1.0)


def test_a_hair_above_the_constant_is_not_clearly_better_without_confirmation(
    bare: Results,
) -> None:
    own = answers(0, [7], 1.5)
    found = score(own, 7, "r2")
    assert 0 < found < 0.1
    said = headline(Story(_unconfirmed(bare, own, found))).sentences[-1]
    assert said.startswith("On the 60 validation items, always answering their mean")
    assert said.endswith(f"has {found:.3f}, which is not clearly better.")
    others = _unconfirmed(bare, own, found + 0.01)  # the answers are of another training
    assert "always answering" not in " ".join(headline(Story(others)).sentences)


def _unconfirmed(bare: Results, own: pd.DataFrame, value: float) -> Results:
    """A study without fresh seeds whose families all have a score and answers on valid."""
    results = answering(bare, "r2")
    own = own.assign(split=own["split"].replace("test", "valid"))
    return replace(
        results,
        confirmation=results.confirmation.head(0),
        trials=results.trials.assign(best_valid_r2=value),
        predictions=dict.fromkeys(OFFSETS, own),
    )


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("r2", r"their mean, 4\.815, has test R² 0\.000; MLP has \u22121\.760\."),
        ("mse", r"their mean, 4\.815, has test mean squared error 3\.855; MLP has 10"),
        ("mae", r"their median, 4\.51, has test mean absolute error 1\.552; MLP has 3"),
    ],
)
def test_that_nothing_was_learned_is_the_headline(bare: Results, metric: str, said: str) -> None:
    results = answering(bare, metric, {"MLP": 3.0, "LinearModel": 4.0, "MultiInput": 5.0})
    found = headline(Story(results))
    assert found.title == NOTHING_LEARNED
    assert re.match(f"On the {ITEMS} test items, always answering {said}", found.sentences[0])
    assert found.sentences[1].startswith("Leaving that aside: MLP wins")


def test_what_is_hardly_learned_is_said(bare: Results) -> None:
    results = answering(bare, "r2", {"MLP": 1.35, "LinearModel": 4.0, "MultiInput": 5.0})
    top = family_scores(results).iloc[0]
    assert top["low"] < 0 < top["mean"]
    found = headline(Story(results))
    assert found.title.startswith("MLP wins")
    assert found.sentences[-1].endswith(", which is not clearly better.")
    learned = headline(Story(answering(bare, "r2")))
    assert not any("always answering" in sentence for sentence in learned.sentences)


def test_of_a_logarithm_the_constant_is_told_in_the_quantity_itself(bare: Results) -> None:
    results = answering(bare, "mse", {"MLP": 3.0, "LinearModel": 4.0, "MultiInput": 5.0})
    data = {**results.summary["data"], "log_target": True}
    logs = replace(results, summary={**results.summary, "data": data})
    said = headline(Story(logs)).sentences[0]
    assert f"always answering their geometric mean, {np.exp(4.815):.3g}" in said
