"""Crops for training and for testing."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.learning.augment import crop_places, random_crop, scaled_frame

JITTER = (0.66, 0.75, 0.875, 1.0)
quick = settings(max_examples=40, deadline=None)


def ramp(height, width):
    """Channels that hold each pixel's row and column."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.dstack([rows, columns])


def test_random_crop_is_a_box_of_the_frame_where_nothing_is_scaled():
    volume, seen = ramp(40, 60), set()
    rng = np.random.default_rng(0)
    for _ in range(800):
        crop = random_crop(volume, 35, (0.875,), rng)
        top, left = (int(v) for v in crop[0, 0])
        np.testing.assert_array_equal(crop, volume[top : top + 35, left : left + 35])
        seen.add((top, left))
    assert {top for top, _ in seen} == set(range(6))
    assert {left for _, left in seen} == set(range(26))


def test_box_sides_are_at_most_one_step_apart():
    volume, sides = ramp(200, 200), set()
    rng = np.random.default_rng(0)
    for _ in range(300):
        crop = random_crop(volume, 100, JITTER, rng).astype(int)
        # 99 steps of a resized ramp span (1 - 1/100) of the box.
        spans = [np.ptp(crop[..., axis]) / 0.99 / 200 for axis in (0, 1)]
        near = [int(np.abs(np.array(JITTER) - span).argmin()) for span in spans]
        assert all(abs(JITTER[n] - s) < 0.02 for n, s in zip(near, spans, strict=True))
        sides.add(tuple(near))
    assert sides == {(a, b) for a in range(4) for b in range(4) if abs(a - b) <= 1}


@quick
@given(st.integers(0, 9), st.integers(16, 50), st.integers(16, 50), st.sampled_from([3, 6, 20]))
def test_random_crop_is_determined_by_its_generator(seed, height, width, channels):
    volume = np.random.default_rng(1).integers(0, 256, (height, width, channels), np.uint8)
    first, second = (random_crop(volume, 24, JITTER, np.random.default_rng(seed)) for _ in range(2))
    assert first.shape == (24, 24, channels) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)


def test_other_draws_give_other_crops():
    volume = np.random.default_rng(1).integers(0, 256, (50, 60, 3), np.uint8)
    crops = {random_crop(volume, 24, JITTER, np.random.default_rng(s)).tobytes() for s in range(9)}
    assert len(crops) == 9


def test_all_channels_are_resized_alike():
    """OpenCV takes four at a time; one by one must give the same."""
    volume = np.random.default_rng(0).integers(0, 256, (40, 48, 10), np.uint8)
    found = scaled_frame(volume, 28, 0.875)
    assert found.shape == (32, 38, 10)
    for channel in range(10):
        alone = cv2.resize(volume[..., channel], (38, 32), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(found[..., channel], alone)


@pytest.mark.parametrize(
    ("shape", "size", "ratio", "expected"),
    [
        ((256, 340), 224, 0.875, (256, 340)),
        ((340, 256), 224, 0.875, (340, 256)),
        ((128, 170), 112, 0.875, (128, 170)),
        ((128, 170), 112, 1.0, (112, 149)),
        ((64, 64), 112, 0.875, (128, 128)),
        ((100, 333), 112, 1.0, (112, 373)),
    ],
)
def test_scaled_frame_sizes(shape, size, ratio, expected):
    assert scaled_frame(np.zeros((*shape, 2), np.uint8), size, ratio).shape == (*expected, 2)


@quick
@given(st.integers(16, 90), st.integers(16, 90), st.integers(8, 40), st.floats(0.5, 1))
def test_every_crop_fits_into_the_scaled_frame(height, width, size, ratio):
    found = scaled_frame(np.zeros((height, width, 3), np.uint8), size, ratio)
    for top, left, _ in crop_places(*found.shape[:2], size, 10):
        assert 0 <= top <= found.shape[0] - size and 0 <= left <= found.shape[1] - size


CORNERS = [(0, 0), (0, 116), (32, 0), (32, 116)]


@pytest.mark.parametrize(
    ("crops", "expected"),
    [
        (1, [(16, 58, False)]),
        (2, [(16, 58, False), (16, 58, True)]),
        (5, [(*at, False) for at in [*CORNERS, (16, 58)]]),
        (10, [(*at, flipped) for flipped in (False, True) for at in [*CORNERS, (16, 58)]]),
    ],
)
def test_crop_places(crops, expected):
    assert crop_places(256, 340, 224, crops) == expected
