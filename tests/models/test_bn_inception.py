"""BN-Inception against its public definition, and public files in it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import NORMALISATION, build, fold_bn, freeze_bn
from models.bn_inception import BNInception
from pipeline.learning import volumes

# Copied by hand from the public definition (Cadene's bninception.py, TSN's deploy prototxt): each
# convolution's inputs, outputs, kernel and stride, and the side of what it gives for 224 px.
CONVOLUTIONS = """
conv1_7x7_s2 3 64 7 2 112             conv2_3x3_reduce 64 64 1 1 56
conv2_3x3 64 192 3 1 56

inception_3a_1x1 192 64 1 1 28        inception_3a_3x3_reduce 192 64 1 1 28
inception_3a_3x3 64 64 3 1 28         inception_3a_double_3x3_reduce 192 64 1 1 28
inception_3a_double_3x3_1 64 96 3 1 28 inception_3a_double_3x3_2 96 96 3 1 28
inception_3a_pool_proj 192 32 1 1 28

inception_3b_1x1 256 64 1 1 28        inception_3b_3x3_reduce 256 64 1 1 28
inception_3b_3x3 64 96 3 1 28         inception_3b_double_3x3_reduce 256 64 1 1 28
inception_3b_double_3x3_1 64 96 3 1 28 inception_3b_double_3x3_2 96 96 3 1 28
inception_3b_pool_proj 256 64 1 1 28

inception_3c_3x3_reduce 320 128 1 1 28 inception_3c_3x3 128 160 3 2 14
inception_3c_double_3x3_reduce 320 64 1 1 28 inception_3c_double_3x3_1 64 96 3 1 28
inception_3c_double_3x3_2 96 96 3 2 14

inception_4a_1x1 576 224 1 1 14       inception_4a_3x3_reduce 576 64 1 1 14
inception_4a_3x3 64 96 3 1 14         inception_4a_double_3x3_reduce 576 96 1 1 14
inception_4a_double_3x3_1 96 128 3 1 14 inception_4a_double_3x3_2 128 128 3 1 14
inception_4a_pool_proj 576 128 1 1 14

inception_4b_1x1 576 192 1 1 14       inception_4b_3x3_reduce 576 96 1 1 14
inception_4b_3x3 96 128 3 1 14        inception_4b_double_3x3_reduce 576 96 1 1 14
inception_4b_double_3x3_1 96 128 3 1 14 inception_4b_double_3x3_2 128 128 3 1 14
inception_4b_pool_proj 576 128 1 1 14

inception_4c_1x1 576 160 1 1 14       inception_4c_3x3_reduce 576 128 1 1 14
inception_4c_3x3 128 160 3 1 14       inception_4c_double_3x3_reduce 576 128 1 1 14
inception_4c_double_3x3_1 128 160 3 1 14 inception_4c_double_3x3_2 160 160 3 1 14
inception_4c_pool_proj 576 128 1 1 14

inception_4d_1x1 608 96 1 1 14        inception_4d_3x3_reduce 608 128 1 1 14
inception_4d_3x3 128 192 3 1 14       inception_4d_double_3x3_reduce 608 160 1 1 14
inception_4d_double_3x3_1 160 192 3 1 14 inception_4d_double_3x3_2 192 192 3 1 14
inception_4d_pool_proj 608 128 1 1 14

inception_4e_3x3_reduce 608 128 1 1 14 inception_4e_3x3 128 192 3 2 7
inception_4e_double_3x3_reduce 608 192 1 1 14 inception_4e_double_3x3_1 192 256 3 1 14
inception_4e_double_3x3_2 256 256 3 2 7

inception_5a_1x1 1056 352 1 1 7       inception_5a_3x3_reduce 1056 192 1 1 7
inception_5a_3x3 192 320 3 1 7        inception_5a_double_3x3_reduce 1056 160 1 1 7
inception_5a_double_3x3_1 160 224 3 1 7 inception_5a_double_3x3_2 224 224 3 1 7
inception_5a_pool_proj 1056 128 1 1 7

inception_5b_1x1 1024 352 1 1 7       inception_5b_3x3_reduce 1024 192 1 1 7
inception_5b_3x3 192 320 3 1 7        inception_5b_double_3x3_reduce 1024 192 1 1 7
inception_5b_double_3x3_1 192 224 3 1 7 inception_5b_double_3x3_2 224 224 3 1 7
inception_5b_pool_proj 1024 128 1 1 7
""".split()
TABLE = {
    CONVOLUTIONS[i]: tuple(map(int, CONVOLUTIONS[i + 1 : i + 6]))
    for i in range(0, len(CONVOLUTIONS), 6)
}


def make(*, classes=5, channels=3, crop=224, dropout=0.0, weights="none"):
    return build("bn_inception", classes=classes, channels=channels, crop=crop, dropout=dropout,
                 weights=weights)  # fmt: skip


def stir(network):
    """Give batch normalisation statistics, scales and shifts, and convolutions biases."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.bias, std=0.1)
    return network


