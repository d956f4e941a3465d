"""Which snippets of a clip a network sees.

A snippet of L fields (or frames) is named by its first index, counted from 0. A clip shorter than
L repeats its last field.
"""

import numpy as np


def training_starts(count: int, length: int, segments: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one snippet from each of K equal segments (TSN, section 3.1; the authors' Caffe code).

    Segments have d = count // K fields, and snippets lie inside their segment. Where d < L the
    authors' code takes the first snippet K times; here, K snippets are drawn from the whole clip
    and sorted, as their PyTorch code does when segments are empty.

    Parameters
    ----------
    count : int
        Fields (or frames) of the clip.
    length : int
        L.
    segments : int
        K; 1 draws one snippet from the whole clip, as the two-stream paper does.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (K,), int64
        First indices, in order.
    """
    average = count // segments
    if average >= length:
        return np.arange(segments) * average + rng.integers(0, average - length + 1, segments)
    return np.sort(rng.integers(0, max(count - length, 0) + 1, segments))


def testing_starts(count: int, length: int, snippets: int) -> np.ndarray:
    """Place snippets at the centres of equal shares of a clip (25 in both papers).

    Returns
    -------
    ndarray of shape (snippets,), int64
        First indices, in order; repeated where the clip has fewer.
    """
    share = max(count - length + 1, 1) / snippets
    return np.floor(share / 2 + share * np.arange(snippets)).astype(np.int64)


def snippet_indices(start: int, length: int, count: int) -> np.ndarray:
    """List the L indices of a snippet: (L,) int64; past the end the last one again."""
    return np.minimum(start + np.arange(length), count - 1)
