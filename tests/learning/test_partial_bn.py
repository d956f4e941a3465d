"""TSN's partial batch normalisation, by the state of real networks before and after training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_engine import fit_task
from torch import nn

from models import build
from pipeline.learning.tasks import SnippetTask
from pipeline.params import load
from pipeline.stream_params import PIP_WEIGHTS

TRAINING = replace(
    load(Path(__file__).parents[2] / "params.yaml").streams["temporal"].training,
    epochs=2, segments=2, schedule="steps", warmup=0.0, bias_lr_scale=2.0, first_conv_lr_scale=5.0,
)  # fmt: skip
# By hand, from the networks' definitions: the normalisation after the first convolution.
FIRST = {"efficientnet_lite0": "_bn0", "bn_inception": "conv1_7x7_s2_bn", "resnet18": "bn1"}
COUNT = {"efficientnet_lite0": 49, "bn_inception": 69, "resnet18": 20}
KINDS = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def batch(seed, channels):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (4, 2, 32, 32, channels)).astype(np.uint8)
    offsets = np.full((4, 2, channels), 127.5, np.float32)
    labels = rng.integers(0, 3, 4)
    return tuple(torch.from_numpy(values) for values in (codes, offsets, labels))


@pytest.mark.parametrize("which", ["all_but_first", "none"])
@pytest.mark.parametrize("name", FIRST)
def test_which_layers_change(name, which):
    """Of ``all_but_first`` the first alone, and of all others not a bit.

    Two epochs with validation between them, after which ``train()`` thaws all that isn't frozen
    again.
    """
    torch.manual_seed(0)
    # Untrained, EfficientNet's many frozen layers let nearly nothing through.
    weights = "imagenet" if name in PIP_WEIGHTS else "none"
    network = build(name, classes=3, channels=4, crop=32, dropout=0.5, weights=weights)
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert len(layers) == COUNT[name]
    for layer in layers.values() if weights == "none" else ():
        nn.init.normal_(layer.running_mean, std=0.1)
        nn.init.uniform_(layer.running_var, 0.5, 1.5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    params = replace(TRAINING, freeze_bn=which)
    fit_task(SnippetTask(network, params, (60.0,) * 4, (3,)), params, val=[batch(9, 4)],
             epoch_loader=lambda epoch: [batch((epoch, n), 4) for n in range(2)])  # fmt: skip
    changed = {key for key, value in network.state_dict().items()
               if value.cpu().numpy().tobytes() != before[key].numpy().tobytes()}  # fmt: skip
    states = {layer: {f"{layer}.{kind}" for kind in KINDS} for layer in layers}
    known = set().union(*states.values())
    if which == "all_but_first":
        assert known & changed == states[FIRST[name]]
    else:  # scales and shifts whose gradient a later normalisation takes away may stay
        assert {key for key in known if ".running_" in key} <= changed
        assert len(known & changed) > 0.8 * len(known)
    assert set(before) - known <= changed  # convolutions and the classifier learn on
