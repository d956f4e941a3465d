"""The weighted mean of several streams' scores, and a search for its weights.

TSN weighs logits: 1 : 1.5 for RGB : flow, 1 : 1 : 0.5 with warped flow. Of its logits before the
softmax and of the softmax the best weights differ, and so do the answers.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.learning.scores import Scores, ScoresError

_PARTS = 20  # weights are tried in steps of one part in so many; of more than three streams, in 10
_PARTS_OF_MANY = 10


def weighted(streams: Sequence[Scores], weights: Sequence[float], of: str) -> np.ndarray:
    """Average the ``logits`` or ``probs`` by weight: (N, C) float64."""
    return np.tensordot(np.array(weights) / np.sum(weights), _stacked(streams, of), 1)


def _stacked(streams: Sequence[Scores], of: str) -> np.ndarray:
    return np.array([getattr(scores, of).astype(np.float64) for scores in streams])


def search(streams: Sequence[Scores], of: str) -> list[float]:
    """Find the weights that do best on the clips of the subset ``val``, and see no others.

    Parameters
    ----------
    streams : sequence of Scores
        Of the same videos in the same order.
    of : {"logits", "probs"}

    Returns
    -------
    list of float
        One a stream, with a sum of 1: of all shares in steps of 0.05 (0.1 for four streams or
        more) those with the best accuracy; of equals, those nearest to equal ones.

    Raises
    ------
    ScoresError
        If there is no such clip.
    """
    chosen = streams[0].subset == "val"
    if not chosen.any():
        raise ScoresError("fuse.search_weights: got no clip of the subset val to search by, "
                          "expected a dataset.val_fraction above 0")  # fmt: skip
    held_out = [scores.rows(chosen) for scores in streams]
    labels = held_out[0].label
    parts, stacked = _PARTS if len(streams) <= 3 else _PARTS_OF_MANY, _stacked(held_out, of)

    def worth(shares: tuple[int, ...]) -> tuple[float, float]:
        right = np.tensordot(shares, stacked, 1).argmax(1) == labels
        return right.mean(), -np.var(shares)

    best = max(_shares(len(streams), parts), key=worth)
    return [share / parts for share in best]


def _shares(count: int, parts: int) -> Iterator[tuple[int, ...]]:
    """List all ways to share some parts out."""
    if count == 1:
        yield (parts,)
        return
    for first in range(parts, -1, -1):
        for others in _shares(count - 1, parts - first):
            yield (first, *others)
