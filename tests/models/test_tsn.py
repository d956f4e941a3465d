"""The segmental consensus."""

import numpy as np
import pytest
import torch
from torch import nn

from models import NORMALISATION, build, classifier_of
from models.tsn import TSN, Attention, Average, Max, TopK, Weighted

KINDS = ("average", "max", "weighted", "top_k", "attention")
# Two clips of three snippets, two classes and two features; answers by hand.
LOGITS = [[[1, 8], [4, 2], [7, 2]], [[0, 3], [6, -3], [3, -9]]]
FEATURES = [[[0, 1], [0, 2], [0, 3]], [[5, 0], [5, 0], [5, 0]]]


def network():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 5))
    layers.head = "3"
    return layers


def given():
    return torch.tensor(LOGITS).double(), torch.tensor(FEATURES).double()


@pytest.mark.parametrize(
    ("consensus", "expected"),
    [
        (Average(), [[4, 4], [3, -3]]),
        (Max(), [[7, 8], [6, 3]]),
        (TopK(1), [[7, 8], [6, 3]]),
        (TopK(2), [[5.5, 5], [4.5, 0]]),
        (TopK(3), [[4, 4], [3, -3]]),
        (Weighted(3), [[4, 4], [3, -3]]),
        (Attention(2), [[4, 4], [3, -3]]),
    ],
)
def test_by_hand_and_learned_ones_start_as_the_average(consensus, expected):
    found = consensus.double()(*given())
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=1e-6, atol=1e-6)


def test_learned_weights_by_hand():
    weighted, attention = Weighted(3).double(), Attention(2).double()
    with torch.no_grad():
        weighted.omega.copy_(torch.tensor([2.0, 1.0, -1.0]))
        attention.w_att.copy_(torch.tensor([9.0, np.log(2)]))
    found = weighted(*given())
    assert found.tolist() == [[2 + 4 - 7, 16 + 2 - 2], [0 + 6 - 3, 6 - 3 + 9]]
    # exp(w . R) is 2, 4 and 8 in the first clip, and one number in the second.
    expected = [[(2 * 1 + 4 * 4 + 8 * 7) / 14, (2 * 8 + 4 * 2 + 8 * 2) / 14], [3, -3]]
    torch.testing.assert_close(attention(*given()), torch.tensor(expected).double())


@pytest.mark.parametrize("consensus", [Average(), Max(), TopK(2), Weighted(4), Attention(3)],
                         ids=lambda consensus: type(consensus).__name__)  # fmt: skip
def test_gradients(consensus):
    torch.manual_seed(0)
    consensus.double()
    parameters = dict(consensus.named_parameters())
    drawn = [torch.randn(value.shape, dtype=torch.float64) for value in parameters.values()]
    inputs = [torch.randn(2, 4, 5).double(), torch.randn(2, 4, 3).double(), *drawn]

    def answer(logits, features, *values):
        state = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(consensus, state, (logits, features))

    assert torch.autograd.gradcheck(answer, [value.requires_grad_() for value in inputs])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_network(kind):
    """Of the whole TSN, also through what attention looks at."""
    model = TSN(network().double(), consensus=kind, segments=3, top_k=2).double()
    for own in model.consensus.parameters():
        nn.init.normal_(own)
    snippets = torch.randn(2, 3, 4, 6, 6, dtype=torch.float64)
    first = model.network[0].weight.detach().clone().requires_grad_()

    def answer(weight):
        return torch.func.functional_call(model, {"network.0.weight": weight}, (snippets,))

    assert torch.autograd.gradcheck(answer, [first])


def test_consensus_is_the_mean_of_the_logits():
    shared = network()
    snippets = torch.randn(3, 4, 4, 6, 6)
    found = TSN(shared)(snippets)
    assert found.shape == (3, 5)
    for clip in range(3):
        logits = [shared(snippets[clip, segment][None])[0].double() for segment in range(4)]
        torch.testing.assert_close(found[clip].double(), sum(logits) / 4, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "weighted"])
def test_order_of_segments_does_not_matter_and_clips_do_not_mix(kind):
    model = TSN(network(), consensus=kind, segments=3, top_k=2)
    if kind == "attention":
        nn.init.normal_(model.consensus.w_att)
    snippets = torch.randn(2, 3, 4, 6, 6)
    found = model(snippets)
    torch.testing.assert_close(model(snippets[:, [2, 0, 1]]), found)
    torch.testing.assert_close(model(snippets.flip(0)), found.flip(0))
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize("kind", KINDS)
def test_one_segment_is_the_network(kind):
    torch.manual_seed(0)
    shared = build("resnet18", classes=5, channels=3, crop=32, dropout=0.0, weights="none").eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(TSN(shared, consensus=kind)(x[:, None]), shared(x))


@pytest.mark.parametrize("name", NORMALISATION)
def test_attention_sees_what_every_networks_classifier_takes(name):
    """The classifier's answer to the features is the snippets' logits, and whole."""
    torch.manual_seed(0)
    shared = build(name, classes=5, channels=3, crop=48, dropout=0.9, weights="none").eval()
    model, seen = TSN(shared, consensus="attention", segments=2), []
    model.consensus.register_forward_pre_hook(lambda _, given: seen.extend(given))
    with torch.no_grad():
        model(torch.randn(1, 2, 3, 48, 48))
        logits, features = seen
        assert features.shape == (1, 2, *model.consensus.w_att.shape)
        torch.testing.assert_close(classifier_of(shared)(features), logits)
        last = [part for part in shared.modules() if isinstance(part, nn.Dropout)][-1]
        last.train()
        seen.clear()
        model(torch.randn(1, 2, 3, 48, 48))
        assert (seen[1] == 0).float().mean() < 0.8  # dropout takes 0.9
    assert not any(part._forward_pre_hooks for part in shared.modules())


@pytest.mark.parametrize(("kind", "own"), [("average", 0), ("weighted", 3), ("attention", 48)])
def test_the_network_is_shared_not_copied(kind, own):
    shared = network()
    model = TSN(shared, consensus=kind, segments=3)
    rest = {id(p): p.numel() for p in model.parameters()}
    for parameter in shared.parameters():
        assert rest.pop(id(parameter))
    assert sum(rest.values()) == own
