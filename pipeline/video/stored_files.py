"""How stored videos lie in files: as HDF5, or as folders of JPEG pictures.

What they hold, :mod:`pipeline.video.store` says.
"""

import json
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

_PREFIX = {"frames": "img"}  # of the names of JPEG files
_SPOOLED = 32 << 20  # bytes


def jpeg_path(folder: Path, name: str, index: int) -> str:
    """Name the file of picture ``index``, counted from 0, in a video's folder."""
    return f"{folder}/{_PREFIX.get(name, name)}_{index + 1:05d}.jpg"


class Hdf5Writer:
    """Keeps pictures aside until it is known how many bytes they are: so they can lie end to end.

    A snippet is a few pictures of a file that is opened for it. In rows of variable length HDF5
    takes as long to find them as they take to decode.
    """

    def __init__(self, folder: Path, video_id: str, names: tuple[str, ...]) -> None:
        self.path, self.names = folder / f"{video_id}.h5", names
        self.aside = [tempfile.SpooledTemporaryFile(_SPOOLED, dir=folder) for _ in names]
        self.places = [[0] for _ in names]

    def add(self, number: int, pictures: list[np.ndarray]) -> None:
        """Take the JPEG bytes of picture ``number``, counted from 1, of each name."""
        for file, places, picture in zip(self.aside, self.places, pictures, strict=True):
            file.write(picture)
            places.append(places[-1] + len(picture))

    def finish(self, made_by: dict) -> None:
        """Put down what made them; the file is whole then."""
        with h5py.File(self.path, "a", track_order=True) as out:
            for name, aside, places in zip(self.names, self.aside, self.places, strict=True):
                data = out.create_dataset(name, (places[-1],), np.uint8)
                with aside:
                    aside.seek(0)
                    for start in range(0, places[-1], _SPOOLED):
                        data[start : start + _SPOOLED] = np.frombuffer(
                            aside.read(_SPOOLED), np.uint8
                        )
                out[f"{name}_at"] = np.array(places, np.int64)
            out.attrs["made_by"] = json.dumps(made_by, sort_keys=True)


class JpegWriter:
    """Writes a file a picture, under names that other tools read."""

    def __init__(self, folder: Path, video_id: str, names: tuple[str, ...]) -> None:
        self.folder, self.names = folder / video_id, names
        self.folder.mkdir()

    def add(self, number: int, pictures: list[np.ndarray]) -> None:
        """Take the JPEG bytes of picture ``number``, counted from 1, of each name."""
        for name, picture in zip(self.names, pictures, strict=True):
            Path(jpeg_path(self.folder, name, number - 1)).write_bytes(picture)

    def finish(self, made_by: dict) -> None:
        """Put down what made them, beside them."""
        text = json.dumps(made_by, sort_keys=True, indent=1) + "\n"
        (self.folder / "made_by.json").write_text(text, encoding="utf-8")


class Contents(NamedTuple):
    """What is in a file: what made it, and where each picture starts and the last one ends."""

    made_by: str
    places: dict[str, np.ndarray]  # (N+1,) int64, in bytes of the file


@lru_cache(maxsize=1 << 14)
def contents(path: Path, stamp: tuple[int, ...]) -> Contents:
    """Read them; ``stamp`` changes with the file.

    Training asks for the same videos in each epoch, and HDF5 takes as long to open a file as a
    picture takes to decode.
    """
    with h5py.File(path) as file:
        tables = [name for name in file if name.endswith("_at")]
        places = {name[:-3]: _places(file[name[:-3]], file[name][()]) for name in tables}
        return Contents(file.attrs["made_by"], places)


def _places(pictures: h5py.Dataset, at: np.ndarray) -> np.ndarray:
    lies_at = pictures.id.get_offset()  # none where it is in chunks, or empty
    ordered = len(at) and at[0] == 0 and (np.diff(at) >= 0).all()
    if not ordered or at[-1] != pictures.size or (lies_at is None and pictures.size):
        raise ValueError(f"{pictures.name} and its places don't go together")
    return at.astype(np.int64) + (lies_at or 0)


@lru_cache(maxsize=1 << 14)
def pictures_in(folder: Path, name: str, stamp: tuple[int, ...]) -> int:
    """Count them; ``stamp`` changes with the folder."""
    return sum(1 for _ in folder.glob(f"{_PREFIX.get(name, name)}_*.jpg"))


def stamp_of(found: os.stat_result) -> tuple[int, ...]:
    """Give what changes when a file or a folder does."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
