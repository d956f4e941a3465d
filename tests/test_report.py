"""report: tables and pictures from what fuse and train wrote."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import report

ROOT = Path(__file__).parents[1]
OUTS = ("confusion.csv", "confusion.png", "metrics.json", "per_class.csv", "predictions.csv",
        "training.csv", "training.png")  # fmt: skip
PREDICTIONS = """video_id,truth,rgb,flow,average
v1,run,run,jump,run
v2,run,jump,jump,jump
v3,jump,jump,jump,jump
v4,"walk, slowly",run,"walk, slowly","walk, slowly"
v5,run,run,run,run
"""
CURVE = """epoch,lr,train_loss,train_top1,val_loss,val_top1
1,0.01,1.5,0.25,1.6,0.2
2,0.005,0.75,0.5,,
"""


@pytest.fixture
def folders(tmp_path):
    fusion, curves = tmp_path / "fusion", tmp_path / "curves"
    fusion.mkdir()
    curves.mkdir()
    streams = {"streams": {"rgb": {"top1": 0.6}, "flow": {"top1": 0.6}}, "fusion": {}}
    (fusion / "metrics.json").write_text(json.dumps(streams), encoding="utf-8")
    (fusion / "predictions.csv").write_text(PREDICTIONS, encoding="utf-8")
    (curves / "rgb.csv").write_text(CURVE, encoding="utf-8")
    return tmp_path


def run(folders, out="out"):
    report.run(folders / "fusion", folders / "curves", folders / out)
    return folders / out


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_tables(folders):
    out = run(folders)
    assert sorted(path.name for path in out.iterdir()) == list(OUTS)
    for name in ("metrics.json", "predictions.csv"):
        assert (out / name).read_bytes() == (folders / "fusion" / name).read_bytes()
    assert rows(out / "confusion.csv") == [
        ["actual", "predicted"],
        ["run", "run"],
        ["run", "jump"],
        ["jump", "jump"],
        ["walk, slowly", "walk, slowly"],
        ["run", "run"],
    ]
    assert rows(out / "per_class.csv") == [
        ["class", "videos", "rgb", "flow", "average"],
        ["jump", "1", "1.0000", "1.0000", "1.0000"],
        ["run", "3", "0.6667", "0.3333", "0.6667"],
        ["walk, slowly", "1", "0.0000", "1.0000", "1.0000"],
    ]
    # The stream "flow" came from elsewhere, without a curve.
    assert rows(out / "training.csv") == [
        ["stream", "epoch", "lr", "train_loss", "train_top1", "val_loss", "val_top1"],
        ["rgb", "1", "0.01", "1.5", "0.25", "1.6", "0.2"],
        ["rgb", "2", "0.005", "0.75", "0.5", "", ""],
    ]


def test_both_phases_of_an_st_resnet_have_a_curve(folders):
    (folders / "curves/flow.stage1.csv").write_text(CURVE, encoding="utf-8")
    (folders / "curves/flow.csv").write_text(CURVE, encoding="utf-8")
    (folders / "curves/other.csv").write_text(CURVE, encoding="utf-8")
    written = [row[0] for row in rows(run(folders) / "training.csv")[1:]]
    assert written == [name for name in ("rgb", "flow.stage1", "flow") for _ in range(2)]


@pytest.mark.parametrize("name", ["confusion.png", "training.png"])
def test_pictures_show_something_and_follow_the_numbers(folders, name):
    first = cv2.imread(str(run(folders) / name))
    assert min(first.shape[:2]) >= 400
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 50
    if name == "confusion.png":
        changed = PREDICTIONS.replace("v5,run,run,run,run", "v5,run,run,run,jump")
        (folders / "fusion/predictions.csv").write_text(changed, encoding="utf-8")
    else:
        changed = CURVE.replace("0.75", "1.25")
        (folders / "curves/rgb.csv").write_text(changed, encoding="utf-8")
    second = cv2.imread(str(run(folders, "other") / name))
    assert first.shape != second.shape or (first != second).any()


def test_outputs_are_the_same_bytes_each_time(folders):
    one, two = run(folders, "one"), run(folders, "two")
    for name in OUTS:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_dvc_draws_a_line_for_each_stream(folders):
    (folders / "curves/flow.csv").write_text(CURVE, encoding="utf-8")
    run(folders, "results")
    for name in ("dvc.yaml", "params.yaml", ".dvc/config", ".dvc/plots/streams.json"):
        (folders / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folders / name)
    subprocess.run(["git", "init", "-q"], cwd=folders, check=True)
    done = subprocess.run([sys.executable, "-m", "dvc", "plots", "show", "--json"], cwd=folders,
                          capture_output=True, text=True, check=True)  # fmt: skip
    drawn = json.loads(done.stdout)["data"]["training loss"][0]["content"]
    line = drawn["encoding"]["color"]["field"]
    lines = {}
    for row in drawn["data"]["values"]:
        lines.setdefault(row[line], []).append((row[drawn["encoding"]["x"]["field"]],
                                                row[drawn["encoding"]["y"]["field"]]))  # fmt: skip
    assert lines == {name: [("1", "1.5"), ("2", "0.75")] for name in ("rgb", "flow")}


def test_no_curves_at_all(folders):
    (folders / "curves/rgb.csv").unlink()
    out = run(folders)
    assert len(rows(out / "training.csv")) == 1
    assert cv2.imread(str(out / "training.png")) is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch,lr\n1,0.1\n", r"rgb\.csv: got no column train_loss, expected a training curve"),
        (CURVE.replace("0.75", "little"), r"rgb\.csv: got .*'little', expected a training curve"),
        (CURVE + "3,0.1\n", r"rgb\.csv: got .*, expected a training curve"),
    ],
)
def test_a_broken_curve_is_named(folders, text, said):
    (folders / "curves/rgb.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        run(folders)


def test_command(folders, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["report", *(str(folders / n) for n in
                                                  ("fusion", "curves", "out"))])  # fmt: skip
    report.main()
    assert sorted(path.name for path in (folders / "out").iterdir()) == list(OUTS)
