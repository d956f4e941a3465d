"""Stage bidirectional_flow: forward fields as they are, backward ones of the clip in reverse."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import bidirectional_flow, flow, items
from pipeline.params import BidirectionalFlow, load
from pipeline.video import store
from pipeline.videos import Video, read_videos, write_videos

PARAMS = load(Path(__file__).parents[1] / "params.yaml")
BOTH = BidirectionalFlow(compute=True)
FRAMES, HEIGHT, WIDTH = 6, 48, 64


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Frames of a texture that moves right, the same in reverse, and a video that isn't there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_WORKERS", "1")
    coarse = np.random.default_rng(0).integers(0, 256, (14, 22, 3), np.uint8)
    wall = cv2.resize(coarse, (WIDTH + 40, HEIGHT), interpolation=cv2.INTER_CUBIC)
    clip = [(np.ascontiguousarray(wall[:, 20 - 2 * k : 20 - 2 * k + WIDTH]),) for k in range(6)]
    rows = [
        Video(video_id=name, path=name, dataset="d", class_name="c", label=0, subset="train",
              sha256="0", status=status, reason="no such file" if status == "missing" else "",
              frames=FRAMES)
        for name, status in (("clip", "ok"), ("esrever", "ok"), ("gone", "missing"))
    ]  # fmt: skip
    Path("frames").mkdir()
    write_videos(Path("frames/videos.csv"), rows)
    options = {"store": "hdf5", "quality": 95, "made_by": {}}
    store.write_video(Path("frames"), "clip", clip, store.FRAMES, **options)
    with store.StoredVideo(Path("frames"), "clip", store.FRAMES) as video:
        jpegs = [video.jpegs(k) for k in reversed(range(FRAMES))]
    store.write_video(Path("frames"), "esrever", jpegs, store.FRAMES, **options)


def stored(folder, video_id, names):
    with store.StoredVideo(Path(folder), video_id, names) as video:
        return [video.jpegs(k) for k in range(len(video))], video.made_by


@pytest.mark.parametrize("kind", ["hdf5", "jpeg"])
def test_backward_flow_is_the_forward_flow_of_the_reversed_clip(project, monkeypatch, kind):
    # Two pairs at a time, so that batches end within the clip, at other pairs each way.
    monkeypatch.setattr(flow.tvl1, "batch_size", lambda *_: 2)
    settings = replace(PARAMS.flow, store=kind)
    folders = [Path(name) for name in ("frames", "flow", "both")]
    flow.run(*folders[:2], settings, PARAMS.limits)
    bidirectional_flow.run(*folders, settings, BOTH, PARAMS.limits)
    for one, other in (("clip", "esrever"), ("esrever", "clip")):
        both, made_by = stored("both", one, store.BIDIRECTIONAL)
        forward, _ = stored("flow", one, store.FLOW)
        reverse, _ = stored("flow", other, store.FLOW)
        assert [jpegs[:2] for jpegs in both] == forward
        # Field k of the reversed clip goes from its frame k, the clip's N-1-k, to the one before.
        assert [jpegs[2:] for jpegs in both] == reverse[::-1]
        assert made_by["settings"]["bound"] == 20 and len(made_by["source_sha256"]) == 2
    rows = {video.video_id: video for video in read_videos(Path("both/videos.csv"))}
    assert (rows["clip"].status, rows["clip"].frames) == ("ok", FRAMES - 1)
    assert rows["gone"].status == "missing"

    with store.StoredVideo(Path("both"), "clip", store.BIDIRECTIONAL) as video:
        field = store.dequantise(video.read(2), settings.bound)[:, 8:-8, 8:-8]
    np.testing.assert_allclose(np.median(field, (1, 2)), [2, 0, -2, 0], atol=0.2)


def test_nothing_is_computed_unless_asked_for(project, capsys):
    no = BidirectionalFlow(compute=False)
    folders = [Path(name) for name in ("frames", "flow", "both")]
    bidirectional_flow.run(*folders, PARAMS.flow, no, PARAMS.limits)
    assert list(Path("both").iterdir()) == []
    assert "none, as bidirectional_flow.compute says" in capsys.readouterr().out


def test_a_second_run_takes_the_items_of_the_first(project, monkeypatch):
    folders = [Path(name) for name in ("frames", "flow", "both")]
    flow.run(*folders[:2], PARAMS.flow, PARAMS.limits)
    bidirectional_flow.run(*folders, PARAMS.flow, BOTH, PARAMS.limits)
    first = {path.name: items.hash_of(path) for path in Path("both").iterdir()}
    monkeypatch.setattr(bidirectional_flow, "codes", None)
    bidirectional_flow.run(*folders, PARAMS.flow, BOTH, PARAMS.limits)
    assert {path.name: items.hash_of(path) for path in Path("both").iterdir()} == first


def test_flow_that_lacks_a_field_excludes_the_video(project):
    folders = [Path(name) for name in ("frames", "flow", "both")]
    flow.run(*folders[:2], PARAMS.flow, PARAMS.limits)
    fewer, made_by = stored("flow", "clip", store.FLOW)
    Path("flow/clip.h5").unlink()
    store.write_video(Path("flow"), "clip", fewer[:-1], store.FLOW, store="hdf5", quality=95,
                      made_by=made_by)  # fmt: skip
    bidirectional_flow.run(*folders, PARAMS.flow, BOTH, replace(PARAMS.limits, max_excluded=1.0))
    rows = {video.video_id: video for video in read_videos(Path("both/videos.csv"))}
    assert (rows["clip"].status, rows["esrever"].status) == ("excluded", "ok")
    assert rows["clip"].reason == "got 4 fields, expected 5"
