"""Stored videos as samples: contents, labels, counts and the seeding of every draw."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from pipeline import stream_params
from pipeline.learning import augment, dataset, sampling, volumes
from pipeline.params import load
from pipeline.video import store
from pipeline.videos import Video

MEAN = (123.0, 117.0, 104.0)
HEIGHT, WIDTH = 40, 56

CROP_RATIO = 0.8


def stream(source="frames", *, subtract_mean=False, **training):
    shipped = load(Path(__file__).parents[2] / "params.yaml").streams["spatial"].training
    plain = {"batch": 2, "scale_jitter": (0.75, 1.0), "freeze_bn": "none"}
    return stream_params.Stream(
        source=source,
        input=stream_params.Input(
            length=1 if source == "frames" else 4,
            kind="stack",
            stride=1,
            subtract_mean=subtract_mean,
            crop=32,
        ),
        network=stream_params.Network(name="resnet18", weights="none", dropout=0.0),
        training=replace(shipped, **plain | training),
        testing=stream_params.Testing(frames=3, crops=10, crop_ratio=CROP_RATIO),
    )


@pytest.fixture(scope="module", params=["hdf5", "jpeg"])
def folders(request, tmp_path_factory):
    """Two clips of 14 and 3 pictures of noise, as frames and as flow."""
    root, rng = tmp_path_factory.mktemp(request.param), np.random.default_rng(0)
    options = {"store": request.param, "quality": 95, "made_by": {}}
    for kind, names, shape in (
        ("frames", store.FRAMES, (1, HEIGHT, WIDTH, 3)),
        ("flow", store.FLOW, (2, HEIGHT, WIDTH)),
    ):
        (root / kind).mkdir()
        for video_id, count in (("long", 14), ("short", 3)):
            pictures = [list(rng.integers(0, 256, shape, np.uint8)) for _ in range(count)]
            store.write_video(root / kind, video_id, pictures, names, **options)
    return root


VIDEOS = [
    Video(video_id=name, path=f"{name}.mp4", dataset="d", class_name=f"class {label}", label=label,
          subset="train", sha256="0", status="ok", reason="")
    for name, label in (("long", 4), ("short", 2))
]  # fmt: skip


def training(folders, kind="frames", *, seed=7, **options):
    return dataset.TrainingClips(folders / kind, VIDEOS, stream(kind, **options), MEAN, seed=seed)


def for_testing(folders, kind="frames", *, snippets=3, crops=10, **options):
    return dataset.TestingClips(
        folders / kind, VIDEOS, stream(kind, **options), MEAN, snippets=snippets, crops=crops,
        crop_ratio=CROP_RATIO,
    )  # fmt: skip


def pictures(folders, kind, video_id):
    names = store.FRAMES if kind == "frames" else store.FLOW
    with store.StoredVideo(folders / kind, video_id, names) as video:
        return [video.read(index) for index in range(len(video))]


@pytest.mark.parametrize(("kind", "channels"), [("frames", 3), ("flow", 8)])
def test_shapes_types_and_labels(folders, kind, channels):
    clips = training(folders, kind)
    assert len(clips) == 2 and clips.modality.channels == channels
    for number, label in ((0, 4), (1, 2)):
        snippets, offsets, found = clips[0, number, number]
        assert snippets.shape == (3, 32, 32, channels) and snippets.dtype == np.uint8
        assert offsets.shape == (3, channels) and offsets.dtype == np.float32
        assert found == label


def test_training_sample_is_made_of_its_parts(folders):
    """The same draws in the same order from what is stored."""
    clips, fields = training(folders, "flow", subtract_mean=True), pictures(folders, "flow", "long")
    flips = set()
    for epoch in range(6):
        rng = np.random.default_rng((7, epoch, 0))
        starts = sampling.training_starts(14, 4, 3, rng)
        flipped = rng.random() < 0.5
        flips.add(flipped)
        box = None  # one for all three
        snippets, offsets, _ = clips[epoch, 0, 0]
        for start, snippet, offset in zip(starts, snippets, offsets, strict=True):
            volume = volumes.flow_stack(np.stack(fields[start : start + 4]))
            box = box or augment.random_box(volume.shape[:2], 32, (0.75, 1.0), "anywhere", rng)
            # Of the whole field, not of its crop.
            means = volume.reshape(-1, 8).mean(0, dtype=float)
            crop = box.cut(volume, 32)
            if flipped:
                crop, means[::2] = crop[:, ::-1].copy(), 255 - means[::2]
                crop[..., ::2] = 255 - crop[..., ::2]
            np.testing.assert_array_equal(snippet, crop)
            np.testing.assert_allclose(offset, means, rtol=1e-6)
    assert flips == {True, False}


@pytest.mark.parametrize("kind", ["frames", "flow"])
def test_draws_are_seeded_by_seed_epoch_and_position(folders, kind):
    clips = training(folders, kind)
    first = clips[3, 0, 0][0].tobytes()
    clips[0, 1, 1]
    assert clips[3, 0, 0][0].tobytes() == first == training(folders, kind)[3, 0, 0][0].tobytes()
    assert clips[4, 0, 0][0].tobytes() != first
    assert training(folders, kind, seed=8)[3, 0, 0][0].tobytes() != first
    assert clips[3, 1, 0][0].tobytes() != first  # the same clip, drawn again in one epoch


def test_rgb_jitter_shifts_a_clips_colours_alike(folders):
    plain, moved = training(folders), training(folders, rgb_jitter=0.1)
    shifts = []
    for epoch in range(200):
        snippets, offsets, _ = moved[epoch, 0, 0]
        rng = np.random.default_rng((7, epoch, 0))
        sampling.training_starts(14, 1, 3, rng), rng.random()
        np.testing.assert_allclose(MEAN - offsets[0], augment.rgb_jitter(0.1, rng), atol=1e-4)
        assert (offsets == offsets[0]).all() and snippets.dtype == np.uint8
        shifts.append(MEAN - offsets[0])
    assert (plain[0, 0, 0][1] == np.float32(MEAN)).all()
    # Nearly grey light: 0.1 * 255 * 0.2175 along the first component, some per cent of it across.
    deviations = np.linalg.svd(np.array(shifts), compute_uv=False) / np.sqrt(len(shifts))
    np.testing.assert_allclose(deviations, 25.5 * np.array([0.2175, 0.0188, 0.0045]), rtol=0.2)


def test_no_flip_where_params_say_so(folders):
    clips = training(folders, flip=False, scale_jitter=(1.0,), segments=1)
    frames = pictures(folders, "frames", "long")
    boxes = {
        cv2.resize(f[:, left : left + HEIGHT], (32, 32), interpolation=cv2.INTER_LINEAR).tobytes()
        for f in frames
        for left in range(WIDTH - HEIGHT + 1)
    }
    assert all(clips[epoch, 0, 0][0][0].tobytes() in boxes for epoch in range(8))


def test_a_short_clip_repeats_its_last_field(folders):
    clips, fields = for_testing(folders, "flow", snippets=1), pictures(folders, "flow", "short")
    with clips.open(1) as video:
        volume, offsets = clips.modality.snippet(video, 0)
    for channel, field in enumerate((0, 1, 2, 2)):
        np.testing.assert_array_equal(volume[..., 2 * channel], fields[field][0])
        np.testing.assert_array_equal(volume[..., 2 * channel + 1], fields[field][1])
    np.testing.assert_array_equal(offsets, np.full(8, 127.5))


@pytest.mark.parametrize("crops", [1, 2, 5, 10])
def test_snippets_of_a_test_clip(folders, crops):
    # 32 px are 0.8 of the short side of 40, so that nothing is resized.
    snippets, offsets, label = for_testing(folders, crops=crops)[0]
    frames = pictures(folders, "frames", "long")
    assert label == 4
    np.testing.assert_array_equal(offsets, np.float32([MEAN] * 3))
    seen = (slice(4, 36), slice(12, 44)) if crops <= 2 else ...  # the centre is all of it
    np.testing.assert_array_equal(snippets, [frames[start][seen] for start in (2, 7, 11)])


@pytest.mark.parametrize("crop_ratio", [CROP_RATIO, 0.5])
def test_flow_of_a_test_clip_lies_in_memory_as_a_network_takes_it(folders, crop_ratio):
    clips = for_testing(folders, "flow", subtract_mean=True)
    clips.crop_ratio = crop_ratio
    snippets, offsets, _ = clips[0]
    fields = pictures(folders, "flow", "long")
    assert snippets.flags.c_contiguous
    for start, snippet, offset in zip((1, 5, 9), snippets, offsets, strict=True):
        volume = volumes.flow_stack(np.stack(fields[start : start + 4]))
        np.testing.assert_array_equal(snippet, augment.scaled_frame(volume, 32, crop_ratio))
        np.testing.assert_allclose(offset, volume.reshape(-1, 8).mean(0, dtype=float), rtol=1e-6)


def test_nothing_is_drawn_for_testing(folders):
    first, second = (for_testing(folders, "flow")[0] for _ in range(2))
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()


def test_loader_processes_change_nothing(folders):
    clips = training(folders)
    batches = [
        next(iter(DataLoader(clips, 2, sampler=[(1, 0, 1), (1, 1, 0)], num_workers=workers)))
        for workers in (0, 1)
    ]  # fmt: skip
    for here, there in zip(*batches, strict=True):
        assert here.numpy().tobytes() == there.numpy().tobytes()


def test_a_missing_clip_is_named(folders):
    clips = dataset.TrainingClips(
        folders / "frames", [replace(VIDEOS[0], video_id="gone")], stream(), MEAN, seed=0
    )
    with pytest.raises(FileNotFoundError, match="gone"):
        clips[0, 0, 0]
