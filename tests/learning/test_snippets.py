"""Snippets of every kind, read from stored fields that tell their index and direction."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import volumes_reference as reference

from pipeline.learning import dataset, volumes
from pipeline.params import load
from pipeline.stream_params import Input
from pipeline.video import store
from pipeline.videos import Video

STREAM = load(Path(__file__).parents[2] / "params.yaml").streams["temporal"]
MEAN, BOUND = (123.0, 117.0, 104.0), 20.0
COUNTS = {"long": 20, "short": 3}  # fields: of 21 and of 4 frames
VIDEOS = [
    Video(video_id=name, path=name, dataset="d", class_name=name, label=label, subset="train",
          sha256="0", status="ok", reason="")
    for label, name in enumerate(COUNTS)
]  # fmt: skip
KINDS = {"bidirectional": "bidirectional_flow", "stack": "flow", "trajectory": "flow"}


@pytest.fixture(scope="module", params=["hdf5", "jpeg"])
def folder(request, tmp_path_factory):
    """Forward field k is (10 + k, 40 + k), backward field k is (90 + k, 130 + k)."""
    folder = tmp_path_factory.mktemp(request.param)
    for video_id, count in COUNTS.items():
        rows = [
            [np.full((32, 40), first + k, np.uint8) for first in (10, 40, 90, 130)]
            for k in range(count)
        ]
        store.write_video(folder, video_id, rows, store.BIDIRECTIONAL, store=request.param,
                          quality=95, made_by={"settings": {"bound": BOUND}})  # fmt: skip
    return folder


def clips(folder, kind, length, *, stride=1, subtract_mean=False):
    made = replace(
        STREAM,
        source=KINDS[kind],
        input=Input(length=length, kind=kind, stride=stride, subtract_mean=subtract_mean, crop=32),
    )
    return dataset.TestingClips(folder, VIDEOS, made, MEAN, snippets=1, crops=1, crop_ratio=1.0)


def values(folder, video_id, start, *args, **options):
    """Read one snippet whose channels are constant; give their codes, and what is subtracted."""
    read = clips(folder, *args, **options)
    with read.open([video.video_id for video in VIDEOS].index(video_id)) as video:
        volume, offsets = read.modality.snippet(video, start)
    assert volume.dtype == np.uint8 and offsets.dtype == np.float32
    assert (volume == volume[0, 0]).all()
    assert volume.shape == (32, 40, len(offsets))
    assert read.modality.channels == len(offsets)
    return volume[0, 0].tolist(), offsets.tolist()


@pytest.mark.parametrize(
    ("video_id", "start", "length", "stride", "forward", "backward"),
    [
        ("long", 0, 6, 1, [3, 4, 5], [2, 1, 0]),
        ("long", 14, 6, 1, [17, 18, 19], [16, 15, 14]),
        ("long", 4, 4, 5, [10, 15], [9, 4]),
        ("long", 7, 2, 3, [8], [7]),
        ("short", 0, 2, 1, [1], [0]),
        ("short", 0, 4, 1, [2, 2], [1, 0]),  # one field short: tau is frame 2 of 0 to 3
        ("short", 0, 10, 1, [2, 2, 2, 2, 2], [1, 0, 0, 0, 0]),
    ],
)
def test_bidirectional(folder, video_id, start, length, stride, forward, backward):
    found, offsets = values(folder, video_id, start, "bidirectional", length, stride=stride)
    expected = [code for k in forward for code in (10 + k, 40 + k)]
    expected += [code for k in backward for code in (90 + k, 130 + k)]
    assert found == expected
    assert offsets == [127.5] * (2 * length)
    _, means = values(
        folder, video_id, start, "bidirectional", length, stride=stride, subtract_mean=True
    )
    assert means == expected


@pytest.mark.parametrize(
    ("video_id", "start", "length", "stride", "fields"),
    [
        ("long", 3, 1, 1, [3]),  # single-frame flow
        ("long", 3, 1, 4, [3]),
        ("long", 2, 4, 3, [2, 5, 8, 11]),
        ("long", 13, 3, 3, [13, 16, 19]),
        ("short", 0, 4, 2, [0, 2, 2, 2]),
    ],
)
def test_strides(folder, video_id, start, length, stride, fields):
    expected = [code for k in fields for code in (10 + k, 40 + k)]
    assert values(folder, video_id, start, "stack", length, stride=stride)[0] == expected
    if stride == 1:
        assert values(folder, video_id, start, "trajectory", length)[0] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_testing_starts_go_by_the_span(folder, kind):
    """The first and the last place are taken, and no field twice."""
    stride = 1 if kind == "trajectory" else 3
    read = clips(folder, kind, 6, stride=stride)
    span = {"stack": 16, "trajectory": 6, "bidirectional": 14}[kind]
    tested = dataset.TestingClips(
        folder, VIDEOS, read.stream, MEAN, snippets=8, crops=1, crop_ratio=1.0
    )
    trained = dataset.TrainingClips(folder, VIDEOS, read.stream, MEAN, seed=0)
    snippets = list(tested[0][0])
    for epoch in range(20):
        snippets += list(trained[epoch, 0, 0][0])
    starts = set()
    for snippet in snippets:
        fields = snippet[0, 0, 1::2].astype(int)  # y isn't changed by flips
        assert len(set(fields.tolist())) == 6
        starts.add(int(fields[0]) - 40 - (span // 2 if kind == "bidirectional" else 0))
    assert (min(starts), max(starts)) == (0, 20 - span)


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A clip of five smooth fields, as they are read back; neighbours differ by some 1 px."""
    folder = tmp_path_factory.mktemp("moving")
    v, u = np.mgrid[:32, :40] / 7
    rows = [
        [np.rint(128 + 40 * np.sin(u + v * (k % 2) + axis + k)).astype(np.uint8) for axis in (0, 1)]
        for k in range(5)
    ]
    store.write_video(folder, "long", rows, store.FLOW, store="hdf5", quality=95,
                      made_by={"settings": {"bound": BOUND}})  # fmt: skip
    with store.StoredVideo(folder, "long", store.FLOW) as video:
        return folder, np.stack([video.read(k) for k in range(5)])


