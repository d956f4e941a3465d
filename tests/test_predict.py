"""predict: the stages' own answers to videos that no dataset lists, from random networks."""

import csv
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from models import build
from models.from_streams import from_streams
from pipeline import (
    adopt,
    bidirectional_flow,
    decode,
    flow,
    predict,
    prediction_picture,
    sample,
    score,
    score_st_resnet,
    warped_flow,
)
from pipeline.learning.scores import read_scores
from pipeline.learning.weights import write_weights
from pipeline.params import load
from pipeline.stream_params import channels_of
from pipeline.video import store
from pipeline.videos import Video, write_videos

ROOT = Path(__file__).parents[1]
CLASSES = ["jump", "run", "sit"]
CROP, FRAMES = 32, 14
KINDS = {"frames": "stack", "flow": "stack", "warped_flow": "trajectory",
         "bidirectional_flow": "bidirectional"}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Make a params file with a stream of each source and an ST-ResNet, weights, and two clips."""
    folder = tmp_path_factory.mktemp("project")
    tree = YAML(typ="safe", pure=True).load((ROOT / "presets/st_resnet_sample.yaml").read_text())
    tree["sample"] = {}
    tree["decode"]["short_side"] = 40
    tree["flow"]["backend"] = "opencv"  # the one that needs no compiling
    tree["flow"]["tvl1"] |= {"scales": 2, "warps": 1}
    tree["warped_flow"] |= {"compute": True, "mode": "subtract"}
    tree["bidirectional_flow"]["compute"] = True
    plain = tree["streams"]["temporal"]
    tree["streams"] = {"frames": tree["streams"]["spatial"]} | {
        source: plain | {"source": source, "input": plain["input"] | {"kind": kind, "length": 4}}
        for source, kind in KINDS.items()
        if source != "frames"
    }
    for stream in tree["streams"].values():
        stream["input"] = stream["input"] | {"crop": CROP}
        stream["testing"] = stream["testing"] | {"frames": 3}
    joint = tree["st_resnet"]["joint"]
    joint |= {"spatial": "frames", "temporal": "flow", "crop": CROP}
    joint["testing"] |= {"frames": 5}
    names = [*KINDS, "joint"]
    tree["fuse"] |= {"streams": names, "weights": dict.fromkeys(names, 1.0), "svm": False}
    with (folder / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(tree, file)
    weigh(folder / "data/weights", load(folder / "params.yaml"))
    rng = np.random.default_rng(0)
    for number in range(2):
        texture = rng.integers(0, 256, (8, 10, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        moved = [np.roll(texture, (2 + number) * frame, 1) for frame in range(FRAMES)]
        sample.encode(folder / f"clip {number}.mp4", np.stack(moved), 25,
                      {"vcodec": "libx264", "pix_fmt": "yuv420p"})  # fmt: skip
    (folder / "text.mp4").write_text("no video")
    return folder


def weigh(folder, params):
    """Keep random networks as the stages do."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    networks = {}
    for name, stream in params.streams.items():
        networks[name] = build(
            stream.network.name, classes=3, channels=channels_of(stream), crop=CROP, dropout=0.0,
            weights="none",
        )  # fmt: skip
        torch.nn.init.normal_(networks[name].fc.weight, std=0.3)
        about = {**asdict(stream), "short_side": params.decode.short_side,
                 "bound": params.flow.bound if stream.source != "frames" else None}  # fmt: skip
        write_weights(folder / f"{name}.pt", networks[name], {"d": CLASSES}, about)
    section = params.st_resnet["joint"]
    shape = {"connections": section.connections, "temporal_filters": section.temporal_filters}
    joint = from_streams(
        "resnet18", networks["frames"].state_dict(), networks["flow"].state_dict(), dropout=0.0,
        time_pool=True, checkpointing=False, **shape,
    )  # fmt: skip
    seen = {"length": 4, "subtract_mean": True, "mean": (120.0,) * 3, "std": (58.0,) * 3,
            "flow_std": (58.0,) * 8}  # fmt: skip
    about = {"network": "resnet18", "source": "flow", "seen": seen, "time_pool": True,
             "crop": CROP, **shape}  # fmt: skip
    write_weights(folder / "joint.pt", joint, {"d": CLASSES}, about)


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.setenv("PIPELINE_LOADERS", "0")
    monkeypatch.chdir(project)
    return project


