"""The mean over splits of made-up experiments in a repository of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import mean_of_splits
from pipeline.mean_of_splits import SplitsError, choose, table

STAGE = """
import json
from pathlib import Path
from ruamel.yaml import YAML
params = YAML().load(Path("params.yaml").read_text())
top1 = params["lr"] + params["dataset"]["split"] / 10
m = {"top1": top1, "top5": 1.0, "mean_class_accuracy": top1 - 0.05, "videos": 2}
both = {"streams": {"spatial": m}, "fusion": {"average": m | {"top1": 0.9}}}
Path("metrics.json").write_text(json.dumps(both))
"""
DVC = """
stages:
  report:
    cmd: python stage.py
    deps: [stage.py]
    params: [lr, dataset]
    metrics: [{metrics.json: {cache: false}}]
"""


def call(folder, *command):
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    env |= {f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")}  # fmt: skip
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_experiments_that_differ_in_the_split_alone_are_averaged(tmp_path, monkeypatch, capsys):
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "dvc.yaml").write_text(DVC)
    (tmp_path / "params.yaml").write_text("lr: 0.1\ndataset: {name: d, split: 1, format: hmdb51}\n")
    call(tmp_path, "git", "init", "-q")
    call(tmp_path, "dvc", "init", "-q")
    call(tmp_path, "git", "add", ".")
    call(tmp_path, "git", "commit", "-qm", "start")
    # The second is of another rate.
    for changes in (["split=1"], ["split=2", "lr=0.7"], ["split=3", "lr=0.1"]):
        values = [f"dataset.{changes[0]}", *changes[1:]]
        call(tmp_path, "dvc", "exp", "run", "-q", *(f"-S{value}" for value in values))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mean_of_splits"])
    expected = r"got experiments of the splits 1, 3 .*expected one each of 1, 2, 3: dvc exp run"
    with pytest.raises(SystemExit, match=f"^mean_of_splits: {expected} -S dataset.split=2$"):
        mean_of_splits.main()
    call(tmp_path, "dvc", "exp", "run", "-q", "-Sdataset.split=2", "-Slr=0.1")
    mean_of_splits.main()
    said = capsys.readouterr().out
    assert "| spatial | 0.2000 | 0.3000 | 0.4000 | 0.3000 |" in said
    assert "| average | 0.9000 | 0.9000 | 0.9000 | 0.9000 |" in said
    assert "mean class accuracy\n\n" in said
    assert "| spatial | 0.1500 | 0.2500 | 0.3500 | 0.2500 |" in said


def told(split, top1, timestamp, **changes):
    metrics = {"streams": {"spatial": {"top1": top1}}, "fusion": {}}
    params = {"lr": 0.1, "dataset": {"split": split, "format": "ucf101"}} | changes
    return {"timestamp": timestamp, "params": {"params.yaml": {"data": params}},
            "metrics": {"results/metrics.json": {"data": metrics}}}  # fmt: skip


def revisions(*experiments):
    entries = [{"revs": [{"data": data}]} for data in experiments]
    return [{"data": told(1, 0.0, None)}, {"data": told(1, 0.0, None), "experiments": entries}]


def test_a_dataset_without_official_splits_has_no_mean():
    mine = revisions(*(told(n, n, "1") for n in (1, 2, 3)))
    mine[0]["data"]["params"]["params.yaml"]["data"]["dataset"]["format"] = "folders"
    with pytest.raises(SplitsError, match=r"^dataset\.format: got folders, which has no official"):
        choose(mine)


def test_the_newest_of_each_split_counts():
    three = [told(split, 0.5, "2024-01-01") for split in (1, 2, 3)]
    newer, other = told(2, 0.8, "2024-01-03"), told(2, 0.1, "2024-01-04", lr=1.0)
    for order in ([newer, *three, other], [*three, other, newer]):
        found = choose(revisions(*order))
        assert [found[k]["streams"]["spatial"]["top1"] for k in (1, 2, 3)] == [0.5, 0.8, 0.5]


def test_experiments_that_failed_or_wait_are_passed_over():
    failed = {"revs": [{"data": None, "error": {"msg": "failed"}}]}
    waiting = told(2, 0.0, None) | {"metrics": None}
    many = revisions(told(1, 0.5, "2024"), waiting, told(3, 0.5, "2024"))
    many[1]["experiments"].append(failed)
    with pytest.raises(SplitsError, match="got experiments of the splits 1, 3 with"):
        choose(many)
    with pytest.raises(SplitsError, match="got experiments of the splits none with"):
        choose(revisions())


def test_what_is_not_in_every_split_has_no_mean():
    with_svm = {"streams": {"spatial": {"top1": 0.5}}, "fusion": {"svm": {"top1": 0.5}}}
    without = {"streams": {"spatial": {"top1": 0.7}}, "fusion": {}}
    drawn = table({1: with_svm, 2: without, 3: with_svm}, "top1")
    assert re.findall(r"^\| (\w+) ", drawn, re.M) == ["spatial"]
    assert drawn.splitlines()[0] == "|  | split 1 | split 2 | split 3 | mean |"


def test_no_params_and_no_repository_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(SplitsError, match=r"params\.yaml: got no dataset\.split"):
        choose([{"data": None}])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mean_of_splits"])
    with pytest.raises(SystemExit, match=r"^mean_of_splits: dvc exp show: [^\n]+$"):
        mean_of_splits.main()