def reference(state, x, head="last_linear"):
    """Compute the public definition's forward; ``x`` is what it takes: B, G, R, means subtracted.

    Pools are sums and maxima over windows cut by hand; sides must halve as they do from 224 px.
    """

    def unit(x, at):
        weight, bias = state[f"{at}.weight"], state[f"{at}.bias"]
        stride = TABLE[at][3]
        x = F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)
        mean, var, scale, shift = (
            state[f"{at}_bn.{k}"].reshape(-1, 1, 1)
            for k in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / torch.sqrt(var + 1e-5) * scale + shift).clamp(min=0)

    def windows(x, stride, around, filling):
        x = F.pad(x, around, value=filling)
        return x.unfold(2, 3, stride).unfold(3, 3, stride).flatten(4)

    def halve(x):  # ceil mode: the last window hangs over the right and lower edge
        return windows(x, 2, (0, 1, 0, 1), -torch.inf).amax(4)

    def block(x, name):
        at = f"inception_{name}"
        three = unit(unit(x, f"{at}_3x3_reduce"), f"{at}_3x3")
        double = unit(x, f"{at}_double_3x3_reduce")
        double = unit(unit(double, f"{at}_double_3x3_1"), f"{at}_double_3x3_2")
        if name in ("3c", "4e"):
            return torch.cat([three, double, halve(x)], 1)
        if name == "5b":
            pooled = windows(x, 1, (1, 1, 1, 1), -torch.inf).amax(4)
        else:
            pooled = windows(x, 1, (1, 1, 1, 1), 0.0).sum(4) / 9
        return torch.cat([unit(x, f"{at}_1x1"), three, double, unit(pooled, f"{at}_pool_proj")], 1)

    x = halve(unit(x, "conv1_7x7_s2"))
    x = halve(unit(unit(x, "conv2_3x3_reduce"), "conv2_3x3"))
    for name in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        x = block(x, name)
    return x.flatten(2).mean(2) @ state[f"{head}.weight"].T + state[f"{head}.bias"]


def test_layers_are_those_of_the_public_definition():
    """All 69 convolutions in its order, each with its normalisation, and their outputs' sides."""
    with torch.device("meta"):
        network = make(classes=1000)
        sides = {}
        convolutions = {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d)}
        for name, module in convolutions.items():
            module.register_forward_hook(
                lambda _, __, y, name=name: sides.update({name: tuple(y.shape[2:])})
            )
        assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
    assert len(TABLE) == 69 and list(convolutions) == list(TABLE)
    for name, (inputs, outputs, size, stride, side) in TABLE.items():
        layer, norm = convolutions[name], network.get_submodule(f"{name}_bn")
        assert layer.weight.shape == (outputs, inputs, size, size), name
        assert layer.stride == (stride, stride) and layer.padding == (size // 2, size // 2), name
        assert layer.bias is not None and sides[name] == (side, side), name
        assert norm.num_features == outputs and norm.eps == 1e-5 and norm.momentum == 0.1, name
    assert network.last_linear.in_features == 1024


def test_parameters_by_hand():
    """Convolutions' weights and biases, normalisations' scales and shifts, the classifier."""
    convolutions = sum(k * k * a * b + b for a, b, k, _, _ in TABLE.values())
    by_hand = convolutions + sum(2 * b for _, b, _, _, _ in TABLE.values()) + 1024 * 1000 + 1000
    with torch.device("meta"):
        assert sum(p.numel() for p in make(classes=1000).parameters()) == by_hand == 11_295_240


def test_equals_the_public_definition_and_turns_rgb_round():
    torch.manual_seed(0)
    network = stir(make(dropout=0.5)).double().eval()
    rgb = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        expected = reference(
            network.state_dict(), torch.stack([rgb[:, 2], rgb[:, 1], rgb[:, 0]], 1)
        )
        found = network(rgb)
        turned = network(rgb[:, [2, 1, 0]])
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert (turned - expected).abs().max() > 1e-3 * expected.std()


def test_stacked_fields_are_not_turned_round():
    torch.manual_seed(0)
    network = stir(make(channels=10)).double().eval()
    x = torch.randn(1, 10, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(x), reference(network.state_dict(), x))


@pytest.mark.parametrize("crop", [16, 33, 47, 112, 113, 225])
def test_other_crops(crop):
    """The published layers fit together where sides halve evenly; here any crop goes through."""
    torch.manual_seed(0)
    network = make(crop=crop).eval()
    with torch.no_grad():
        found = network(torch.randn(1, 3, crop, crop))
    assert found.shape == (1, 5) and torch.isfinite(found).all()


def public(style):
    """Make a file as the public ones are: keys, and batch normalisation's shapes."""
    torch.manual_seed(3)
    head = {"cadene": "last_linear", "yjxiong": "fc", "kinetics": "base_model.fc_action",
            "trained": "module.new_fc"}[style]  # fmt: skip
    prefix = {"kinetics": "base_model.", "trained": "module.base_model."}.get(style, "")
    state = {}
    for key, value in stir(make(classes=7)).state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        if key.startswith("last_linear."):
            state[f"{head}.{key.rpartition('.')[2]}"] = value
        else:
            old = style in ("yjxiong", "kinetics") and "_bn." in key
            state[prefix + key] = value[None] if old else value
    return state, prefix, head


@pytest.mark.parametrize("style", ["cadene", "yjxiong", "kinetics", "trained"])
def test_public_files_answer_as_in_their_own_tools(tmp_path, style):
    """R, G, B codes through this project equal B, G, R less 104, 117, 123 through the file.

    The older files are no zip archives yet.
    """
    state, prefix, head = public(style)
    torch.save({"state_dict": state, "epoch": 1} if prefix else state, tmp_path / "public.pth",
               _use_new_zipfile_serialization=style == "trained")  # fmt: skip
    network = make(classes=7, weights=str(tmp_path / "public.pth")).eval()
    codes = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), np.uint8)
    bgr = codes[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    mean, std = NORMALISATION["bn_inception"]
    with torch.no_grad():
        bare = {key.removeprefix(prefix): value for key, value in state.items()}
        expected = reference(bare, torch.from_numpy(bgr).permute(0, 3, 1, 2),
                             head.removeprefix(prefix))  # fmt: skip
        found = network(volumes.normalise(torch.from_numpy(codes), torch.tensor([mean]), std))
    assert found.shape == (1, 7) and expected.std() > 1e-2
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.std().item())


