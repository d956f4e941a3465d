"""ST-ResNet: parity with a plain formula, what time and motion reach, and its options."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.from_streams import NETWORKS
from models.st_resnet import CONNECTIONS, STResNet, TimeConv

FLOW = 4  # channels


def make(name="resnet18", *, connections="add", temporal_filters=True, time_pool=False,
         checkpointing=False, dropout=0.0, random_bn=True):  # fmt: skip
    torch.manual_seed(0)
    rgb, flow = (NETWORKS[name](classes=5, channels=c, dropout=dropout).double() for c in (3, FLOW))
    network = STResNet(
        rgb, flow, connections=connections, temporal_filters=temporal_filters,
        time_pool=time_pool, checkpointing=checkpointing,
    )  # fmt: skip
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and random_bn:
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, TimeConv) and random_bn:  # taps that differ, so that time shows
            module.weight.data *= 3 * torch.rand(1, 1, 3, 1, 1)
    return network.eval()


def clips(clips=2, frames=3, height=33, width=37, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(clips, frames, c, height, width, generator=generator, dtype=torch.float64)
        for c in (3, FLOW)
    )


# --- the formula, plainly: one clip (T, channels, H, W) at a time, read off the state dict


def conv_bn(state, x, conv, bn, stride=1):
    weight = state[f"{conv}.weight"]
    pad = weight.shape[-1] // 2
    if weight.ndim == 5:
        x = F.conv3d(x.transpose(0, 1)[None], weight, stride=(1, stride, stride),
                     padding=(1, pad, pad))[0].transpose(0, 1)  # fmt: skip
    else:
        x = F.conv2d(x, weight, stride=stride, padding=pad)
    mean, var, scale, shift = (
        state[f"{bn}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift


def residual(state, x, at, stride):
    last = 3 if f"{at}.conv3.weight" in state else 2
    for i in range(1, last + 1):
        x = conv_bn(state, x, f"{at}.conv{i}", f"{at}.bn{i}", stride if i == last - 1 else 1)
        x = x if i == last else x.clamp(min=0)
    return x


def shortcut(state, x, at, stride):
    if f"{at}.downsample.0.weight" not in state:
        return x
    return conv_bn(state, x, f"{at}.downsample.0", f"{at}.downsample.1", stride)


def reference(state, rgb, flow, connections, time_pool):
    def f(x):
        return x.clamp(min=0)

    x = {"appearance": rgb, "motion": flow}
    for net in x:
        first = f(conv_bn(state, x[net], f"{net}.conv1", f"{net}.bn1", 2))
        x[net] = F.max_pool2d(first, 3, 2, 1)
    for layer in range(1, 5):
        stride = 2 if layer > 1 else 1
        for net in x:  # x_l, before the ReLU
            at = f"{net}.layer{layer}.0"
            x[net] = shortcut(state, x[net], at, stride) + residual(state, x[net], at, stride)
        x_a, x_m = x["appearance"], x["motion"]
        shown = {"add": x_a + f(x_m), "multiply": x_a * f(x_m), "none": f(x_a)}[connections]
        x["appearance"] = f(f(x_a) + residual(state, shown, f"appearance.layer{layer}.1", 1))
        x["motion"] = f(f(x_m) + residual(state, f(x_m), f"motion.layer{layer}.1", 1))
        for net in x:
            unit = 2
            while f"{net}.layer{layer}.{unit}.conv1.weight" in state:
                at = f"{net}.layer{layer}.{unit}"
                x[net], unit = f(x[net] + residual(state, x[net], at, 1)), unit + 1
    logits = []
    for net, maps in x.items():
        if time_pool:
            starts = range(0, len(maps) - 4, 2)
            maps = torch.stack([maps[first : first + 5].amax(0) for first in starts])
        fc = f"{net}.fc"
        logits.append(maps.flatten(2).mean(2) @ state[f"{fc}.weight"].T + state[f"{fc}.bias"])
    return logits


@pytest.mark.parametrize(
    ("name", "connections", "temporal_filters", "time_pool"),
    [
        *itertools.product(["resnet18", "resnet50"], CONNECTIONS, [False, True], [False]),
        ("resnet18", "add", True, True),
    ],
)
def test_equals_a_functional_reference(name, connections, temporal_filters, time_pool):
    options = {"connections": connections, "time_pool": time_pool}
    network = make(name, temporal_filters=temporal_filters, **options)
    rgb, flow = clips(frames=7 if time_pool else 3)
    with torch.no_grad():
        found = network(rgb, flow)
        for clip in range(2):
            expected = reference(network.state_dict(), rgb[clip], flow[clip], **options)
            for head, logits in zip(found, expected, strict=True):
                assert head.shape == (2, 2 if time_pool else 3, 5)
                assert logits.std(0).min() > 1e-6  # steps in time differ
                torch.testing.assert_close(head[clip], logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet34", "resnet101"])
def test_deeper_networks_equal_it_too(name):
    network, (rgb, flow) = make(name), clips(clips=1, frames=3, height=33, width=33)
    with torch.no_grad():
        expected = reference(network.state_dict(), rgb[0], flow[0], "add", False)
        for head, logits in zip(network(rgb, flow), expected, strict=True):
            torch.testing.assert_close(head[0], logits, rtol=1e-9, atol=1e-9)


def test_float32_is_as_near_as_its_rounding():
    network, (rgb, flow) = make("resnet50"), clips()
    with torch.no_grad():
        expected = network(rgb, flow)
        for head, exact in zip(network.float()(rgb.float(), flow.float()), expected, strict=True):
            assert head.dtype == torch.float32
            torch.testing.assert_close(head.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_still_clip_is_its_image_but_for_the_frames_that_see_its_ends(name):
    """Zeros beside a clip reach two frames further in each stage."""
    torch.manual_seed(0)
    image = NETWORKS[name](classes=5, channels=3, dropout=0.0).double().eval()
    motion = NETWORKS[name](classes=5, channels=FLOW, dropout=0.0).double().eval()
    network = STResNet(copy.deepcopy(image), motion, connections="none", temporal_filters=True,
                       time_pool=False, checkpointing=False).eval()  # fmt: skip
    rgb, flow = (x.expand(-1, 19, -1, -1, -1) for x in clips(clips=1, frames=1))
    entered = [network.appearance.get_submodule(f"layer{n}")[0].conv1 for n in (2, 3, 4)]
    seen = []
    for conv in entered:
        conv.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    with torch.no_grad():
        logits = network(rgb, flow)[0][0]
        expected = image(rgb[0, :1])
    seen.append(logits)
    for number, steps in enumerate(seen, 1):
        off = (steps - steps[9]).abs().flatten(1).amax(1) / steps[9].abs().max()
        assert (off > 1e-6).nonzero().ravel().tolist() == [
            *range(2 * number), *range(19 - 2 * number, 19)
        ]  # fmt: skip
        assert off[2 * number : 19 - 2 * number].max() < 1e-12
    torch.testing.assert_close(logits[8:11], expected.expand(3, -1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("connections", CONNECTIONS)
def test_temporal_filters_start_as_none_far_from_a_still_clips_ends(connections):
    rgb, flow = (x.expand(-1, 17, -1, -1, -1) for x in clips(clips=1, frames=1))
    both = [make(connections=connections, temporal_filters=t, random_bn=False)
            for t in (False, True)]  # fmt: skip
    with torch.no_grad():
        plain, timed = (network(rgb, flow) for network in both)
    for without, with_ in zip(plain, timed, strict=True):
        torch.testing.assert_close(with_[:, 8], without[:, 8], rtol=1e-9, atol=1e-9)
        assert not torch.allclose(with_[:, 7], without[:, 7], rtol=1e-9, atol=1e-9)


def test_time_conv_starts_as_the_mean_over_three_frames():
    torch.manual_seed(0)
    space = nn.Conv2d(3, 4, 3, padding=1, bias=False).double()
    frames = torch.randn(2, 5, 3, 6, 7, dtype=torch.float64)
    with torch.no_grad():
        found = TimeConv(space)(frames.flatten(0, 1), 2).unflatten(0, (2, 5))
        alone = space(frames.flatten(0, 1)).unflatten(0, (2, 5))
    for t in range(5):
        expected = alone[:, max(t - 1, 0) : t + 2].sum(1) / 3
        torch.testing.assert_close(found[:, t], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("connections", ["add", "multiply"])
def test_the_appearance_head_alone_teaches_the_motion_network(name, connections):
    network = make(name, connections=connections)
    network(*clips())[0].square().sum().backward()
    for key, parameter in network.motion.named_parameters():
        reached = not (key.startswith("fc") or (key.startswith("layer4") and key[7] != "0"))
        assert (parameter.grad is not None) == reached, key
        assert not reached or parameter.grad.abs().sum() > 0, key


def test_nothing_flows_back_and_nothing_joins_without_connections():
    network, (rgb, flow) = make(connections="none"), clips()
    appearance, motion = network(rgb, flow)
    appearance.square().sum().backward()
    assert all(parameter.grad is None for parameter in network.motion.parameters())
    assert all(parameter.grad is not None for parameter in network.appearance.parameters())
    with torch.no_grad():
        torch.testing.assert_close(network(rgb, flow + 1)[0], appearance)
        torch.testing.assert_close(network(rgb + 1, flow)[1], motion)


def test_appearance_never_reaches_motion():
    network = make()
    network(*clips())[1].square().sum().backward()
    assert all(parameter.grad is None for parameter in network.appearance.parameters())
