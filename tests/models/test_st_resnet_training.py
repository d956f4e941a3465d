"""ST-ResNet in training: checkpointing, sizes, steps in time, both heads' loss; and its answers."""

import numpy as np
import pytest
import torch
from test_st_resnet import clips, make

from models import fold_bn, freeze_bn
from models.from_streams import NETWORKS
from models.st_resnet import CONNECTIONS, STResNet, TimeConv, two_head_loss


@pytest.mark.parametrize("connections", CONNECTIONS)
def test_checkpointing_changes_neither_results_nor_gradients_nor_statistics(connections):
    torch.manual_seed(0)
    rgb, flow = clips(frames=2, height=32, width=32)
    networks, outputs = [], []
    for checkpointing in (False, True):
        network = make(connections=connections, checkpointing=checkpointing, random_bn=False)
        freeze_bn(network.train(), "none")
        network.motion.layer2[0].bn1.eval()  # one that keeps its statistics
        ran = []
        network.motion.layer3[1].conv1.register_forward_hook(lambda *_, ran=ran: ran.append(1))
        logits = network(rgb, flow)
        two_head_loss(logits, torch.tensor([1, 4])).backward()
        assert len(ran) == 1 + checkpointing
        networks.append(network)
        outputs.append(logits)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=0)
    for (key, one), other in zip(
        networks[0].named_parameters(), networks[1].parameters(), strict=True
    ):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-12, atol=0, msg=key)
    for (key, one), other in zip(networks[0].named_buffers(), networks[1].buffers(), strict=True):
        assert torch.equal(one, other), key
    assert networks[1].appearance.bn1.num_batches_tracked == 1
    assert all(m.momentum == 0.1 for m in networks[1].modules() if hasattr(m, "running_mean"))


# 101 classes, 20 flow channels. A ResNet-50 of 1000 classes has 25,557,032 parameters, 2,049,000 of
# them in its classifier; a ResNet-18 11,689,512 and 513,000.
BOTTLENECKS = (25_557_032 - 2_049_000) + (2048 * 101 + 101)
BASIC = (11_689_512 - 513_000) + (512 * 101 + 101)
SQUARES = 64**2 + 128**2 + 256**2 + 512**2


@pytest.mark.parametrize(
    ("name", "stream", "added"),
    [
        # two 1x1 between w and 4w channels get two taps more; two 3x3 from w to w
        ("resnet50", BOTTLENECKS, 2 * 2 * 4 * SQUARES),
        ("resnet18", BASIC, 2 * 2 * 9 * SQUARES),
    ],
)
def test_parameters_by_hand(name, stream, added):
    flow_filters = 64 * 7 * 7 * (20 - 3)
    with torch.device("meta"):
        for temporal_filters in (False, True):
            rgb, flow = (NETWORKS[name](classes=101, channels=c, dropout=0.0) for c in (3, 20))
            network = STResNet(
                rgb, flow, connections="add", temporal_filters=temporal_filters, time_pool=False,
                checkpointing=False,
            )  # fmt: skip
            found = sum(parameter.numel() for parameter in network.parameters())
            timed = [m.kernel_size for m in network.modules() if isinstance(m, TimeConv)]
            assert found == 2 * (stream + temporal_filters * added) + flow_filters
            kernel = (3, 1, 1) if name == "resnet50" else (3, 3, 3)
            assert timed == [kernel] * 16 * temporal_filters


def test_a_new_stage_of_training_takes_over_the_weights():
    first, second = make(time_pool=False), make(time_pool=True)
    second.load_state_dict(first.state_dict())
    assert [*first.state_dict()] == [*second.state_dict()]


@pytest.mark.parametrize(("frames", "steps"), [(5, 1), (6, 1), (7, 2), (11, 4), (25, 11)])
def test_steps_that_are_left_in_time(frames, steps):
    network, (rgb, flow) = make(time_pool=True), clips(clips=1, frames=frames, height=32, width=32)
    with torch.no_grad():
        assert [head.shape for head in network(rgb, flow)] == [(1, steps, 5)] * 2


