"""Weights to start from: what fits, what is refused, and cross-modality initialisation."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import sklearn.datasets
import torch

from models import NORMALISATION, build, classifier_of
from models.pretrained import inflate_first_conv, load_pretrained


def make(*, name="resnet18", classes=5, channels=3, weights="none"):
    return build(name, classes=classes, channels=channels, crop=32, dropout=0.0, weights=weights)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(1)
    return {key: value.clone() for key, value in make().state_dict().items()}


def saved(tmp_path, content):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    return str(path)


def test_all_weights_load(tmp_path, state):
    for content in (state, {"state_dict": state, "epoch": 3}):
        loaded = make(weights=saved(tmp_path, content)).state_dict()
        assert loaded.keys() == state.keys()
        assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_files_from_before_batch_norm_counted_its_batches(tmp_path, state):
    """Some of torchvision's files hold no num_batches_tracked, and nothing here reads it."""
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    assert torch.equal(make(weights=saved(tmp_path, old)).bn1.weight, state["bn1.weight"])


def test_other_class_count_keeps_the_new_classifier(tmp_path, state):
    network = make(classes=7)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    load_pretrained(network, "resnet18", saved(tmp_path, state))
    after = network.state_dict()
    for key in state:
        expected = before[key] if key.startswith("fc.") else state[key]
        assert torch.equal(after[key], expected), key


def test_new_classifier_is_drawn_small_beside_pretrained_weights(tmp_path, state):
    torch.manual_seed(0)
    layer = classifier_of(make(classes=400, weights=saved(tmp_path, state)))
    assert layer.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert not layer.bias.any()


@pytest.mark.parametrize("channels", [2, 20])
def test_cross_modality_initialisation(tmp_path, state, channels):
    loaded = make(channels=channels, weights=saved(tmp_path, state)).conv1.weight
    assert loaded.shape == (64, channels, 7, 7)
    rgb = state["conv1.weight"].double().numpy()
    expected = (rgb[:, 0] + rgb[:, 1] + rgb[:, 2]) / 3
    for channel in range(channels):
        np.testing.assert_allclose(
            loaded[:, channel].detach().numpy(), expected, rtol=1e-5, atol=1e-8
        )


def test_torchvisions_vgg_loads_into_a_temporal_net(tmp_path):
    """Keys and shapes as its vgg16 file has them; the large ones repeat one number to be small."""
    widths = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512, 19: 512, 21: 512,
              24: 512, 26: 512, 28: 512}  # fmt: skip
    state, inputs = {}, 3
    for number, width in widths.items():
        state[f"features.{number}.weight"] = torch.randn(width, inputs, 3, 3)
        state[f"features.{number}.bias"], inputs = torch.randn(width), width
    for number, shape in {0: (4096, 25088), 3: (4096, 4096), 6: (1000, 4096)}.items():
        state[f"classifier.{number}.weight"] = torch.tensor(0.5).expand(shape)
        state[f"classifier.{number}.bias"] = torch.randn(shape[0])
    network = make(name="vgg16", classes=101, channels=20, weights=saved(tmp_path, state))
    found = network.state_dict()
    assert found.keys() == state.keys()
    mean = state["features.0.weight"].mean(1)
    for channel in range(20):
        torch.testing.assert_close(found["features.0.weight"][:, channel], mean)
    for key in state:
        if key != "features.0.weight" and not key.startswith("classifier.6."):
            assert torch.equal(found[key], state[key]), key
    assert found["classifier.6.weight"].shape == (101, 4096)
    assert found["classifier.6.weight"].std().item() == pytest.approx(0.001, rel=0.02)


