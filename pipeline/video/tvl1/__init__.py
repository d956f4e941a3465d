"""Dense optical flow by TV-L1: one set of constants, several backends, one answer.

``cpu`` is compiled by numba, ``cuda`` is Triton, ``opencv`` is OpenCV's class, the reference.
Backends agree within tolerances that the tests state, never to the bit; a backend agrees with
itself to the bit, however pairs are batched.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from .settings import Settings

__all__ = [
    "BACKENDS", "METHOD_VERSION", "Settings", "Unavailable", "batch_size", "choose", "tvl1",
    "tvl1_codes", "tvl1_pairs",
]  # fmt: skip

METHOD_VERSION = 1
"""Raised whenever a backend's results change by more than rounding."""

BACKENDS = ("auto", "cpu", "cuda", "opencv", "opencv_cuda")

_LEAST_SIDE = 16
_PIXELS = 6_000_000  # of a batch: 68 pairs of 256 x 340; some 150 bytes each on a GPU


def batch_size(height: int, width: int) -> int:
    """Say how many pairs to compute at a time: enough to keep a GPU busy, and bounded memory."""
    return max(2, _PIXELS // (height * width))


class Unavailable(OSError):
    """A backend that can't run on this machine; the message says what it lacks."""


def tvl1(frames: np.ndarray, settings: Settings, backend: str) -> np.ndarray:
    """Compute the flow between consecutive frames.

    Parameters
    ----------
    frames : (T, H, W) uint8
        Grey frames; T at least 2, H and W at least 16.
    settings : Settings
        The constants of the method.
    backend : {"auto", "cpu", "cuda", "opencv", "opencv_cuda"}
        What computes; see :func:`choose`.

    Returns
    -------
    (T - 1, 2, H, W) float32
        Displacements in px, x first; field k goes from frame k to frame k + 1.

    Raises
    ------
    ValueError
        When the frames or the backend are not as said.
    Unavailable
        When the backend can't run here.
    """
    frames = _checked(frames, "frames")
    if len(frames) < 2:
        raise ValueError(f"TV-L1: frames are {len(frames)}, expected at least 2")
    return tvl1_pairs(frames[:-1], frames[1:], settings, backend)


def tvl1_pairs(
    first: np.ndarray, second: np.ndarray, settings: Settings, backend: str
) -> np.ndarray:
    """Compute the flow from each frame of ``first`` to the same one of ``second``.

    Parameters
    ----------
    first, second : (N, H, W) uint8

    Returns
    -------
    (N, 2, H, W) float32
        Displacements in px, x first. Otherwise as :func:`tvl1`; Raises alike.
    """
    first, second = _checked_pairs(first, second)
    out = np.empty((len(first), 2, *first.shape[1:]), np.float32)
    if len(first):
        _backend(choose(backend)).flow(first, second, settings, out)
    return out


def tvl1_codes(
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    settings: Settings,
    backend: str,
    bound: float,
) -> Iterator[np.ndarray]:
    """Compute batch after batch of pairs, and yield each field as :func:`store.quantise` has it.

    On a GPU the codes are made there, and a batch computes while the caller uses the codes of the
    one before and ``batches`` reads the one after.

    Parameters
    ----------
    batches : iterable of (first, second)
        As :func:`tvl1_pairs` takes them; :func:`batch_size` pairs at most.
    bound : float
        Displacements from -bound to bound, px, become codes 0-255.

    Yields
    ------
    (2, H, W) uint8
        Codes, x first. Otherwise as :func:`tvl1`; Raises alike.
    """
    name = choose(backend)
    checked = (_checked_pairs(*batch) for batch in batches)
    if name == "cuda":
        yield from _backend(name).codes(checked, settings, bound)
        return
    from ..store import quantise  # h5py is slow to start

    for batch in checked:
        for field in tvl1_pairs(*batch, settings, name):
            yield quantise(field, bound)


def _checked_pairs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = _checked(first, "first"), _checked(second, "second")
    if first.shape != second.shape:
        raise ValueError(f"TV-L1: second is {second.shape}, expected {first.shape} like first")
    return first, second


def _checked(array: np.ndarray, name: str) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 3:
        found = getattr(array, "shape", type(array).__name__)
        raise ValueError(
            f"TV-L1: {name}: found {found} {getattr(array, 'dtype', '')}, expected (T, H, W) uint8"
        )
    if min(array.shape[-2:]) < _LEAST_SIDE:
        raise ValueError(
            f"TV-L1: {name}: found {array.shape}, expected H and W of at least {_LEAST_SIDE}"
        )
    return np.ascontiguousarray(array)


def choose(backend: str) -> str:
    """Say which backend computes: ``auto`` is ``cuda`` where there is a GPU, else ``cpu``.

    Raises
    ------
    ValueError
        When there is no such backend.
    Unavailable
        When it can't run on this machine.
    """
    if backend not in BACKENDS:
        raise ValueError(f"TV-L1: backend is {backend!r}, expected one of {', '.join(BACKENDS)}")
    if backend == "auto":
        return "cpu" if _backend("cuda").lacks() else "cuda"
    if lacks := _backend(backend).lacks():
        raise Unavailable(f"TV-L1 backend {backend!r}: {lacks}")
    return backend


def _backend(name: str):
    """Import a backend on demand: numba, OpenCV and torch are slow to start."""
    if name == "cpu":
        from . import cpu as module
    elif name == "cuda":
        from . import cuda as module
    elif name == "opencv":
        from . import opencv as module
    else:
        from . import opencv_cuda as module
    return module