def test_wrong_clips_are_refused():
    rgb, flow = clips(frames=4)
    with pytest.raises(ValueError, match=r"\(2, 4, 3, 33, 37\).*at least 5 frames"):
        make(time_pool=True)(rgb, flow)
    with pytest.raises(ValueError, match="the same N, T, H and W"):
        make()(rgb, flow[:, :3])
    with pytest.raises(ValueError, match="the same N, T, H and W"):
        make()(rgb, flow[..., :-1])
    with pytest.raises(ValueError, match=r"expected \(N, T, channels, H, W\)"):
        make()(rgb[0], flow[0])
    with pytest.raises(ValueError, match="connections: got sum, expected one of"):
        make(connections="sum")


@pytest.mark.parametrize("time_pool", [False, True])
def test_prediction_is_the_mean_over_places_steps_and_heads(time_pool):
    network, (rgb, flow) = make(time_pool=time_pool), clips(clips=1, frames=7, height=40, width=97)
    with torch.no_grad():
        found, windows = network.predict(rgb, flow), network.predict(rgb, flow, window=2)
        heads = network(rgb, flow)
        maps = network.features(rgb, flow)
    torch.testing.assert_close(found, (heads[0].mean(1) + heads[1].mean(1)) / 2)
    steps = 2 if time_pool else 7
    assert maps[0].shape == maps[1].shape == (1, steps, 512, 2, 4)
    every = []  # logits of each position, step and head
    for head, map_ in zip((network.appearance, network.motion), maps, strict=True):
        for t in range(steps):
            for left in range(3):
                every.append(head.fc(map_[:, t, :, :, left : left + 2].mean((2, 3))))
    torch.testing.assert_close(windows, torch.stack(every).mean(0))
    assert not torch.allclose(windows, found)
    with torch.no_grad():  # a window that doesn't fit is the whole frame
        torch.testing.assert_close(network.predict(rgb, flow, window=7), found)


def test_loss_by_hand():
    rng = np.random.default_rng(0)
    heads = rng.normal(0, 2, (2, 3, 4, 5))
    labels = [2, 0, 4]
    expected = 0.0
    for head in heads:
        for clip, label in enumerate(labels):
            for step in head[clip]:
                expected += np.log(np.exp(step).sum()) - step[label]
    heads = torch.from_numpy(heads)
    found = two_head_loss(tuple(heads), torch.tensor(labels))
    assert found.item() == pytest.approx(expected, rel=1e-12)
    padded = torch.cat([heads, heads[:, :2]], 1)
    found = two_head_loss(tuple(padded), torch.tensor([*labels, -1, -100]))
    assert found.item() == pytest.approx(expected, rel=1e-12)
    smooth = [heads.log_softmax(-1)[..., c].sum() for c in range(5)]  # of each class
    found = two_head_loss(tuple(heads), torch.tensor(labels), 0.25)
    assert found.item() == pytest.approx(0.75 * expected - 0.25 * sum(smooth).item() / 5, rel=1e-12)


def test_folded_normalisation_gives_the_same_answers():
    network, (rgb, flow) = make("resnet50", time_pool=True), clips(frames=5)
    with torch.no_grad():
        plain = network.predict(rgb, flow)
        folded = fold_bn(network).predict(rgb, flow)
    torch.testing.assert_close(folded, plain, rtol=1e-9, atol=1e-9)


def test_dropout_acts_in_training_alone():
    network, (rgb, flow) = make(dropout=0.5), clips()
    freeze_bn(network.train(), "all")
    with torch.no_grad():
        assert not torch.equal(network(rgb, flow)[0], network(rgb, flow)[0])
        network.eval()
        assert torch.equal(network(rgb, flow)[0], network(rgb, flow)[0])
