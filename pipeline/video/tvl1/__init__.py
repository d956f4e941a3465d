"""Dense optical flow by TV-L1: one set of constants, several backends, one answer.

``cpu`` is compiled by numba and runs on one thread a call without holding the GIL, so callers run
videos side by side; ``opencv`` is OpenCV's class, the reference. Backends agree within tolerances
that the tests state, never to the bit; a backend agrees with itself to the bit.
"""

from itertools import pairwise

import numpy as np

from .settings import Settings

__all__ = ["BACKENDS", "METHOD_VERSION", "Settings", "tvl1", "tvl1_pair"]

METHOD_VERSION = 1
"""Raised whenever the ``cpu`` backend's results change by more than rounding."""

BACKENDS = ("cpu", "opencv")

_LEAST_SIDE = 16


def tvl1(frames: np.ndarray, settings: Settings, backend: str) -> np.ndarray:
    """Compute the flow between consecutive frames.

    Parameters
    ----------
    frames : (T, H, W) uint8
        Grey frames; T at least 2, H and W at least 16.
    settings : Settings
        The constants of the method.
    backend : {"cpu", "opencv"}
        What computes.

    Returns
    -------
    (T - 1, 2, H, W) float32
        Displacements in px, x first; field k goes from frame k to frame k + 1.

    Raises
    ------
    ValueError
        When the frames or the backend are not as said.
    """
    frames = _checked(frames, "frames", 3)
    if len(frames) < 2:
        raise ValueError(f"TV-L1: frames are {len(frames)}, expected at least 2")
    fields = _backend(backend)
    out = np.empty((len(frames) - 1, 2, *frames.shape[1:]), np.float32)
    for k, field in enumerate(fields(pairwise(frames), settings)):
        out[k] = field
    return out


def tvl1_pair(
    first: np.ndarray, second: np.ndarray, settings: Settings, backend: str
) -> np.ndarray:
    """Compute the flow from one (H, W) uint8 frame to another: (2, H, W) float32 px, x first.

    The same as the only field of :func:`tvl1` for the two frames; Raises alike.
    """
    first, second = _checked(first, "first", 2), _checked(second, "second", 2)
    if first.shape != second.shape:
        raise ValueError(f"TV-L1: second is {second.shape}, expected {first.shape} like first")
    return next(iter(_backend(backend)(iter([(first, second)]), settings)))


def _checked(array: np.ndarray, name: str, ndim: int) -> np.ndarray:
    expected = "(T, H, W) uint8" if ndim == 3 else "(H, W) uint8"
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != ndim:
        found = getattr(array, "shape", type(array).__name__)
        raise ValueError(
            f"TV-L1: {name}: found {found} {getattr(array, 'dtype', '')}, expected {expected}"
        )
    if min(array.shape[-2:]) < _LEAST_SIDE:
        raise ValueError(
            f"TV-L1: {name}: found {array.shape}, expected H and W of at least {_LEAST_SIDE}"
        )
    return np.ascontiguousarray(array)


def _backend(name: str):
    """Import a backend on demand: numba and OpenCV are slow to start."""
    if name == "cpu":
        from .cpu import fields
    elif name == "opencv":
        from .opencv import fields
    else:
        raise ValueError(f"TV-L1: backend is {name!r}, expected one of {', '.join(BACKENDS)}")
    return fields
