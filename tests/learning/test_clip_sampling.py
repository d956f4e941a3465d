"""ST-ResNet's frames, fields and boxes: tables worked by hand, and what holds for every clip."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.learning.clip_sampling import (
    batch_stride,
    corner_box,
    fields_around,
    testing_frames,
    training_frames,
)

testing_frames.__test__ = False  # its name looks like a test's
CLIP = {
    "count": st.integers(2, 300),
    "frames": st.integers(1, 25),
    "stride": st.integers(1, 20),
    "length": st.integers(1, 12),
}
quick = settings(max_examples=100, deadline=None)


def rng(seed=0):
    return np.random.default_rng(seed)


# N, T, tau, L: the earliest run and the latest
@pytest.mark.parametrize(
    ("count", "frames", "stride", "length", "low", "high"),
    [
        (100, 5, 10, 10, [5, 15, 25, 35, 45], [45, 55, 65, 75, 85]),  # nine of them up to 94
        (101, 5, 10, 10, [5, 15, 25, 35, 45], [55, 65, 75, 85, 95]),
        (20, 5, 2, 10, [5, 7, 9, 11, 13], [5, 7, 9, 11, 13]),
        (19, 5, 2, 10, [5, 7, 9, 11, 13], [5, 7, 9, 11, 13]),
        (18, 5, 2, 10, [5, 7, 9, 10, 12], [5, 7, 9, 10, 12]),  # 5, 6.75, 8.5, 10.25, 12
        (18, 4, 2, 10, [5, 7, 9, 11], [5, 7, 9, 11]),
        (12, 5, 15, 10, [5, 5, 6, 6, 6], [5, 5, 6, 6, 6]),  # 5, 5.25, 5.5, 5.75, 6
        (11, 5, 1, 10, [5] * 5, [5] * 5),  # ten fields: frame 5 alone has all
        (10, 5, 1, 10, [4] * 5, [4] * 5),  # none has
        (2, 3, 1, 10, [0] * 3, [0] * 3),
        (4, 3, 1, 2, [1, 2, 2], [1, 2, 2]),  # 1, 1.5, 2
        (6, 3, 1, 2, [1, 2, 3], [2, 3, 4]),
        (6, 3, 1, 1, [0, 1, 2], [2, 3, 4]),  # frame 5, the last, has no field
        (100, 1, 15, 10, [5], [80]),
    ],
)
def test_training_frames_by_hand(count, frames, stride, length, low, high):
    generator = rng()
    drawn = np.array(
        [training_frames(count, frames, stride, length, generator) for _ in range(200)]
    )
    np.testing.assert_array_equal(drawn.min(0), low)
    np.testing.assert_array_equal(drawn.max(0), high)


def test_every_run_is_as_likely():
    generator = rng()
    starts = [training_frames(100, 5, 10, 10, generator)[0] for _ in range(4000)]
    values, times = np.unique(starts, return_counts=True)
    assert values.tolist() == [5, 15, 25, 35, 45]
    np.testing.assert_allclose(times / 4000, 0.2, atol=0.03)


@quick
@given(**CLIP, seed=st.integers(0, 9))
def test_training_frames_are_a_run_that_has_its_fields(count, frames, stride, length, seed):
    drawn = training_frames(count, frames, stride, length, rng(seed))
    assert drawn.shape == (frames,) and drawn.dtype == np.int64
    assert drawn.min() >= 0 and drawn.max() <= count - 1
    steps = np.diff(drawn)
    assert (steps >= 0).all()
    # The authors' range, counted from 1 as they do, but for odd L.
    allowed = [*range(length // 2 + 1, count - (length - length // 2) + 1, stride)]
    if len(allowed) >= frames:
        assert (steps == stride).all()
        assert set(drawn + 1) <= set(allowed)
    else:
        assert len(steps) == 0 or steps.max() - steps.min() <= 1  # evenly
        assert len(steps) == 0 or steps.max() <= stride
    if count > length:
        around = drawn[:, None] + np.arange(length) - length // 2
        np.testing.assert_array_equal(fields_around(drawn, length, count), around)
    np.testing.assert_array_equal(drawn, training_frames(count, frames, stride, length, rng(seed)))


@pytest.mark.parametrize(
    ("count", "frames", "stride", "length", "expected"),
    [
        (100, 5, 0, 10, [5, 27, 50, 72, 94]),  # 5, 27.25, 49.5, 71.75, 94
        (100, 1, 0, 10, [49]),
        (12, 5, 0, 10, [5, 5, 6, 6, 6]),
        (10, 3, 0, 10, [4, 4, 4]),
        (100, 3, 20, 10, [25, 45, 65]),  # of 5, 25, 45, 65, 85
        (100, 4, 20, 10, [5, 25, 45, 65]),
        (100, 5, 20, 10, [5, 25, 45, 65, 85]),
        (400, 25, 15, 10, [*range(5, 366, 15)]),  # of 26
        (30, 8, 8, 10, [5, 13, 21, 8, 16, 24, 5, 12]),  # passes of 8, 8 and 7
        (30, 4, 8, 10, [5, 13, 21, 24]),
        (20, 6, 15, 10, [5, 14, 5, 14, 5, 14]),
        (13, 9, 2, 10, [5, 7, 5, 7, 5, 6, 7, 6, 7]),  # passes of 2, 2, 1 and 1
        (11, 4, 15, 10, [5, 5, 5, 5]),
        (3, 3, 15, 10, [1, 1, 1]),
    ],
)
def test_testing_frames_by_hand(count, frames, stride, length, expected):
    np.testing.assert_array_equal(testing_frames(count, frames, stride, length), expected)


@quick
@given(**CLIP)
def test_testing_frames_that_are_evenly_spaced(count, frames, stride, length):
    found = testing_frames(count, frames, 0, length)
    assert found.shape == (frames,) and found.dtype == np.int64
    steps = np.diff(found)
    assert len(steps) == 0 or (steps.min() >= 0 and steps.max() - steps.min() <= 1)
    first, last = length // 2, count - 1 - (length - length // 2)
    if first <= last and frames > 1:
        assert found[0] == first and found[-1] == last


@quick
@given(**CLIP)
def test_testing_frames_that_are_strided(count, frames, stride, length):
    found = testing_frames(count, frames, stride, length)
    assert found.shape == (frames,) and found.dtype == np.int64
    first, last = length // 2, count - 1 - (length - length // 2)
    if first > last:
        assert set(found) == {(count - 1) // 2}
        return
    assert found.min() >= first and found.max() <= last
    fit = (last - first) // stride + 1
    assert (np.diff(found[: min(fit, frames)]) == stride).all()
    if fit >= frames:
        before, after = (found[0] - first) // stride, (last - found[-1]) // stride
        assert after - before in (0, 1)  # the middle
    else:
        assert found[0] == first
        # Time goes back between passes alone, and a step within one is none longer.
        assert np.diff(found).max(initial=0) <= max(stride, last - first)


@pytest.mark.parametrize(
    ("frame", "length", "count", "expected"),
    [
        (5, 10, 11, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (6, 10, 30, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (24, 10, 30, [19, 20, 21, 22, 23, 24, 25, 26, 27, 28]),  # the last field is 28
        (4, 10, 10, [0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (1, 4, 3, [0, 0, 1, 1]),
        (0, 4, 2, [0, 0, 0, 0]),
        (3, 1, 9, [3]),
    ],
)
def test_fields_around_by_hand(frame, length, count, expected):
    found = fields_around(np.array([frame, frame]), length, count)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, [expected, expected])


@quick
@given(**CLIP)
def test_every_field_is_one_of_the_clip(count, frames, stride, length):
    for chosen in (training_frames(count, frames, stride, length, rng()),
                   testing_frames(count, frames, 0, length),
                   testing_frames(count, frames, stride, length)):  # fmt: skip
        fields = fields_around(chosen, length, count)
        assert fields.shape == (frames, length)
        assert fields.min() >= 0 and fields.max() <= count - 2
        assert set(np.diff(fields, axis=1).ravel()) <= {0, 1}


def test_a_batch_shares_its_stride():
    drawn = np.array([
        [batch_stride(5, 15, seed=3, epoch=epoch, position=position, batch=4)
         for position in range(400)]
        for epoch in range(5)
    ])  # fmt: skip
    of_batches = drawn.reshape(5, 100, 4)
    assert (of_batches == of_batches[..., :1]).all()
    times = np.bincount(of_batches[..., 0].ravel(), minlength=16)[5:]
    assert times.sum() == 500 and times.min() > 20  # 45 each on average
    assert (drawn[0] != drawn[1]).any()
    others = [batch_stride(5, 15, seed=4, epoch=0, position=p, batch=4) for p in range(400)]
    assert (drawn[0] != others).any()
    assert batch_stride(7, 7, seed=0, epoch=0, position=9, batch=4) == 7


def test_strides_are_not_a_clips_own_draws():
    own = [np.random.default_rng((0, 0, n)).integers(1, 16) for n in range(50)]
    assert own != [batch_stride(1, 15, seed=0, epoch=0, position=n, batch=1) for n in range(50)]


def test_boxes_lie_at_twenty_places_near_either_corner():
    generator, seen = rng(), []
    for _ in range(4000):
        top, left, height, width = corner_box(900, 1000, 224, generator)
        assert 168 <= height <= 280 and 168 <= width <= 280
        near = []  # shares of the room in 76ths: a quarter is 19
        for offset, room in ((top, 900 - height), (left, 1000 - width)):
            near += [place for place in range(77) if room * place // 76 == offset]
        seen.append(near)
    seen = np.array(seen)
    for far in (False, True):
        places = seen[(seen[:, 0] > 38) == far]
        assert 0.47 < len(places) / 4000 < 0.53
        for axis in (0, 1):
            times = np.bincount(places[:, axis], minlength=77)
            assert set(times.nonzero()[0]) == set(range(57, 77) if far else range(20))
            assert times[times > 0].min() > 60  # 100 each on average
        assert abs(np.corrcoef(places.T)[0, 1]) < 0.06


def test_box_sides_are_drawn_apart_and_uniformly():
    generator = rng()
    sides = np.array([corner_box(1000, 1000, 224, generator)[2:] for _ in range(4000)]) / 224
    assert sides.min() > 0.745 and sides.max() < 1.255
    np.testing.assert_allclose(sides.mean(0), 1, atol=0.01)
    np.testing.assert_allclose(sides.std(0), 0.5 / 12**0.5, atol=0.01)
    assert abs(np.corrcoef(sides.T)[0, 1]) < 0.06


@quick
@given(
    height=st.integers(1, 400), width=st.integers(1, 400), size=st.integers(1, 300),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_every_box_lies_in_the_frame(height, width, size, seed):
    box = corner_box(height, width, size, rng(seed))
    assert all(type(value) is int for value in box)
    top, left, tall, wide = box
    assert 0 <= top <= top + tall <= height and 0 <= left <= left + wide <= width
    for side, limit in ((tall, height), (wide, width)):
        assert 1 <= side <= limit
        assert side >= min(round(0.75 * size), limit) and side <= max(round(1.25 * size), 1)
    before = (top <= (height - tall) / 4) and (left <= (width - wide) / 4)
    behind = (top >= int(0.75 * (height - tall))) and (left >= int(0.75 * (width - wide)))
    assert before or behind
    assert box == corner_box(height, width, size, rng(seed))
