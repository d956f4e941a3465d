"""The two-stream paper's settings, number by number (Simonyan & Zisserman 2014, section 5)."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.params import load

ROOT = Path(__file__).parents[1]


@pytest.fixture(params=["ucf101", "hmdb51", "multitask"])
def preset(request):
    return load(ROOT / f"presets/two_stream_{request.param}.yaml")


def test_both_streams(preset):
    assert list(preset.streams) == list(preset.fuse.streams) == ["spatial", "temporal"]
    for stream in preset.streams.values():
        network, training, seen = stream.network, stream.training, stream.input
        assert network.name == "cnn_m_2048"
        assert preset.decode.short_side == 256 and seen.crop == 224
        assert training.scale_jitter == (0.875,)  # 224 of 256 px: no scale jitter
        assert (training.segments, training.batch, training.sampling) == (1, 256, "class_uniform")
        assert (training.momentum, training.flip, training.freeze_bn) == (0.9, True, "none")
        assert preset.lr * training.lr_scale == preset.lr * training.head_lr_scale == 0.01
        assert (training.schedule, training.gamma, training.warmup) == ("steps", 0.1, 0)
        testing = stream.testing
        assert (testing.frames, testing.crops, testing.crop_ratio) == (25, 10, 224 / 256)


def test_the_spatial_network_learns_its_last_layer(preset):
    stream = preset.streams["spatial"]
    assert (stream.source, stream.training.trained) == ("frames", "classifier")
    assert stream.network.dropout == 0.5 and stream.training.rgb_jitter == 0.1
    assert falls(stream.training) == ([14_000], 20_000)


def test_the_temporal_network_learns_from_scratch(preset):
    stream = preset.streams["temporal"]
    assert (stream.source, stream.network.weights) == ("flow", "none")
    assert (stream.input.length, stream.input.kind, stream.input.subtract_mean) == (
        10, "stack", True,
    )  # fmt: skip
    assert stream.network.dropout == 0.9 and stream.training.trained == "all"
    assert falls(stream.training) == ([50_000, 70_000], 80_000)


def falls(training):
    """Give the iterations after which the rate falls and the training ends."""
    steps = [training.epoch_batches * epoch for epoch in training.milestones]
    return steps, training.epoch_batches * training.epochs


def test_the_presets_differ_in_the_dataset_alone():
    ucf101, hmdb51 = (load(ROOT / f"presets/two_stream_{n}.yaml") for n in ("ucf101", "hmdb51"))
    assert (ucf101.streams, ucf101.flow) == (hmdb51.streams, hmdb51.flow)


def test_multi_task_learning_adds_the_other_datasets_train_clips_to_the_temporal_network():
    multitask, ucf101, hmdb51 = (
        load(ROOT / f"presets/two_stream_{n}.yaml") for n in ("multitask", "ucf101", "hmdb51")
    )
    assert multitask.dataset == hmdb51.dataset
    assert multitask.auxiliary_datasets == {"ucf101": ucf101.dataset}
    assert multitask.streams["spatial"] == hmdb51.streams["spatial"]
    temporal = multitask.streams["temporal"]
    assert temporal.training.auxiliary == ("ucf101",)
    alone = replace(temporal, training=replace(temporal.training, auxiliary=()))
    assert alone == hmdb51.streams["temporal"]
