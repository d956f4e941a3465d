"""Input volumes against their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.learning import volumes
from pipeline.video.store import dequantise

quick = settings(max_examples=40, deadline=None)
VOLUMES = arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 6), st.sampled_from([2, 6])))


def codes(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_channels_go_x1_y1_x2_y2():
    fields = codes(3, 2, 4, 5)
    stacked = volumes.flow_stack(fields)
    assert stacked.shape == (4, 5, 6) and stacked.dtype == np.uint8
    assert stacked.flags.c_contiguous
    for field in range(3):
        for axis in range(2):  # x, then y
            np.testing.assert_array_equal(stacked[..., 2 * field + axis], fields[field, axis])


@quick
@given(VOLUMES, st.sampled_from([1.0, 15.0, 20.0]))
def test_flip_negates_x_exactly(volume, bound):
    found = dequantise(volumes.flip(volume, flow=True), bound)
    mirrored = dequantise(volume, bound)[:, ::-1]
    np.testing.assert_array_equal(found[..., ::2], -mirrored[..., ::2])
    np.testing.assert_array_equal(found[..., 1::2], mirrored[..., 1::2])


@quick
@given(VOLUMES, st.booleans())
def test_flipping_twice_changes_nothing_and_once_leaves_the_input(volume, flow):
    before = volume.copy()
    twice = volumes.flip(volumes.flip(volume, flow=flow), flow=flow)
    np.testing.assert_array_equal(twice, before)
    np.testing.assert_array_equal(volume, before)


def test_flip_of_frames_only_mirrors():
    frame = codes(3, 4, 3)
    np.testing.assert_array_equal(volumes.flip(frame, flow=False), frame[:, ::-1])


@quick
@given(VOLUMES)
def test_means_of_the_mirrored_field(volume):
    means = volumes.field_means(volume)
    assert means.shape == (volume.shape[2],) and means.dtype == np.float32
    expected = [volume[..., c].astype(float).mean() for c in range(volume.shape[2])]
    np.testing.assert_allclose(means, expected, rtol=1e-6)
    np.testing.assert_allclose(
        volumes.flip_means(means),
        volumes.field_means(volumes.flip(volume, flow=True)),
        rtol=1e-6,
        atol=2e-5,
    )
    np.testing.assert_array_equal(means, volumes.field_means(volume))


def test_field_means_are_right_where_float32_sums_are_not():
    volume = np.full((600, 600, 2), 255, np.uint8)
    volume[0, 0] = 254
    expected = 255 - 1 / 360_000
    np.testing.assert_array_equal(volumes.field_means(volume), np.float32([expected] * 2))


@pytest.mark.parametrize(("channels", "flow"), [(3, False), (2, True), (20, True)])
def test_normalise_is_the_formula(channels, flow):
    std = (58.395, 57.12, 57.375)
    volume = codes(2, 5, 4, channels)
    offsets = np.random.default_rng(1).uniform(0, 255, (2, channels)).astype(np.float32)
    found = volumes.normalise(torch.from_numpy(volume), torch.from_numpy(offsets), std)
    assert found.shape == (2, channels, 5, 4) and found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    for channel in range(channels):
        divisor = sum(std) / 3 if flow else std[channel]
        moved = volume[..., channel].astype(float) - offsets[:, channel, None, None].astype(float)
        np.testing.assert_allclose(found[:, channel].numpy(), moved / divisor, rtol=1e-5, atol=1e-6)


def test_normalised_flow_flips_its_sign():
    volume = codes(1, 4, 6, 4)
    means = volumes.field_means(volume[0])
    flipped = volumes.flip(volume[0], flow=True)
    plain, mirrored = (
        volumes.normalise(torch.from_numpy(v)[None], torch.from_numpy(m)[None], (50.0,) * 3)
        for v, m in ((volume[0], means), (flipped, volumes.flip_means(means)))
    )
    expected = plain.flip(3) * torch.tensor([-1.0, 1.0, -1.0, 1.0])[:, None, None]
    torch.testing.assert_close(mirrored, expected, rtol=0, atol=1e-5)
