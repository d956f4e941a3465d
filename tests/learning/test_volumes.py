"""Input volumes against their definitions."""

import numpy as np
import pytest
import torch
import volumes_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.learning import sampling, volumes
from pipeline.video.store import dequantise

quick = settings(max_examples=40, deadline=None)
FIELDS = arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(2), *[st.integers(1, 6)] * 2))
VOLUMES = arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 6), st.sampled_from([2, 6])))


def codes(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_channels_go_x1_y1_x2_y2():
    fields = codes(3, 2, 4, 5)
    stacked = volumes.flow_stack(fields)
    assert stacked.shape == (4, 5, 6) and stacked.dtype == np.uint8
    for field in range(3):
        for axis in range(2):  # x, then y
            np.testing.assert_array_equal(stacked[..., 2 * field + axis], fields[field, axis])


CLIPS = {
    "shape": st.tuples(st.integers(1, 5), st.integers(1, 6)),
    "count": st.integers(1, 12),
    "stride": st.integers(1, 3),
    "seed": st.integers(0, 10_000),
    "share": st.floats(0, 1),
}


@settings(max_examples=100, deadline=None)
@given(**CLIPS, length=st.integers(1, 6))
def test_stacks_are_the_formula(shape, count, length, stride, seed, share):
    fields, tau = codes(count, 2, *shape, seed=seed), round(share * (count - 1))
    chosen = fields[sampling.snippet_indices(tau, length, stride, count)]
    expected = reference.stack(fields, tau, length, stride)
    np.testing.assert_array_equal(volumes.flow_stack(chosen), expected)
    np.testing.assert_allclose(
        volumes.field_means(chosen), reference.means(expected), rtol=1e-6, atol=1e-6
    )


@settings(max_examples=100, deadline=None)
@given(**CLIPS, half=st.integers(1, 4))
def test_bidirectional_stacks_are_the_formula(shape, count, half, stride, seed, share):
    forward, backward = codes(2, count, 2, *shape, seed=seed)
    tau = round(share * count)  # of N = count + 1 frames
    ahead, back = sampling.bidirectional_indices(tau, 2 * half, stride, count)
    chosen = np.concatenate([forward[ahead], backward[back]])
    expected = reference.bidirectional(forward, backward, tau, 2 * half, stride)
    np.testing.assert_array_equal(volumes.flow_stack(chosen), expected)
    np.testing.assert_allclose(
        volumes.field_means(chosen), reference.means(expected), rtol=1e-6, atol=1e-6
    )


def as_they_are(volume):
    """Leave channels last in memory."""
    return volume


def as_planes(volume):
    """Lay a volume out as its channels, one after the other, in a larger one of them."""
    wider = np.pad(volume, ((1, 2), (3, 1), (0, 0)))
    planes = np.ascontiguousarray(wider.transpose(2, 0, 1)).transpose(1, 2, 0)
    return planes[1:-2, 3:-1]


@quick
@given(VOLUMES, st.sampled_from([1.0, 15.0, 20.0]), st.sampled_from([as_they_are, as_planes]))
def test_flip_negates_x_exactly(volume, bound, laid_out):
    volume = laid_out(volume)
    found = dequantise(volumes.flip(volume, signed=True), bound)
    mirrored = dequantise(volume, bound)[:, ::-1]
    np.testing.assert_array_equal(found[..., ::2], -mirrored[..., ::2])
    np.testing.assert_array_equal(found[..., 1::2], mirrored[..., 1::2])


@quick
@given(VOLUMES, st.booleans(), st.sampled_from([as_they_are, as_planes]))
def test_flipping_twice_changes_nothing_and_once_leaves_the_input(volume, flow, laid_out):
    volume = laid_out(volume)
    before = volume.copy()
    twice = volumes.flip(volumes.flip(volume, signed=flow), signed=flow)
    np.testing.assert_array_equal(twice, before)
    np.testing.assert_array_equal(volume, before)


def test_flip_of_frames_only_mirrors():
    frame = codes(3, 4, 3)
    np.testing.assert_array_equal(volumes.flip(frame, signed=False), frame[:, ::-1])


@quick
@given(FIELDS)
def test_means_of_fields_and_of_mirrored_ones(fields):
    means = volumes.field_means(fields)
    assert means.shape == (2 * len(fields),) and means.dtype == np.float32
    volume = volumes.flow_stack(fields)
    np.testing.assert_allclose(means, reference.means(volume), rtol=1e-6)
    mirrored = volumes.flip(volume, signed=True)
    np.testing.assert_allclose(
        volumes.flip_means(means), reference.means(mirrored), rtol=1e-6, atol=2e-5
    )
    np.testing.assert_array_equal(means, volumes.field_means(fields))


def test_field_means_are_right_where_float32_sums_are_not():
    fields = np.full((1, 2, 600, 600), 255, np.uint8)
    fields[..., 0, 0] = 254
    expected = 255 - 1 / 360_000
    np.testing.assert_array_equal(volumes.field_means(fields), np.float32([expected] * 2))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_normalise_is_the_formula(dtype):
    volume = codes(2, 5, 4, 6).astype(dtype) - (255 if dtype is np.int16 else 0)
    rng = np.random.default_rng(1)
    offsets = rng.uniform(0, 255, (2, 6)).astype(np.float32)
    std = tuple(rng.uniform(1, 60, 6))
    found = volumes.normalise(torch.from_numpy(volume), torch.from_numpy(offsets), std)
    assert found.shape == (2, 6, 5, 4) and found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    moved = volume.astype(float) - offsets[:, None, None].astype(float)
    np.testing.assert_allclose(
        found.numpy(), (moved / std).transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6
    )


def test_normalised_flow_flips_its_sign():
    fields = codes(2, 2, 4, 6)
    volume, means = volumes.flow_stack(fields)[None], volumes.field_means(fields)
    flipped = volumes.flip(volume[0], signed=True)
    plain, mirrored = (
        volumes.normalise(torch.from_numpy(v)[None], torch.from_numpy(m)[None], (50.0,) * 4)
        for v, m in ((volume[0], means), (flipped, volumes.flip_means(means)))
    )
    expected = plain.flip(3) * torch.tensor([-1.0, 1.0, -1.0, 1.0])[:, None, None]
    torch.testing.assert_close(mirrored, expected, rtol=0, atol=1e-5)
