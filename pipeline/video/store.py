"""One video's frames or displacement fields on disk, and the quantisation between.

``hdf5``: one file a video, ``<video_id>.h5``, whose datasets ``frames`` or ``flow_x`` and
``flow_y`` hold one JPEG picture a row. ``jpeg``: one folder a video, ``<video_id>/``, with the
names that other tools read: ``img_00001.jpg``, ``flow_x_00001.jpg`` and ``flow_y_00001.jpg``,
from 1, beside a ``made_by.json``. N frames give N-1 fields; field k goes from frame k to k+1.
Bidirectional flow has ``back_x`` and ``back_y`` too, whose field k goes from frame k+1 to k.

A packed video is one HDF5 file with all three datasets: pictures that another tool made, which
:mod:`pipeline.adopt` put there, aligned in this way. It stands where a video file would.

Nothing else in the project knows any of this.
"""

import json
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import cv2
import h5py
import numpy as np

# Changes when the same pictures are stored or the same displacements quantised otherwise.
METHOD_VERSION = 1

FRAMES, FLOW, BACKWARD = ("frames",), ("flow_x", "flow_y"), ("back_x", "back_y")
BIDIRECTIONAL = FLOW + BACKWARD
PACKED = ".h5"
_JPEG_SIDE = 65_500
_ROW = h5py.vlen_dtype(np.uint8)
_JPEG_PREFIX = {"frames": "img"} | {name: name for name in BIDIRECTIONAL}


class StoreError(ValueError):
    """Pictures that can't be stored; the message says why in one line."""


def quantise(field: np.ndarray, bound: float) -> np.ndarray:
    """Map displacements to codes: v < -B to 0, v > B to 255, else 255(v+B)/2B, half to even.

    Parameters
    ----------
    field : ndarray, float32 or float64
        Displacements in px, any shape.
    bound : float
        B in px. One code is worth 2B/255 px; zero becomes 128.

    Returns
    -------
    ndarray, uint8
        Codes of the same shape. A value that is no number becomes 128 (no motion).
    """
    clipped = np.nan_to_num(np.clip(np.asarray(field, np.float64), -bound, bound), nan=0.0)
    return np.rint(255 * (clipped + bound) / (2 * bound)).astype(np.uint8)


def dequantise(codes: np.ndarray, bound: float) -> np.ndarray:
    """Map codes back to displacements in px, float32: the exact inverse of the linear map.

    Its error is at most B/255 px inside the bound, and it is odd: flipping a field and negating x
    before or after gives the same numbers.
    """
    return (codes.astype(np.float32) - np.float32(127.5)) * np.float32(2 * bound / 255)


def write_video(
    folder: Path,
    video_id: str,
    pictures: Iterable[Sequence[np.ndarray | bytes]],
    names: tuple[str, ...],
    *,
    store: str,
    quality: int,
    made_by: dict,
) -> int:
    """Write one video's pictures as they come, and return how many there were.

    Parameters
    ----------
    folder : Path
        Where ``<video_id>.h5`` or ``<video_id>/`` is made, or added to under other ``names``. The
        caller moves it into place when it is whole.
    pictures : iterable of sequences of ndarray, uint8
        Each item has one picture for each of ``names``: ``(rgb (H, W, 3),)`` for :data:`FRAMES`,
        ``(x codes (H, W), y codes (H, W))`` for :data:`FLOW`, and so on. JPEG bytes are kept as
        they are.
    store : {"hdf5", "jpeg"}
    quality : int
        JPEG quality, 1-100.
    made_by : dict
        What made it: source hash, settings, versions, units. Kept beside the pictures.

    Raises
    ------
    StoreError
        If a picture is too large.
    """
    make = _Hdf5Writer if store == "hdf5" else _JpegWriter
    writer, count = make(folder, video_id, names), 0
    try:
        for item in pictures:
            count += 1
            writer.add(count, [_encode(picture, quality) for picture in item])
    finally:
        writer.close(made_by)
    return count


