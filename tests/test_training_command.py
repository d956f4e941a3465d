"""``python -m pipeline.train``: killed and started again, in several processes, from the store."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from models import build
from pipeline import train
from pipeline.learning.scores import read_scores
from pipeline.learning.weights import read_weights
from pipeline.params import load
from pipeline.video import store
from pipeline.videos import Video, read_videos, write_videos

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "pipeline.train", "spatial", "frames", "w.pt", "c.csv")
SCORE = (sys.executable, "-m", "pipeline.score", "spatial", "frames", "w.pt", "s.h5")
CLIPS = 13  # an odd number, so that two processes share a last batch unevenly


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Thirteen clips of noise, and params that train a small network on them without dropout."""
    tmp_path = tmp_path_factory.mktemp("project")
    tree = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    stream = tree["streams"]["spatial"]
    stream["input"]["crop"] = 32
    stream["network"] |= {"name": "resnet18", "weights": "none", "dropout": 0.0}
    stream["training"] |= {"segments": 1, "epochs": 3, "batch": 4, "freeze_bn": "all"}
    tree["engine"] |= {"checkpoint_every": 2}
    save(tmp_path, tree)
    rng = np.random.default_rng(0)
    videos = [
        Video(video_id=f"v{n:02}", path=f"v{n:02}", dataset="sample", class_name="ab"[n % 2],
              label=n % 2, subset="train", sha256="0", status="ok", reason="", frames=2)
        for n in range(CLIPS)
    ]  # fmt: skip
    (tmp_path / "frames").mkdir()
    for video in videos:
        base = rng.integers(0, 256, (6, 6, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        pictures = [[base + np.uint8(40 * video.label)]] * 2
        store.write_video(tmp_path / "frames", video.video_id, pictures, store.FRAMES, store="hdf5",
                          quality=90, made_by={})  # fmt: skip
    write_videos(tmp_path / "frames/videos.csv", videos)
    return tmp_path


@pytest.fixture(scope="module")
def whole(project):
    """What a training makes that nothing disturbs."""
    assert "trained before" not in run(project)
    return outs(project)


def save(folder, tree):
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(tree, file)


def start(folder, command=COMMAND, **env):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PIPELINE_LOADERS": "1", **env}
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)


def run(folder, command=COMMAND, **env):
    assert start(folder, command, **env).wait() == 0, (folder / "log").read_text()[-3000:]
    return (folder / "log").read_text()


def outs(folder):
    found = [(folder / name).read_bytes() for name in ("w.pt", "c.csv")]
    for name in ("w.pt", "c.csv"):
        (folder / name).unlink()
    return found


def forget(folder):
    (folder / ".items").rename(folder / f"forgotten-{time.monotonic_ns()}")


@pytest.mark.parametrize(
    "signals", [(signal.SIGKILL,), pytest.param((signal.SIGINT, signal.SIGKILL) * 3,
                                                marks=pytest.mark.slow)]
)  # fmt: skip
def test_stopped_and_started_again_it_ends_with_the_same_bytes(project, whole, signals):
    assert "trained before" in run(project)
    assert outs(project) == whole
    forget(project)
    rng = np.random.default_rng(1)
    for how in signals:
        running = start(project, PIPELINE_LOADERS="0")
        before = newest(project)
        while running.poll() is None and newest(project) == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        running.send_signal(how)
        assert running.wait() != 0
        assert how != signal.SIGINT or "goes on from there" in (project / "log").read_text()
    assert "spatial: goes on at epoch" in run(project)
    assert outs(project) == whole
    assert not list(project.glob(".items/train-spatial/[!.]*.pt"))


def test_another_pretrained_file_in_the_same_place_is_another_start(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    monkeypatch.setenv("PIPELINE_LOADERS", "0")
    params = load(project / "params.yaml")
    spatial = params.streams["spatial"]
    once = replace(spatial, network=replace(spatial.network, weights="start.pth"),
                   training=replace(spatial.training, epochs=1))  # fmt: skip
    params = replace(params, streams=params.streams | {"pre": once})
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = build("resnet18", classes=9, channels=3, crop=32, dropout=0.0, weights="none")
        torch.save(network.state_dict(), "start.pth")
        train.run(Path("frames"), Path("pre.pt"), Path("pre.csv"), name="pre", params=params)
        made.append(Path("pre.pt").read_bytes())
        assert ("trained before" in capsys.readouterr().out) == (len(made) == 2)
    assert made[0] == made[1] != made[2]
    # A queued experiment of DVC stands in a copy of what git has, and has the project's items.
    queued = project / ".dvc/tmp/exps/one"
    queued.mkdir(parents=True)
    monkeypatch.chdir(queued)
    train.run(project / "frames", Path("pre.pt"), Path("pre.csv"), name="pre", params=params)
    assert "trained before" in capsys.readouterr().out


def newest(folder):
    """Give the time of the last checkpoint."""
    return max((path.stat().st_mtime_ns for path in folder.glob(".items/train-spatial/[!.]*.pt")),
               default=0)  # fmt: skip


def test_two_processes_train_and_score_as_one(project, whole):
    (project / "w.pt").write_bytes(whole[0])
    alone, curve = read_weights(project / "w.pt").state, whole[1].decode()
    run(project, SCORE)
    scores = read_scores(project / "s.h5")
    tree = YAML(typ="safe", pure=True).load((project / "params.yaml").read_text())
    tree["engine"]["processes"] = 2
    save(project, tree)
    said = run(project, SCORE, OMP_NUM_THREADS="1")
    assert said.count("score spatial: 13 videos") == 1
    shared = read_scores(project / "s.h5")
    assert shared.video_id.tolist() == scores.video_id.tolist()
    np.testing.assert_allclose(shared.logits, scores.logits, rtol=1e-4, atol=1e-5)
    said = run(project, OMP_NUM_THREADS="1")
    assert said.count("train spatial: 13 clips") == 1
    for key, value in read_weights(project / "w.pt").state.items():
        torch.testing.assert_close(value, alone[key], rtol=1e-4, atol=1e-5)
    ours, theirs = (
        np.array([line.split(",")[:4] for line in text.splitlines()[1:]], float)
        for text in ((project / "c.csv").read_text(), curve)
    )
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-5)
    # From step to step rounding grows.
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_two_processes_are_stopped_together_and_go_on_with_the_same_bytes(project):
    """With what each has of its own, batch statistics, in a moving average that is validated."""
    tree = YAML(typ="safe", pure=True).load((project / "params.yaml").read_text())
    stream = tree["streams"]["spatial"]
    stream["training"] |= {"freeze_bn": "none", "ema_decay": 0.8, "keep": "best"}
    tree["dataset"]["val_fraction"], tree["engine"]["processes"] = 0.2, 2
    save(project, tree)
    table = project / "frames/videos.csv"
    write_videos(table, [replace(video, subset="train" if number < 8 else "val")
                         for number, video in enumerate(read_videos(table))])  # fmt: skip
    run(project, OMP_NUM_THREADS="1")
    undisturbed = outs(project)
    forget(project)
    running = start(project, OMP_NUM_THREADS="1")
    while running.poll() is None and not newest(project):
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    assert running.wait() == 1
    said = (project / "log").read_text()
    assert said.count("goes on from there") == 1 and "Traceback" not in said
    assert "spatial: goes on at epoch" in run(project, OMP_NUM_THREADS="1")
    assert outs(project) == undisturbed
