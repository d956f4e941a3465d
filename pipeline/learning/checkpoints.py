"""Trainings in the item store: what one has reached, and what it has made.

A training is an item like a video's flow (see :mod:`pipeline.items`): ``.items/train-NAME/KEY``,
where KEY is a hash of everything that bears on the result. While it goes on, ``KEY.pt`` beside it
holds its state, written whole or not at all. Other params have another key, so no training goes on
from another's state.
"""

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import cv2
import numpy as np
import torch

from pipeline import items
from pipeline.learning import devices
from pipeline.out_folder import link
from pipeline.whole_file import remove_left, whole_file


class Checkpoint:
    """The state of a training that goes on, in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> dict | None:
        """Read the state, if there is one; nothing is executed."""
        remove_left(self.path)
        if not self.path.is_file():
            return None
        return torch.load(self.path, map_location="cpu", weights_only=True)

    def save(self, state: dict) -> None:
        """Write the state."""
        with whole_file(self.path) as scratch:
            torch.save(state, scratch)


@contextmanager
def training(name: str, key: dict, rank: int) -> Iterator[tuple[Path, Checkpoint]]:
    """Give the folder of a training's item, which is there if it is done, and its checkpoint.

    The same training in another process is waited for; others of this name may go on beside it.
    """
    store = items.store_of(f"train-{name}")
    item = store / items.digest(key)
    alone = items.waiting(item.with_suffix(".lock"), name) if rank == 0 else nullcontext()
    shared = items.waiting(store.with_suffix(".lock"), name, fcntl.LOCK_SH)
    with shared, alone:
        if rank == 0:
            items.note_used(store, [item])
        yield item, Checkpoint(item.with_suffix(".pt"))


def finish(item: Path, write: Callable[[Path], None], checkpoint: Checkpoint) -> None:
    """Make a training's item from what ``write`` puts into a folder; its checkpoint goes."""
    scratch = item.with_name(f"making-{item.name}-{uuid.uuid4().hex}")
    scratch.mkdir()
    try:
        write(scratch)
        scratch.rename(item)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    checkpoint.path.unlink(missing_ok=True)


def hand_over(item: Path, **outs: Path) -> None:
    """Link an item's files, by their stems, to where the stage's outs are."""
    for stem, out in outs.items():
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_left(out)
        link(item / f"{stem}{out.suffix}", out)


def fingerprint(folder: Path) -> str:
    """Tell a folder of stored videos from another without reading it all.

    By its ``videos.csv`` and by the name, size and time of change of each file in it, and in its
    inner folders. Equal content may have another fingerprint, as after a copy; other content has
    another, unless its size and time were set to what they had been.
    """
    table = folder / "videos.csv"
    total = hashlib.sha256(table.read_bytes())
    for inner, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        folders.sort()
        for path in (Path(inner, name) for name in sorted(files)):
            if path != table:
                told = path.stat()
                about = f"{path.relative_to(folder)}\0{told.st_size}\0{told.st_mtime_ns}\n"
                total.update(about.encode())
    return total.hexdigest()


def _raise(error: OSError) -> None:
    raise error


def code_of(stage: Path) -> dict[str, str | int]:
    """Tell what trains: the code of a stage and of what it reads and builds, and its processes."""
    root, total = Path(__file__).parents[2], hashlib.sha256(stage.read_bytes())
    for pattern in ("models/*.py", "pipeline/learning/*.py", "pipeline/video/store*.py",
                    "pipeline/stream_params.py", "pipeline/videos.py"):  # fmt: skip
        for path in sorted(root.glob(pattern)):
            total.update(path.read_bytes())
    versions = {module.__name__: module.__version__ for module in (torch, cv2, np)}
    return {"code": total.hexdigest(), "world": devices.place().world} | versions
