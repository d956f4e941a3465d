"""Trajectory volumes: worked by hand, and against the formula in plain loops."""

import numpy as np
import pytest
import volumes_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.learning import sampling, volumes
from pipeline.video.store import dequantise, quantise


def constant(*vectors, height=3, width=4):
    """Make fields that are the same everywhere: (L, 2, H, W)."""
    field = np.array(vectors, float)[:, :, None, None]
    return np.ascontiguousarray(np.broadcast_to(field, (len(vectors), 2, height, width)))


def ramp(height=3, width=5):
    """Make a field whose x component is 10 times the column and whose y is the row: (2, H, W)."""
    v, u = np.mgrid[:height, :width].astype(float)
    return np.stack([10 * u, v])


def test_one_field_is_itself():
    field = np.random.default_rng(0).normal(size=(1, 2, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(volumes.trajectory_stack(field), volumes.flow_stack(field))


def test_whole_pixels_by_hand():
    """From (0, 0) by (1, 1) to (1, 1), and from there by d_2(1, 1) = (2, 0) to (3, 1)."""
    fields = constant((1, 1), (0, 0), (0, 0))
    fields[1, :, 1, 1] = 2, 0
    fields[2, :, 1, 3] = 7, 8
    volume = volumes.trajectory_stack(fields)
    np.testing.assert_array_equal(volume[0, 0], [1, 1, 2, 0, 7, 8])
    np.testing.assert_array_equal(volume[0, 1], [1, 1, 0, 0, 0, 0])  # by (2, 1), which is still


def test_between_pixels_by_hand():
    """A quarter of a pixel right and half a pixel down."""
    fields = np.stack([constant((0.25, 0.5), width=5)[0], ramp()])
    volume = volumes.trajectory_stack(fields)
    np.testing.assert_allclose(volume[1, 2, 2:], [22.5, 1.5], atol=1e-12)
    np.testing.assert_allclose(volume[0, 3, 2:], [32.5, 0.5], atol=1e-12)


def test_outside_the_frame_the_border_counts_and_points_come_back():
    """Right by 100 px and up by 7, then back by 98 and down by 7: to two columns right."""
    fields = np.stack([constant((100, -7), width=5)[0], constant((-98, 7), width=5)[0], ramp()])
    volume = volumes.trajectory_stack(fields)
    np.testing.assert_allclose(volume[1, 0], [100, -7, -98, 7, 20, 1], atol=1e-9)
    outside = np.stack([fields[0], ramp()])
    np.testing.assert_allclose(
        volumes.trajectory_stack(outside)[:, :, 2:], np.broadcast_to([40, 0], (3, 5, 2)), atol=1e-12
    )


def test_uniform_motion_is_the_plain_stack():
    fields = constant((0.3, -0.7), (1.1, 2.2), (-5, 0.01))
    np.testing.assert_allclose(
        volumes.trajectory_stack(fields), volumes.flow_stack(fields), atol=1e-12
    )


CLIPS = {
    "shape": st.tuples(st.integers(1, 7), st.integers(1, 9)),
    "count": st.integers(1, 6),
    "length": st.integers(1, 5),
    "seed": st.integers(0, 10_000),
}


@settings(max_examples=150, deadline=None)
@given(**CLIPS, size=st.sampled_from([0.2, 1.0, 3.0]), share=st.floats(0, 1))
def test_is_the_formula(shape, count, length, seed, size, share):
    fields = np.random.default_rng(seed).normal(0, size, (count, 2, *shape))
    tau = round(share * (count - 1))  # near a clip's end the last field is met again
    met = fields[sampling.snippet_indices(tau, length, 1, count)]
    expected = reference.trajectory(fields, tau, length)
    found = volumes.trajectory_stack(met)
    assert found.shape == (*shape, 2 * length) and found.dtype == np.float64
    # Neighbours differ by some px, so that each field makes a rounding error some times larger.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    # In codes: but for what lies between two of them, all are the same.
    codes, bound = quantise(found, 4.0), 4.0
    exact = 255 * (np.clip(expected, -bound, bound) + bound) / (2 * bound)
    assert np.abs(codes - exact).max() <= 0.5 + 1e-3


@settings(max_examples=40, deadline=None)
@given(**CLIPS)
def test_flipping_before_or_after_is_the_same(shape, count, length, seed):
    fields = np.random.default_rng(seed).normal(0, 1, (count, 2, *shape))
    mirrored = np.ascontiguousarray(fields[..., ::-1] * np.array([-1, 1])[:, None, None])
    before, after = volumes.trajectory_stack(mirrored), volumes.trajectory_stack(fields)[:, ::-1]
    np.testing.assert_allclose(before[..., ::2], -after[..., ::2], rtol=0, atol=1e-6)
    np.testing.assert_allclose(before[..., 1::2], after[..., 1::2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("bound", [5.0, 20.0])
def test_stored_codes_at_full_size(bound):
    """As the network gets it: within the half code that rounding may be off."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(60, 196, (10, 2, 9, 12)).astype(float)
    v, u = np.linspace(0, 7.99, 256), np.linspace(0, 10.99, 341)
    rows, columns = v.astype(int), u.astype(int)
    a, b = (v - rows)[:, None], u - columns
    upper, lower = (
        coarse[:, :, r][..., columns] * (1 - b) + coarse[:, :, r][..., columns + 1] * b
        for r in (rows, rows + 1)
    )
    codes = np.rint(upper * (1 - a) + lower * a).astype(np.uint8)
    found = quantise(volumes.trajectory_stack(dequantise(codes, bound)), bound)
    assert found.shape == (256, 341, 20)
    np.testing.assert_array_equal(found[..., :2], volumes.flow_stack(codes[:1]))
    px = (codes.astype(float) - 127.5) * (2 * bound / 255)
    for v0, u0 in ((0, 0), (255, 340), (100, 200), (7, 333)):
        x, y = float(u0), float(v0)
        for k, field in enumerate(px):
            dx, dy = (reference.between(plane, x, y) for plane in field)
            met = np.array([dx, dy]) * 255 / (2 * bound) + 127.5
            assert np.abs(found[v0, u0, 2 * k : 2 * k + 2] - met).max() <= 0.5005
            x, y = x + dx, y + dy
