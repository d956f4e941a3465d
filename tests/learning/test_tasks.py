"""Multi-task learning, what stays frozen, and losses against their formulas."""

from dataclasses import replace

import pytest
import torch
from test_engine import PARAMS, STD, Tiny, batches, fit
from torch import nn

from models import build
from pipeline.learning.epochs import PADDING
from pipeline.learning.tasks import SnippetTask


def tiny(classes):
    torch.manual_seed(0)
    network = Tiny(dropout=0.0)
    network.fc = nn.Linear(6, classes)
    return network


def gradients(heads, labels, **changes):
    """Give the gradient of the total loss, each head's a mean over its own clips."""
    network = tiny(sum(heads))
    task = SnippetTask(network, replace(PARAMS, **changes), STD, heads)
    codes, offsets, _ = batches(0, count=1)[0]
    labels = torch.tensor(labels)
    losses, right = task(codes[: len(labels)], offsets[: len(labels)], labels)
    counts = task.counts(labels)
    assert losses.shape == counts.shape == (len(heads),) and 0 <= right <= counts.sum()
    (losses / counts.clamp(min=1)).sum().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}, losses


def test_without_a_datasets_clips_its_heads_gradient_is_exactly_zero():
    found, losses = gradients((3, 4), [0, 1, 2, 2])
    assert found["fc.weight"][:3].abs().sum() > 0 and found["conv.weight"].abs().sum() > 0
    assert not found["fc.weight"][3:].any() and not found["fc.bias"][3:].any()
    assert losses[1] == 0


def test_each_loss_is_over_its_own_clips_alone():
    """The gradient of both is the sum of each one's."""
    both, _ = gradients((3, 4), [0, 3, 2, 6])
    network = tiny(7).train()
    task = SnippetTask(network, PARAMS, STD, (3, 4))
    codes, offsets, _ = batches(0, count=1)[0]
    codes, offsets = codes[:4].float(), offsets[:4]
    x = ((codes - offsets[:, :, None, None]) / torch.tensor(STD)).flatten(0, 1).permute(0, 3, 1, 2)
    logits = task.model.network(x).reshape(4, 2, 7).mean(1)
    first = -logits[[0, 2], :3].log_softmax(1)[[0, 1], [0, 2]].mean()
    second = -logits[[1, 3], 3:].log_softmax(1)[[0, 1], [0, 3]].mean()
    (first + second).backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(both[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_two_heads_with_one_dataset_are_one_head():
    alone, two = tiny(3), tiny(3)
    two.fc = nn.Linear(6, 8)
    with torch.no_grad():
        two.fc.weight[:3], two.fc.bias[:3] = alone.fc.weight, alone.fc.bias
    rows = fit(alone), fit(two, heads=(3, 5))
    for ours, theirs in zip(*rows, strict=True):
        for key in ("train_loss", "train_top1"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5)
    torch.testing.assert_close(two.conv.weight, alone.conv.weight)
    torch.testing.assert_close(two.fc.weight[:3], alone.fc.weight)


def test_padding_counts_nowhere():
    padded, losses = gradients((3,), [0, 2, PADDING])
    assert padded["fc.weight"].abs().sum() > 0
    network = tiny(3)
    task = SnippetTask(network, PARAMS, STD, (3,))
    codes, offsets, _ = batches(0, count=1)[0]
    labels = torch.full((2,), PADDING)
    losses, right = task(codes[:2], offsets[:2], labels)
    assert losses.sum() == right == task.counts(labels).sum() == 0
    losses.sum().backward()
    assert not any(parameter.grad.any() for parameter in network.parameters())


def test_smoothed_labels_by_their_formula():
    """(1 - e) of the true class and e spread over all."""
    task = SnippetTask(tiny(3), replace(PARAMS, label_smoothing=0.3), STD, (3,)).eval()
    codes, offsets, labels = batches(0, count=1)[0]
    logits = task.model(
        ((codes - offsets[:, :, None, None]) / torch.tensor(STD)).permute(0, 1, 4, 2, 3)
    )
    target = 0.7 * nn.functional.one_hot(labels, 3) + 0.1
    expected = -(target * logits.log_softmax(1)).sum()
    losses, _ = task(codes, offsets, labels)
    assert losses.item() == pytest.approx(expected.item(), rel=1e-5)


def test_frozen_up_to_a_part_all_before_it_stays():
    network = tiny(3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fit(network, replace(PARAMS, frozen_up_to="bn"))
    after = network.state_dict()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert {key.split(".")[0] for key in changed} == {"conv2", "bn2", "fc"}


def test_a_part_of_a_real_network():
    network = build("resnet18", classes=3, channels=3, crop=32, dropout=0.0, weights="none")
    SnippetTask(network, replace(PARAMS, frozen_up_to="layer2.0"), STD, (3,))
    still = {name for name, one in network.named_parameters() if not one.requires_grad}
    assert {name.split(".")[0] for name in still} == {"conv1", "bn1", "layer1", "layer2"}
    assert {name for name in still if name.startswith("layer2.1")} == set()
    assert not network.layer2[0].bn2.training and network.layer2[1].bn1.training


@pytest.mark.parametrize("name", ["layer9", "layer2.", "fc"])
def test_a_part_that_is_not_there_is_named(name):
    said = r"frozen_up_to: got .*, expected a part of .* its classifier: conv, bn, .*, dropout$"
    with pytest.raises(ValueError, match=said):
        SnippetTask(tiny(3), replace(PARAMS, frozen_up_to=name), STD, (3,))


def test_nothing_that_holds_the_classifier_is_frozen():
    network = build("vgg16", classes=3, channels=3, crop=32, dropout=0.0, weights="none")
    with pytest.raises(ValueError, match=r"before its classifier: features, avgpool$"):
        SnippetTask(network, replace(PARAMS, frozen_up_to="classifier"), STD, (3,))