def by_stages(data, params):
    """Score both clips as the stages do, from files that an index lists; give each's answers."""
    params = replace(params, dataset=replace(params.dataset, name="d"))
    (data / "index").mkdir(parents=True)
    rows = [Video(video_id=f"v{n}", path=f"clip {n % 2}.mp4", dataset="d", class_name=CLASSES[n],
                  label=n, subset="test", sha256=str(n), status="ok" if n < 2 else "missing",
                  reason="") for n in range(3)]  # fmt: skip
    write_videos(data / "index/videos.csv", rows)
    frames, plain, warped, both = (data / name for name in KINDS)
    decode.run(data / "index", frames, params.decode, params.limits)
    flow.run(frames, plain, params.flow, params.limits)
    warped_flow.run(frames, plain, warped, params.flow, params.warped_flow, params.limits)
    bidirectional_flow.run(frames, plain, both, params.flow, params.bidirectional_flow,
                           params.limits)  # fmt: skip
    found = {}
    for name in params.fuse.streams:
        weights, out = Path(f"data/weights/{name}.pt"), data / f"{name}.h5"
        if name == "joint":
            score_st_resnet.run(frames, plain, weights, out, name=name, params=params)
        else:
            score.run(data / name, weights, out, name=name, params=params)
        scores = read_scores(out)
        assert scores.video_id.tolist() == ["v0", "v1"]
        found[name] = scores.probs
    return found


def test_its_answers_are_those_of_the_stages(here, tmp_path):
    params = load()
    clips = [Path("clip 0.mp4"), Path("clip 1.mp4")]
    answers, excluded = predict.run(clips, tmp_path / "out", params, weights=Path("data/weights"),
                                    top=2)  # fmt: skip
    assert excluded == {} and [answer.path for answer in answers] == clips
    assert not Path(".items").exists()  # of which the stages would lose count
    expected = by_stages(tmp_path / "stages", params)
    for number, answer in enumerate(answers):
        assert answer.classes == tuple(CLASSES) and list(answer.streams) == [*KINDS, "joint"]
        for name, probs in answer.streams.items():
            np.testing.assert_array_equal(probs, expected[name][number])
        mean = np.mean([of[number].astype(np.float64) for of in expected.values()], 0)
        np.testing.assert_allclose(answer.average, mean, rtol=1e-12)
    assert len({tuple(of[0].tolist()) for of in expected.values()}) == 5  # five networks indeed
    with (tmp_path / "out/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["video"], row["rank"]) for row in rows] == [
        (str(clip), rank) for clip in clips for rank in "12"
    ]
    best = answers[1].average.argsort()[::-1]
    assert [row["class"] for row in rows[2:]] == [CLASSES[label] for label in best[:2]]
    assert float(rows[2]["average"]) == pytest.approx(answers[1].average.max(), abs=5e-5)
    assert [row["picture"] for row in rows[::2]] == [answer.picture.name for answer in answers]
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == sorted([*{row["picture"] for row in rows}, "predictions.csv"])


def test_given_flow_of_packed_videos_of_one_name(here, tmp_path):
    """The stages' own pictures, laid out as a tool does, packed and given, are answered alike."""
    params = load()
    weights = {"frames": 1.0, "flow": 1.0}
    params = replace(
        params,
        streams={name: params.streams[name] for name in weights},
        st_resnet={},
        fuse=replace(params.fuse, streams=tuple(weights), weights=weights),
        bidirectional_flow=replace(params.bidirectional_flow, compute=False),
    )
    data, source, found = tmp_path / "data", tmp_path / "source", []
    for kind in ("frames", "flow"):
        (data / kind).mkdir(parents=True)
    for number in range(2):
        clip, folder = Path(f"clip {number}.mp4"), source / f"{number}/clip"
        decode.decode_video(data / "frames", clip.stem, clip, "", params.decode, "")
        flow.flow_video(data / "flow", clip.stem, data / "frames", "", params.flow, "")
        folder.mkdir(parents=True)
        for kind, names in (("frames", store.FRAMES), ("flow", store.FLOW)):
            with store.StoredVideo(data / kind, clip.stem, names) as video:
                for k in range(len(video)):
                    for name, jpeg in zip(names, video.jpegs(k), strict=True):
                        name = "img" if kind == "frames" else name
                        (folder / f"{name}_{k:05d}.jpg").write_bytes(jpeg)
    adopt.run(source, tmp_path / "packed", layout="denseflow", bound=params.flow.bound, lists={})
    given = replace(params, flow=replace(params.flow, backend="given"))
    clips = [f"clip {number}.mp4" for number in range(2)]
    packed = [tmp_path / f"packed/{number}/clip.h5" for number in range(2)]
    for paths, how in ((clips, params), (packed, given)):
        answers, excluded = predict.run(list(map(Path, paths)), tmp_path / "out", how,
                                        weights=Path("data/weights"), top=1)  # fmt: skip
        assert excluded == {} and len({answer.picture for answer in answers}) == 2
        found.append([answer.streams for answer in answers])
    for one, other in zip(*found, strict=True):
        for name in ("frames", "flow"):
            np.testing.assert_array_equal(one[name], other[name])


