from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.splits import assign_subsets


def alone(n):
    return [[f"group {i}"] for i in range(n)]


@pytest.mark.parametrize(
    ("clips", "test", "val", "expected"),
    [
        (10, 0.3, 0.0, {"train": 7, "test": 3}),
        (10, 0.3, 0.2, {"train": 5, "test": 3, "val": 2}),
        (100, 0.25, 0.1, {"train": 65, "test": 25, "val": 10}),
        (5, 0.0, 0.0, {"train": 5}),
        (1, 0.3, 0.1, {"train": 1}),
        (2, 0.3, 0.1, {"train": 1, "test": 1}),
        (3, 0.1, 0.1, {"train": 1, "test": 1, "val": 1}),
        (4, 0.1, 0.0, {"train": 3, "test": 1}),
        (1, 0.9, 0.0, {"train": 1}),
    ],
)
@pytest.mark.parametrize("seed", [0, 7])
def test_counts_of_one_class_worked_by_hand(clips, test, val, expected, seed):
    assert Counter(assign_subsets([0] * clips, alone(clips), test, val, seed)) == expected


def test_every_class_comes_close_to_the_fractions():
    labels = [label for label in range(6) for _ in range(20)]
    subsets = assign_subsets(labels, alone(120), 0.3, 0.1, 3)
    for label in range(6):
        count = Counter(s for s, own in zip(subsets, labels, strict=True) if own == label)
        assert count == {"train": 12, "test": 6, "val": 2}


def test_groups_over_all_classes():
    # 25 groups as in UCF101, each with two clips of each of five classes
    labels = [label for label in range(5) for group in range(25) for _ in range(2)]
    keys = [[f"group {group}"] for label in range(5) for group in range(25) for _ in range(2)]
    subsets = assign_subsets(labels, keys, 0.28, 0.12, 1)
    sides = {(key, subset) for (key,), subset in zip(keys, subsets, strict=True)}
    assert Counter(subset for _, subset in sides) == {"train": 15, "test": 7, "val": 3}


def test_a_class_short_of_groups_is_given_a_clip_to_train_on_first():
    # Class 1 stands in one group alone, and that is in class 0's way nowhere.
    subsets = assign_subsets([0] * 8 + [1], alone(9), 0.5, 0.0, 0)
    assert subsets[8] == "train"
    assert Counter(subsets[:8]) == {"train": 4, "test": 4}


def test_the_smallest_group_is_moved_where_one_side_has_none():
    # 6 + 3 + 1 clips, 1 % for the test: the shares alone would leave it empty.
    keys = [["a"]] * 6 + [["b"]] * 3 + [["c"]]
    assert assign_subsets([0] * 10, keys, 0.01, 0.0, 0) == ["train"] * 9 + ["test"]


def test_seeds_give_different_splits():
    splits = {tuple(assign_subsets([0] * 20, alone(20), 0.3, 0.0, seed)) for seed in range(10)}
    assert len(splits) > 5


def test_groups_that_share_content_are_drawn_alike_in_any_order():
    keys = [["group a", "sha256 0"], ["group b", "sha256 0"]] + alone(8)
    for seed in range(10):
        subsets = assign_subsets([0] * 10, keys, 0.3, 0.0, seed)
        assert subsets[0] == subsets[1]
        assert assign_subsets([0] * 10, keys[::-1], 0.3, 0.0, seed) == subsets[::-1]


clips = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 11), st.integers(0, 200)), min_size=1, max_size=60
)


@settings(max_examples=60, deadline=None)
@given(clips=clips, seed=st.integers(0, 3), order=st.randoms(use_true_random=False))
def test_no_group_and_no_content_on_two_sides_in_any_order(clips, seed, order):
    labels = [label for label, _, _ in clips]
    keys = [[f"group {group}", f"sha256 {content}"] for _, group, content in clips]
    subsets = assign_subsets(labels, keys, 0.3, 0.1, seed)
    assert set(subsets) <= {"train", "test", "val"}
    side = {}
    for own, subset in zip(keys, subsets, strict=True):
        for key in own:
            assert side.setdefault(key, subset) == subset

    shuffled = list(range(len(clips)))
    order.shuffle(shuffled)
    again = assign_subsets(
        [labels[i] for i in shuffled], [keys[i] for i in shuffled], 0.3, 0.1, seed
    )
    assert again == [subsets[i] for i in shuffled]


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=40),
    test=st.sampled_from([0.1, 0.3, 0.5]),
    seed=st.integers(0, 3),
)
def test_fractions_are_met_within_a_group_and_every_class_has_both_sides(groups, test, seed):
    labels = [label for label, size in groups for _ in range(size)]
    keys = [[f"group {i}"] for i, (_, size) in enumerate(groups) for _ in range(size)]
    subsets = assign_subsets(labels, keys, test, 0.0, seed)
    for label in set(labels):
        own = [s for s, other in zip(subsets, labels, strict=True) if other == label]
        sizes = [size for other, size in groups if other == label]
        if len(sizes) == 1:
            assert set(own) == {"train"}
            continue
        assert set(own) == {"train", "test"}
        assert abs(own.count("test") - test * len(own)) <= max(sizes)
