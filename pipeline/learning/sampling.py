"""Which snippets of a clip a network sees, and of which fields they are made.

A snippet of L fields (or frames) spans S neighbouring ones and is named by the first of those,
counted from 0. Snippets lie inside their clip. A clip shorter than S has one, which repeats what is
at the clip's ends.
"""

import numpy as np


def span(length: int, stride: int) -> int:
    """Count the fields (or frames) S from the first of L to the last, ``stride`` apart."""
    return (length - 1) * stride + 1


def training_starts(count: int, span: int, segments: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one snippet from each of K equal segments (TSN, section 3.1; the authors' Caffe code).

    Segments have d = count // K fields, and snippets lie inside their segment. Where d < S, the
    Caffe code takes the clip's first snippet K times. Here the places where a snippet can start are
    shared out instead, d' = (count - S + 1) // K each, as the authors' PyTorch code (tsn-pytorch)
    does for every clip. Where d' = 0, K snippets are drawn from the whole clip and sorted, as there
    if count > K; else it takes the first K times.

    Parameters
    ----------
    count : int
        Fields (or frames) of the clip.
    span : int
        S.
    segments : int
        K; 1 draws one snippet from the whole clip, as the two-stream paper does.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (K,), int64
        First indices, in order.
    """
    average = count // segments
    if average >= span:
        return np.arange(segments) * average + rng.integers(0, average - span + 1, segments)
    places = max(count - span, 0) + 1
    if share := places // segments:
        return np.arange(segments) * share + rng.integers(0, share, segments)
    return np.sort(rng.integers(0, places, segments))


def testing_starts(count: int, span: int, snippets: int) -> np.ndarray:
    """Place snippets at the centres of equal shares of a clip (25 in both papers).

    As tsn-pytorch does in testing, and in validation with K of them. Two-Stream says no more than
    "equal temporal spacing"; the Caffe code starts at 0, with steps of (count - S) // 24, which
    leaves up to 24 fields at the clip's end unseen. A clip with fewer places than snippets is
    spread over them all, where both take its first snippet alone (tsn-pytorch in validation).

    Returns
    -------
    ndarray of shape (snippets,), int64
        First indices, in order; repeated where the clip has fewer.
    """
    share = max(count - span + 1, 1) / snippets  # in floats, as there: 14.99... becomes 14
    return np.floor(share / 2 + share * np.arange(snippets)).astype(np.int64)


def snippet_indices(start: int, length: int, stride: int, count: int) -> np.ndarray:
    """List the L fields (or frames) of a snippet from frame tau = ``start`` on.

    Field k of Two-Stream's 1 to L (section 3.1) is d of frame tau + (k-1) * stride; past the clip's
    end, the last field again.

    Returns
    -------
    ndarray of shape (L,), int64
    """
    return np.minimum(start + stride * np.arange(length), count - 1)


def middle_frame(start: int, span: int, count: int) -> int:
    """Give the frame tau in the middle of a bidirectional snippet, or of a clip shorter than it.

    In a clip of N = ``count`` + 1 frames: ``start`` + S/2, so that as many fields lie before tau as
    behind; if the clip has fewer than S fields, N // 2.
    """
    return start + min(span, count + 1) // 2


def bidirectional_indices(
    tau: int, length: int, stride: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """List the fields forward and backward from frame tau (Two-Stream, section 3.1).

    Forward ones go from frame tau to tau+1, then, with stride s, from tau+s to tau+s+1, and so on.
    Backward ones go from frame tau to tau-1, from tau-s to tau-s-1, and so on: away from tau too.
    Stored backward field j goes from frame j+1 to frame j. Forward fields past the clip's end
    repeat the last one, backward fields before its start the first one.

    Parameters
    ----------
    tau : int
        0 to N-1, in a clip of N frames.
    length : int
        L, even.
    stride : int
    count : int
        Fields in each direction: N-1.

    Returns
    -------
    forward, backward : ndarray of shape (L/2,), int64
        Indices of stored fields, those nearest to tau first.
    """
    steps = stride * np.arange(length // 2)
    return np.minimum(tau + steps, count - 1), np.maximum(tau - 1 - steps, 0)
