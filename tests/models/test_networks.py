"""Every network: shapes, gradients, sizes, and parity with what we did not write."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import NORMALISATION, build, classifier_of, fold_bn, freeze_bn
from models.efficientnet_lite import SameConv2d

SIDE = {"cnn_m_2048": 48, "efficientnet_lite0": 33}


def make(name, *, classes=5, channels=3, crop=32, dropout=0.0):
    return build(
        name, classes=classes, channels=channels, crop=crop, dropout=dropout, weights="none"
    )


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("name", NORMALISATION)
def test_shape_and_a_gradient_for_every_parameter(name, channels):
    torch.manual_seed(0)
    side = SIDE.get(name, 32)
    network = make(name, channels=channels, crop=side)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # a batch's own mean would take away what a bias before it adds
    logits = network(torch.randn(2, channels, side, side))
    assert logits.shape == (2, 5) and logits.dtype == torch.float32
    F.cross_entropy(logits, torch.tensor([0, 3])).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50", 25_557_032),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet101", 44_549_160),
        ("efficientnet_lite0", 4_652_008),
        ("vgg16", 138_357_544),
        ("bn_inception", 11_295_240),
    ],
)
def test_parameter_count_with_1000_classes(name, expected):
    with torch.device("meta"):
        assert count(make(name, classes=1000, crop=224)) == expected


@pytest.mark.parametrize(("channels", "expected"), [(3, 90_627_813), (20, 90_707_781)])
def test_cnn_m_parameters_by_hand(channels, expected):
    """Spatial and temporal net of Two-Stream at 224 px and 101 classes: weights, then biases."""
    by_hand = (
        (7 * 7 * channels * 96 + 96)
        + (5 * 5 * 96 * 256 + 256)
        + (3 * 3 * 256 * 512 + 512)
        + 2 * (3 * 3 * 512 * 512 + 512)
        + (6 * 6 * 512 * 4096 + 4096)
        + (4096 * 2048 + 2048)
        + (2048 * 101 + 101)
    )
    with torch.device("meta"):
        network = make("cnn_m_2048", classes=101, channels=channels, crop=224)
    assert count(network) == by_hand == expected


@pytest.mark.parametrize(
    ("classes", "channels", "expected"), [(1000, 3, 138_357_544), (101, 20, 134_684_133)]
)
def test_vgg_parameters_by_hand(classes, channels, expected):
    """Configuration D's 3x3 convolutions, then the fully connected layers: weights and biases."""
    widths = (channels, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    by_hand = (
        sum(9 * a * b + b for a, b in itertools.pairwise(widths))
        + (7 * 7 * 512 * 4096 + 4096)
        + (4096 * 4096 + 4096)
        + (4096 * classes + classes)
    )
    with torch.device("meta"):
        network = make("vgg16", classes=classes, channels=channels, crop=224)
    assert count(network) == by_hand == expected


def test_temporal_networks_differ_in_their_first_convolution_alone():
    with torch.device("meta"):
        rgb, flow = make("resnet18"), make("resnet18", channels=20)
    assert count(flow) - count(rgb) == 64 * 7 * 7 * 17


@pytest.mark.parametrize("name", NORMALISATION)
def test_new_classifier(name):
    torch.manual_seed(0)
    network = make(name, classes=400, crop=SIDE.get(name, 32))
    layer = classifier_of(network)
    assert layer.out_features == 400
    assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not layer.bias.any()


@pytest.mark.parametrize("name", NORMALISATION)
def test_dropout_acts_in_training_alone(name):
    torch.manual_seed(0)
    side = SIDE.get(name, 32)
    network = make(name, crop=side, dropout=0.5)
    freeze_bn(network.train(), "all")
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))


