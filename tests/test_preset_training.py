"""Each stream of each preset trains and scores on a few clips, from its own params."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline import score, train
from pipeline.learning.weights import read_weights
from pipeline.params import BidirectionalFlow, load
from pipeline.video import store
from pipeline.videos import Video, write_videos

ROOT = Path(__file__).parents[1]
PRESETS = {path.stem: load(path) for path in sorted(ROOT.glob("presets/*.yaml"))}
NAMES = {
    "frames": store.FRAMES,
    "flow": store.FLOW,
    "warped_flow": store.FLOW,
    "bidirectional_flow": store.BIDIRECTIONAL,
}


def streams():
    """List the streams that differ in more than length and crops, each under its first preset."""
    found = {}
    for preset, params in PRESETS.items():
        for name, stream in params.streams.items():
            stream = shortened(stream)
            alike = replace(stream, training=replace(stream.training, crop_places="five"))
            found.setdefault(repr(alike), (f"{preset}-{name}", stream))
    return [pytest.param(stream, id=label) for label, stream in found.values()]


def shortened(stream):
    """Make two iterations of two clips of a stream's training, and one view of its test."""
    training = replace(stream.training, batch=2, passes=1, epochs=1, epoch_batches=2, milestones=())
    weights = "imagenet" if stream.network.weights == "imagenet" else "none"
    return replace(
        stream,
        network=replace(stream.network, weights=weights),
        training=training,
        testing=replace(stream.testing, frames=1, crops=1),
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Two datasets of two classes of two clips of 16 pictures of noise, as every kind of source."""
    root, rng = tmp_path_factory.mktemp("sources"), np.random.default_rng(0)
    videos = [
        Video(video_id=f"{d}{c}{n}", path=f"{c}{n}.mp4", dataset=d, class_name=c, label=label,
              subset=subset, sha256="0", status="ok", reason="", frames=16)
        for d in ("main", "ucf101")
        for label, c in enumerate("ab") for n, subset in enumerate(("train", "test"))
    ]  # fmt: skip
    for source, names in NAMES.items():
        (root / source).mkdir()
        shape = (64, 80, 3) if source == "frames" else (64, 80)
        made_by = {"settings": {} if source == "frames" else {"bound": 20.0}}
        for video in videos:
            pictures = [[rng.integers(0, 256, shape, np.uint8) for _ in names] for _ in range(16)]
            store.write_video(root / source, video.video_id, pictures, names, store="hdf5",
                              quality=90, made_by=made_by)  # fmt: skip
        write_videos(root / source / "videos.csv", videos)
    return root


@pytest.mark.parametrize("stream", streams())
def test_two_iterations_and_one_view(tmp_path, monkeypatch, sources, stream):
    monkeypatch.setenv("PIPELINE_LOADERS", "0")
    source = sources / stream.source
    monkeypatch.chdir(tmp_path)
    shipped = PRESETS["tsn_ucf101"]  # it computes warped flow
    fuse = replace(shipped.fuse, streams=("one",), weights={"one": 1.0}, svm=True)
    params = replace(
        shipped,
        dataset=replace(shipped.dataset, name="main"),
        auxiliary_datasets={"ucf101": shipped.dataset},
        bidirectional_flow=BidirectionalFlow(compute=True),
        streams={"one": stream},
        fuse=fuse,
        lr=1e-4,
    )
    train.run(source, tmp_path / "w.pt", tmp_path / "c.csv", name="one", params=params)
    about = read_weights(tmp_path / "w.pt").about
    bound = None if stream.source == "frames" else 20.0
    assert (about["short_side"], about["bound"]) == (64, bound)
    score.run(source, tmp_path / "w.pt", tmp_path / "one.h5", name="one", params=params)
    with h5py.File(tmp_path / "one.h5") as file:
        assert file["logits"].shape == (4, 2) and np.isfinite(file["logits"][:]).all()
        whole = file["logits"][:]
    params = replace(params, fuse=replace(fuse, svm=False))  # no training clip is scored
    score.run(source, tmp_path / "w.pt", tmp_path / "one.h5", name="one", params=params)
    counted = []
    monkeypatch.setattr(score, "score_views", lambda _, clips, **how: (
        (counted.append((len(codes), how)) or np.zeros(2), np.ones(2)) for codes, *_ in clips
    ))  # fmt: skip
    more = replace(stream, testing=replace(stream.testing, frames=2, crops=5))
    score.run(source, tmp_path / "w.pt", tmp_path / "views.h5", name="one",
              params=replace(params, streams={"one": more}))  # fmt: skip
    for count, how in counted:
        assert (count, how["crops"], how["crop"]) == (2, 5, stream.input.crop)
        assert how["signed"] == (stream.source != "frames")
    assert len(counted) == 2
    with h5py.File(tmp_path / "one.h5") as file:
        assert file["subset"].asstr()[:].tolist() == ["test"] * 2
        np.testing.assert_allclose(file["logits"][:], whole[1::2], rtol=1e-5, atol=1e-6)
