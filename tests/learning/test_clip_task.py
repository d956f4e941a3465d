"""ST-ResNet's task and its answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from st_resnet_clips import SAMPLE
from torch import nn

from models.from_streams import NETWORKS
from models.st_resnet import STResNet
from pipeline.learning import optimise
from pipeline.learning.clip_task import ClipTask, score_clips
from pipeline.learning.clips import Clip, Seen

PHASE = SAMPLE.st_resnet["joint"].stage1
SEEN = Seen(2, False, (100.0, 110.0, 120.0), (50.0, 60.0, 70.0), (55.0,) * 4)


def network(*, time_pool=False):
    streams = [NETWORKS["resnet18"](classes=3, channels=c, dropout=0.0) for c in (3, 4)]
    return STResNet(
        *streams, connections="add", temporal_filters=True, time_pool=time_pool,
        checkpointing=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def drawn():
    """Draw weights once: it takes longer than all that is done with them."""
    torch.manual_seed(0)
    return network().state_dict()


@pytest.fixture
def make(drawn):
    """Make a network with those weights."""

    def made(**options):
        with torch.device("meta"):
            net = network(**options)
        net.load_state_dict({key: value.clone() for key, value in drawn.items()}, assign=True)
        return net

    return made


def batch(clips=2, frames=3, height=32, width=32):
    rng = np.random.default_rng(0)
    codes = [torch.from_numpy(rng.integers(0, 256, (clips, frames, height, width, c), np.uint8))
             for c in (3, 4)]  # fmt: skip
    offsets = (
        torch.tensor(SEEN.mean).expand(clips, frames, 3),
        torch.full((clips, frames, 4), 127.5),
    )
    return *codes, *offsets


def test_losses_of_both_heads_and_all_steps_by_hand(make):
    task, parts = ClipTask(make(), PHASE, SEEN).eval(), batch()
    labels = torch.tensor([2, 0])
    rgb = (parts[0].float() - torch.tensor(SEEN.mean)) / torch.tensor(SEEN.std)
    flow = (parts[1].float() - 127.5) / 55
    with torch.no_grad():
        losses, right = task(*parts, labels)
        heads = task.model(rgb.permute(0, 1, 4, 2, 3), flow.permute(0, 1, 4, 2, 3))
    expected = sum(
        F.cross_entropy(head[clip, step], labels[clip])
        for head in heads for clip in range(2) for step in range(3)
    )  # fmt: skip
    assert losses.shape == (1,) and losses.item() == pytest.approx(expected.item(), rel=1e-5)
    answers = (heads[0].mean(1) + heads[1].mean(1)).argmax(1)
    assert right == (answers == labels).sum()
    assert task.counts(labels).tolist() == [2]
    with torch.no_grad():
        assert task(*parts, answers)[1] == 2


def test_padding_counts_nowhere(make):
    task, parts = ClipTask(make(), PHASE, SEEN).eval(), batch()
    padded = torch.tensor([2, -1])
    with torch.no_grad():
        alone, _ = task(*(part[:1] for part in parts), padded[:1])
        losses, right = task(*parts, padded)
    assert losses.item() == pytest.approx(alone.item(), rel=1e-5) and right <= 1
    assert task.counts(padded).tolist() == [1]
    losses, right = task(*parts, torch.tensor([-1, -1]))
    losses.sum().backward()
    assert (losses.item(), right.item()) == (0, 0)
    assert all(not parameter.grad.any() for parameter in task.parameters())


def test_rates_decay_and_momentum_are_the_authors():
    """Gamma twice as fast, beta as fast as the weights and biases twice; no decay of either."""
    with torch.device("meta"):
        task = ClipTask(network(), PHASE, SEEN)
    names = {id(parameter): name for name, parameter in task.model.named_parameters()}
    groups = optimise.parameter_groups(task, task.first_convs, task.new, 0.001, PHASE)
    found = {names[id(p)]: (group["base_lr"], group["weight_decay"])
             for group in groups for p in group["params"]}  # fmt: skip
    assert len(found) == len(names)
    for stream in ("appearance", "motion"):
        for key, rate, decay in (
            ("conv1.weight", 1, 0.0005), ("bn1.weight", 2, 0), ("bn1.bias", 1, 0),
            ("layer1.1.conv1.weight", 1, 0.0005), ("layer4.1.bn2.weight", 2, 0),
            ("fc.weight", 1, 0.0005), ("fc.bias", 2, 0),
        ):  # fmt: skip
            assert found[f"{stream}.{key}"] == (pytest.approx(0.001 * rate), decay), key


@pytest.mark.parametrize("passes", [1, 4, 32])
def test_the_statistics_follow_a_batch_by_their_momentum_in_any_number_of_passes(passes):
    with torch.device("meta"):
        task = ClipTask(network(), replace(PHASE, batch=32, passes=passes, bn_momentum=0.05), SEEN)
    norms = [module for module in task.modules() if isinstance(module, nn.BatchNorm2d)]
    x = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 64, 1, 1)
    for norm in (norms[0], norms[-1]):
        own = nn.BatchNorm2d(64, momentum=norm.momentum)
        for _ in range(passes):
            own(x)
        torch.testing.assert_close(own.running_mean, torch.full((64,), 0.05 * 2))


def test_heads_and_first_convolutions_of_both_streams_have_their_own_rates():
    with torch.device("meta"):
        task = ClipTask(network(), PHASE, SEEN)
    params = replace(PHASE, head_lr_scale=10, first_conv_lr_scale=5, bias_lr_scale=1)
    groups = optimise.parameter_groups(task, task.first_convs, task.new, 1.0, params)
    names = {id(parameter): name for name, parameter in task.model.named_parameters()}
    rates = {names[id(p)]: group["base_lr"] for group in groups for p in group["params"]}
    special = {name: rate for name, rate in rates.items() if rate > 2}
    own = {"conv1.weight": 5, "fc.weight": 10, "fc.bias": 10}
    assert special == {
        f"{stream}.{key}": rate for stream in ("appearance", "motion") for key, rate in own.items()
    }


def normalised(codes, offsets, std):
    inputs = (torch.from_numpy(codes).float() - torch.from_numpy(offsets)[:, None, None]) / std
    return inputs.permute(0, 3, 1, 2)[None]


@pytest.mark.parametrize("views", ["full", "ten_crops"])
def test_answers_are_the_mean_over_views(make, views):
    """Against views that are cut from codes and mirrored as in training."""
    net = make(time_pool=True).eval()
    clip = Clip(*(part[0].numpy() for part in batch(clips=1, frames=5, height=39, width=68)))
    shown = [clip, clip.mirrored()]
    if views == "ten_crops":
        places = [(0, 0), (0, 35), (6, 0), (6, 35), (3, 17)]
        shown = [clip.cropped(*place, 33, 33, 33) for place in places]
        shown += [crop.mirrored() for crop in shown]
    with torch.no_grad():
        expected = torch.cat([
            net.predict(normalised(one.rgb, one.rgb_offsets, torch.tensor(SEEN.std)),
                        normalised(one.flow, one.flow_offsets, 55), window=2)  # of 33 px
            for one in shown
        ]).mean(0)  # fmt: skip
    sample = [*map(torch.from_numpy, clip), 0]
    ((logits, probs),) = score_clips(net, [sample], seen=SEEN, crop=33, views=views)
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probs, expected.softmax(0).numpy(), rtol=1e-4, atol=1e-6)
    assert logits.dtype == probs.dtype == np.float32


def test_means_of_fields_are_mirrored_with_them():
    rgb = np.zeros((1, 2, 4, 3), np.uint8)
    flow = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(1, 2, 4, 4)
    clip = Clip(rgb, flow, np.zeros((1, 3), np.float32), flow.mean((1, 2), dtype=np.float32))
    before, after = clip.flow - clip.flow_offsets, clip.mirrored()
    after = after.flow - after.flow_offsets
    np.testing.assert_allclose(after[..., ::2], -before[:, :, ::-1, ::2])
    np.testing.assert_allclose(after[..., 1::2], before[:, :, ::-1, 1::2])
