"""Differences of frames: what is read, mirrored and divided, in training and in testing alike."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import NORMALISATION, build
from models.pretrained import load_pretrained
from pipeline.learning import augment, dataset, volumes
from pipeline.learning.modalities import modality_of
from pipeline.params import load
from pipeline.stream_params import Input, channels_of
from pipeline.video import store
from pipeline.videos import Video

SIDE, LENGTH = 32, 5
COUNTS = {"exact": LENGTH + 1, "short": 3, "long": 15, "single": 1}
VIDEOS = [
    Video(video_id=name, path=name, dataset="d", class_name=name, label=label, subset="train",
          sha256="0", status="ok", reason="")
    for label, name in enumerate(COUNTS)
]  # fmt: skip
MEAN, STD = NORMALISATION["resnet18"]  # no two channels alike
SHIPPED = load(Path(__file__).parents[2] / "params.yaml").streams["spatial"]
STREAM = replace(
    SHIPPED,
    input=Input(length=LENGTH, kind="difference", stride=1, subtract_mean=False, crop=SIDE),
    training=replace(
        SHIPPED.training, segments=1, epochs=1, schedule="steps", flip=False, scale_jitter=(1.0,)
    ),
)


@pytest.fixture(scope="module", params=["hdf5", "jpeg"])
def folder(request, tmp_path_factory):
    """Square clips of noise, of the crop's size: nothing is resized."""
    folder, rng = tmp_path_factory.mktemp(request.param), np.random.default_rng(0)
    for video_id, count in COUNTS.items():
        frames = [[frame] for frame in rng.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)]
        store.write_video(folder, video_id, frames, store.FRAMES, store=request.param, quality=95,
                          made_by={})  # fmt: skip
    return folder


def frames_of(folder, video_id):
    with store.StoredVideo(folder, video_id, store.FRAMES) as video:
        return [video.read(k).astype(int) for k in range(len(video))]


def viewed(folder):
    return dataset.TestingClips(folder, VIDEOS, STREAM, MEAN, snippets=1, crops=1, crop_ratio=1.0)


def by_hand(frames, start):
    """R, G, B of frame k+1 less frame k, for k from ``start`` on; past the end, no change."""
    expected = np.zeros((SIDE, SIDE, 3 * LENGTH), int)
    for k in range(LENGTH):
        for colour in range(3):
            one, other = (min(start + k + n, len(frames) - 1) for n in (0, 1))
            expected[..., 3 * k + colour] = (frames[other] - frames[one])[..., colour]
    return expected


@pytest.mark.parametrize(
    ("number", "start"), [(0, 0), (1, 0), (2, 0), (2, 4), (2, 9), (2, 12), (3, 0)]
)
def test_channels_by_hand(folder, number, start):
    clips, name = viewed(folder), VIDEOS[number].video_id
    with clips.open(number) as video:
        volume, offsets = clips.modality.snippet(video, start)
    assert volume.dtype == np.int16 and volume.shape == (SIDE, SIDE, 15)
    np.testing.assert_array_equal(volume, by_hand(frames_of(folder, name), start))
    assert offsets.tolist() == [0.0] * 15
    assert channels_of(STREAM) == 15


def test_extremes_and_no_rounding():
    frames = np.zeros((3, 1, 1, 3), np.uint8)
    frames[1] = 255
    assert volumes.difference_stack(frames).ravel().tolist() == [255] * 3 + [-255] * 3


def test_a_snippet_spans_one_frame_more_than_differences(folder):
    tested, drawn = viewed(folder), set()
    trained = dataset.TrainingClips(folder, VIDEOS, STREAM, MEAN, seed=0)
    assert trained.modality.span == tested.modality.span == 6
    expected = {by_hand(frames_of(folder, "long"), k).tobytes(): k for k in range(15)}
    for epoch in range(80):
        snippets, _, _ = trained[epoch, 0, 2]
        drawn.add(expected[snippets[0].astype(int).tobytes()])
    assert drawn == set(range(10))  # of 15 frames, and never past the end
    assert expected[tested[2][0][0].astype(int).tobytes()] == 5


def test_mirroring_changes_no_sign(folder):
    (plain,), offsets, _ = viewed(folder)[0]
    assert not offsets.any()
    always = replace(STREAM, training=replace(STREAM.training, flip=True))
    clips = dataset.TrainingClips(folder, VIDEOS, always, MEAN, seed=0)
    found = {clips[epoch, 0, 0][0][0].tobytes() for epoch in range(12)}
    assert found == {plain.tobytes(), plain[:, ::-1].tobytes()}


@pytest.mark.parametrize("size", [20, 40])
def test_resized_as_exact_numbers_are(size):
    """Signed codes are resized and rounded once, to the nearest."""
    volume = np.random.default_rng(0).integers(-255, 256, (32, 32, 6)).astype(np.int16)
    found = augment.scaled_frame(volume, size, 1.0)
    assert found.dtype == np.int16 and found.shape == (size, size, 6)
    exact = augment.scaled_frame(volume.astype(np.float64), size, 1.0)
    assert np.abs(found - exact).max() <= 0.51 and found.min() < 0


def test_what_other_channels_are_divided_by():
    assert modality_of(SHIPPED, MEAN).divisors(STD) == STD
    flow = replace(SHIPPED, source="flow", input=replace(SHIPPED.input, length=2))
    assert modality_of(flow, MEAN).divisors(STD) == pytest.approx([sum(STD) / 3] * 4)


def test_cross_modality_initialisation_of_fifteen_channels(tmp_path):
    torch.manual_seed(0)
    options = {"classes": 5, "crop": 32, "dropout": 0.0, "weights": "none"}
    state = build("bn_inception", channels=3, **options).state_dict()
    torch.save(state, tmp_path / "rgb.pth")
    network = build("bn_inception", channels=15, **options)
    load_pretrained(network, "bn_inception", str(tmp_path / "rgb.pth"))
    filters = state["conv1_7x7_s2.weight"]
    mean = (filters[:, 0] + filters[:, 1] + filters[:, 2]) / 3
    for channel in range(15):
        torch.testing.assert_close(network.conv1_7x7_s2.weight[:, channel].detach(), mean)
