"""The segmental consensus."""

import torch
from torch import nn

from models import build
from models.tsn import TSN


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 5))


def test_consensus_is_the_mean_of_the_logits():
    shared = network()
    snippets = torch.randn(3, 4, 4, 6, 6)
    found = TSN(shared)(snippets)
    assert found.shape == (3, 5)
    for clip in range(3):
        logits = [shared(snippets[clip, segment][None])[0].double() for segment in range(4)]
        torch.testing.assert_close(found[clip].double(), sum(logits) / 4, rtol=1e-5, atol=1e-6)


def test_order_of_segments_does_not_matter_and_clips_do_not_mix():
    model = TSN(network())
    snippets = torch.randn(2, 3, 4, 6, 6)
    found = model(snippets)
    torch.testing.assert_close(model(snippets[:, [2, 0, 1]]), found)
    torch.testing.assert_close(model(snippets.flip(0)), found.flip(0))
    assert not torch.allclose(found[0], found[1])


def test_one_segment_is_the_network():
    torch.manual_seed(0)
    shared = build("resnet18", classes=5, channels=3, crop=32, dropout=0.0, weights="none").eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(TSN(shared)(x[:, None]), shared(x))


def test_the_network_is_shared_not_copied():
    shared = network()
    model = TSN(shared)
    assert {id(p) for p in model.parameters()} == {id(p) for p in shared.parameters()}
