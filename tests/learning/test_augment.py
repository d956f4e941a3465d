"""Crops for training and for testing."""

from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.learning.augment import (
    box_sides,
    crop_places,
    fixed_places,
    random_box,
    scaled_frame,
)

JITTER = (0.66, 0.75, 0.875, 1.0)
quick = settings(max_examples=40, deadline=None)


def random_crop(volume, size, *how):
    return random_box(volume.shape[:2], size, *how).cut(volume, size)


def ramp(height, width):
    """Channels that hold each pixel's row and column."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.dstack([rows, columns])


def test_random_crop_is_a_box_of_the_frame_where_nothing_is_scaled():
    volume, seen = ramp(40, 60), set()
    rng = np.random.default_rng(0)
    for _ in range(800):
        crop = random_crop(volume, 35, (0.875,), "anywhere", rng)
        top, left = (int(v) for v in crop[0, 0])
        np.testing.assert_array_equal(crop, volume[top : top + 35, left : left + 35])
        seen.add((top, left))
    assert {top for top, _ in seen} == set(range(6))
    assert {left for _, left in seen} == set(range(26))


def test_box_sides_are_at_most_one_step_apart():
    volume, sides = ramp(200, 200), set()
    rng = np.random.default_rng(0)
    for _ in range(300):
        crop = random_crop(volume, 100, JITTER, "anywhere", rng).astype(int)
        # 99 steps of a resized ramp span (1 - 1/100) of the box.
        spans = [np.ptp(crop[..., axis]) / 0.99 / 200 for axis in (0, 1)]
        near = [int(np.abs(np.array(JITTER) - span).argmin()) for span in spans]
        assert all(abs(JITTER[n] - s) < 0.02 for n, s in zip(near, spans, strict=True))
        sides.add(tuple(near))
    assert sides == {(a, b) for a in range(4) for b in range(4) if abs(a - b) <= 1}


def test_pairs_of_sides_are_drawn_uniformly():
    """As in the authors' code (_sample_crop_size): of all pairs, so the outer sides are rarer."""
    sides, rng = [168, 192, 224, 256], np.random.default_rng(0)
    drawn = Counter(random_box((256, 340), 224, JITTER, "five", rng)[2:] for _ in range(4000))
    assert set(drawn) == {(h, w) for i, h in enumerate(sides) for w in sides[max(i - 1, 0) : i + 2]}
    assert len(drawn) == 10
    assert all(abs(count - 400) < 5 * np.sqrt(400) for count in drawn.values())


@quick
@given(
    st.integers(0, 9),
    st.integers(16, 50),
    st.integers(16, 50),
    st.sampled_from([3, 6, 20]),
    st.sampled_from(["anywhere", "five", "thirteen"]),
)
def test_random_crop_is_determined_by_its_generator(seed, height, width, channels, places):
    volume = np.random.default_rng(1).integers(0, 256, (height, width, channels), np.uint8)
    first, second = (
        random_crop(volume, 24, JITTER, places, np.random.default_rng(seed)) for _ in range(2)
    )
    assert first.shape == (24, 24, channels) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)


# By hand from the authors' code (fill_fix_offset, more_fix_crop), as (left, top), for boxes of
# 224 px in 340x256: steps of (340 - 224) // 4 = 29 and (256 - 224) // 4 = 8.
FIVE = [(0, 0), (116, 0), (0, 32), (116, 32), (58, 16)]
THIRTEEN = [
    *FIVE, (0, 16), (116, 16), (58, 32), (58, 0), (29, 8), (87, 8), (29, 24), (87, 24),
]  # fmt: skip


@pytest.mark.parametrize(("places", "expected"), [("five", FIVE), ("thirteen", THIRTEEN)])
def test_fixed_places_by_hand(places, expected):
    assert fixed_places(32, 116, places) == [(top, left) for left, top in expected]


def test_fixed_places_are_on_a_grid_of_whole_steps():
    """In the authors' code, the last place of a room of 7 px is 4."""
    assert fixed_places(7, 3, "five") == [(0, 0), (0, 0), (4, 0), (4, 0), (2, 0)]


@pytest.mark.parametrize(("places", "expected"), [("five", FIVE), ("thirteen", THIRTEEN)])
def test_random_crops_take_every_fixed_place_alike(places, expected):
    rows, columns = np.mgrid[:256, :340].astype(np.int16)
    volume, seen = np.dstack([rows, columns]), Counter()
    rng = np.random.default_rng(0)
    for _ in range(200 * len(expected)):
        crop = random_crop(volume, 224, (0.875,), places, rng)
        top, left = (int(v) for v in crop[0, 0])
        assert (crop == volume[top : top + 224, left : left + 224]).all()
        seen[left, top] += 1
    assert set(seen) == set(expected)
    assert all(abs(count - 200) < 5 * np.sqrt(200) for count in seen.values())


@pytest.mark.parametrize(
    ("short", "size", "shares", "expected"),
    [
        (256, 224, JITTER, [168, 192, 224, 256]),  # TSN's; 168.96 is rounded down
        (256, 224, (0.75, 0.875, 1.0), [192, 224, 256]),
        (128, 112, JITTER, [84, 96, 112, 128]),
        # 222 to 226 px become 224; 221 and 227 don't.
        (1000, 224, (0.221, 0.222, 0.226, 0.227), [221, 224, 224, 227]),
        (222, 224, (0.5, 1.0), [111, 222]),  # no room for 224
        (223, 222, (1.0,), [222]),
        (5, 224, (0.1,), [1]),
    ],
)
def test_sides_of_boxes_by_hand(short, size, shares, expected):
    assert box_sides(short, size, shares) == expected


def test_other_draws_give_other_crops():
    volume = np.random.default_rng(1).integers(0, 256, (50, 60, 3), np.uint8)
    crops = {
        random_crop(volume, 24, JITTER, "anywhere", np.random.default_rng(s)).tobytes()
        for s in range(9)
    }
    assert len(crops) == 9


@pytest.mark.parametrize(("height", "way"), [(40, cv2.INTER_LINEAR), (60, cv2.INTER_AREA)])
@pytest.mark.parametrize("channels", [1, 3, 10])
def test_all_channels_are_resized_alike(height, way, channels):
    """OpenCV averages four at a time; one by one must give the same."""
    shape = (height, height * 6 // 5, channels)
    volume = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    planes = np.ascontiguousarray(volume.transpose(2, 0, 1)).transpose(1, 2, 0)
    for stored in (volume, planes):
        found = scaled_frame(stored, 28, 0.875)
        assert found.shape == (32, 38, channels)
        for channel in range(channels):
            alone = cv2.resize(volume[..., channel], (38, 32), interpolation=way)
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
