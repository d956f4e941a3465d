"""Datasets of a few bytes a video, and the stage `index` on them."""

from pathlib import Path

from pipeline.index import run
from pipeline.params import Dataset
from pipeline.videos import read_videos

SWIM = ("Swim/1.mp4", "Swim/2.mp4")  # a second class, where a test is about the first


def settings(**changes):
    values = {
        "name": "mine", "format": "folders", "videos": "", "lists": "", "split": 1,
        "group_pattern": "", "test_fraction": 0.3, "val_fraction": 0.0, "seed": 1,
    }  # fmt: skip
    return Dataset(**(values | changes))


def make(root, *paths):
    """Make one small file for each path, no two alike."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(f"content of {path}".encode())
    return root


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def indexed(root, lists, **changes):
    out = root.parent / "index"
    run(root, lists, out, settings(**changes))
    return {str(Path(row.path).relative_to(root)): row for row in read_videos(out / "videos.csv")}


def columns(rows, *names):
    return {path: tuple(getattr(row, name) for name in names) for path, row in rows.items()}
