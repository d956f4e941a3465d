"""ST-ResNet from two networks that were trained alone."""

import pytest
import torch

from models.from_streams import NETWORKS, from_state, from_streams
from models.st_resnet import TimeConv

OPTIONS = {"dropout": 0.0, "connections": "add", "time_pool": False, "checkpointing": False}


def state(name="resnet18", *, classes=5, channels=3, seed=0):
    torch.manual_seed(seed)
    network = NETWORKS[name](classes=classes, channels=channels, dropout=0.0)
    for buffer in network.buffers():
        buffer.add_(1)  # statistics that aren't a new network's
    return network.state_dict()


@pytest.mark.parametrize("temporal_filters", [False, True])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_weights_are_carried_over(name, temporal_filters):
    states = {"appearance": state(name), "motion": state(name, channels=20, seed=1)}
    network = from_streams(name, *states.values(), temporal_filters=temporal_filters, **OPTIONS)
    own = network.state_dict()
    assert [*own] == [f"{net}.{key}" for net, of in states.items() for key in of]
    timed = {f"{key}.weight" for key, m in network.named_modules() if isinstance(m, TimeConv)}
    last = "conv3" if name == "resnet50" else "conv2"
    assert timed == {
        f"{net}.layer{stage}.1.{conv}.weight"
        for net in states for stage in range(1, 5) for conv in ("conv1", last)
        if temporal_filters
    }  # fmt: skip
    for net, of in states.items():
        for key, value in of.items():
            found = own[f"{net}.{key}"]
            if f"{net}.{key}" in timed:
                assert found.shape == (*value.shape[:2], 3, *value.shape[2:])
                for tap in range(3):
                    torch.testing.assert_close(found[:, :, tap] * 3, value, rtol=1e-6, atol=0)
            else:
                assert torch.equal(found, value), key
    assert network.motion.conv1.in_channels == 20
    assert own["appearance.bn1.num_batches_tracked"] == 1


def test_without_either_option_the_heads_are_the_two_networks():
    states = state(), state(channels=4, seed=1)
    network = from_streams(
        "resnet18", *states, temporal_filters=False, **OPTIONS | {"connections": "none"}
    ).eval()
    inputs = torch.randn(2, 3, 3, 32, 32), torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        for of, x, head in zip(states, inputs, network(*inputs), strict=True):
            alone = NETWORKS["resnet18"](classes=5, channels=x.shape[2], dropout=0.0).eval()
            alone.load_state_dict(of)
            for step in range(3):
                torch.testing.assert_close(head[:, step], alone(x[:, step]), rtol=1e-5, atol=1e-5)


def test_files_that_count_no_batches_are_taken():
    old = {key: value for key, value in state().items() if "num_batches" not in key}
    network = from_streams("resnet18", old, state(channels=4), temporal_filters=True, **OPTIONS)
    assert torch.equal(network.appearance.bn1.running_mean, old["bn1.running_mean"])


def broken(of, **changes):
    return {key: value for key, value in (of | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("name", "spatial", "temporal", "message"),
    [
        ("vgg16", {}, {}, "no ResNet is called vgg16, expected one of resnet18, "),
        ("resnet18", {}, {"fc.weight": None}, "temporal: not weights of resnet18: no fc.weight"),
        ("resnet18", {"conv1.weight": None}, {}, "spatial: not weights of resnet18: no conv1.weig"),
        ("resnet18", {"bn1.bias": None}, {}, "spatial: .*: bn1.bias is missing$"),
        ("resnet18", {}, {"bn9": torch.zeros(1)}, "temporal: .*: bn9 is unknown$"),
        (
            "resnet18", {}, {"layer1.0.bn1.bias": torch.zeros(9)},
            r"temporal: .*: layer1.0.bn1.bias has shape \(9,\), expected \(64,\)$",
        ),
        ("resnet34", {}, {}, "spatial: not weights of resnet34: layer1.2.conv1.weight is missing.*"
                             "; .*; .*; .* and [0-9]+ more$"),
        ("resnet18", {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}, {},
         "the spatial stream has 7 classes, the temporal 5"),
    ],
)  # fmt: skip
def test_states_that_do_not_fit_are_refused(name, spatial, temporal, message):
    states = broken(state(), **spatial), broken(state(channels=4), **temporal)
    with pytest.raises(ValueError, match=message):
        from_streams(name, *states, temporal_filters=True, **OPTIONS)


@pytest.mark.parametrize("temporal_filters", [False, True])
def test_a_network_goes_on_from_its_own_weights(temporal_filters):
    options = OPTIONS | {"temporal_filters": temporal_filters}
    first = from_streams("resnet18", state(), state(channels=6, seed=1), **options).state_dict()
    second = from_state("resnet18", first, origin="w.pt", **options | {"time_pool": True})
    assert second.time_pool and second.motion.conv1.in_channels == 6
    for key, value in second.state_dict().items():
        assert torch.equal(value, first[key]), key
    del first["motion.layer1.0.conv1.weight"]
    with pytest.raises(
        ValueError, match=r"w\.pt: not weights of resnet18: motion\.layer1\.0\.conv"
    ):
        from_state("resnet18", first, origin="w.pt", **options)
    with pytest.raises(
        ValueError, match=r"w\.pt: appearance: not weights of resnet18: no fc\.weig"
    ):
        from_state("resnet18", {}, origin="w.pt", **options)
