"""ST-ResNet's presets, number by number, against a table written from the authors' code."""

from dataclasses import replace
from pathlib import Path

import pytest

from models import from_streams, st_resnet
from pipeline import st_resnet_params
from pipeline.learning import augment, optimise
from pipeline.params import load

ROOT = Path(__file__).parents[1]
CLIPS = {"ucf101": 9537, "hmdb51": 3570}  # that split 1 trains on

# Clips of a batch, passes over all clips that make an epoch, epochs, and those after which the rate
# is divided by ten; the first rate.
APPEARANCE = {
    "ucf101": (256, 10, 6, (2, 4), 1e-2),
    "hmdb51": (256, 10, 4, (2, 3), 1e-2),  # as cnn_ucf101_spatial.m has it for that dataset
}
SCHEDULES = {
    "temporal": (128, 100, 4, (1, 2, 3), 1e-2),
    "stage1": (128, 10, 8, (3, 6), 1e-3),
    "stage2": (128, 1, 2, (1,), 1e-4),
}
# Of appearance, motion, stage 1 and stage 2; one number for all.
LEARNING = {
    "optimiser": ("sgd",) * 4,
    "momentum": (0.9,) * 4,
    "weight_decay": (0.0005,) * 4,
    "bias_lr_scale": (2,) * 4,
    "head_lr_scale": (1,) * 4,
    "first_conv_lr_scale": (1,) * 4,
    "schedule": ("steps",) * 4,
    "gamma": (0.1,) * 4,
    "warmup": (0,) * 4,
    "clip_norm": (0,) * 4,
    "label_smoothing": (0,) * 4,
    "sampling": ("shuffle",) * 4,
    "flip": (True,) * 4,
    "ema_decay": (0,) * 4,
    "keep": ("last",) * 4,
    "patience": (0,) * 4,
    "passes": (8, 4, 32, 32),  # numSubBatches: of 32, 32, 4 and 4 clips
}
PHASES = {  # of both phases
    "frames": (5, 11),
    "stride": ((5, 15), (1, 15)),
    "time_pool": (False, True),
    "bn_momentum": (0.05, 0.05),
    "bn_scale_lr_scale": (2, 2),
}


@pytest.fixture(params=CLIPS)
def name(request):
    return request.param


@pytest.fixture
def preset(name):
    return load(ROOT / f"presets/st_resnet_{name}.yaml")


def parts(preset):
    joint = preset.st_resnet["joint"]
    return {
        "spatial": preset.streams["spatial"].training,
        "temporal": preset.streams["temporal"].training,
        "stage1": joint.stage1, "stage2": joint.stage2,
    }  # fmt: skip


def test_how_all_four_learn(preset):
    for key, expected in LEARNING.items():
        assert tuple(getattr(part, key) for part in parts(preset).values()) == expected, key


@pytest.mark.parametrize("part", ["spatial", *SCHEDULES])
def test_schedules(name, preset, part):
    batch, passes, epochs, falls, rate = {"spatial": APPEARANCE[name], **SCHEDULES}[part]
    params = parts(preset)[part]
    assert (params.batch, params.epochs, params.milestones) == (batch, epochs, falls)
    assert preset.lr * params.lr_scale == pytest.approx(rate)
    # Whole batches, as near as can be; a single pass shows each clip once.
    assert params.epoch_batches == (round(CLIPS[name] * passes / batch) if passes > 1 else 0)
    ends = [optimise.rate_factor(epoch + 0.5, params) for epoch in range(epochs)]
    tenths = [sum(epoch >= fall for fall in falls) for epoch in range(epochs)]
    assert ends == pytest.approx([0.1**n for n in tenths])


def test_both_streams(preset):
    assert list(preset.streams) == ["spatial", "temporal"] and preset.decode.short_side == 256
    for stream, source, dropout, length in zip(
        preset.streams.values(), ("frames", "flow"), (0, 0.8), (1, 10), strict=True
    ):
        assert (stream.source, stream.network.dropout) == (source, dropout)
        assert (stream.network.name, stream.input.crop) == ("resnet50", 224)
        assert (stream.input.length, stream.input.kind, stream.input.stride) == (length, "stack", 1)
        assert not stream.input.subtract_mean  # 128, zero motion, is
        training = stream.training
        assert (training.segments, training.freeze_bn, training.trained) == (1, "none", "all")
        assert (training.rgb_jitter, training.consensus) == (0, "average")
        assert stream.network.weights == "data/pretrained/resnet50/resnet50.pth"
        testing = stream.testing
        assert (testing.frames, testing.crops, testing.crop_ratio) == (25, 10, 224 / 256)
    appearance = preset.streams["spatial"].training
    assert augment.box_sides(256, 224, appearance.scale_jitter) == [224]
    assert appearance.crop_places == "anywhere"
    motion = preset.streams["temporal"].training
    assert augment.box_sides(256, 224, motion.scale_jitter) == [168, 192, 224, 256]
    assert motion.crop_places == "five"


def test_the_joined_network(preset):
    joint = preset.st_resnet["joint"]
    assert (joint.spatial, joint.temporal, joint.source) == ("spatial", "temporal", "flow")
    assert (joint.connections, joint.temporal_filters) == ("add", True)
    assert (joint.dropout, joint.crop) == (0, 224)
    for key, expected in PHASES.items():
        assert (getattr(joint.stage1, key), getattr(joint.stage2, key)) == expected, key
    testing = joint.testing
    assert (testing.frames, testing.stride, testing.views) == (25, 15, "full")
    assert preset.fuse.weights == {"spatial": 1, "temporal": 1, "joint": 0}
    assert not preset.fuse.svm and preset.engine.precision == "float32"


def test_flow_is_that_of_the_authors_tool(preset):
    tvl1 = preset.flow.tvl1
    assert (tvl1.tau, tvl1.lambda_, tvl1.theta) == (0.25, 0.15, 0.3)
    assert (tvl1.scales, tvl1.warps, tvl1.epsilon, tvl1.iterations) == (5, 5, 0.01, 300)
    assert (tvl1.median, preset.flow.bound) == (0, 20)


def test_hmdb51_differs_in_its_length_alone():
    ucf101, hmdb51 = (load(ROOT / f"presets/st_resnet_{n}.yaml") for n in CLIPS)
    stage1 = replace(hmdb51.st_resnet["joint"].stage1, epoch_batches=745)
    assert replace(hmdb51.st_resnet["joint"], stage1=stage1) == ucf101.st_resnet["joint"]
    assert (ucf101.flow, ucf101.decode) == (hmdb51.flow, hmdb51.decode)


def test_what_params_say_of_the_network_is_so():
    assert set(st_resnet_params.RESNETS) == set(from_streams.NETWORKS)
    assert st_resnet_params.POOLED_FRAMES == st_resnet.POOLED_FRAMES