def _encode(picture: np.ndarray | bytes, quality: int) -> np.ndarray:
    if isinstance(picture, bytes):
        return np.frombuffer(picture, np.uint8)
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    height, width = picture.shape[:2]
    if max(height, width) > _JPEG_SIDE:
        raise StoreError(f"pictures are {width}x{height}, JPEG holds {_JPEG_SIDE} px a side")
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].ravel()


class _Hdf5Writer:
    def __init__(self, folder: Path, video_id: str, names: tuple[str, ...]) -> None:
        self.file = h5py.File(folder / f"{video_id}.h5", "a", track_order=True)
        self.rows = [
            self.file.create_dataset(name, (0,), _ROW, maxshape=(None,), chunks=(64,))
            for name in names
        ]

    def add(self, number: int, pictures: list[np.ndarray]) -> None:
        for rows, picture in zip(self.rows, pictures, strict=True):
            rows.resize(number, axis=0)
            rows[number - 1] = picture

    def close(self, made_by: dict) -> None:
        self.file.attrs["made_by"] = json.dumps(made_by, sort_keys=True)
        self.file.close()


class _JpegWriter:
    def __init__(self, folder: Path, video_id: str, names: tuple[str, ...]) -> None:
        self.folder, self.names = folder / video_id, names
        self.folder.mkdir()

    def add(self, number: int, pictures: list[np.ndarray]) -> None:
        for name, picture in zip(self.names, pictures, strict=True):
            (self.folder / f"{_JPEG_PREFIX[name]}_{number:05d}.jpg").write_bytes(picture.tobytes())

    def close(self, made_by: dict) -> None:
        text = json.dumps(made_by, sort_keys=True, indent=1) + "\n"
        (self.folder / "made_by.json").write_text(text, encoding="utf-8")


def stored_path(folder: Path, video_id: str) -> Path:
    """Name the file or the folder that holds one stored video."""
    file = folder / f"{video_id}.h5"
    return file if file.is_file() else folder / video_id


