"""Which frames of a clip ST-ResNet sees, which fields around each, and which box of them.

Frames and fields count from 0: field k goes from frame k to frame k+1, so a clip of N frames has
N-1. The L fields around frame t begin with t - L/2. With L = 10 they are t-5 to t+4, and frames 5
to N-6 have all of theirs. (The authors count from 1, which makes it 6 to N-5.)

Read off the authors' code (github.com/feichtenhofer/st-resnet, ``cnn_get_im_flow_batch.m``,
``getBatchWrapper_rgbflow.m`` and ``cnn_train_dag.m``). It differs:

- A run of strided frames starts at any of them. There, the first one is never drawn.
- All clips of a batch have one stride. There, those of a pass through the network do: 4 of 128.
- Testing with a stride takes it; there, it is given and not used (``frameSample`` is
  ``uniformly``): frames are evenly spaced, as with stride 0 here; of videos of fewer than 35 frames
  it takes all that have their fields and begins anew, where stride 0 repeats some.
- A video that is too short for the stride changes the stride of no other in its batch.
- A video without a frame that has all of its fields shows its middle frame, and fields past its
  ends repeat the first or the last. There, it is an error.
"""

import numpy as np


def batch_stride(
    lowest: int, highest: int, *, seed: int, epoch: int, position: int, batch: int
) -> int:
    """Draw the frames from one of a clip's frames to the next: the same one for a whole batch.

    The authors draw one of 5 to 15 in the first stage of training and of 1 to 15 in the second.

    Parameters
    ----------
    lowest, highest : int
        Both may be drawn.
    seed, epoch : int
    position : int
        A clip's place in the epoch, from 0.
    batch : int
        Clips that share a stride.
    """
    # The last number keeps these draws apart from a clip's own, by (seed, epoch, position).
    rng = np.random.default_rng((seed, epoch, position // batch, 1))
    return int(rng.integers(lowest, highest + 1))


def training_frames(
    count: int, frames: int, stride: int, length: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw T frames of a clip, a stride apart: a run of T of those at 0, tau, 2 tau, ... that fit.

    Counted from the first frame that has all of its fields. If fewer than T fit, T evenly spaced
    ones instead, from the first that has all of its fields to the last.

    Parameters
    ----------
    count : int
        N, the clip's frames.
    frames : int
        T.
    stride : int
        tau.
    length : int
        L, the fields around each frame.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (T,), int64
        In order; repeated where the clip has fewer.
    """
    first, last = _bounds(count, length)
    strided = np.arange(first, last + 1, stride)
    if len(strided) < frames:
        return _evenly(first, last, frames)
    start = rng.integers(len(strided) - frames + 1)
    return strided[start : start + frames]


def testing_frames(count: int, frames: int, stride: int, length: int) -> np.ndarray:
    """Choose T frames to test on; the authors have 25.

    With a stride of 0 they are evenly spaced from the first that has all of its fields to the last:
    what ``uniformly`` does, which the authors' code sets in testing, whatever the stride. Else they
    are the middle T of those a stride apart (its ``temporalStride``; 15). If those are fewer than
    T, further passes follow, until there are T: by turns one that ends at the last frame and one
    that starts at the first, the second pass with the same stride and each later one with a stride
    smaller by one. At each pass time starts anew.

    Parameters
    ----------
    count, frames, stride, length : int
        As in :func:`training_frames`.

    Returns
    -------
    ndarray of shape (T,), int64
        In order, or in order within each pass.
    """
    first, last = _bounds(count, length)
    if stride == 0:
        return _evenly(first, last, frames)
    chosen = np.arange(first, last + 1, stride)
    if len(chosen) >= frames:
        start = (len(chosen) - frames) // 2
        return chosen[start : start + frames]
    from_end = True
    while len(chosen) < frames:
        missing = frames - len(chosen)
        if from_end:
            further = np.arange(last, first - 1, -stride)[::-1][-missing:]
        else:
            further = np.arange(first, last + 1, stride)[:missing]
        chosen = np.concatenate([chosen, further])
        stride, from_end = max(stride - 1, 1), not from_end
    return chosen


def fields_around(frames: np.ndarray, length: int, count: int) -> np.ndarray:
    """List the L fields around each of T frames, in time: (T, L) int64.

    Fields before the clip's first of ``count`` - 1 repeat it, those past its last that one. A clip
    of one frame has none; it is not asked for.
    """
    around = frames[:, None] + np.arange(length) - length // 2
    return np.clip(around, 0, count - 2)


def corner_box(
    height: int, width: int, size: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a box near the top left or the bottom right corner, for all frames and fields of a clip.

    Its height and width are each ``size`` times a number from 0.75 to 1.25, but at most the
    frame's. Of the rows and columns that it leaves free, 0 to a quarter lie before it on both axes
    (near the top left), or three quarters to all (near the bottom right): one of 20 places on each
    axis (the authors' ``f25noCtr``). The caller resizes it to a square of ``size``.

    Parameters
    ----------
    height, width : int
        Of the frame.
    size : int
        224 in the paper.
    rng : numpy.random.Generator

    Returns
    -------
    top, left, height, width : int
    """
    drawn = size * rng.uniform(0.75, 1.25, 2)
    box = [
        max(round(min(side, most)), 1) for side, most in zip(drawn, (height, width), strict=True)
    ]
    places = rng.integers(20, size=2) + 57 * (rng.random() < 0.5)  # 76ths
    room = height - box[0], width - box[1]
    top, left = (int(free * place // 76) for free, place in zip(room, places, strict=True))
    return top, left, *box


def _bounds(count: int, length: int) -> tuple[int, int]:
    """Give the first and the last frame that have all of their fields, or the middle one twice."""
    first, last = length // 2, count - 1 - (length - length // 2)
    return (first, last) if first <= last else ((count - 1) // 2, (count - 1) // 2)


def _evenly(first: int, last: int, frames: int) -> np.ndarray:
    if frames == 1:  # the middle
        return np.array([(first + last) // 2])
    # Half-way up, as MATLAB rounds.
    return np.floor(np.linspace(first, last, frames) + 0.5).astype(np.int64)
