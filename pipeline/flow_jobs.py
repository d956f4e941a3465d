"""What the three stages of flow share: the fields of a video, what made them, and who computes."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from pipeline import items, workers
from pipeline.jobs import Job
from pipeline.params import Flow
from pipeline.video import store, tvl1
from pipeline.videos import Video


def with_backend(params: Flow) -> Flow:
    """Settle on a TV-L1 backend that is there; on a cluster, what was asked for may be there alone.

    Raises
    ------
    Unavailable
        If this machine lacks it.
    """
    if params.backend == "auto" or not workers.elsewhere():
        return replace(params, backend=tvl1.choose(params.backend))
    return params


def codes(
    frames: store.StoredVideo, params: Flow, *, backward: bool = False
) -> Iterator[np.ndarray]:
    """Yield the displacement fields of a video as codes, each of shape (2, H, W) uint8.

    Field k goes from frame k to frame k+1; ``backward``, from frame k+1 to frame k. Some pairs at a
    time: memory does not grow with the length of the video.
    """
    settings = tvl1.Settings(**asdict(params.tvl1))
    pairs = _pairs(frames)
    if backward:
        pairs = ((after, before) for before, after in pairs)
    yield from tvl1.tvl1_codes(pairs, settings, params.backend, params.bound)


def _pairs(frames: store.StoredVideo) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read grey frames, and the frame after each, some at a time."""
    at_once = tvl1.batch_size(*frames.read(0, grey=True).shape)
    for first in range(0, len(frames) - 1, at_once):
        last = min(first + at_once, len(frames) - 1)
        grey = frames.read_many(range(first, last + 1), grey=True)
        yield grey[:-1], grey[1:]


def made_by(sha256: str | list[str], params: Flow, version: str) -> dict:
    """Say what made a video's flow: kept beside it, where others find its bound."""
    return {
        "source_sha256": sha256,
        "settings": asdict(params),
        "method": version,
        "units": f"code c is (c - 127.5) * {2 * params.bound}/255 px",
    }


def jobs_of(
    videos: Sequence[Video],
    frames: Path,
    flow: Path,
    *,
    settings: dict,
    arguments: tuple,
    version: str,
) -> list[Job]:
    """List the work on the usable videos for a stage that reads their frames and their flow.

    Its function is called with ``(frames, flow, hashes, *arguments, version)`` after the folder and
    the id; ``settings`` is what bears on the result.
    """
    jobs = []
    for video in videos:
        if video.status == "ok":
            stored = [store.stored_path(folder, video.video_id) for folder in (frames, flow)]
            hashes = [items.hash_of(path) for path in stored]
            jobs.append(
                Job(
                    video_id=video.video_id,
                    source=Path(video.path),
                    key={"sha256": hashes, "params": settings, "version": version},
                    arguments=(frames, flow, hashes, *arguments, version),
                )
            )
    return jobs
