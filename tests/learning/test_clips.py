"""ST-ResNet's clips: which frames and fields, one box and one flip for all, what is left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from st_resnet_clips import HEIGHT, SAMPLE, WIDTH, ramps, rows, write

from pipeline.learning import clip_sampling, loading
from pipeline.learning.clips import (
    Seen,
    TestingJointClips,
    TrainingJointClips,
    ValidationJointClips,
    paired,
)
from pipeline.learning.epochs import PADDING, Draws
from pipeline.video import store
from pipeline.videos import read_videos, write_videos

TestingJointClips.__test__ = False  # its name looks like a test's
SECTION = SAMPLE.st_resnet["joint"]
PHASE = replace(SECTION.stage1, stride=(2, 4), batch=4)
SEEN = Seen(10, False, (100.0, 110.0, 120.0), (50.0,) * 3, (55.0,) * 20)
CROP = 48


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Frame k has the level 5k, field k x = 5k + 2 and y = 250 - 5k."""

    def level(value):
        return np.full((HEIGHT, WIDTH), value, np.uint8)

    videos = [*rows(7, frames=40), replace(rows(1)[0], video_id="short", frames=8)]
    return write(tmp_path_factory.mktemp("numbered"), videos,
                 lambda _, k: np.dstack([level(5 * k)] * 3),
                 lambda _, k: (level(5 * k + 2), level(250 - 5 * k)))  # fmt: skip


@pytest.fixture(scope="module")
def sloped(tmp_path_factory):
    """Every frame and field has the ramp to the right and the one downwards."""
    across, down = ramps()
    picture = np.dstack([across, down, across])
    return write(tmp_path_factory.mktemp("sloped"), rows(6), lambda *_: picture,
                 lambda *_: (across, down))  # fmt: skip


def made(kind, folders, seen=SEEN, crop=CROP, **options):
    videos = paired(read_videos(folders[0] / "videos.csv"), folders[1])
    return kind(*folders, videos, seen, crop, **options)


def levels(pictures):
    """Give the levels of constant pictures, leaving JPEG's rounding out."""
    return np.median(pictures.reshape(-1, *pictures.shape[-3:]), (1, 2)).round().astype(int)


def test_each_frame_has_the_fields_around_it(numbered):
    clips = made(TestingJointClips, numbered, testing=replace(SECTION.testing, frames=3, stride=4))
    rgb, flow, rgb_offsets, flow_offsets, label = clips[1]
    # 40 frames: 5 to 34 have ten fields; of 5, 9, ..., 33 the middle three.
    assert levels(rgb)[:, 0].tolist() == [65, 85, 105]
    for k, stack in zip((13, 17, 21), levels(flow), strict=True):
        around = np.arange(k - 5, k + 5)
        np.testing.assert_allclose(stack[::2], 5 * around + 2, atol=1)
        np.testing.assert_allclose(stack[1::2], 250 - 5 * around, atol=1)
    assert rgb.shape == (3, HEIGHT, WIDTH, 3) and flow.shape == (3, HEIGHT, WIDTH, 20)
    np.testing.assert_array_equal(rgb_offsets, [SEEN.mean] * 3)
    np.testing.assert_array_equal(flow_offsets, np.full((3, 20), 127.5))
    assert label == 1


def test_a_stream_that_subtracts_means_has_them_subtracted_here(numbered):
    clips = made(TestingJointClips, numbered, SEEN._replace(subtract_mean=True),
                 testing=SECTION.testing)  # fmt: skip
    _, flow, _, offsets, _ = clips[0]
    np.testing.assert_allclose(offsets, flow.mean((1, 2)), rtol=1e-5)


