"""Tables of experiments: in a made-up repository of its own, and those that ship."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.ablation import check, read
from pipeline.strict import ParamsError

ROOT = Path(__file__).parents[1]
STAGE = """
import json
from pathlib import Path
from ruamel.yaml import YAML
params = YAML().load(Path("params.yaml").read_text())
assert params["lr"] < 0.5 or params["seed"] == 9
top1 = params["lr"] + params["seed"] / 10
Path("results").mkdir(exist_ok=True)
Path("results/metrics.json").write_text(json.dumps({
    "streams": {"spatial": {"top1": top1}},
    "fusion": {"average": {"top1": 0.9}, "svm": None},
}))
with open("../ran", "a") as file:
    print(params["lr"], params["seed"], file=file)
"""
DVC = """
stages:
  report:
    cmd: python stage.py
    params: [lr, seed]
    metrics: [{results/metrics.json: {cache: false}}]
"""
TABLE = """
title: How fast
shown: [spatial, average]
common: [fuse.svm_c=2]
rows:
- {title: slow, set: [lr=0.25]}
- {title: as it is, set: []}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository whose one stage tells what it was run with."""
    env = {f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER")
           for what in ("NAME", "EMAIL")}  # fmt: skip
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env["PYTHONPATH"] = str(ROOT)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    made = tmp_path / "project"
    made.mkdir()
    (made / "stage.py").write_text(STAGE)
    (made / "dvc.yaml").write_text(DVC)
    text = (ROOT / "params.yaml").read_text()
    (made / "params.yaml").write_text(text.replace("lr: 0.01", "lr: 0.1  # a comment"))
    (made / "table.yaml").write_text(TABLE)
    for command in ("git init -q", "dvc init -q", "git add .", "git commit -qm start"):
        subprocess.run(command.split(), cwd=made, check=True)
    return made


def ablation(folder, *args):
    command = [sys.executable, "-m", "pipeline.ablation", "table.yaml", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_rows_and_seeds_become_a_table_and_are_run_once(folder):
    before = (folder / "params.yaml").read_bytes()
    done = ablation(folder, "--seeds", "1", "3")
    assert done.returncode == 0, done.stderr
    table = done.stdout.rpartition("How fast")[2]
    assert "|  | spatial | average | seeds |" in table
    assert "| slow | 0.450 ± 0.141 | 0.900 ± 0.000 | 2 |" in table
    assert "| as it is | 0.300 ± 0.141 | 0.900 ± 0.000 | 2 |" in table
    with (folder / "results/ablations/table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"row": "slow", "seed": "1", "answer": "spatial", "top1": "0.35"}
    assert len(rows) == 2 * 2 * 3
    assert (folder / "results/ablations/table.png").stat().st_size > 1000
    assert (folder / "params.yaml").read_bytes() == before
    told = subprocess.run(["dvc", "exp", "list", "--name-only"], cwd=folder, capture_output=True,
                          text=True).stdout.split()  # fmt: skip
    assert sorted(told) == [f"table-{row}-seed-{seed}" for row in ("as-it-is", "slow")
                            for seed in (1, 3)]  # fmt: skip
    ran = (folder.parent / "ran").read_text().splitlines()
    assert ran == ["0.25 1", "0.1 1", "0.25 3", "0.1 3"]
    (folder / "table.yaml").write_text(TABLE.replace("- {title: as it is, set: []}\n", ""))
    assert "| slow | 0.350 |" in ablation(folder, "--seeds", "1").stdout
    assert (folder.parent / "ran").read_text().splitlines() == ran


def test_params_are_put_back_after_a_failure_and_after_a_kill(folder):
    before, kept = (folder / "params.yaml").read_bytes(), folder / "results/ablations"
    one_row = TABLE.replace("0.25", "0.75").replace("- {title: as it is, set: []}\n", "")
    (folder / "table.yaml").write_text(one_row)
    done = ablation(folder, "--seeds", "1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ablation: table-slow-seed-1: dvc exp run")
    assert (folder / "params.yaml").read_bytes() == before
    assert not list(kept.glob("*.params.yaml"))
    # As a killed run leaves it: the row's values, and the copy.
    (kept / "table.params.yaml").write_bytes(before)
    (folder / "params.yaml").write_bytes(before.replace(b"seed: 0", b"seed: 5"))
    done = ablation(folder, "--seeds", "9")
    assert "put back as it was before the last run" in done.stdout, done.stderr
    assert (folder.parent / "ran").read_text().splitlines() == ["0.75 9"]
    assert (folder / "params.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("set:", "sets:", r"t\.yaml: rows\[0\]\.sets: unknown key"),
        ("as it is", "Slow!", r"t\.yaml: rows: got the title 'slow', expected one whose letters"),
        ("as it is", "все", r"t\.yaml: rows: got the title 'все'"),
        (
            "[spatial, average]\ncommon: [fuse.svm_c=2]",
            "[svm]\ncommon: [fuse.svm=false]",
            r"t\.yaml: shown: got svm, expected some of the row 'slow'",
        ),
        ("[spatial,", "[spatail,", r"t\.yaml: shown: got spatail, expected some of the row 'slow'"),
        ("lr=0.25", "lr=fast", r"t\.yaml: slow: lr: got 'fast', expected a number"),
        ("lr=0.25", "rate=1", r"t\.yaml: slow: .*rate"),
    ],
)
def test_a_table_that_would_fail_is_refused_before_its_first_row(tmp_path, old, new, expected):
    (tmp_path / "t.yaml").write_text(TABLE.replace(old, new), encoding="utf-8")
    with pytest.raises(ParamsError, match=expected):
        check(tmp_path / "t.yaml", read(tmp_path / "t.yaml"), (ROOT / "params.yaml").read_bytes())


SMALL = ("params", "presets/own", "presets/ucf101", "presets/hmdb51")
BASES = {
    "two_stream_volumes": SMALL,
    "svm_scores": SMALL,
    "tsn_steps": SMALL,
    "st_resnet": ("presets/st_resnet_sample",),
}


def test_all_tables_have_a_base():
    assert sorted(path.stem for path in (ROOT / "ablations").iterdir()) == sorted(BASES)


@pytest.mark.parametrize(("name", "base"), [(n, b) for n, bases in BASES.items() for b in bases])
def test_the_rows_of_the_tables_that_ship_are_valid_params_and_no_two_alike(name, base):
    path = ROOT / f"ablations/{name}.yaml"
    ablation = read(path)
    check(path, ablation, (ROOT / f"{base}.yaml").read_bytes())
    changed = [sorted(row.set) for row in ablation.rows]
    assert all(changed.count(one) == 1 for one in changed)