@pytest.mark.parametrize(("channels", "lrn2"), [(3, "lrn2"), (2, "-"), (20, "-")])
def test_cnn_m_layers_in_their_order_with_their_sizes_at_224(channels, lrn2):
    """Figure 1 of Two-Stream; the temporal net lacks the second normalisation."""
    seen = []
    with torch.device("meta"):
        network = make("cnn_m_2048", channels=channels, crop=224)
        for name, layer in network.named_children():
            told = "-" if isinstance(layer, nn.Identity) else name
            layer.register_forward_hook(
                lambda _, __, y, told=told: seen.append((told, *y.shape[1:3]))
            )
        network(torch.zeros(1, channels, 224, 224))
    assert seen == [
        ("conv1", 96, 109), ("relu", 96, 109), ("lrn1", 96, 109), ("pool", 96, 54),
        ("conv2", 256, 26), ("relu", 256, 26), (lrn2, 256, 26), ("pool", 256, 13),
        ("conv3", 512, 13), ("relu", 512, 13), ("conv4", 512, 13), ("relu", 512, 13),
        ("conv5", 512, 13), ("relu", 512, 13), ("pool", 512, 6),
        ("full6", 4096), ("relu", 4096), ("dropout", 4096),
        ("full7", 2048), ("relu", 2048), ("dropout", 2048), ("full8", 5),
    ]  # fmt: skip
    assert network.full6.in_features == 18_432


def test_cnn_m_lrn_is_caffes_formula():
    x = np.random.default_rng(0).normal(0, 40, (2, 9, 3, 4))
    expected = np.empty_like(x)
    for channel in range(9):
        near = x[:, max(channel - 2, 0) : channel + 3]
        scale = 2.0 + 5e-4 / 5 * (near**2).sum(1)
        expected[:, channel] = x[:, channel] / scale**0.75
    found = make("cnn_m_2048", crop=48).lrn1(torch.from_numpy(x))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def resnet_reference(state, x):
    """A ResNet in evaluation mode, read off torchvision's key names."""

    def conv_bn(x, conv, bn, stride=1):
        weight = state[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var, scale, shift = (
            state[f"{bn}.{k}"][:, None, None]
            for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift

    x = F.max_pool2d(conv_bn(x, "conv1", "bn1", 2).clamp(min=0), 3, 2, 1)
    for layer in range(1, 5):
        unit = 0
        while f"layer{layer}.{unit}.conv1.weight" in state:
            at, stride = f"layer{layer}.{unit}", 2 if layer > 1 and unit == 0 else 1
            last = 3 if f"{at}.conv3.weight" in state else 2
            y = x
            for i in range(1, last + 1):
                y = conv_bn(y, f"{at}.conv{i}", f"{at}.bn{i}", stride if i == last - 1 else 1)
                y = y if i == last else y.clamp(min=0)
            if f"{at}.downsample.0.weight" in state:
                x = conv_bn(x, f"{at}.downsample.0", f"{at}.downsample.1", stride)
            x, unit = (x + y).clamp(min=0), unit + 1
    return x.flatten(2).mean(2) @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_resnet_equals_a_functional_reference(name):
    torch.manual_seed(0)
    network = make(name, dropout=0.5).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
    x = torch.randn(2, 3, 45, 38, dtype=torch.float64)
    with torch.no_grad():
        expected = resnet_reference(network.state_dict(), x)
        found = network(x)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("side", [(224, 224), (112, 112), (45, 70)])
def test_vgg_equals_a_functional_reference(side):
    """Read off torchvision's key names; the last pool makes (45, 70) 1x2."""
    torch.manual_seed(0)
    network = make("vgg16", classes=3, dropout=0.5).eval()
    state, x = network.state_dict(), torch.randn(1, 3, *side)
    with torch.no_grad():
        y = x
        for number in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28):
            weight, bias = (state[f"features.{number}.{kind}"] for kind in ("weight", "bias"))
            y = F.conv2d(y, weight, bias, padding=1).clamp(min=0)
            if number in (2, 7, 14, 21, 28):
                height, width = (n // 2 for n in y.shape[2:])
                y = y[..., : 2 * height, : 2 * width].unflatten(3, (width, 2)).amax(4)
                y = y.unflatten(2, (height, 2)).amax(3)
        y = F.adaptive_avg_pool2d(y, 7).flatten(1)
        for number in (0, 3, 6):
            weight, bias = (state[f"classifier.{number}.{kind}"] for kind in ("weight", "bias"))
            y = y @ weight.T + bias
            y = y if number == 6 else y.clamp(min=0)
        found = network(x)
    assert {key.rpartition(".")[2] for key in state} == {"weight", "bias"} and len(state) == 32
    assert y.std() > 1e-4
    torch.testing.assert_close(found, y, rtol=1e-4, atol=1e-5)


def test_vgg_drops_out_after_both_hidden_layers():
    network = make("vgg16", dropout=0.7)
    dropped = [i for i, layer in enumerate(network.classifier) if isinstance(layer, nn.Dropout)]
    assert dropped == [2, 5] and all(network.classifier[i].p == 0.7 for i in dropped)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(7, 9), (8, 8), (7, 10), (13, 6), (1, 3)])
