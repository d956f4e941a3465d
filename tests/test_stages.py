"""The stages on files: counts, exclusions, both stores, restarts."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline import decode, flow, sample, warped_flow
from pipeline.items import hash_of
from pipeline.learning.heads import check_taught
from pipeline.params import load
from pipeline.rendering.scene import render
from pipeline.video import store
from pipeline.videos import Video, read_videos, write_videos

PARAMS = load(Path(__file__).parents[1] / "params.yaml")
PARAMS = replace(PARAMS, limits=replace(PARAMS.limits, max_excluded=1.0))
CODEC = {"vcodec": "libx264", "crf": 10, "pix_fmt": "yuv420p"}


@pytest.fixture(scope="module")
def clip():
    """A stretching person before a wall that a panning, turning camera shows."""
    return render("stretching", frames=5, fps=25, height=96, width=128, recording=5, seed=0)


@pytest.fixture
def project(tmp_path, monkeypatch, clip):
    """An index of three videos: a good one, a text file, and one that isn't there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_WORKERS", "1")
    sample.encode(tmp_path / "good.mp4", clip.frames, 25, CODEC)
    (tmp_path / "bad.mp4").write_text("no video")
    rows = [
        Video(video_id=name, path=f"{name}.mp4", dataset="d", class_name="c", label=0,
              subset="train", sha256="" if status == "missing" else hash_of(Path(f"{name}.mp4")),
              status=status, reason="no such file" if status == "missing" else "")
        for name, status in (("bad", "ok"), ("good", "ok"), ("gone", "missing"))
    ]  # fmt: skip
    (tmp_path / "index").mkdir()
    write_videos(tmp_path / "index/videos.csv", rows)
    return tmp_path


def rows(folder):
    return {video.video_id: video for video in read_videos(Path(folder) / "videos.csv")}


@pytest.mark.parametrize("kind", ["hdf5", "jpeg"])
def test_from_files_to_warped_flow(project, kind):
    params = replace(PARAMS.decode, short_side=96, store=kind)
    decode.run(Path("index"), Path("frames"), params, PARAMS.limits)
    told = rows("frames")
    assert (told["good"].status, told["good"].frames) == ("ok", 5)
    assert told["bad"].status == "excluded"
    assert "damaged" in told["bad"].reason
    assert told["gone"].status == "missing"

    settings = replace(PARAMS.flow, store=kind)
    flow.run(Path("frames"), Path("flow"), settings, PARAMS.limits)
    warped_flow.run(
        Path("frames"), Path("flow"), Path("warped"), settings, PARAMS.warped_flow, PARAMS.limits
    )
    for folder in ("flow", "warped"):
        told = rows(folder)
        assert (told["good"].status, told["good"].frames) == ("ok", 4)
        assert (told["bad"].status, told["gone"].status) == ("excluded", "missing")
        assert {path.stem for path in Path(folder).iterdir()} == {"good", "videos"}
        with store.StoredVideo(Path(folder), "good", store.FLOW) as video:
            assert len(video) == 4
            assert video.read(3).shape == (2, 96, 128)
            assert video.made_by["settings"]["bound"] == 20


def test_flow_is_near_the_truth_and_warping_takes_the_camera_out(project, clip):
    decode.run(Path("index"), Path("frames"), replace(PARAMS.decode, short_side=96), PARAMS.limits)
    flow.run(Path("frames"), Path("flow"), PARAMS.flow, PARAMS.limits)
    for mode in ("recompute", "subtract"):
        how = replace(PARAMS.warped_flow, mode=mode)
        warped_flow.run(Path("frames"), Path("flow"), Path(mode), PARAMS.flow, how, PARAMS.limits)
    inner = np.s_[8:-8, 8:-8]
    videos = {
        name: store.StoredVideo(Path(name), "good", store.FLOW)
        for name in ("flow", "recompute", "subtract")
    }
    for k in range(4):
        wall = clip.layers[k][inner] == 0
        fields = {name: store.dequantise(video.read(k), 20.0) for name, video in videos.items()}
        fields["error"] = fields["flow"] - clip.flow()[k]
        fields["camera"] = clip.flow()[k]
        length = {
            name: np.median(np.linalg.norm(field[:, *inner][:, wall], axis=0))
            for name, field in fields.items()
        }
        assert length["camera"] > 0.8
        assert length["error"] < 0.3
        assert length["recompute"] < 0.3
        assert length["subtract"] < 0.3
    for mode in ("recompute", "subtract"):
        assert videos[mode].made_by["pairs_without_homography"] == 0