def test_inflation_answers_a_grey_input_as_the_rgb_filters_do():
    """A constant over all channels gives 2L/3 of what it gives through the RGB filters."""
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 3, 3).double()
    grey = torch.randn(1, 1, 8, 8).double()
    rgb = torch.conv2d(grey.expand(1, 3, 8, 8), weight)
    flow = torch.conv2d(grey.expand(1, 20, 8, 8), inflate_first_conv(weight, 20))
    torch.testing.assert_close(flow, rgb * 20 / 3)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: s.pop("layer2.0.conv1.weight"), "layer2.0.conv1.weight is missing"),
        (lambda s: s.update({"extra.bias": torch.zeros(2)}), "extra.bias is unknown"),
        (
            lambda s: s.update({"bn1.weight": torch.zeros(63)}),
            r"bn1.weight has shape \(63,\), expected \(64,\)",
        ),
        # Another number of classes is fine, another number of features isn't.
        (lambda s: s.pop("fc.bias"), "fc.bias is missing"),
        # Flow filters don't turn into RGB ones.
        (
            lambda s: s.update({"conv1.weight": torch.zeros(64, 20, 7, 7)}),
            r"conv1.weight has shape \(64, 20, 7, 7\), expected \(64, 3, 7, 7\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, state, spoil, said):
    spoilt = dict(state)
    spoil(spoilt)
    network = make()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    path = saved(tmp_path, spoilt)
    with pytest.raises(ValueError, match=said) as caught:
        load_pretrained(network, "resnet18", path)
    assert path in str(caught.value) and "resnet18" in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_whole_other_network_is_refused_in_one_short_line(tmp_path, state):
    with pytest.raises(ValueError, match=r"and [0-9]+ more") as caught:
        load_pretrained(make(name="resnet50"), "resnet50", saved(tmp_path, state))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.mkdir, (self.marker,)


@pytest.mark.parametrize(
    "write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o, protocol=2))]
)
def test_nothing_is_unpickled(tmp_path, write):
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    write({"conv1.weight": Evil(marker)}, path)
    with pytest.raises(ValueError, match=r"evil.pth: not a file of plain tensors"):
        load_pretrained(make(), "resnet18", str(path))
    assert not marker.exists()


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], None, {"fc.bias": 3}])
def test_a_file_of_something_else(tmp_path, content):
    path = saved(tmp_path, content)
    with pytest.raises(ValueError, match=r"weights.pth: not a file of plain tensors"):
        load_pretrained(make(), "resnet18", path)


def test_no_file_and_no_torch_file(tmp_path):
    with pytest.raises(ValueError, match=r"gone.pth: no such weights file"):
        load_pretrained(make(), "resnet18", str(tmp_path / "gone.pth"))
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match=r"text.pth: not a file of plain tensors"):
        load_pretrained(make(), "resnet18", str(tmp_path / "text.pth"))


def test_networks_without_pip_weights_say_so():
    with pytest.raises(ValueError, match="no ImageNet weights for resnet18"):
        load_pretrained(make(), "resnet18", "imagenet")


def test_imagenet_efficientnet_knows_a_building_and_a_flower():
    """Two photographs that scikit-learn brings along: a Chinese palace and a dahlia."""
    network = make(name="efficientnet_lite0", classes=1000, weights="imagenet").eval()
    mean, std = (np.array(v, np.float32) for v in NORMALISATION["efficientnet_lite0"])
    folder, probs = Path(sklearn.datasets.__file__).parent / "images", {}
    for name in ("china", "flower"):
        picture = cv2.imread(str(folder / f"{name}.jpg"), cv2.IMREAD_COLOR_RGB)
        left = (picture.shape[1] - picture.shape[0]) // 2
        square = cv2.resize(
            picture[:, left : left + picture.shape[0]], (224, 224), interpolation=cv2.INTER_AREA
        )
        x = torch.from_numpy((square - mean) / std).permute(2, 0, 1)[None]
        with torch.no_grad():
            probs[name] = network(x).softmax(1)[0]
    # ImageNet's numbers of "palace" and, the nearest flower it has, "daisy".
    assert probs["china"].argmax() == 698 and probs["china"][698] > 0.2
    assert probs["flower"].argmax() == 985 and probs["flower"][985] > 0.1
