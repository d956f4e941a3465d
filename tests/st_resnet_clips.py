"""Folders of frames and flow of tiny clips, and an ST-ResNet section over them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.params import load
from pipeline.video import store
from pipeline.videos import Video, write_videos

ROOT = Path(__file__).parents[1]
SAMPLE = load(ROOT / "presets/st_resnet_sample.yaml")
HEIGHT, WIDTH = 64, 96


def rows(count, frames=40, subset="train"):
    return [
        Video(video_id=f"v{n}", path=f"v{n}.mp4", dataset="sample", class_name="ab"[n % 2],
              label=n % 2, subset=subset, sha256="0", status="ok", reason="", frames=frames)
        for n in range(count)
    ]  # fmt: skip


def ramps():
    """Codes that rise from left to right, and from top to bottom: (H, W) uint8 each."""
    across = np.tile(np.linspace(20, 220, WIDTH), (HEIGHT, 1))
    down = np.tile(np.linspace(20, 220, HEIGHT)[:, None], (1, WIDTH))
    return across.astype(np.uint8), down.astype(np.uint8)


def write(root, videos, frame, field):
    """Write clips: ``frame(video, k)`` is a picture, ``field(video, k)`` two."""
    options = {"store": "hdf5", "quality": 100, "made_by": {}}
    for name in ("frames", "flow"):
        (root / name).mkdir(parents=True)
    for video in videos:
        store.write_video(root / "frames", video.video_id,
                          [(frame(video, k),) for k in range(video.frames)], store.FRAMES,
                          **options)  # fmt: skip
        store.write_video(root / "flow", video.video_id,
                          [field(video, k) for k in range(video.frames - 1)], store.FLOW,
                          **options)  # fmt: skip
    write_videos(root / "frames/videos.csv", videos)
    write_videos(root / "flow/videos.csv", [replace(v, frames=v.frames - 1) for v in videos])
    return root / "frames", root / "flow"


def short(section, crop, passes=1):
    """Make a section's phases two iterations of two clips each, and its test short."""
    phases = {
        key: replace(
            getattr(section, key), batch=2, passes=passes, epochs=1, epoch_batches=2, milestones=()
        )
        for key in ("stage1", "stage2")
    }
    testing = replace(section.testing, frames=min(section.testing.frames, 5))
    return replace(section, crop=crop, testing=testing, **phases)
