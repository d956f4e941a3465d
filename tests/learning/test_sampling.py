"""Snippets: tables worked by hand, and what holds for every clip."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.learning import sampling
from pipeline.learning.sampling import snippet_indices, training_starts

CLIP = {"count": st.integers(1, 200), "length": st.integers(1, 12), "wanted": st.integers(1, 30)}
quick = settings(max_examples=50, deadline=None)


def rng(seed=0):
    return np.random.default_rng(seed)


# count, length, segments: the first and the last start that each segment allows
@pytest.mark.parametrize(
    ("count", "length", "segments", "low", "high"),
    [
        (30, 1, 3, [0, 10, 20], [9, 19, 29]),
        (30, 10, 3, [0, 10, 20], [0, 10, 20]),
        (31, 5, 3, [0, 10, 20], [5, 15, 25]),  # the odd field at the end is never drawn
        (30, 10, 1, [0], [20]),
        (10, 10, 1, [0], [0]),
        (4, 10, 1, [0], [0]),  # shorter than a snippet
        (4, 10, 3, [0, 0, 0], [0, 0, 0]),
    ],
)
def test_training_starts_by_hand(count, length, segments, low, high):
    generator = rng()
    drawn = np.array([training_starts(count, length, segments, generator) for _ in range(400)])
    np.testing.assert_array_equal(drawn.min(0), low)
    np.testing.assert_array_equal(drawn.max(0), high)


def test_segments_too_short_for_a_snippet_draw_from_the_whole_clip():
    generator = rng()
    drawn = np.array([training_starts(12, 5, 3, generator) for _ in range(400)])
    assert drawn.min() == 0 and drawn.max() == 7
    assert set(np.unique(drawn)) == set(range(8))
    assert (np.diff(drawn, axis=1) >= 0).all()


def test_training_starts_are_uniform():
    generator = rng()
    drawn = np.array([training_starts(30, 6, 3, generator) for _ in range(4000)])
    for segment in range(3):
        times = np.bincount(drawn[:, segment] - 10 * segment, minlength=5)
        assert len(times) == 5
        np.testing.assert_allclose(times / 4000, 0.2, atol=0.03)


@quick
@given(**CLIP, seed=st.integers(0, 9))
def test_training_starts_are_sorted_in_range_and_in_their_segments(count, length, wanted, seed):
    starts = training_starts(count, length, wanted, rng(seed))
    assert starts.shape == (wanted,) and starts.dtype == np.int64
    assert (np.diff(starts) >= 0).all()
    assert starts[0] >= 0 and starts[-1] <= max(count - length, 0)
    share = count // wanted
    if share >= length:
        first = np.arange(wanted) * share
        assert (starts >= first).all() and (starts + length <= first + share).all()
    np.testing.assert_array_equal(starts, training_starts(count, length, wanted, rng(seed)))


@pytest.mark.parametrize(
    ("count", "length", "snippets", "expected"),
    [
        (10, 1, 5, [1, 3, 5, 7, 9]),
        (10, 1, 1, [5]),
        (10, 1, 10, list(range(10))),
        (14, 10, 5, [0, 1, 2, 3, 4]),
        (29, 10, 4, [2, 7, 12, 17]),
        (30, 10, 4, [2, 7, 13, 18]),  # 21 places: 2.625, 7.875, 13.125, 18.375
        (3, 1, 6, [0, 0, 1, 1, 2, 2]),
        (4, 10, 3, [0, 0, 0]),
    ],
)
def test_testing_starts_by_hand(count, length, snippets, expected):
    np.testing.assert_array_equal(sampling.testing_starts(count, length, snippets), expected)


@quick
@given(**CLIP)
def test_testing_starts_are_equally_spaced_and_in_range(count, length, wanted):
    starts = sampling.testing_starts(count, length, wanted)
    places = max(count - length + 1, 1)
    assert starts.shape == (wanted,) and starts.dtype == np.int64
    assert starts[0] >= 0 and starts[-1] <= places - 1
    steps = np.diff(starts)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1
    # As much is left before the first as behind the last, but for rounding.
    assert abs(int(starts[0]) - (places - 1 - int(starts[-1]))) <= 1


@pytest.mark.parametrize(
    ("start", "length", "count", "expected"),
    [(2, 3, 10, [2, 3, 4]), (0, 5, 3, [0, 1, 2, 2, 2]), (0, 3, 1, [0, 0, 0]), (9, 1, 10, [9])],
)
def test_a_short_clip_repeats_its_last_field(start, length, count, expected):
    np.testing.assert_array_equal(snippet_indices(start, length, count), expected)


@quick
@given(**CLIP, seed=st.integers(0, 9))
def test_every_snippet_lies_in_the_clip(count, length, wanted, seed):
    for starts in (training_starts(count, length, wanted, rng(seed)),
                   sampling.testing_starts(count, length, wanted)):  # fmt: skip
        for start in starts:
            seen = snippet_indices(int(start), length, count)
            assert len(seen) == length and seen[0] == start and seen[-1] <= count - 1
            if count >= length:
                assert (np.diff(seen) == 1).all()
