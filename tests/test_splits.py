import numpy as np
import pytest

from torchstudy.data.images import SPLITS, Images
from torchstudy.data.listing import Part
from torchstudy.data.planning import class_counts, planned
from torchstudy.data.splits import Items, Split, allocation, random_ranks, split_items
from torchstudy.errors import DataError


def items_of(
    labels: list[int],
    *,
    parts: list[int] | None = None,
    groups: list[int] | None = None,
    seed: int = 0,
) -> Items:
    count = len(labels)
    hashes = random_ranks(np.arange(count, dtype=np.uint64), 99)
    return Items(
        labels=np.array(labels),
        parts=np.array(parts or [Part.POOL] * count, dtype=np.int8),
        groups=np.array(groups if groups is not None else range(count)),
        ranks=random_ranks(hashes, seed),
        classes=[f"class {label}" for label in range(max(labels) + 1)],
    )


def split_of(items: Items, **sizes: float) -> Split:
    counts = class_counts(items.labels, items.parts, len(items.classes))
    plan = planned(Images("x", **sizes), counts, items.classes)  # type: ignore[arg-type]
    assert plan.problems == ()
    return split_items(items, plan)


def problems_of(labels: list[int], parts: list[int] | None = None, **sizes: float) -> list[str]:
    items = items_of(labels, parts=parts)
    counts = class_counts(items.labels, items.parts, len(items.classes))
    return list(planned(Images("x", **sizes), counts, items.classes).problems)  # type: ignore[arg-type]


def lengths(split: Split) -> dict[str, int]:
    return {name: len(items) for name, items in split.splits.items()}


def test_defaults_are_fifteen_percent_each_and_the_rest_is_for_training() -> None:
    labels = [number % 3 for number in range(200)]
    assert lengths(split_of(items_of(labels))) == {
        "train": 110, "valid": 30, "select": 30, "test": 30
    }  # fmt: skip


def test_splits_are_sorted_disjoint_and_complete() -> None:
    split = split_of(items_of([number % 3 for number in range(200)])).splits
    for items in split.values():
        assert (np.diff(items) > 0).all()
    assert np.sort(np.concatenate(list(split.values()))).tolist() == list(range(200))


def test_every_class_is_split_in_proportion() -> None:
    labels = [0] * 500 + [1] * 100 + [2] * 40
    split = split_of(items_of(labels)).splits
    shares = {
        name: np.bincount(np.array(labels)[items], minlength=3).tolist()
        for name, items in split.items()
    }
    assert shares == {
        "train": [275, 55, 22], "valid": [75, 15, 6], "select": [75, 15, 6], "test": [75, 15, 6]
    }  # fmt: skip


def test_counts_are_exact_and_the_rest_is_in_no_split() -> None:
    items = items_of([number % 7 for number in range(1000)])
    sizes = {"train": 101, "valid": 50, "select": 33, "test": 99}
    assert lengths(split_of(items, **sizes)) == sizes


def test_another_seed_gives_another_split_and_the_same_seed_the_same() -> None:
    labels = [number % 2 for number in range(100)]
    one, again, other = (split_of(items_of(labels, seed=seed)).splits for seed in (0, 0, 1))
    assert all((one[name] == again[name]).all() for name in SPLITS)
    assert (one["test"] != other["test"]).any()


def test_the_order_of_the_items_does_not_change_who_is_where() -> None:
    items = items_of([number % 2 for number in range(100)])
    order = np.random.default_rng(0).permutation(100)
    shuffled = Items(
        labels=items.labels[order], parts=items.parts, groups=items.groups,
        ranks=items.ranks[order], classes=items.classes,
    )  # fmt: skip
    one, other = split_of(items).splits, split_of(shuffled).splits
    for name in SPLITS:
        assert one[name].tolist() == sorted(order[other[name]].tolist())


def test_a_rare_class_is_in_every_split() -> None:
    labels = np.array([0] * 1000 + [1] * 5)
    split = split_of(items_of(labels.tolist())).splits
    counted = {name: int(labels[items].sum()) for name, items in split.items()}
    assert counted == {"train": 2, "valid": 1, "select": 1, "test": 1}


@pytest.mark.parametrize("seed", range(20))
def test_no_group_of_duplicates_straddles_two_splits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 300)
    groups = np.sort(rng.integers(0, 150, 300))
    groups = np.unique(groups, return_index=True)[1][np.unique(groups, return_inverse=True)[1]]
    split = split_of(items_of(labels.tolist(), groups=groups.tolist(), seed=seed)).splits
    seen = [set(groups[items].tolist()) for items in split.values()]
    assert sum(map(len, seen)) == len(set.union(*seen))
    assert sum(map(len, split.values())) == 300
    for name in ("valid", "select", "test"):
        assert len(split[name]) == 45


