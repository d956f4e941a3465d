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
_SPOOLED = 8 << 20  # bytes of each name that are kept in memory, and copied at a time


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


class Table(NamedTuple):
    """Where the pictures of one name lie in a file, in bytes."""

    start: int
    at: np.ndarray  # (N+1,): where each starts, from there on, and where the last one ends

    def places(self, indices: np.ndarray) -> list[tuple[int, int]]:
        """List where some pictures lie: (first byte, count of bytes)."""
        starts, ends = self.at[indices].tolist(), self.at[indices + 1].tolist()
        return [(self.start + a, b - a) for a, b in zip(starts, ends, strict=True)]


@lru_cache(maxsize=1 << 14)
def contents(
    path: Path, names: tuple[str, ...], stamp: tuple[int, ...]
) -> tuple[str, dict[str, Table]]:
    """Read what made a file, and its tables; ``stamp`` changes with the file.

    Training asks for the same videos in each epoch, and HDF5 takes as long to open a file as a
    picture takes to decode.

    Raises
    ------
    OSError, KeyError, ValueError
        If there are no such pictures, or they don't lie as :class:`Hdf5Writer` lays them.
    """
    with h5py.File(path) as file:
        tables = {name: _table(file, name) for name in names}
        if len({len(table.at) for table in tables.values()}) > 1:
            raise ValueError(f"{', '.join(names)} aren't equally many")
        made_by = file.attrs["made_by"]
    if stamp_of(path.stat()) != stamp:
        raise OSError("it was replaced meanwhile")
    return made_by, tables


def _table(file: h5py.File, name: str) -> Table:
    """Read one table; what a broken or a hostile file says must not lead outside its pictures."""
    pictures, at = (_own_dataset(file, one) for one in (name, f"{name}_at"))
    start = pictures.id.get_offset()  # None in chunks, in other files, or where there are none
    if start is None and not pictures.size:
        start = 0
    if (
        start is None or (pictures.dtype, pictures.ndim) != (np.uint8, 1)
        or at.dtype.kind not in "iu" or at.ndim != 1 or not 1 <= at.size <= pictures.size + 1
    ):  # fmt: skip
        raise ValueError(f"{name} and {name}_at aren't pictures end to end and their places")
    places = at[:].astype(np.int64)
    if places[0] != 0 or places[-1] != pictures.size or (np.diff(places) <= 0).any():
        raise ValueError(f"{name}_at doesn't fit {name}")
    return Table(start, places.astype(np.uint32) if pictures.size < 1 << 32 else places)


def _own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Open a dataset of the file itself."""
    if name not in file:
        raise ValueError(f"it has no {name}")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"its {name} is a link")
    if not isinstance(file[name], h5py.Dataset):
        raise ValueError(f"its {name} is no dataset")
    return file[name]


@lru_cache(maxsize=1 << 14)
def pictures_in(folder: Path, name: str, stamp: tuple[int, ...]) -> int:
    """Count them; ``stamp`` changes with the folder."""
    return sum(1 for _ in folder.glob(f"{_PREFIX.get(name, name)}_*.jpg"))


def stamp_of(found: os.stat_result) -> tuple[int, ...]:
    """Give what changes when a file or a folder does."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
