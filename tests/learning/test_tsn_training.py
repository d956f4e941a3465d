"""What TSN trains beside and otherwise than a single network: rates, decay, consensus."""

from dataclasses import replace

import pytest
import torch
from test_engine import PARAMS, STD, batches, fit, fit_task, tiny
from torch import nn

from models import NORMALISATION, build
from models.tsn import TSN
from pipeline.learning import optimise, volumes
from pipeline.learning.tasks import SnippetTask


def groups_of(model, lr, params):
    network = model.network
    first, new = network.get_submodule(network.first_conv), network.get_submodule(network.head)
    return optimise.parameter_groups(model, [first], [new, model.consensus], lr, params)


def rates(model, lr, params):
    """Give each parameter's rate and decay; every one that learns is in one group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for group in groups_of(model, lr, params):
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            rate, decay = group["base_lr"], group["weight_decay"]
            found[names[id(parameter)].removeprefix("network.")] = (pytest.approx(rate), decay)
    assert len(found) == sum(parameter.requires_grad for parameter in model.parameters())
    return found


def test_parameter_groups():
    network = tiny()
    network.bn2.requires_grad_(False)
    assert rates(TSN(network), 0.02, PARAMS) == {
        "conv.weight": (0.02, 0.0005),
        "conv.bias": (0.02, 0.0),
        "conv2.weight": (0.02, 0.0005),
        "bn.weight": (0.02, 0.0),
        "bn.bias": (0.02, 0.0),
        "fc.weight": (0.2, 0.0005),
        "fc.bias": (0.2, 0.0),
    }


@pytest.mark.parametrize(("first", "first_bias"), [(1, 2), (5, 10)])
def test_parameter_groups_of_tsn(first, first_bias):
    """The authors' table: RGB, and flow, whose first convolution learns five times as fast."""
    network = tiny()
    network.conv2 = nn.Conv2d(6, 6, 3)
    params = replace(PARAMS, head_lr_scale=1.0, bias_lr_scale=2.0, first_conv_lr_scale=first)
    assert rates(TSN(network), 0.001, params) == {
        "conv.weight": (0.001 * first, 0.0005),
        "conv.bias": (0.001 * first_bias, 0.0),
        "conv2.weight": (0.001, 0.0005),
        "conv2.bias": (0.002, 0.0),
        "bn.weight": (0.001, 0.0),
        "bn.bias": (0.001, 0.0),
        "bn2.weight": (0.001, 0.0),
        "bn2.bias": (0.001, 0.0),
        "fc.weight": (0.001, 0.0005),
        "fc.bias": (0.002, 0.0),
    }


@pytest.mark.parametrize("name", NORMALISATION)
def test_every_parameter_of_every_network_has_a_group(name):
    with torch.device("meta"):
        network = build(name, classes=3, channels=10, crop=48, dropout=0.0, weights="none")
        model = TSN(network, consensus="attention")
    params = replace(PARAMS, bias_lr_scale=2.0, first_conv_lr_scale=5.0)
    found = rates(model, 1.0, params)
    first, head = network.first_conv, network.head
    assert found[f"{first}.weight"] == (5.0, 0.0005)
    assert found.get(f"{first}.bias", (10.0, 0.0)) == (10.0, 0.0)
    assert (found[f"{head}.weight"], found[f"{head}.bias"]) == ((10.0, 0.0005), (20.0, 0.0))
    assert found["consensus.w_att"] == (10.0, 0.0)
    special = {(rate.expected, decay) for key, (rate, decay) in found.items()
               if not key.startswith((f"{first}.", f"{head}.", "consensus."))}  # fmt: skip
    assert special <= {(1.0, 0.0005), (2.0, 0.0), (1.0, 0.0)}


@pytest.mark.parametrize("kind", ["weighted", "attention"])
def test_a_learned_consensus_is_new_and_has_no_decay(kind):
    model = TSN(tiny(), consensus=kind, segments=2)
    (own,) = model.consensus.parameters()
    (group,) = (g for g in groups_of(model, 0.02, PARAMS)
                if any(p is own for p in g["params"]))  # fmt: skip
    assert (group["base_lr"], group["weight_decay"]) == (pytest.approx(0.2), 0.0)


@pytest.mark.parametrize("trained", ["all", "classifier"])
@pytest.mark.parametrize("kind", ["weighted", "attention"])
def test_a_learned_consensus_learns_and_is_not_kept(kind, trained):
    network = tiny()
    keys = set(network.state_dict())
    params = replace(PARAMS, consensus=kind, trained=trained, epochs=6)
    task = SnippetTask(network, params, STD, (3,))
    rows = fit_task(task, params, val=batches(9))
    (found,) = task.model.consensus.parameters()
    (start,) = TSN(tiny(), consensus=kind, segments=2).consensus.parameters()
    assert (found.cpu() - start).abs().min() > 1e-6
    assert set(network.state_dict()) == keys
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


@pytest.mark.parametrize("kind", ["max", "top_k"])
def test_the_consensus_of_params_is_what_is_trained(kind):
    """The loss of a first batch, by its formula."""
    params = replace(PARAMS, epochs=1, consensus=kind, top_k=1)
    codes, offsets, labels = batches(0, count=1)[0]
    row, twin = (
        fit(tiny(dropout=0.0), params, epoch_loader=lambda _: [(codes, offsets, labels)])[0],
        tiny(dropout=0.0),
    )
    x = volumes.normalise(codes.flatten(0, 1), offsets.flatten(0, 1), STD)
    logits = twin(x).reshape(8, 2, 3).max(1).values
    expected = -logits.log_softmax(1)[torch.arange(8), labels].mean()
    assert row["train_loss"] == pytest.approx(expected.item(), rel=1e-5)