def test_a_batch_has_one_stride_and_epochs_have_several(numbered):
    clips = made(TrainingJointClips, numbered, phase=PHASE, seed=1)
    found = {}
    for epoch in range(3):
        for position in range(8):
            frames = levels(clips[epoch, position, position % 7][0])[:, 0] / 5
            (stride,) = set(np.diff(frames).round().astype(int))
            found.setdefault((epoch, position // 4), set()).add(stride)
    assert all(len(strides) == 1 for strides in found.values())
    assert len(set().union(*found.values())) > 1
    for (epoch, step), (stride,) in ((key, tuple(of)) for key, of in found.items()):
        assert stride == clip_sampling.batch_stride(2, 4, seed=1, epoch=epoch, position=4 * step,
                                                    batch=4)  # fmt: skip


def test_a_short_clip_is_evenly_spaced(numbered):
    still = replace(PHASE, flip=False)
    clips = made(TrainingJointClips, numbered, phase=still, seed=1)
    assert clips.videos[7].video_id == "short"
    rgb, flow, *_ = clips[0, 0, 7]
    assert set(levels(rgb)[:, 0]) == {15}  # no frame of 8 has ten fields: the middle one
    # Fields -2 to 7 around frame 3; the clip has 0 to 6.
    np.testing.assert_allclose(
        levels(flow)[0, ::2], 5 * np.clip(np.arange(-2, 8), 0, 6) + 2, atol=1
    )


def test_one_box_and_one_flip_for_all_frames_and_fields(sloped):
    clips = made(TrainingJointClips, sloped, phase=PHASE, seed=3)
    flips, boxes = [], set()
    for position in range(24):
        rgb, flow, _, _, label = clips[0, position, position % 6]
        assert rgb.shape == (5, CROP, CROP, 3) and flow.shape == (5, CROP, CROP, 20)
        assert rgb.dtype == flow.dtype == np.uint8 and label == position % 6 % 2
        red, green = rgb[0, ..., 0].astype(int), rgb[0, ..., 1].astype(int)
        flipped = red[:, -1].mean() < red[:, 0].mean()
        flips.append(flipped)
        boxes.add((red.min() // 4, red.max() // 4, green.min() // 4, green.max() // 4))
        for frame in rgb:
            assert np.abs(frame[..., 0] - red).max() <= 6  # JPEG of colours
            assert np.abs(frame[..., 1] - green).max() <= 6
        across = 255 - red if flipped else red  # the x of mirrored motion is negated
        for stack in flow:
            assert np.abs(stack[..., ::2] - across[..., None]).max() <= 8
            assert np.abs(stack[..., 1::2] - green[..., None]).max() <= 8
    assert 4 < sum(flips) < 20 and len(boxes) > 12
    still = made(TrainingJointClips, sloped, phase=replace(PHASE, flip=False), seed=3)
    assert all(np.diff(still[0, p, 0][0][0, 0, :, 0].astype(int)).sum() > 0 for p in range(12))


def test_draws_are_the_same_again_and_others_for_another_seed(sloped):
    def drawn(seed, epoch=0):
        return made(TrainingJointClips, sloped, phase=PHASE, seed=seed)[epoch, 3, 2][0].tobytes()

    assert drawn(1) == drawn(1)
    assert len({drawn(1), drawn(2), drawn(1, epoch=1)}) == 3


def test_padding_draws_have_no_label(sloped):
    clips = made(TrainingJointClips, sloped, phase=PHASE, seed=1)
    assert clips[0, PADDING, 2][-1] < 0
    draws = Draws([0, 1] * 3, batch=4, size=5, epochs=1, by="shuffle", seed=0, rank=1, world=2)
    batches = list(loading.loader(clips, batch_sampler=draws))
    assert [len(batch[-1]) for batch in batches] == [2, 1]
    assert batches[1][-1].tolist() == [PADDING]
    assert batches[0][0].shape == (2, 5, CROP, CROP, 3) and batches[0][1].dtype == torch.uint8


def test_validation_shows_the_middle_of_evenly_spaced_frames(numbered, sloped):
    rgb, *_, label = made(ValidationJointClips, numbered, frames_of_clip=3)[0]
    assert (levels(rgb)[:, 0] / 5).tolist() == [5, 20, 34] and label == 0  # 19.5, half-way up
    rgb = made(ValidationJointClips, sloped, frames_of_clip=3)[0][0]
    across, _ = ramps()
    assert np.abs(rgb[0, 0, :, 0].astype(int) - across[0, 24:72]).max() <= 6


def test_frames_smaller_than_a_crop_are_scaled_up_as_they_are(sloped):
    clips = made(TestingJointClips, sloped, crop=80, testing=SECTION.testing)
    assert clips[0][0].shape == (11, 80, 120, 3) and clips[0][1].shape == (11, 80, 120, 20)


def test_videos_without_both_are_left_out_and_counted(tmp_path, sloped, capsys):
    frames, flow = tmp_path / "frames", tmp_path / "flow"
    videos = rows(6)
    excluded = {"status": "excluded", "reason": "broken", "frames": 0}
    for folder, changed in ((frames, {1: excluded}), (flow, {2: excluded, 3: {"frames": 38}})):
        folder.mkdir()
        told = [replace(v, frames=40 if folder == frames else 39) for v in videos[:5]]
        told = [replace(v, **changed.get(n, {})) for n, v in enumerate(told)]
        write_videos(folder / "videos.csv", told if folder == flow else [*told, videos[5]])
    kept = paired(read_videos(frames / "videos.csv"), flow)
    assert [v.video_id for v in kept] == ["v0", "v4"]
    assert "4 of 6 videos have no frames, or not as many fields" in capsys.readouterr().out


def test_fields_of_another_size_than_their_frames_are_refused(tmp_path, numbered):
    video = replace(rows(1)[0], frames=12)
    small = [(np.zeros((32, 48), np.uint8),) * 2] * 11
    store.write_video(tmp_path, video.video_id, small, store.FLOW, store="hdf5", quality=90,
                      made_by={})  # fmt: skip
    clips = TestingJointClips(numbered[0], tmp_path, [video], SEEN, CROP, testing=SECTION.testing)
    with pytest.raises(ValueError, match=r"v0: got fields of \(32, 48\) px, expected those of its"):
        clips[0]
