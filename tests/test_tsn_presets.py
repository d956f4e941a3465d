"""TSN's presets, number by number, against a table written from the authors' code and papers."""

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch

from models import NORMALISATION, build
from pipeline.learning import augment, optimise
from pipeline.learning.modalities import modality_of
from pipeline.learning.tasks import SnippetTask
from pipeline.params import load

ROOT = Path(__file__).parents[1]
NAMES = ("ucf101", "hmdb51", "ucf101_paper")
STREAMS = ("rgb", "rgb_difference", "flow", "warped_flow")

# Rate, iterations after which it is divided by ten, iterations in all; batches of 128 clips, in the
# paper of 256.
SCHEDULES = {
    ("ucf101", "rgb"): (0.001, [1500, 3000], 3500),
    ("ucf101", "flow"): (0.005, [10_000, 16_000], 18_000),
    ("ucf101", "warped_flow"): (0.005, [10_000, 16_000], 18_000),
    ("hmdb51", "rgb"): (0.001, [1000, 2000], 2500),
    ("hmdb51", "flow"): (0.005, [4000, 6000], 7000),
    ("hmdb51", "warped_flow"): (0.005, [4000, 6000], 7000),
    ("ucf101_paper", "rgb"): (0.001, [2000, 4000], 4500),
    ("ucf101_paper", "rgb_difference"): (0.001, [2000, 4000], 4500),
    ("ucf101_paper", "flow"): (0.005, [12_000, 18_000], 20_000),
    ("ucf101_paper", "warped_flow"): (0.005, [12_000, 18_000], 20_000),
}
# Of tsn-pytorch: passes over all clips.
DIFFERENCES = (0.001, [80, 160], 180)
TABLE = {  # of rgb, rgb_difference, flow, warped_flow; one number for all
    "source": ("frames", "frames", "flow", "warped_flow"),
    "input.length": (1, 5, 5, 5),
    "input.kind": ("stack", "difference", "stack", "stack"),
    "input.stride": (1,) * 4,
    "input.subtract_mean": (False,) * 4,
    "input.crop": (224,) * 4,
    "network.name": ("bn_inception",) * 4,
    "network.weights": ("data/pretrained/bn_inception/bn_inception.pth",) * 4,
    "network.dropout": (0.8, 0.8, 0.7, 0.7),
    "training.head_lr_scale": (1,) * 4,
    "training.bias_lr_scale": (2,) * 4,
    "training.first_conv_lr_scale": (1, 1, 5, 5),
    "training.trained": ("all",) * 4,
    "training.segments": (3,) * 4,
    "training.consensus": ("average",) * 4,
    "training.top_k": (1,) * 4,
    "training.frozen_up_to": ("",) * 4,
    "training.auxiliary": ((),) * 4,
    "training.passes": (1,) * 4,
    "training.optimiser": ("sgd",) * 4,
    "training.label_smoothing": (0,) * 4,
    "training.ema_decay": (0,) * 4,
    "training.patience": (0,) * 4,
    "training.keep": ("last",) * 4,
    "training.sampling": ("shuffle",) * 4,
    "training.momentum": (0.9,) * 4,
    "training.weight_decay": (0.0005,) * 4,
    "training.schedule": ("steps",) * 4,
    "training.gamma": (0.1,) * 4,
    "training.warmup": (0,) * 4,
    "training.clip_norm": (40, 40, 20, 20),
    "training.flip": (True,) * 4,
    "training.rgb_jitter": (0,) * 4,
    "training.freeze_bn": ("all_but_first",) * 4,
    "testing.frames": (25,) * 4,
    "testing.crops": (10,) * 4,
    "testing.crop_ratio": (224 / 256,) * 4,
}


FOUR, THREE = (0.66, 0.75, 0.875, 1), (0.75, 0.875, 1)
PAPER = {
    "training.batch": (256,) * 4,
    "training.crop_places": ("five",) * 4,
    "training.scale_jitter": (FOUR,) * 4,
}
CODE = {
    "training.batch": (128,) * 4,
    "training.crop_places": ("thirteen",) * 4,
    "training.scale_jitter": (FOUR, THREE, THREE, THREE),
}
SCHEDULED = {f"training.{key}" for key in ("lr_scale", "epochs", "epoch_batches", "milestones")}


def leaves(section, at=""):
    """Name every key of a section."""
    for field in fields(section):
        value, path = getattr(section, field.name), f"{at}{field.name}"
        yield from leaves(value, f"{path}.") if is_dataclass(value) else [path]


def test_no_key_of_a_stream_is_left_out():
    assert set(leaves(preset("ucf101").streams["rgb"])) == {*TABLE, *PAPER, *SCHEDULED}


