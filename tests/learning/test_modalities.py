"""Every modality reaches its network alike in training and in testing, and is read once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models import NORMALISATION
from pipeline.learning import dataset
from pipeline.learning.modalities import modality_of
from pipeline.learning.scoring import score_views
from pipeline.learning.tasks import SnippetTask
from pipeline.params import load
from pipeline.stream_params import KINDS, Input
from pipeline.video import store
from pipeline.videos import Video

SIDE, LENGTH, BOUND = 32, 4, 20.0
ALL = [(source, kind) for source, kinds in KINDS.items() for kind in kinds]
MEAN, STD = NORMALISATION["resnet18"]  # no two channels alike
SHIPPED = load(Path(__file__).parents[2] / "params.yaml").streams["spatial"]
VIDEO = Video(video_id="v", path="v.mp4", dataset="d", class_name="a", label=0, subset="train",
              sha256="0", status="ok", reason="")  # fmt: skip


def stream_of(source, kind, subtract_mean=False):
    length = 1 if (source, kind) == ("frames", "stack") else LENGTH
    seen = Input(length=length, kind=kind, stride=1, subtract_mean=subtract_mean, crop=SIDE)
    training = replace(SHIPPED.training, segments=1, flip=False, scale_jitter=(1.0,))
    return replace(SHIPPED, source=source, input=seen, training=training)


def written(folder, stream, more=0):
    """Write a clip of noise: ``more`` pictures than a snippet, of the crop's size; give them."""
    modality = modality_of(stream, MEAN)
    shape = (SIDE, SIDE, 3) if modality.names == store.FRAMES else (SIDE, SIDE)
    rng = np.random.default_rng(0)
    count = modality.span + more
    drawn = rng.integers(100, 156, (count, len(modality.names), *shape), np.uint8)
    store.write_video(folder, "v", list(drawn), modality.names, store="hdf5", quality=100,
                      made_by={"settings": {"bound": BOUND}})  # fmt: skip
    with store.StoredVideo(folder, "v", modality.names) as video:
        return np.stack([video.read(k) for k in range(count)])


class Seeing(nn.Module):
    """A network that keeps what it is fed."""

    first_conv, head = "conv", "fc"

    def __init__(self, channels):
        super().__init__()
        self.conv, self.fc, self.seen = nn.Conv2d(channels, 4, 3), nn.Linear(4, 4), []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.fc(self.conv(x).mean((2, 3)))


def fed(folder, stream):
    """Give what a network is fed in training, as it is and mirrored, and both views in testing."""
    clips = dataset.TrainingClips(folder, [VIDEO], stream, MEAN, seed=0)
    std, network = clips.modality.divisors(STD), Seeing(clips.modality.channels)
    task = SnippetTask(network, stream.training, std, (4,))
    task(*(torch.as_tensor(value)[None] for value in clips[0, 0, 0]))
    flips = replace(stream, training=replace(stream.training, flip=True))
    mirrors = dataset.TrainingClips(folder, [VIDEO], flips, MEAN, seed=0)
    plain = clips[0, 0, 0][0].tobytes()
    mirrored = next(
        drawn for epoch in range(30) if (drawn := mirrors[epoch, 0, 0])[0].tobytes() != plain
    )
    task(*(torch.as_tensor(value)[None] for value in mirrored))
    tested = dataset.TestingClips(folder, [VIDEO], stream, MEAN, snippets=1, crops=2,
                                  crop_ratio=1.0)  # fmt: skip
    read = [tuple(map(torch.as_tensor, tested[0]))]
    list(score_views(network, read, crop=SIDE, crops=2, signed=clips.modality.signed, std=std))
    shown = np.concatenate([seen.cpu().numpy() for seen in network.seen])
    # To negate a code's distance from what is subtracted rounds otherwise than to mirror both.
    np.testing.assert_allclose(shown[3], shown[1], rtol=1e-4, atol=1e-6)
    return shown[0], shown[2]


@pytest.mark.parametrize(("source", "kind"), ALL)
def test_training_and_testing_feed_a_network_alike(tmp_path, source, kind):
    """tsn-pytorch normalised differences of frames in testing alone."""
    stream = stream_of(source, kind)
    pictures = written(tmp_path, stream).astype(np.float64)
    in_training, in_testing = fed(tmp_path, stream)
    np.testing.assert_array_equal(in_training, in_testing)
    if source == "frames":
        pictures = pictures.transpose(0, 3, 1, 2)  # (frames, R G B, H, W)
        volume = np.diff(pictures, axis=0) if kind == "difference" else pictures
        volume = volume - (0 if kind == "difference" else np.array(MEAN)[:, None, None])
        expected = (volume / np.array(STD)[:, None, None]).reshape(-1, SIDE, SIDE)
        np.testing.assert_allclose(in_testing, expected, rtol=1e-5, atol=1e-5)
    elif kind == "stack":
        expected = ((pictures - 127.5) / np.mean(STD)).reshape(-1, SIDE, SIDE)
        np.testing.assert_allclose(in_testing, expected, rtol=1e-5, atol=1e-5)
    elif kind == "bidirectional":  # tau is the frame in the middle
        forward, backward = pictures[2:, :2], pictures[1::-1, 2:]
        expected = np.concatenate([forward, backward]).reshape(-1, SIDE, SIDE)
        np.testing.assert_allclose(in_testing, (expected - 127.5) / np.mean(STD), rtol=1e-5,
                                   atol=1e-5)  # fmt: skip


@pytest.mark.parametrize(("source", "kind"), [one for one in ALL if one[0] != "frames"])
def test_subtracted_means_are_alike_too(tmp_path, source, kind):
    stream = stream_of(source, kind, subtract_mean=True)
    written(tmp_path, stream)
    in_training, in_testing = fed(tmp_path, stream)
    np.testing.assert_array_equal(in_training, in_testing)
    if kind != "trajectory":  # whose means are those of the fields
        np.testing.assert_allclose(in_testing.mean((1, 2)), 0, atol=1e-5)


@pytest.mark.parametrize(("source", "kind"), ALL)
def test_a_snippet_is_read_once(tmp_path, source, kind):
    stream, reads = stream_of(source, kind), []
    written(tmp_path, stream, more=4)
    clips = dataset.TestingClips(tmp_path, [VIDEO], stream, MEAN, snippets=2, crops=10,
                                 crop_ratio=0.875)  # fmt: skip
    read = clips.modality.read
    clips.modality = replace(clips.modality, read=lambda *at: reads.append(at[1]) or read(*at))
    snippets, offsets, _ = clips[0]
    assert len(snippets) == len(offsets) == 2 and reads == [1, 3]
