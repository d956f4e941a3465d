"""One video's frames or displacement fields on disk, and the quantisation between.

``hdf5``: one file a video, ``<video_id>.h5``, whose datasets ``frames`` or ``flow_x`` and
``flow_y`` hold JPEG pictures end to end; picture k of ``frames`` is ``frames[at[k]:at[k+1]]`` with
``at`` of dataset ``frames_at``, and so on. ``jpeg``: one folder a video, ``<video_id>/``, with the
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
from pathlib import Path

import cv2
import numpy as np

from pipeline.video import stored_files

# Changes when the same pictures are stored or the same displacements quantised otherwise.
METHOD_VERSION = 2

FRAMES, FLOW, BACKWARD = ("frames",), ("flow_x", "flow_y"), ("back_x", "back_y")
BIDIRECTIONAL = FLOW + BACKWARD
PACKED = ".h5"
_JPEG_SIDE = 65_500


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
    values = np.array(field, np.float64)  # and in place: new memory costs more than the sums
    np.clip(values, -bound, bound, out=values)
    np.copyto(values, 0, where=np.isnan(values))
    values += bound
    values *= 255
    values /= 2 * bound
    return np.rint(values, out=values).astype(np.uint8)


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
    make = stored_files.Hdf5Writer if store == "hdf5" else stored_files.JpegWriter
    writer, count = make(folder, video_id, names), 0
    for item in pictures:
        count += 1
        writer.add(count, [_encode(picture, quality) for picture in item])
    writer.finish(made_by)
    return count


def _encode(picture: np.ndarray | bytes, quality: int) -> np.ndarray:
    if isinstance(picture, bytes):
        return np.frombuffer(picture, np.uint8)
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    height, width = picture.shape[:2]
    if max(height, width) > _JPEG_SIDE:
        raise StoreError(f"pictures are {width}x{height}, JPEG holds {_JPEG_SIDE} px a side")
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].ravel()


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
            self._file = self.path.open("rb", buffering=0)
            try:
                self._made_by, self._tables = stored_files.contents(
                    self.path, names, stored_files.stamp_of(os.fstat(self._file.fileno()))
                )
                self._length = len(self._tables[names[0]].at) - 1
            except (OSError, KeyError, ValueError) as error:
                self._file.close()
                raise OSError(f"{self.path}: can't be read: {error}") from None
        else:
            self._length = self.path.is_dir() and stored_files.pictures_in(
                self.path, names[0], stored_files.stamp_of(self.path.stat())
            )
            if not self._length:
                raise FileNotFoundError(f"{self.path}: no .h5 file and no folder of pictures there")

    @property
    def made_by(self) -> dict:
        """What made the pictures, as :func:`write_video` was told."""
        if self._file is not None:
            return json.loads(self._made_by)
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
        return tuple(self._bytes(name, np.array([index]))[0].tobytes() for name in self._names)

    def _bytes(self, name: str, indices: np.ndarray) -> list[np.ndarray]:
        """Read the JPEG bytes of some pictures."""
        for index in indices[(indices < 0) | (indices >= self._length)]:
            raise IndexError(f"{self.path}: got index {index}, expected 0 to {self._length - 1}")
        if self._file is None:
            paths = (stored_files.jpeg_path(self.path, name, index) for index in indices)
            return [np.fromfile(path, np.uint8) for path in paths]
        places = self._tables[name].places(indices)
        read = (os.pread(self._file.fileno(), count, start) for start, count in places)
        return [np.frombuffer(jpeg, np.uint8) for jpeg in read]

    def _decoded(self, name: str, indices: np.ndarray, grey: bool) -> list[np.ndarray]:
        colour = name == "frames" and not grey
        flag = cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_GRAYSCALE
        jpegs = self._bytes(name, indices)
        decoded = [cv2.imdecode(jpeg, flag) if len(jpeg) else None for jpeg in jpegs]
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
            f"no packed video, expected a {PACKED} file that this version's python -m "
            "pipeline.adopt wrote"
        ) from None
    if reason := video.made_by.get("excluded"):
        with video:
            raise StoreError(reason)
    return video
