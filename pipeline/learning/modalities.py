"""Modalities: what a network is shown of a clip. They part here and nowhere else.

Two-Stream, section 3.1: a frame; L fields of flow, of plain or of warped flow, as they are, along
trajectories, or in both directions. TSN, section 3.2: L differences of frames. All are read as
codes, of which offsets are subtracted and which are then divided
(:func:`pipeline.learning.volumes.normalise`). Offsets and divisors are in codes, one a channel.
"""

import numpy as np

from pipeline.learning import volumes
from pipeline.learning.sampling import (
    bidirectional_indices,
    middle_frame,
    snippet_indices,
    span,
)
from pipeline.stream_params import Input, Stream, channels_of
from pipeline.video import store

NO_MOTION = 127.5

Snippet = tuple[np.ndarray, np.ndarray]


class Modality:
    """What a snippet is read from, and how.

    Parameters
    ----------
    seen : Input
    channels : int
        C.
    mean : tuple of float
        The network's, of R, G and B in 0-255.

    Attributes
    ----------
    signed : bool
        Whether every other channel is an x, which changes its sign where the picture is mirrored.
    names : tuple of str
        The pictures that a stored video of it has (see :mod:`pipeline.video.store`).
    fixed : tuple of float, or None
        The offsets, where they are the same for all snippets; else each field's mean is.
    """

    signed: bool
    names: tuple[str, ...]

    def __init__(self, seen: Input, channels: int, mean: tuple[float, ...]) -> None:
        self.seen, self.channels = seen, channels
        self.fixed = self.subtracted(mean)
        self.offsets = None if self.fixed is None else np.array(self.fixed, np.float32)

    @property
    def span(self) -> int:
        """S: how many neighbouring frames or fields a snippet lies in."""
        raise NotImplementedError

    def subtracted(self, mean: tuple[float, ...]) -> tuple[float, ...] | None:
        """Give ``fixed``, from the network's mean."""
        raise NotImplementedError

    def divisors(self, std: tuple[float, ...]) -> tuple[float, ...]:
        """Give what each channel is divided by, from the network's R, G and B."""
        raise NotImplementedError

    def snippet(self, video: store.StoredVideo, start: int) -> Snippet:
        """Read one snippet: its codes (H, W, C) uint8 or int16, and its offsets (C,) float32."""
        raise NotImplementedError


class Rgb(Modality):
    """Single frames, less the network's mean."""

    signed, names, span = False, store.FRAMES, 1

    def subtracted(self, mean: tuple[float, ...]) -> tuple[float, ...]:
        """Subtract the network's mean."""
        return mean

    def divisors(self, std: tuple[float, ...]) -> tuple[float, ...]:
        """Divide by the network's, for each of L pictures."""
        return std * self.seen.length

    def snippet(self, video: store.StoredVideo, start: int) -> Snippet:
        """Read one frame: uint8."""
        return video.read(start), self.offsets


class RgbDifference(Rgb):
    """Each of L+1 frames less the one before: around zero as they are."""

    @property
    def span(self) -> int:
        """S, of frames."""
        return span(self.seen.length + 1, self.seen.stride)

    def subtracted(self, mean: tuple[float, ...]) -> tuple[float, ...]:
        """Subtract nothing."""
        return (0.0,) * self.channels

    def snippet(self, video: store.StoredVideo, start: int) -> Snippet:
        """Read one snippet: int16."""
        wanted = snippet_indices(start, self.span, 1, len(video))
        return volumes.difference_stack(video.read_many(wanted)), self.offsets


class Flow(Modality):
    """A stack of L fields, plain or warped."""

    signed, names = True, store.FLOW

    @property
    def span(self) -> int:
        """S, of fields."""
        return span(self.seen.length, self.seen.stride)

    def subtracted(self, mean: tuple[float, ...]) -> tuple[float, ...] | None:
        """Subtract no motion, or each field's mean."""
        return None if self.seen.subtract_mean else (NO_MOTION,) * self.channels

    def divisors(self, std: tuple[float, ...]) -> tuple[float, ...]:
        """Divide all by the mean of the network's three."""
        return (sum(std) / len(std),) * self.channels

    def snippet(self, video: store.StoredVideo, start: int) -> Snippet:
        """Read one snippet: uint8."""
        fields = self.fields(video, start)
        offsets = volumes.field_means(fields) if self.offsets is None else self.offsets
        return self.volume(video, fields), offsets

    def fields(self, video: store.StoredVideo, start: int) -> np.ndarray:
        """Read one snippet's fields in the order of its channels: codes (L, 2, H, W) uint8."""
        return video.read_many(
            snippet_indices(start, self.seen.length, self.seen.stride, len(video))
        )

    def volume(self, video: store.StoredVideo, fields: np.ndarray) -> np.ndarray:
        """Make (H, W, 2L) uint8 of the fields."""
        return volumes.flow_stack(fields)


class Trajectory(Flow):
    """L fields, each sampled where its points have moved to."""

    def volume(self, video: store.StoredVideo, fields: np.ndarray) -> np.ndarray:
        """Sample; rounded to codes again, which is off by half a code, bound/255 px, at most."""
        bound = video.made_by["settings"]["bound"]
        volume = volumes.trajectory_stack(store.dequantise(fields, bound))
        return store.quantise(volume, bound)


class Bidirectional(Flow):
    """L/2 fields forward from a frame, then L/2 backward from it."""

    names = store.BIDIRECTIONAL

    @property
    def span(self) -> int:
        """S, of fields: two stacks of L/2, end to end."""
        return 2 * span(self.seen.length // 2, self.seen.stride)

    def fields(self, video: store.StoredVideo, start: int) -> np.ndarray:
        """Read the forward fields, then the backward ones."""
        count = len(video)
        tau = middle_frame(start, self.span, count)
        forward, backward = bidirectional_indices(tau, self.seen.length, self.seen.stride, count)
        both = ((forward, store.FLOW), (backward, store.BACKWARD))
        return np.concatenate([video.read_many(wanted, names=names) for wanted, names in both])


_MODALITIES = {
    ("frames", "stack"): Rgb,
    ("frames", "difference"): RgbDifference,
    ("flow", "stack"): Flow,
    ("flow", "trajectory"): Trajectory,
    ("warped_flow", "stack"): Flow,
    ("warped_flow", "trajectory"): Trajectory,
    ("bidirectional_flow", "bidirectional"): Bidirectional,
}


def modality_of(stream: Stream, mean: tuple[float, ...]) -> Modality:
    """Give a stream's modality; ``mean`` is its network's, of R, G and B in 0-255."""
    kind = _MODALITIES[stream.source, stream.input.kind]
    return kind(stream.input, channels_of(stream), mean)
