"""ST-ResNet's stages: both phases and the scores, from every preset, on a few clips of noise."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from st_resnet_clips import HEIGHT, ROOT, SAMPLE, WIDTH, rows, short, write
from torch import nn

from models.from_streams import NETWORKS
from models.st_resnet import TimeConv
from pipeline import fuse, score_st_resnet, st_resnet
from pipeline.learning.joined import SHAPE
from pipeline.learning.scores import Scores, read_scores, write_scores
from pipeline.learning.weights import read_weights, write_weights
from pipeline.params import load

CROP = 32


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two classes of two clips each for training and testing, of 20 pictures of noise."""
    rng = np.random.default_rng(0)
    videos = [replace(v, subset=("train", "test")[n > 3]) for n, v in enumerate(rows(6, 20))]

    def noise(*channels):
        return rng.integers(0, 256, (HEIGHT, WIDTH, *channels), np.uint8)

    return write(tmp_path_factory.mktemp("noise"), videos, lambda *_: noise(3),
                 lambda *_: (noise(), noise()))  # fmt: skip


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    """Weights of a spatial and a temporal stream as the stage train writes them, by network.

    The spatial one has learned a second dataset beside its own.
    """
    root, made = tmp_path_factory.mktemp("streams"), {}

    def of(name):
        if name in made:
            return made[name]
        torch.manual_seed(0)
        made[name] = [root / f"{name}.{stream}.pt" for stream in ("spatial", "temporal")]
        for path, channels, length in zip(made[name], (3, 20), (1, 10), strict=True):
            heads = {"sample": ["a", "b"]} | ({"more": ["a", "c", "d"]} if length == 1 else {})
            classes = sum(map(len, heads.values()))
            network = NETWORKS[name](classes=classes, channels=channels, dropout=0.0)
            about = {
                "source": "flow" if length == 10 else "frames",
                "network": {"name": name}, "input": {"length": length, "subtract_mean": False},
                "mean": (120.0,) * 3, "std": (58.0,) * channels,
            }  # fmt: skip
            write_weights(path, network, heads, about)
        return made[name]

    return of


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_LOADERS", "0")
    monkeypatch.chdir(tmp_path)


def params_of(preset=SAMPLE, passes=1, **changes):
    section = replace(short(preset.st_resnet["joint"], CROP, passes), **changes)
    dataset = replace(preset.dataset, name="sample")
    return replace(preset, dataset=dataset, st_resnet={"joint": section})


def train(folders, phase, starts, params):
    stem = "joint.stage1" if phase == "stage1" else "joint"
    st_resnet.run(*folders, starts, Path(f"{stem}.pt"), Path(f"{stem}.csv"), phase=phase,
                  name="joint", params=params)  # fmt: skip
    return Path(f"{stem}.pt")


@pytest.mark.parametrize("name", ["sample", "ucf101", "hmdb51"])
def test_a_preset_trains_both_phases_and_scores(folders, streams, name):
    """At 32 px; all else as the preset has it, but the batch."""
    preset = load(ROOT / f"presets/st_resnet_{name}.yaml")
    params = params_of(preset, passes=2 if name == "sample" else 1)
    starts = streams(preset.streams["spatial"].network.name)
    first = train(folders, "stage1", starts, params)
    last = train(folders, "stage2", [first], params)
    score_st_resnet.run(*folders, last, Path("joint.h5"), name="joint", params=params)
    scores = read_scores(Path("joint.h5"))
    assert scores.classes == ("a", "b")
    assert len(scores.video_id) == (6 if preset.fuse.svm else 2)  # the test clips alone
    np.testing.assert_allclose(scores.probs.sum(1), 1, atol=1e-6)
    of = [read_weights(path) for path in (*starts, first, last)]
    conv = "layer1.1.conv1.weight"
    assert of[2].state[f"motion.{conv}"].shape == (*of[1].state[conv].shape[:2], 3,
                                                   *of[1].state[conv].shape[2:])  # fmt: skip
    assert of[0].state["fc.weight"].shape[0] == 5  # of which its own dataset's go on
    assert of[2].state["appearance.fc.weight"].shape[0] == 2 and of[2].heads == of[1].heads
    assert not of[2].about["time_pool"] and of[3].about["time_pool"]
    for key in ("appearance.fc.weight", "motion.fc.weight", "motion.bn1.running_mean"):
        assert not torch.equal(of[2].state[key], of[3].state[key])
    assert len(Path("joint.csv").read_text().splitlines()) == 2