def test_same_padding_is_tensorflows(size, stride, shape):
    torch.manual_seed(0)
    conv = SameConv2d(4, 4, size, stride, groups=2, bias=True).double()
    x = torch.randn(2, 4, *shape, dtype=torch.float64)
    # tf.nn.convolution's formula: by the remainder of size over stride.
    pads = []
    for n in shape:
        rest = n % stride
        total = max(size - stride, 0) if rest == 0 else max(size - rest, 0)
        pads.append((total // 2, total - total // 2))
    (top, bottom), (left, right) = pads
    padded = torch.zeros(2, 4, shape[0] + top + bottom, shape[1] + left + right).double()
    padded[:, :, top : top + shape[0], left : left + shape[1]] = x
    found = conv(x)
    assert found.shape[2:] == tuple(math.ceil(n / stride) for n in shape)
    expected = F.conv2d(padded, conv.weight, conv.bias, stride, groups=2)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_statistics_follow_a_new_input_within_a_short_training(name):
    """Else partial BN is tested with the statistics of another modality than it learned with."""
    torch.manual_seed(0)
    network = make(name)
    flow = 0.1 * torch.randn(8, 3, 64, 64) + 0.5  # weaker than images, and off their mean
    with torch.no_grad():
        for _ in range(120):
            freeze_bn(network.train(), "all_but_first")
            network(flow)
    first = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    conv = network.get_submodule(network.first_conv)
    with torch.no_grad():
        seen = conv(flow)
    scale = seen.std((0, 2, 3))
    assert ((first.running_mean - seen.mean((0, 2, 3))).abs() < 0.02 * scale).all()
    assert ((first.running_var.sqrt() / scale - 1).abs() < 0.05).all()


@pytest.mark.parametrize(("which", "spared"), [("none", 20), ("all_but_first", 1), ("all", 0)])
def test_frozen_batch_norm_keeps_its_statistics(which, spared):
    torch.manual_seed(0)
    network = make("resnet18").train()
    freeze_bn(network, which)
    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert layers[0] is network.bn1 and len(layers) == 20
    before = [(m.running_mean.clone(), m.running_var.clone()) for m in layers]
    network(torch.randn(4, 3, 32, 32)).sum().backward()
    for number, (layer, (mean, var)) in enumerate(zip(layers, before, strict=True)):
        moves = number < spared
        assert torch.equal(layer.running_mean, mean) != moves
        assert torch.equal(layer.running_var, var) != moves
        assert layer.weight.requires_grad == layer.bias.requires_grad == moves
        assert (layer.weight.grad is not None) == moves
    assert network.conv1.weight.requires_grad and network.fc.bias.requires_grad


@pytest.mark.parametrize("name", NORMALISATION)
def test_folded_normalisation_gives_the_same_answers(name):
    torch.manual_seed(0)
    network = build(name, classes=7, channels=4, crop=96, dropout=0.5, weights="none").eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    x = torch.randn(2, 4, 96, 96)
    with torch.inference_mode():
        plain = network(x)
        folded = fold_bn(network)(x)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-5 * plain.abs().max().item())