def test_a_video_without_a_camera_to_be_found_keeps_its_flow(project):
    grey = np.full((4, 96, 128, 3), 90, np.uint8)
    sample.encode(project / "good.mp4", grey, 25, CODEC)
    decode.run(Path("index"), Path("frames"), PARAMS.decode, PARAMS.limits)
    flow.run(Path("frames"), Path("flow"), PARAMS.flow, PARAMS.limits)
    warped_flow.run(
        Path("frames"), Path("flow"), Path("warped"), PARAMS.flow, PARAMS.warped_flow, PARAMS.limits
    )
    with h5py.File("warped/good.h5") as file:
        assert json.loads(file.attrs["made_by"])["pairs_without_homography"] == 3
        assert file["flow_x_at"].shape == (4,)


def test_a_single_frame_is_excluded(project, clip):
    sample.encode(project / "good.mp4", clip.frames[:1], 25, CODEC)
    decode.run(Path("index"), Path("frames"), PARAMS.decode, PARAMS.limits)
    assert rows("frames")["good"].reason.startswith("1 frame, at least 2 are needed")


def test_a_restart_ends_with_the_same_bytes(project):
    decode.run(Path("index"), Path("frames"), PARAMS.decode, PARAMS.limits)
    flow.run(Path("frames"), Path("flow"), PARAMS.flow, PARAMS.limits)
    first = {path.name: path.read_bytes() for path in Path("flow").iterdir()}
    flow.run(Path("frames"), Path("again"), PARAMS.flow, PARAMS.limits)
    assert {path.name: path.read_bytes() for path in Path("again").iterdir()} == first
    # Without the item store, from nothing.
    Path(".items").rename("elsewhere")
    flow.run(Path("frames"), Path("anew"), PARAMS.flow, PARAMS.limits)
    assert {path.name: path.read_bytes() for path in Path("anew").iterdir()} == first


def train_without(tmp_path, *excluded, max_untaught=0.0):
    """Check three classes of one clip to train on, some of which decode has excluded."""
    training = [
        Video(video_id=name, path=name, dataset="d", class_name=name, label=label, subset="train",
              sha256="0", status="ok", reason="")
        for label, name in enumerate(("run", "jump", "swim")) if name not in excluded
    ]  # fmt: skip
    check_taught(tmp_path, {"d": ["run", "jump", "swim"]}, training, max_untaught)


def test_a_class_whose_training_clips_were_all_excluded_is_named(tmp_path, capsys):
    told = "no usable clip in the subset train of the classes jump"
    expected = f"{told}, expected some of each, or limits.max_untaught of at least 0.333"
    with pytest.raises(ValueError, match=expected):
        train_without(tmp_path, "jump", max_untaught=0.3)
    train_without(tmp_path, "jump", max_untaught=0.334)
    assert f"{told}\n" in capsys.readouterr().out
    train_without(tmp_path)
    assert not capsys.readouterr().out


def test_one_class_left_to_train_on_is_an_error(tmp_path):
    expected = r"videos\.csv: got usable clips in the subset train of 1 of 3 classes, expected"
    with pytest.raises(ValueError, match=expected):
        train_without(tmp_path, "jump", "swim", max_untaught=1.0)