def test_duplicates_are_found_in_every_split_not_in_training_alone() -> None:
    groups = np.repeat(np.arange(0, 400, 2), 2)
    split = split_of(items_of([n // 2 % 2 for n in range(400)], groups=groups.tolist())).splits
    assert {name: len(items) for name, items in split.items()} == {
        "train": 220, "valid": 60, "select": 60, "test": 60
    }  # fmt: skip


def test_a_fixed_test_split_stays_and_its_copies_leave_the_pool() -> None:
    parts = [Part.POOL] * 40 + [Part.TEST] * 10
    groups = list(range(50))
    groups[40], groups[41] = 3, 4
    split = split_of(items_of([n % 2 for n in range(50)], parts=parts, groups=groups))
    assert split.splits["test"].tolist() == list(range(40, 50))
    assert split.dropped.tolist() == [3, 4]
    assert lengths(split) == {"train": 26, "valid": 6, "select": 6, "test": 10}


def test_a_fixed_valid_split_gives_way_to_test_and_the_pool_to_both() -> None:
    parts = [Part.POOL] * 40 + [Part.VALID] * 10 + [Part.TEST] * 10
    groups = list(range(60))
    groups[50] = groups[40] = 0
    groups[41] = 1
    split = split_of(items_of([n % 2 for n in range(60)], parts=parts, groups=groups))
    assert split.splits["test"].tolist() == list(range(50, 60))
    assert split.splits["valid"].tolist() == list(range(41, 50))
    assert split.dropped.tolist() == [0, 1, 40]


def test_part_of_a_fixed_test_split_can_be_asked_for() -> None:
    parts = [Part.POOL] * 40 + [Part.TEST] * 20
    items = items_of([n % 2 for n in range(60)], parts=parts)
    assert lengths(split_of(items, test=10))["test"] == 10
    assert lengths(split_of(items, test=0.5))["test"] == 10


def test_large_groups_leave_no_split_without_a_class() -> None:
    groups = [0, 0, 0, 3, 3, 3, 6, 7, *range(8, 48)]
    labels = np.array([0] * 8 + [1] * 40)
    split = split_of(items_of(labels.tolist(), groups=groups)).splits
    assert all((labels[items] == 0).any() for items in split.values())


def test_a_class_of_copies_only_is_named() -> None:
    groups = [0] * 20 + list(range(20, 60))
    with pytest.raises(DataError, match=r"counting copies once, 'class 0' has 1"):
        split_of(items_of([0] * 20 + [1] * 40, groups=groups))


def test_classes_that_are_too_small_are_named_with_their_counts_and_the_need() -> None:
    assert problems_of([0] * 40 + [1] * 4 + [2] * 3) == [
        "data: every class needs at least 5 images (2 for train, 1 for valid, 1 for select, 1 for "
        "test), but 'class 1' has 4, 'class 2' has 3; add images or remove the class"
    ]


def test_one_class_is_no_study() -> None:
    assert problems_of([0] * 40)[0] == (
        "data: there is one class only, 'class 0'; a study needs at least two"
    )


def test_a_class_missing_from_a_fixed_split_is_named() -> None:
    parts = [Part.POOL] * 20 + [Part.TEST] * 5
    assert problems_of([n % 2 for n in range(20)] + [0] * 5, parts) == [
        "data: every class needs an image for test, but 'class 1' has 0"
    ]


def test_more_than_there_is_is_refused_with_the_numbers() -> None:
    labels = [n % 2 for n in range(100)]
    assert problems_of(labels, train=90) == [
        "data: the splits ask for train 90 + valid 15 + select 15 + test 15 = 135, but 100 images "
        "are available; ask for less, or name a number for each split"
    ]
    assert problems_of(labels, test=200) == [
        "data: the splits ask for valid 15 + select 15 + test 200 and leave none for train, but "
        "100 images are available; ask for less, or name a number for each split"
    ]
    parts = [Part.POOL] * 60 + [Part.TEST] * 40
    assert problems_of(labels, parts, test=41) == [
        "data: test = 41 is more than the 40 images available"
    ]


def test_a_split_smaller_than_the_number_of_classes_is_refused() -> None:
    labels = [n % 10 for n in range(100)]
    assert problems_of(labels, test=5, valid=0.02) == [
        "data: valid gets 2 images (asked for 0.02), but 10 classes need at least 10",
        "data: test gets 5 images, but 10 classes need at least 10",
    ]


def test_largest_remainders_get_the_items_left_over() -> None:
    counts = np.array([5, 3, 2])
    zero = np.zeros(3, dtype=np.int64)
    assert allocation(counts, 4, zero, counts).tolist() == [2, 1, 1]
    assert allocation(counts, 10, zero, counts).tolist() == [5, 3, 2]


def test_an_allocation_is_exact_whenever_its_bounds_allow() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        counts = rng.integers(1, 50, rng.integers(2, 9))
        lower = np.minimum(counts, rng.integers(0, 3, len(counts)))
        upper = np.maximum(lower, counts - rng.integers(0, 4, len(counts)))
        total = int(rng.integers(lower.sum(), upper.sum() + 1))
        took = allocation(counts, total, lower, upper)
        assert took.sum() == total
        assert ((lower <= took) & (took <= upper)).all()