def test_each_phase_and_the_test_go_by_their_own_params(folders, streams, monkeypatch):
    """What is handed to the training, the network and the scoring; nothing is trained."""
    handed = {}

    def keep(make, clips, views, *, write, weights, **how):
        task = make()
        write(task, weights)
        handed[how["name"]] = task.model, clips, views, how

    def answers(network, clips, **how):
        handed["score"] = network, clips, how
        return ((np.zeros(2, np.float32), np.full(2, 0.5, np.float32)) for _ in clips)

    monkeypatch.setattr(st_resnet, "train_once", keep)
    monkeypatch.setattr(score_st_resnet, "score_clips", answers)
    own = SAMPLE.st_resnet["joint"]
    for connections, filters in (("multiply", True), ("none", False)):
        params = params_of(
            connections=connections, temporal_filters=filters, checkpointing=filters,
            stage1=replace(own.stage1, lr_scale=0.3, frames=4, bn_momentum=0.1, passes=1),
            stage2=replace(own.stage2, lr_scale=0.2, frames=9, bn_momentum=0.2, passes=1),
            testing=replace(own.testing, views="ten_crops", frames=7),
        )  # fmt: skip
        section = params.st_resnet["joint"]
        first = train(folders, "stage1", streams("resnet18"), params)
        last = train(folders, "stage2", [first], params)
        for key, lr in (("stage1", 0.3), ("stage2", 0.2)):
            network, clips, views, how = handed[f"joint.{key}"]
            phase = getattr(section, key)
            assert clips.phase == phase == how["params"] and views.count == phase.frames
            assert clips.crop == views.crop == CROP
            assert how["lr"] == pytest.approx(params.lr * lr)
            assert (network.time_pool, network.connections) == (phase.time_pool, connections)
            assert network.checkpointing == filters
            assert any(isinstance(m, TimeConv) for m in network.modules()) == filters
            momenta = {m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)}
            assert list(momenta) == [pytest.approx(phase.bn_momentum)]
        score_st_resnet.run(*folders, last, Path("joint.h5"), name="joint", params=params)
        network, clips, how = handed["score"]
        assert network.time_pool and network.connections == connections
        assert (how["views"], how["crop"], how["seen"].length) == ("ten_crops", CROP, 10)
        assert clips.dataset.testing == section.testing


def test_its_scores_are_fused_with_those_of_a_stream_that_has_more_clips(folders, streams):
    params = params_of()
    first = train(folders, "stage1", streams("resnet18"), params)
    score_st_resnet.run(*folders, first, Path("joint.h5"), name="joint", params=params)
    joint = read_scores(Path("joint.h5"))
    more = [*joint.video_id, "w"]
    other = np.tile(np.float32([1, 0]), (len(more), 1))
    write_scores(Path("other.h5"), Scores(
        stream="other", classes=joint.classes, video_id=np.array(more), logits=other, probs=other,
        label=np.array([*joint.label, 0]), subset=np.array([*joint.subset, "test"]),
    ))  # fmt: skip
    both = [joint, read_scores(Path("other.h5"))]
    fuse.run(Path("fusion"), both, weights=[0.0, 1.0], weighted_of="logits", svm_c=1.0,
             fit_on="train", group_pattern="")  # fmt: skip
    told = json.loads(Path("fusion/metrics.json").read_text())["fusion"]
    assert told["weighted"]["videos"] == 2 and told["weighted"]["top1"] == 0.5  # class a alone


def test_what_was_trained_before_is_not_trained_again(folders, streams, capsys):
    params, starts = params_of(), streams("resnet18")
    first = train(folders, "stage1", starts, params)
    before = first.read_bytes()
    other = replace(params.st_resnet["joint"].stage2, epochs=2)
    changed = params_of(stage2=other, checkpointing=True)  # neither bears on the first phase
    train(folders, "stage1", starts, changed)
    assert "trained before" in capsys.readouterr().out
    assert first.read_bytes() == before
    train(folders, "stage1", starts, params_of(connections="multiply"))
    assert "trained before" not in capsys.readouterr().out


