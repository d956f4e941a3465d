"""The search for weights: against every share by scikit-learn, and blind to the test clips."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from pipeline.learning.scores import Scores, ScoresError
from pipeline.learning.weighting import search, weighted


def noisy(seed, signal, count=90, classes=4):
    """Answers on clips of all three subsets; labels are the same for every seed."""
    label = np.random.default_rng(99).integers(0, classes, count)
    logits = np.random.default_rng(seed).normal(size=(count, classes))
    logits += signal * np.eye(classes)[label]
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Scores(
        stream=f"s{seed}", classes=tuple("abcd"), label=label,
        video_id=np.array([f"v{i}" for i in range(count)]),
        subset=np.array([("train", "val", "test")[i % 3] for i in range(count)]),
        logits=logits.astype(np.float32), probs=probs.astype(np.float32),
    )  # fmt: skip


@pytest.mark.parametrize("of", ["logits", "probs"])
@pytest.mark.parametrize("count", [2, 3])
def test_no_share_does_better_on_val(of, count):
    streams = [noisy(seed, signal) for seed, signal in enumerate((0.6, 1.0, 0.3)[:count])]
    found = search(streams, of)
    assert np.isclose(sum(found), 1)
    val = streams[0].subset == "val"
    labels = streams[0].label[val]

    def worth(weights):
        scores = weighted(streams, weights, of)[val]
        off = sum((weight / sum(weights) - 1 / count) ** 2 for weight in weights)
        return accuracy_score(labels, scores.argmax(1)), -off

    best = worth(found)
    for shares in itertools.product(range(21), repeat=count):
        if sum(shares) == 20:
            right, off = worth(shares)
            assert (right, off) <= (best[0], best[1] + 1e-9)
    assert worth([1] * count)[0] < best[0]  # there was something to find


def test_nothing_but_val_bears_on_it():
    streams = [noisy(1, 0.5), noisy(2, 0.8)]
    found, rng = search(streams, "logits"), np.random.default_rng(0)
    others = streams[0].subset != "val"
    spoilt = []
    for scores in streams:
        logits = scores.logits.copy()
        logits[others] = rng.normal(size=(others.sum(), 4))
        label = np.where(others, 0, scores.label)
        spoilt.append(replace(scores, logits=logits, label=label))
    assert search(spoilt, "logits") == found


def test_one_that_knows_nothing_gets_nothing_and_without_val_it_is_an_error():
    knows, flat = noisy(1, 3.0), noisy(2, 0.0)
    flat = replace(flat, logits=-knows.logits)
    assert search([knows, flat], "logits")[0] > 0.5
    assert search([knows], "logits") == [1.0]
    louder = replace(knows, logits=10 * knows.logits)
    assert search([knows, louder], "logits") == [0.5, 0.5]  # both are right
    four = [noisy(seed, 0.5) for seed in range(4)]
    assert all(np.isclose(share * 10, round(share * 10)) for share in search(four, "probs"))
    bare = [replace(s, subset=np.where(s.subset == "val", "train", s.subset)) for s in four]
    with pytest.raises(ScoresError, match=r"fuse\.search_weights: got no clip of the subset val"):
        search(bare, "logits")