@pytest.mark.parametrize("name", NAMES)
def test_what_paper_and_code_differ_in(name):
    for key, expected in (PAPER if name.endswith("paper") else CODE).items():
        section, key = key.split(".")
        streams = preset(name).streams.values()
        assert tuple(getattr(getattr(stream, section), key) for stream in streams) == expected


def preset(name):
    return load(ROOT / f"presets/tsn_{name}.yaml")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", TABLE)
def test_streams(name, key):
    streams = preset(name).streams
    assert tuple(streams) == STREAMS
    for stream, expected in zip(streams.values(), TABLE[key], strict=True):
        found = stream
        for part in key.split("."):
            found = getattr(found, part)
        assert found == expected


@pytest.mark.parametrize(("name", "stream"), SCHEDULES)
def test_schedules_in_iterations(name, stream):
    params = preset(name)
    training = params.streams[stream].training
    rate, drops, stop = SCHEDULES[name, stream]
    assert params.lr * training.lr_scale == pytest.approx(rate)
    assert [training.epoch_batches * milestone for milestone in training.milestones] == drops
    assert training.epoch_batches * training.epochs == stop
    for iteration, tenths in ((0, 0), (drops[0] - 1, 0), (drops[0], 1), (drops[1], 2)):
        factor = optimise.rate_factor(iteration / training.epoch_batches, training)
        assert factor == pytest.approx(0.1**tenths)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("paper")])
def test_the_schedule_of_differences_in_passes(name):
    params = preset(name)
    training = params.streams["rgb_difference"].training
    found = (params.lr * training.lr_scale, list(training.milestones), training.epochs)
    assert found == DIFFERENCES and training.epoch_batches == 0


@pytest.mark.parametrize("name", NAMES)
def test_frames_flow_and_fusion(name):
    params = preset(name)
    assert params.decode.short_side == 256
    flow, tvl1 = params.flow, params.flow.tvl1
    assert (tvl1.tau, tvl1.lambda_, tvl1.theta, tvl1.scales, tvl1.scale_step, tvl1.warps) == (
        0.25, 0.15, 0.3, 5, 0.8, 5,
    )  # fmt: skip
    assert (tvl1.iterations, tvl1.epsilon, tvl1.warp_epsilon) == (300, 0.01, 0)
    assert (tvl1.median, flow.bound) == (0, 20)
    warped = params.warped_flow
    assert warped.compute and warped.mode == "recompute"
    assert (warped.search_radius, warped.corners, warped.ransac_threshold) == (25, 1000, 1)
    assert (warped.min_inliers, warped.border) == (25, 5)
    assert (params.engine.precision, params.fuse.svm) == ("float32", False)
    assert params.fuse.streams == STREAMS and params.fuse.weighted_of == "logits"
    assert params.fuse.weights == {"rgb": 1, "flow": 1, "warped_flow": 0.5, "rgb_difference": 0}


@pytest.mark.parametrize("name", NAMES)
def test_sides_of_crops(name):
    for stream in preset(name).streams.values():
        found = augment.box_sides(256, 224, stream.training.scale_jitter)
        assert found == [168, 192, 224, 256][-len(found) :]
        smallest = name.endswith("paper") or stream.input.length == 1  # the code's, for RGB alone
        assert len(found) == (4 if smallest else 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("stream", "channels"), list(zip(STREAMS, (3, 15, 10, 10), strict=True)))
def test_each_stream_builds_its_network(name, stream, channels):
    """Without the file of weights; one clip of three snippets goes through."""
    stream = preset(name).streams[stream]
    mean, std = NORMALISATION[stream.network.name]
    modality = modality_of(stream, mean)
    assert modality.channels == channels and modality.divisors(std) == (1.0,) * channels
    training, crop = stream.training, stream.input.crop
    with torch.device("meta"):
        network = build(
            stream.network.name, classes=101, channels=channels, crop=crop,
            dropout=stream.network.dropout, weights="none",
        )  # fmt: skip
        task = SnippetTask(network, training, (1.0,) * channels, (101,))
        assert task.model(torch.zeros(2, 3, channels, crop, crop)).shape == (2, 101)
    first, bias = (f"model.network.conv1_7x7_s2.{kind}" for kind in ("weight", "bias"))
    names = {id(parameter): key for key, parameter in task.named_parameters()}
    groups = optimise.parameter_groups(task, task.first_convs, task.new, 0.005, training)
    rates = {names[id(p)]: group["base_lr"] for group in groups for p in group["params"]}
    flow = stream.source != "frames"
    assert rates[first] == pytest.approx(0.025 if flow else 0.005)
    assert rates[bias] == pytest.approx(0.05 if flow else 0.01)
