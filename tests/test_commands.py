"""Each stage's command says what is wrong with its input in one line, without a traceback."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.video import store
from pipeline.videos import Video, write_videos

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Good and bad inputs of every stage, beside the shipped params."""
    folder = tmp_path_factory.mktemp("project")
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("efficientnet_lite0\n", "resnet18\n").replace(
        "name: efficientnet_lite0 ", "name: resnet18 "
    )
    text = text.replace("weights: imagenet", "weights: none").replace("crop: 112", "crop: 32")
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    for name, rows in (("frames", ("run", "jump")), ("torn", ("run", "jump")), ("one", ("run",))):
        (folder / name).mkdir()
        videos = [
            Video(video_id=c, path=c, dataset="sample", class_name=c, label=i, subset="train",
                  sha256="0", status="ok", reason="", frames=2)
            for i, c in enumerate(rows)
        ]  # fmt: skip
        write_videos(folder / name / "videos.csv", videos)
    pictures = [[np.zeros((40, 40, 3), np.uint8)]] * 2
    store.write_video(folder / "torn", "run", pictures, store.FRAMES, store="hdf5", quality=90,
                      made_by={})  # fmt: skip
    (folder / "torn/jump.h5").write_text("not HDF5")
    for name in ("junk.pt", "file", "notes.csv"):
        (folder / name).write_text("hello\n")
    torch.save({"weight": torch.zeros(1)}, folder / "other.pt")
    for name, classes in (("empty", ["run", "jump"]), ("classes", ["run", "sit"])):
        kept = {"heads": {"sample": classes}, "state_dict": {}, "about": {}}
        torch.save(kept, folder / f"{name}.pt")
    (folder / "bad").mkdir()
    (folder / "bad/metrics.json").write_text("[1")
    (folder / "half").mkdir()
    (folder / "half/metrics.json").write_text('{"streams": {"rgb": {}}}')
    (folder / "half/predictions.csv").write_text("video_id,truth\n")
    return folder


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sample none out", "sample: no 'none' among"),
        ("sample actions file", "file"),
        ("train none frames w.pt c.csv", "streams: no 'none' among"),
        ("train spatial gone w.pt c.csv", "gone/videos.csv: no such file"),
        ("train spatial one w.pt c.csv", "one/videos.csv: got usable clips in the subset train of"),
        ("train spatial frames w.pt c.csv", "frames/"),
        ("score none frames w.pt s.h5", "streams: no 'none' among"),
        ("score spatial gone empty.pt s.h5", "gone/videos.csv: no such file"),
        ("score spatial frames gone.pt s.h5", "gone.pt: no such file, expected weights written by"),
        ("score spatial frames junk.pt s.h5", "junk.pt: not a file of tensors, expected weights"),
        ("score spatial frames other.pt s.h5", "other.pt: no heads, state_dict and about in it"),
        ("score spatial frames classes.pt s.h5", "classes.pt: got weights of other classes"),
        ("score spatial frames empty.pt s.h5", "empty.pt: got weights of another network"),
        ("fuse out gone.h5", "gone.h5"),
        ("fuse out junk.pt", "junk.pt: not a readable HDF5 file"),
        ("report gone curves out", "gone/metrics.json"),
        ("report bad curves out", "bad/metrics.json: got other content, expected the metrics"),
        ("report half curves out", "half/predictions.csv: got other content, expected rows"),
        ("report half curves file", "half/predictions.csv"),
    ],
)
def test_bad_input_is_one_line(project, monkeypatch, command, said):
    stage, *arguments = command.split()
    monkeypatch.chdir(project)
    monkeypatch.setenv("PIPELINE_LOADERS", "1")
    monkeypatch.setattr(sys, "argv", [stage, *arguments])
    with pytest.raises(SystemExit) as caught:
        import_module(f"pipeline.{stage}").main()
    line = str(caught.value)
    assert line.startswith(f"{stage}: ") and said in line and "\n" not in line


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sample none out", "sample: no 'none' among"),
        ("train spatial torn w.pt c.csv", "torn/jump.h5"),
        ("score spatial frames junk.pt s.h5", "junk.pt"),
        ("fuse out gone.h5", "gone.h5"),
        ("report gone curves out", "gone/metrics.json"),
    ],
)
def test_a_command_ends_without_a_traceback(project, command, said):
    stage, *arguments = command.split()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PIPELINE_LOADERS": "1"}
    done = subprocess.run([sys.executable, "-m", f"pipeline.{stage}", *arguments], cwd=project,
                          env=env, capture_output=True, text=True)  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]  # behind a progress bar, maybe
    assert last.startswith(f"{stage}: ") and said in last


@pytest.mark.parametrize(
    "command",
    [
        "sample actions out",
        "train spatial frames w.pt c.csv",
        "score spatial frames empty.pt s.h5",
    ],
)
def test_no_params_file_is_one_line(project, monkeypatch, command):
    stage, *arguments = command.split()
    monkeypatch.chdir(project / "bad")
    monkeypatch.setattr(sys, "argv", [stage, *arguments])
    expected = rf"^{stage}: params\.yaml: no such file; run from the project's root$"
    with pytest.raises(SystemExit, match=expected):
        import_module(f"pipeline.{stage}").main()
