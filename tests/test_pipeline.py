"""The commands that a user types, in a clone of their own, from rendering to the report."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
YAML_ = YAML(typ="safe", pure=True)
STREAMS = {"spatial": "frames", "temporal": "flow"}


def run(folder, *command):
    """Run a command as a user would; return what it said."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def edit(folder, at, value):
    """Change one value of params.yaml."""
    tree = YAML_.load((folder / "params.yaml").read_text())
    node = tree
    *way, last = at.split(".")
    for key in way:
        node = node[key]
    node[last] = value
    with (folder / "params.yaml").open("w") as file:
        YAML_.dump(tree, file)


def would_run(folder):
    """List the stages that DVC finds out of date, not counting those behind them."""
    told = run(folder, "dvc", "repro", "--dry")
    return {line.split("'")[1] for line in told.splitlines() if line.startswith("Running stage")}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Make the project's tracked files a repository, with params that take seconds."""
    folder = tmp_path_factory.mktemp("clone")
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in files.stdout.splitlines():
        if name == "dvc.lock" or name.startswith("results/") or not (ROOT / name).is_file():
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    run(folder, "git", "init", "-q")
    edit(folder, "sample.actions.clips_per_class", 3)
    edit(folder, "sample.actions.frames", 16)
    edit(folder, "sample.actions.width", 96)
    edit(folder, "sample.actions.height", 72)
    edit(folder, "sample.actions.truth_clips", 1)
    edit(folder, "decode.short_side", 64)
    edit(folder, "flow.tvl1.warps", 1)
    tree = YAML_.load((folder / "params.yaml").read_text())
    streams = {name: tree["streams"][name] for name in STREAMS}
    for stream in streams.values():
        stream["network"] |= {"name": "resnet18", "weights": "none"}
        stream["input"]["crop"] = 32
        stream["training"] |= {"epochs": 1}
        stream["testing"] |= {"frames": 2, "crops": 1}
    # Multi-task learning, of the same clips under another name.
    other = tree["dataset"] | {"name": "again"}
    edit(folder, "auxiliary_datasets", {"again": other})
    streams["temporal"]["training"]["auxiliary"] = ["again"]
    edit(folder, "streams", streams)
    edit(folder, "fuse.streams", list(STREAMS))
    edit(folder, "fuse.weights", dict.fromkeys(STREAMS, 1.0))
    run(folder, "dvc", "repro")
    return folder


def test_the_results_are_there_and_dvc_reads_them(clone):
    results = json.loads((clone / "results/metrics.json").read_text())
    assert set(results["streams"]) == set(STREAMS)
    assert set(results["fusion"]) == {"average", "weighted", "svm"}
    assert {m["videos"] for group in results.values() for m in group.values()} == {8}
    for name in ("confusion.png", "training.png", "predictions.csv", "per_class.csv"):
        assert (clone / "results" / name).stat().st_size > 100
    assert "mean_class_accuracy" in run(clone, "dvc", "metrics", "show", "--md")
    assert "predicted" in run(clone, "dvc", "plots", "show", "--json")


def test_a_second_run_does_nothing(clone):
    assert "Data and pipelines are up to date" in run(clone, "dvc", "repro")


@pytest.mark.parametrize(
    ("at", "value", "stages"),
    [
        ("lr", 0.005, {"train@spatial", "train@temporal"}),
        ("streams.temporal.training.epochs", 2, {"train@temporal"}),
        ("streams.temporal.input.kind", "trajectory", {"train@temporal", "score@temporal"}),
        ("streams.spatial.testing.crops", 2, {"score@spatial"}),
        ("flow.bound", 15, {"flow", "warped_flow", "bidirectional_flow"}),
        ("bidirectional_flow.compute", True, {"bidirectional_flow"}),
        ("warped_flow.features", 100, {"warped_flow"}),
        ("fuse.svm_c", 2.0, {"fuse"}),
        ("fuse.svm", False, {"score@spatial", "score@temporal", "fuse"}),
        ("decode.short_side", 60, {"decode"}),
    ],
)
def test_a_change_reaches_what_depends_on_it_alone(clone, at, value, stages):
    before = (clone / "params.yaml").read_text()
    edit(clone, at, value)
    try:
        assert would_run(clone) == stages | {"check"}
    finally:
        (clone / "params.yaml").write_text(before)


def test_another_pretrained_file_reaches_the_trainings_of_its_network_alone(clone):
    for name, stages in {"resnet18": {"train@spatial", "train@temporal"}, "vgg16": set()}.items():
        file = clone / f"data/pretrained/{name}/imagenet.pth"
        file.write_bytes(b"weights")
        try:
            assert would_run(clone) == stages
        finally:
            file.unlink()


def test_with_the_old_values_nothing_is_out_of_date(clone):
    assert would_run(clone) == set()


def ran(told):
    """List the modules that DVC started."""
    return re.findall(r"> python -m pipeline\.(\w+ ?\w*)", told)


def test_going_back_to_old_values_computes_nothing(clone):
    before = (clone / "params.yaml").read_text()
    edit(clone, "flow.bound", 15)
    assert "flow data" in ran(run(clone, "dvc", "repro", "flow"))
    (clone / "params.yaml").write_text(before)
    assert not set(ran(run(clone, "dvc", "repro"))) - {"params params"}


def test_an_experiment_scores_again_and_leaves_the_training_alone(clone):
    run(clone, "git", "add", "-A")
    run(clone, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "before")
    told = run(clone, "dvc", "exp", "run", "-S", "streams.spatial.testing.crops=2")
    run(clone, "git", "checkout", "-q", ".")
    run(clone, "dvc", "checkout", "-q")
    assert set(ran(told)) - {"check params"} == {"score spatial", "fuse data", "report data"}


def test_a_forced_run_ends_with_the_same_bytes(clone):
    before = (clone / "dvc.lock").read_bytes()
    shutil.rmtree(clone / ".items")
    run(clone, "dvc", "repro", "--force", "warped_flow", "score@temporal")
    assert (clone / "dvc.lock").read_bytes() == before


@pytest.mark.parametrize("at", ["streams.spatial.speed", "extra"])
def test_a_key_that_no_stage_reads_is_refused_too(clone, at):
    before = (clone / "params.yaml").read_text()
    edit(clone, at, 3)
    done = subprocess.run(["dvc", "repro"], cwd=clone, capture_output=True, text=True)
    (clone / "params.yaml").write_text(before)
    assert done.returncode != 0
    assert f"{at}: unknown key" in done.stderr


def test_bad_params_are_refused_before_any_work(clone):
    before = (clone / "params.yaml").read_text()
    edit(clone, "decode.short_side", 60)
    edit(clone, "fuse.svm_c", "much")
    done = subprocess.run([sys.executable, "-m", "pipeline.decode", "data/index", "data/other"],
                          cwd=clone, capture_output=True, text=True)  # fmt: skip
    (clone / "params.yaml").write_text(before)
    assert done.returncode != 0
    assert "fuse.svm_c: got 'much', expected a number" in done.stderr
    assert not (clone / "data/other").exists()