def in_two_processes(*words):
    """Run a stage's command by params.yaml, which has to ask for two."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LOGLEVEL": "INFO"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"nproc_per_node\s*: 2", done.stderr)  # as torchrun has it


def test_two_processes_train_as_two_passes_of_one_and_score_as_one(folders, streams):
    """Batch normalisation averages over one clip in both."""
    yaml, starts = YAML(typ="safe", pure=True), streams("resnet18")
    tree = yaml.load((ROOT / "presets/st_resnet_sample.yaml").read_text())
    section = tree["st_resnet"]["joint"]
    section["crop"], section["testing"]["frames"] = CROP, 5
    section["stage1"] |= {"batch": 2, "passes": 2, "epochs": 1, "milestones": []}
    yaml.dump(tree, Path("params.yaml"))
    alone = train(folders, "stage1", starts, load())
    score_st_resnet.run(*folders, alone, Path("alone.h5"), name="joint", params=load())
    section["stage1"]["passes"], tree["engine"]["processes"] = 1, 2
    yaml.dump(tree, Path("params.yaml"))
    out = Path("both.pt"), Path("both.csv")
    in_two_processes("pipeline.st_resnet", "stage1", "joint", *folders, *out, *starts)
    both = read_weights(out[0]).state
    for key, value in read_weights(alone).state.items():
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(both[key], value, rtol=1e-4, atol=1e-5)
    in_two_processes("pipeline.score_st_resnet", "joint", *folders, alone, "both.h5")
    one, two = (read_scores(Path(name)) for name in ("alone.h5", "both.h5"))
    assert two.video_id.tolist() == one.video_id.tolist()
    np.testing.assert_allclose(two.logits, one.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("phase", "starts", "said"),
    [
        ("stage2", ["spatial"], "spatial.pt: got weights of a stream, expected those of an ST-Res"),
        ("stage2", ["spatial", "temporal"], "stage2: got 2 files of weights, expected the first"),
        ("stage1", ["spatial"], "stage1: got 1 files of weights, expected the spatial and the tem"),
        ("stage1", ["spatial", "other"], "got weights of other classes than .*, expected the same"),
        ("stage1", ["spatial", "deeper"], "got weights of resnet18 and resnet34, expected those"),
        (
            "stage1",
            ["temporal", "spatial"],
            "temporal.pt: got weights of a stream of flow, expected "
            "those of a stream of frames: first the spatial",
        ),
        (
            "stage1",
            ["spatial", "joint"],
            "joint.pt: got weights of an ST-ResNet, expected those of",
        ),
        ("stage1", ["spatial", "none"], "none.pt: no such file, expected weights written by"),
    ],
)
def test_wrong_weights_are_refused(folders, streams, phase, starts, said):
    kept = read_weights(streams("resnet18")[0])
    options = {"heads": {"sample": ["a", "b"]}, "state_dict": {}, "about": kept.about}
    torch.save(options | {"heads": {"sample": ["a", "c"]}}, "other.pt")
    deeper = kept.about | {"source": "flow", "network": {"name": "resnet34"}}
    torch.save(options | {"about": deeper}, "deeper.pt")
    joined = dict.fromkeys((*SHAPE, "time_pool", "crop"))
    torch.save(options | {"about": joined}, "joint.pt")
    known = dict(zip(("spatial", "temporal"), streams("resnet18"), strict=True))
    paths = [known.get(name, Path(f"{name}.pt")) for name in starts]
    with pytest.raises(ValueError, match=said):
        train(folders, phase, paths, params_of())


# --- DVC


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose ST-ResNet stages DVC takes as done."""
    folder, yaml = tmp_path_factory.mktemp("project"), YAML(typ="safe", pure=True)
    told = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in told.stdout.splitlines():
        kept = name.split("/")[0] in (".dvc", "dvc.yaml", "models", "pipeline")
        if kept and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "params.yaml").write_bytes((ROOT / "presets/st_resnet_sample.yaml").read_bytes())
    tree = yaml.load((ROOT / "dvc.yaml").read_text())
    for stage in STAGES:
        for path in (*tree["stages"][stage]["do"]["deps"], *tree["stages"][stage]["do"]["outs"]):
            for old, new in {"key": "joint", "item.spatial": "spatial", "item.temporal": "temporal",
                             "item.source": "flow"}.items():  # fmt: skip
                path = path.replace(f"${{{old}}}", new)
            if not (folder / path).exists():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(path)
    dvc(folder, "init", "--no-scm", "-f", "-q")
    dvc(folder, "commit", "-f", "-q", *(f"{stage}@joint" for stage in STAGES))
    return folder


STAGES = ("st_resnet_stage1", "st_resnet_stage2", "st_resnet_score")


def dvc(folder, *words):
    done = subprocess.run([sys.executable, "-m", "dvc", *words], cwd=folder, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", set()),
        ("frames: 11\n      stride: [1, 2]", "frames: 9\n      stride: [1, 2]", {"stage2"}),
        ("frames: 5\n      stride: [1, 5]", "frames: 4\n      stride: [1, 5]", {"stage1"}),
        ("views: full", "views: ten_crops", {"score"}),
        ("svm: true ", "svm: false", {"score"}),
        ("connections: add", "connections: none", {"stage1"}),
        ("checkpointing: false", "checkpointing: true", set()),
        ("crop: 112\n    stage1", "crop: 96\n    stage1", {"stage1", "stage2"}),
        ("streams: [spatial, temporal, joint]", "streams: [joint]", set()),
    ],
)
def test_a_change_reaches_the_phases_that_it_bears_on_alone(project, old, new, expected):
    """What is behind a phase follows by its weights."""
    before = (project / "params.yaml").read_text()
    assert old in before
    (project / "params.yaml").write_text(before.replace(old, new, 1))
    try:
        told = dvc(project, "status", *(f"{stage}@joint" for stage in STAGES))
    finally:
        (project / "params.yaml").write_text(before)
    assert {stage.split("_")[-1] for stage in STAGES if f"{stage}@joint:" in told} == expected
