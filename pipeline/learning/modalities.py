"""Modalities: what a network is shown of a clip. How they are read parts here and nowhere else.

Which go together, and their channels, :mod:`pipeline.stream_params` says.

Two-Stream, section 3.1: a frame; L fields of flow, of plain or of warped flow, as they are, along
trajectories, or in both directions. TSN, section 3.2: L differences of frames. All are read as
codes, of which offsets are subtracted and which are then divided
(:func:`pipeline.learning.volumes.normalise`). Offsets and divisors are in codes, one a channel.
"""

from collections.abc import Callable
from dataclasses import dataclass

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
from pipeline.video.store import StoredVideo

NO_MOTION = 127.5


@dataclass(frozen=True, kw_only=True)
class Modality:
    """How a stream's snippets are read.

    Attributes
    ----------
    seen : Input
    names : tuple of str
        The pictures that a stored video has of it (see :mod:`pipeline.video.store`).
    signed : bool
        Whether every other channel is an x, which changes its sign where the picture is mirrored.
    span : int
        S: how many neighbouring frames or fields a snippet lies in.
    channels : int
        C.
    fixed : tuple of float, or None
        The offsets, where they are the same for all snippets; else each field's mean is.
    read : callable
        Reads the volume of the snippet that starts at a place, and of flow its fields.
    """

    seen: Input
    names: tuple[str, ...]
    signed: bool
    span: int
    channels: int
    fixed: tuple[float, ...] | None
    read: Callable[[StoredVideo, int, "Modality"], tuple[np.ndarray, np.ndarray | None]]

    def snippet(self, video: StoredVideo, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Read one snippet: codes (H, W, C), uint8 or int16, and offsets (C,) float32."""
        volume, fields = self.read(video, start, self)
        return volume, offsets_of(fields, self.fixed)

    def divisors(self, std: tuple[float, ...]) -> tuple[float, ...]:
        """Give what each channel is divided by, from the network's R, G and B.

        Flow by the mean of the three.
        """
        return (sum(std) / len(std),) * self.channels if self.signed else std * self.seen.length


def modality_of(stream: Stream, mean: tuple[float, ...]) -> Modality:
    """Give a stream's modality; ``mean`` is its network's, of R, G and B in 0-255."""
    seen, channels = stream.input, channels_of(stream)
    length, stride = seen.length, seen.stride
    rgb = {"names": store.FRAMES, "signed": False, "fixed": mean, "span": 1, "read": _frame}
    difference = rgb | {"fixed": (0.0,) * channels, "span": span(length + 1, stride),
                        "read": _differences}  # fmt: skip
    flow = {"names": store.FLOW, "signed": True, "span": span(length, stride), "read": _stack,
            "fixed": None if seen.subtract_mean else (NO_MOTION,) * channels}  # fmt: skip
    trajectory = flow | {"read": _trajectory}
    both_ways = flow | {"names": store.BIDIRECTIONAL, "span": 2 * span(length // 2, stride),
                        "read": _both_ways}  # fmt: skip
    return Modality(seen=seen, channels=channels, **{
        ("frames", "stack"): rgb,
        ("frames", "difference"): difference,
        ("flow", "stack"): flow,
        ("flow", "trajectory"): trajectory,
        ("warped_flow", "stack"): flow,
        ("warped_flow", "trajectory"): trajectory,
        ("bidirectional_flow", "bidirectional"): both_ways,
    }[stream.source, seen.kind])  # fmt: skip


def offsets_of(fields: np.ndarray | None, fixed: tuple[float, ...] | None) -> np.ndarray:
    """Give what is subtracted: ``fixed``, or else the mean of each of L fields (L, 2, H, W)."""
    return volumes.field_means(fields) if fixed is None else np.array(fixed, np.float32)


def _frame(video: StoredVideo, start: int, modality: Modality) -> tuple[np.ndarray, None]:
    return video.read(start), None


def _differences(video: StoredVideo, start: int, modality: Modality) -> tuple[np.ndarray, None]:
    wanted = snippet_indices(start, modality.seen.length + 1, modality.seen.stride, len(video))
    return volumes.difference_stack(video.read_many(wanted)), None


def _fields(video: StoredVideo, start: int, modality: Modality) -> np.ndarray:
    seen = modality.seen
    return video.read_many(snippet_indices(start, seen.length, seen.stride, len(video)))


def _stack(video: StoredVideo, start: int, modality: Modality) -> tuple[np.ndarray, np.ndarray]:
    fields = _fields(video, start, modality)
    return volumes.flow_stack(fields), fields


def _trajectory(
    video: StoredVideo, start: int, modality: Modality
) -> tuple[np.ndarray, np.ndarray]:
    """Sample along trajectories; rounded to codes again, off by half a code, B/255 px, at most."""
    fields, bound = _fields(video, start, modality), video.made_by["settings"]["bound"]
    volume = volumes.trajectory_stack(store.dequantise(fields, bound))
    return store.quantise(volume, bound), fields


def _both_ways(video: StoredVideo, start: int, modality: Modality) -> tuple[np.ndarray, np.ndarray]:
    """Stack L/2 fields forward from the frame in the middle, then L/2 backward from it."""
    seen, count = modality.seen, len(video)
    tau = middle_frame(start, modality.span, count)
    forward, backward = bidirectional_indices(tau, seen.length, seen.stride, count)
    both = ((forward, store.FLOW), (backward, store.BACKWARD))
    fields = np.concatenate([video.read_many(wanted, names=names) for wanted, names in both])
    return volumes.flow_stack(fields), fields