def command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pipeline.predict", *arguments], cwd=folder, capture_output=True,
        text=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1",
                        "PIPELINE_LOADERS": "0"},
    )  # fmt: skip


def test_a_broken_file_is_named_and_the_others_are_answered(project, tmp_path):
    done = command(project, "text.mp4", "clip 1.mp4", "--out", str(tmp_path), "--top", "1")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stdout.startswith("clip 1.mp4\n") and done.stdout.count("frames 0.") == 1
    assert done.stderr.splitlines()[-1].startswith("predict: text.mp4: damaged or truncated")
    assert len(list(tmp_path.glob("*.png"))) == 1
    alone = command(project, "text.mp4", "--out", str(tmp_path / "none"))
    assert alone.returncode == 1 and list((tmp_path / "none").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.mp4"], "gone.mp4: no such file, expected a video"),
        (["clip 0.mp4", "--weights", "gone"], "gone/frames.pt: no such file, expected weights"),
        (["clip 0.mp4", "--top", "0"], "--top: got 0, expected at least 1"),
    ],
)
def test_what_is_wrong_is_one_line(here, monkeypatch, arguments, said):
    monkeypatch.setattr(sys, "argv", ["predict", *arguments])
    with pytest.raises(SystemExit, match=f"^predict: {said}"):
        predict.main()


@pytest.mark.parametrize(
    ("name", "about", "heads", "said"),
    [
        ("flow", {"source": "flow", "input": {"length": 9}}, CLASSES, "got weights of input "),
        ("warped_flow", {"source": "flow"}, CLASSES, "got weights of source flow, expected warped"),
        ("joint", {"source": "flow", "connections": "none"}, CLASSES, "got weights of connections"),
        ("joint", {}, ["jump", "run"], "got weights of other classes than frames"),
        ("joint", None, None, "no such file"),
    ],
)
def test_weights_of_other_params_are_refused_before_any_video_is_read(
    project, tmp_path, monkeypatch, name, about, heads, said
):
    monkeypatch.chdir(project)
    shutil.copytree("data/weights", tmp_path / "weights")
    file = tmp_path / f"weights/{name}.pt"
    kept = torch.load(file, weights_only=True)
    file.unlink()
    if about is not None:
        torch.save(kept | {"about": about, "heads": {"d": heads}}, file)
    with pytest.raises(ValueError, match=rf"{name}\.pt: {said}"):
        predict.run([Path("clip 0.mp4")], tmp_path / "out", load(), weights=tmp_path / "weights",
                    top=1)  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("section", "key", "said"),
    [
        ("decode", "short_side", r"frames\.pt: got weights of short_side 40, expected 48"),
        ("flow", "bound", r"flow\.pt: got weights of bound 20.*, expected 10"),
    ],
)
def test_weights_of_other_frames_and_flow_are_refused(project, monkeypatch, section, key, said):
    monkeypatch.chdir(project)
    params, other = load(), {"short_side": 48, "bound": 10.0}
    params = replace(params, **{section: replace(getattr(params, section), **{key: other[key]})})
    with pytest.raises(ValueError, match=said):
        predict.run([Path("clip 0.mp4")], Path("out"), params, weights=Path("data/weights"), top=1)


def test_a_picture_shows_frames_and_names_as_they_are(tmp_path):
    """Without flow; what TeX would read otherwise is text."""
    frame = np.full((48, 64, 3), (200, 30, 60), np.uint8)
    (tmp_path / "frames").mkdir()
    store.write_video(tmp_path / "frames", "v", [[frame]] * 3, store.FRAMES, store="hdf5",
                      quality=95, made_by={})  # fmt: skip
    probs = np.array([0.25, 0.75])
    answer = prediction_picture.Answer(
        Path("cost $\\x$.mp4"), tmp_path / "v.png", ("$a", "b$\\y$"), {"frames": probs}, probs
    )
    prediction_picture.draw(answer.picture, answer, tmp_path, "v", bound=20.0, top=2)
    shown = cv2.imread(str(answer.picture), cv2.IMREAD_COLOR_RGB).astype(int)
    assert (np.abs(shown - frame[0, 0]).max(2) < 6).mean() > 0.05


def test_colours_show_direction_and_length():
    field = np.zeros((2, 1, 4), np.float32)
    field[0] = [2, -2, 0, 9]  # right, left, still, beyond
    right, left, still, beyond = prediction_picture.in_colours(field, 2.0)[0]
    assert right.tolist() == [255, 0, 0] == beyond.tolist()
    assert left.tolist() == [0, 255, 255] and still.tolist() == [0, 0, 0]