def test_files_that_the_stage_train_wrote_are_in_the_same_order(tmp_path):
    """Else fine-tuning a fine-tuned network would turn its filters round."""
    torch.manual_seed(0)
    first = make()
    torch.save({"classes": [], "state_dict": first.state_dict()}, tmp_path / "own.pt")
    second = make(weights=str(tmp_path / "own.pt"))
    assert torch.equal(first.conv1_7x7_s2.weight, second.conv1_7x7_s2.weight)


def test_cross_modality_from_a_public_file(tmp_path):
    state, _, _ = public("yjxiong")
    torch.save(state, tmp_path / "public.pth")
    network = make(classes=101, channels=10, weights=str(tmp_path / "public.pth"))
    mean = state["conv1_7x7_s2.weight"].mean(1)
    for channel in range(10):
        torch.testing.assert_close(network.conv1_7x7_s2.weight[:, channel].detach(), mean)
    assert torch.equal(network.conv1_7x7_s2.bias, state["conv1_7x7_s2.bias"])
    assert torch.equal(network.conv1_7x7_s2_bn.running_var,
                       state["conv1_7x7_s2_bn.running_var"][0])  # fmt: skip
    assert network.last_linear.weight.shape == (101, 1024)


def test_what_does_not_fit_is_named(tmp_path):
    state, _, _ = public("yjxiong")
    state["inception_3a_1x1_bn.bias"] = torch.zeros(2, 64)
    torch.save(state, tmp_path / "public.pth")
    said = r"public\.pth: not weights of bn_inception: inception_3a_1x1_bn.bias has shape \(2, 64\)"
    with pytest.raises(ValueError, match=said):
        make(classes=7, weights=str(tmp_path / "public.pth"))


def test_partial_batch_normalisation_spares_the_one_after_the_first_convolution():
    network = make().train()
    freeze_bn(network, "all_but_first")
    trains = [n for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    learns = {n for n, p in network.named_parameters() if p.requires_grad and "_bn." in n}
    assert trains == ["conv1_7x7_s2_bn"]
    assert learns == {"conv1_7x7_s2_bn.weight", "conv1_7x7_s2_bn.bias"}


def test_folding_takes_every_normalisation():
    torch.manual_seed(0)
    network = stir(make(channels=3)).double().eval()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        plain = network(x)
        folded = fold_bn(network)(x)
    left = [type(m) for n, m in network.named_modules() if n.endswith("_bn")]
    assert left == [nn.Identity] * 69
    torch.testing.assert_close(folded, plain)


def test_dropout_stands_before_the_classifier():
    network = make(dropout=0.8)
    assert isinstance(network, BNInception) and network.dropout.p == 0.8
    seen = []
    network.dropout.register_forward_hook(lambda _, x, __: seen.append(tuple(x[0].shape)))
    network(torch.zeros(2, 3, 64, 64))
    assert seen == [(2, 1024)]
