"""Snippets: tables worked by hand, and what holds for every clip."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.learning import sampling
from pipeline.learning.modalities import modality_of
from pipeline.learning.sampling import snippet_indices, training_starts
from pipeline.params import load
from pipeline.stream_params import Input

SHIPPED = load(Path(__file__).parents[2] / "params.yaml")
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
        (2, 1, 3, [0, 0, 0], [1, 1, 1]),  # fewer fields than segments
        (12, 5, 3, [0, 2, 4], [1, 3, 5]),  # eight places, in shares of two
    ],
)
def test_training_starts_by_hand(count, length, segments, low, high):
    generator = rng()
    drawn = np.array([training_starts(count, length, segments, generator) for _ in range(400)])
    np.testing.assert_array_equal(drawn.min(0), low)
    np.testing.assert_array_equal(drawn.max(0), high)


def test_clips_with_fewer_places_than_segments_draw_from_all():
    generator = rng()
    drawn = np.array([training_starts(6, 5, 3, generator) for _ in range(400)])
    assert set(np.unique(drawn)) == {0, 1}
    assert (np.diff(drawn, axis=1) >= 0).all()


def authors_training(count, length, segments, generator):
    """As rgb_layer and flow_layer of TSN's Caffe, from 0; None where it takes the first alone."""
    average = count // segments
    if average < length:
        return None
    return [generator.integers(0, average - length + 1) + k * average for k in range(segments)]


def pytorch_training(count, length, segments, generator):
    """As tsn-pytorch's ``_sample_indices``; None where it takes the first alone."""
    average = (count - length + 1) // segments
    if average > 0:
        return np.arange(segments) * average + generator.integers(average, size=segments)
    if count > segments and count >= length:  # else it calls randint(0), an error
        return np.sort(generator.integers(count - length + 1, size=segments))
    return None


def pytorch_validation(count, length, segments):
    """As tsn-pytorch's ``_get_val_indices``, from 0."""
    if count > segments + length - 1:
        tick = (count - length + 1) / float(segments)
        return [int(tick / 2.0 + tick * x) for x in range(segments)]
    return None


def pytorch_testing(count, length, segments):
    """As tsn-pytorch's ``_get_test_indices``, from 0; negative for clips shorter than a snippet."""
    tick = (count - length + 1) / float(segments)
    return [int(tick / 2.0 + tick * x) for x in range(segments)]


def test_equal_to_the_authors_code():
    """On 10,000 clips: Caffe's draws where it has any, else PyTorch's, which tests alike."""
    generator, seen = rng(5), {"caffe": 0, "pytorch": 0, "neither": 0}
    for seed in range(10_000):
        count, segments, length = (int(generator.integers(1, top)) for top in (301, 26, 13))
        ours = training_starts(count, length, segments, rng(seed))
        caffe = authors_training(count, length, segments, rng(seed))
        pytorch = pytorch_training(count, length, segments, rng(seed))
        expected = pytorch if caffe is None else caffe
        seen["caffe" if caffe is not None else "neither" if pytorch is None else "pytorch"] += 1
        if expected is not None:
            np.testing.assert_array_equal(ours, expected)
        ours = sampling.testing_starts(count, length, segments)
        if count >= length:
            np.testing.assert_array_equal(ours, pytorch_testing(count, length, segments))
        if (expected := pytorch_validation(count, length, segments)) is not None:
            np.testing.assert_array_equal(ours, expected)
    assert min(seen.values()) > 100


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
    ("start", "length", "stride", "count", "expected"),
    [
        (2, 3, 1, 10, [2, 3, 4]),
        (0, 5, 1, 3, [0, 1, 2, 2, 2]),
        (0, 3, 1, 1, [0, 0, 0]),
        (9, 1, 1, 10, [9]),
        (9, 1, 4, 10, [9]),
        (1, 4, 3, 11, [1, 4, 7, 10]),
        (0, 4, 3, 9, [0, 3, 6, 8]),
        (0, 4, 3, 5, [0, 3, 4, 4]),
    ],
)
def test_a_short_clip_repeats_its_last_field(start, length, stride, count, expected):
    np.testing.assert_array_equal(snippet_indices(start, length, stride, count), expected)


@pytest.mark.parametrize(
    ("kind", "source", "length", "stride", "pictures"),
    [
        ("stack", "frames", 1, 1, 1),
        ("difference", "frames", 5, 1, 6),
        ("stack", "flow", 1, 1, 1),
        ("stack", "flow", 1, 5, 1),
        ("stack", "flow", 10, 1, 10),
        ("stack", "warped_flow", 4, 3, 10),  # 0 3 6 9
        ("trajectory", "flow", 10, 1, 10),
        ("bidirectional", "bidirectional_flow", 2, 1, 2),
        ("bidirectional", "bidirectional_flow", 10, 1, 10),
        ("bidirectional", "bidirectional_flow", 6, 3, 14),  # backward 6 3 0, forward 7 10 13
    ],
)
def test_span_by_hand(kind, source, length, stride, pictures):
    seen = Input(length=length, kind=kind, stride=stride, subtract_mean=False, crop=32)
    stream = replace(SHIPPED.streams["temporal"], source=source, input=seen)
    assert modality_of(stream, (0.0,) * 3).span == pictures