class StoredVideo:
    """Read access to one stored video; ``len()`` is its number of frames or fields.

    Parameters
    ----------
    folder : Path
        The stage's out folder, such as ``data/flow``.
    video_id : str
    names : tuple of str
        :data:`FRAMES`, :data:`FLOW` or :data:`BIDIRECTIONAL`.

    Raises
    ------
    FileNotFoundError
        If neither ``<video_id>.h5`` nor ``<video_id>/`` holds such pictures.
    OSError
        If the file can't be read, naming it.
    """

    def __init__(self, folder: Path, video_id: str, names: tuple[str, ...]) -> None:
        self.path, self._names, self._file = stored_path(folder, video_id), names, None
        if self.path.is_file():
            # A snippet is a few rows of a file that is opened for it; h5py's own objects take
            # longer for that than HDF5 does.
            try:
                self._file = h5py.h5f.open(os.fsencode(self.path), h5py.h5f.ACC_RDONLY)
                self._tables = {names[0]: h5py.h5d.open(self._file, names[0].encode())}
                self._length = self._tables[names[0]].shape[0]
            except (OSError, KeyError) as error:  # which names no file
                raise OSError(f"{self.path}: can't be read: {error}") from None
        else:
            self._length = sum(1 for _ in self.path.glob(f"{_JPEG_PREFIX[names[0]]}_*.jpg"))
            if not self._length:
                raise FileNotFoundError(f"{self.path}: no .h5 file and no folder of pictures there")

    @cached_property
    def made_by(self) -> dict:
        """What made the pictures, as :func:`write_video` was told."""
        if self._file is not None:
            return json.loads(h5py.File(self._file).attrs["made_by"])
        return json.loads((self.path / "made_by.json").read_text(encoding="utf-8"))

    def __len__(self) -> int:
        """Count frames or fields."""
        return self._length

    def __enter__(self) -> "StoredVideo":
        """Keep the file open for a ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self._file is not None:
            self._tables.clear()  # each would keep the file open
            self._file.close()

    def read(
        self, index: int, *, grey: bool = False, names: tuple[str, ...] | None = None
    ) -> np.ndarray:
        """Decode frame or field ``index``, counted from 0; of ``names`` alone, if they are given.

        Returns
        -------
        ndarray, uint8
            Frames: (H, W, 3) RGB, or (H, W) luma with ``grey``. Flow: (2, H, W) codes, x first;
            bidirectional flow: (4, H, W).

        Raises
        ------
        ValueError
            If the picture can't be decoded, naming the file and the index.
        """
        return self.read_many([index], grey=grey, names=names)[0]

    def read_many(
        self, indices: Sequence[int], *, grey: bool = False, names: tuple[str, ...] | None = None
    ) -> np.ndarray:
        """Decode some frames or fields, each once, in any order: what :meth:`read` gives, stacked.

        Raises
        ------
        ValueError
            As :meth:`read`.
        """
        names, wanted = names or self._names, np.asarray(indices, np.int64)
        ordered = (np.diff(wanted) > 0).all()
        once, places = (wanted, None) if ordered else np.unique(wanted, return_inverse=True)
        columns = [self._decoded(name, once, grey) for name in names]
        if names == FRAMES and len(once) == 1:
            pictures = columns[0][0][None]
        else:
            pictures = np.empty((len(once), len(names), *columns[0][0].shape), np.uint8)
            for pair, decoded in zip(pictures, zip(*columns, strict=True), strict=True):
                for place, picture in zip(pair, decoded, strict=True):
                    place[...] = picture
            pictures = pictures[:, 0] if names == FRAMES else pictures
        return pictures if ordered else pictures[places]

    def jpegs(self, index: int) -> tuple[bytes, ...]:
        """Give the JPEG bytes of frame or field ``index``, one for each of ``names``."""
        return tuple(self._rows(name, np.array([index]))[0].tobytes() for name in self._names)

    def _rows(self, name: str, indices: np.ndarray) -> Sequence[np.ndarray]:
        """Read the JPEG bytes of some rows."""
        for index in indices[(indices < 0) | (indices >= self._length)]:
            raise IndexError(f"{self.path}: got index {index}, expected 0 to {self._length - 1}")
        if self._file is None:
            prefix = self.path / _JPEG_PREFIX[name]
            return [np.fromfile(f"{prefix}_{index + 1:05d}.jpg", np.uint8) for index in indices]
        if name not in self._tables:
            self._tables[name] = h5py.h5d.open(self._file, name.encode())
        data, rows = self._tables[name], np.empty(len(indices), _ROW)
        space = data.get_space()
        space.select_elements(indices[:, None])
        data.read(h5py.h5s.create_simple(rows.shape), space, rows)
        return rows

    def _decoded(self, name: str, indices: np.ndarray, grey: bool) -> list[np.ndarray]:
        colour = name == "frames" and not grey
        flag = cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_GRAYSCALE
        rows = self._rows(name, indices)
        decoded = [cv2.imdecode(row, flag) if len(row) else None for row in rows]
        for index, picture in zip(indices, decoded, strict=True):
            if picture is None:
                raise ValueError(f"{self.path}: {name} {index} is no JPEG picture")
            if picture.shape != decoded[0].shape:
                raise ValueError(f"{self.path}: {name} {index} is of another size than others")
        return decoded


def open_packed(path: Path, names: tuple[str, ...]) -> StoredVideo:
    """Open a packed video's frames or flow.

    Raises
    ------
    StoreError
        If the file is none, or is the note that the pictures can't be used; says why in one line.
    """
    try:
        video = StoredVideo(path.parent, path.stem, names)
    except OSError:
        raise StoreError(
            f"no packed video, expected a {PACKED} file that python -m pipeline.adopt wrote"
        ) from None
    if reason := video.made_by.get("excluded"):
        with video:
            raise StoreError(reason)
    return video