@pytest.mark.parametrize("start", [0, 1])
def test_trajectories_are_codes_within_half_a_code_of_the_formula(moving, start):
    folder, fields = moving
    read = clips(folder, "trajectory", 4, subtract_mean=True)
    with read.open(0) as video:
        volume, offsets = read.modality.snippet(video, start)
    px = (fields.astype(float) - 127.5) * (2 * BOUND / 255)
    expected = reference.trajectory(px, start, 4)
    off = (volume - 127.5) * (2 * BOUND / 255) - expected
    assert np.abs(off).max() <= BOUND / 255 * 1.001
    assert volume.tobytes() != volumes.flow_stack(fields[start : start + 4]).tobytes()
    # What is subtracted is the mean of each whole field, not of the places that were met.
    np.testing.assert_allclose(
        offsets, reference.means(reference.stack(fields, start, 4, 1)), rtol=1e-6
    )


def test_a_short_clip_repeats_its_last_field_along_trajectories(moving):
    folder, fields = moving
    read = clips(folder, "trajectory", 8)
    with read.open(0) as video:
        volume, _ = read.modality.snippet(video, 0)
    px = (fields.astype(float) - 127.5) * (2 * BOUND / 255)
    off = (volume - 127.5) * (2 * BOUND / 255) - reference.trajectory(px, 0, 8)
    assert np.abs(off).max() <= BOUND / 255 * 1.001


def test_mirrored_trajectories_are_exactly_the_negative(moving):
    read = clips(moving[0], "trajectory", 4, subtract_mean=True)
    (codes,), (offsets,), _ = read[0]
    mirrored = volumes.flip(codes.copy(), signed=True)
    np.testing.assert_array_equal(mirrored[..., ::2], 255 - codes[:, ::-1, ::2])
    np.testing.assert_array_equal(mirrored[..., 1::2], codes[:, ::-1, 1::2])
    means = volumes.flip_means(offsets)
    np.testing.assert_array_equal(means[::2], 255 - offsets[::2])
    np.testing.assert_array_equal(means[1::2], offsets[1::2])