# N frames have fields 0 to N-2; backward field j goes from frame j+1 to frame j.
@pytest.mark.parametrize(
    ("tau", "length", "stride", "count", "forward", "backward"),
    [
        (5, 10, 1, 10, [5, 6, 7, 8, 9], [4, 3, 2, 1, 0]),
        (5, 2, 1, 10, [5], [4]),
        (7, 6, 3, 14, [7, 10, 13], [6, 3, 0]),
        (2, 6, 1, 10, [2, 3, 4], [1, 0, 0]),  # before the start
        (8, 6, 1, 10, [8, 9, 9], [7, 6, 5]),  # past the end
        (0, 4, 1, 5, [0, 1], [0, 0]),  # the first frame has no field to one before
        (5, 4, 1, 5, [4, 4], [4, 3]),  # the last frame, none to one behind
        (0, 4, 1, 1, [0, 0], [0, 0]),
        (3, 6, 4, 8, [3, 7, 7], [2, 0, 0]),
    ],
)
def test_bidirectional_indices_by_hand(tau, length, stride, count, forward, backward):
    found = sampling.bidirectional_indices(tau, length, stride, count)
    np.testing.assert_array_equal(found[0], forward)
    np.testing.assert_array_equal(found[1], backward)


@pytest.mark.parametrize(
    ("start", "span", "count", "tau"),
    [
        (0, 10, 10, 5),  # of frames 0 to 10: five fields before it, five behind
        (3, 10, 20, 8),
        (10, 10, 20, 15),
        (0, 10, 9, 5),  # ten frames: a clip shorter than the snippet
        (0, 10, 4, 2),
        (0, 10, 1, 1),
        (0, 2, 1, 1),
    ],
)
def test_middle_frame_by_hand(start, span, count, tau):
    assert sampling.middle_frame(start, span, count) == tau


@pytest.mark.parametrize(
    ("span", "count", "starts"),
    [
        (10, 12, [0, 1, 2]),  # ten fields in twelve: three places
        (10, 10, [0, 0, 0]),
        (10, 9, [0, 0, 0]),
        (14, 16, [0, 1, 2]),
        (6, 6, [0, 0, 0]),
        (6, 5, [0, 0, 0]),
    ],
)
def test_starts_leave_room_for_the_span_by_hand(span, count, starts):
    np.testing.assert_array_equal(sampling.testing_starts(count, span, 3), starts)
    generator = rng()
    drawn = {int(training_starts(count, span, 1, generator)[0]) for _ in range(100)}
    assert drawn == set(starts)


@quick
@given(
    count=st.integers(1, 60), half=st.integers(1, 5), stride=st.integers(1, 4),
    snippets=st.integers(1, 9),
)  # fmt: skip
def test_bidirectional_snippets_lie_around_their_frame(count, half, stride, snippets):
    length, span = 2 * half, 2 * sampling.span(half, stride)
    for starts in (training_starts(count, span, snippets, rng()),
                   sampling.testing_starts(count, span, snippets)):  # fmt: skip
        for start in starts:
            tau = sampling.middle_frame(int(start), span, count)
            assert 0 <= tau <= count
            forward, backward = sampling.bidirectional_indices(tau, length, stride, count)
            seen = np.concatenate([forward, backward])
            assert seen.shape == (length,) and seen.dtype == np.int64
            assert seen.min() >= 0 and seen.max() < count
            if count >= span:  # nothing is repeated
                np.testing.assert_array_equal(forward, tau + stride * np.arange(half))
                np.testing.assert_array_equal(backward, tau - 1 - stride * np.arange(half))
                assert seen.min() == start and seen.max() == start + span - 1


@quick
@given(**CLIP, stride=st.integers(1, 5), seed=st.integers(0, 9))
def test_every_snippet_lies_in_the_clip(count, length, wanted, stride, seed):
    span = sampling.span(length, stride)
    for starts in (training_starts(count, span, wanted, rng(seed)),
                   sampling.testing_starts(count, span, wanted)):  # fmt: skip
        for start in starts:
            seen = snippet_indices(int(start), length, stride, count)
            assert len(seen) == length and seen[0] == start and seen[-1] <= count - 1
            if count >= span:
                assert (np.diff(seen) == stride).all()
