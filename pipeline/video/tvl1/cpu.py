"""TV-L1 on the CPU: one thread a pair, pairs side by side.

There are as many threads as OpenCV has: ``cv2.setNumThreads``, which both CPU backends follow.

The algorithm is OpenCV's ``DualTVL1OpticalFlow``: the duality-based scheme of Zach, Pock and
Bischof (2007) coarse to fine as Sánchez, Meinhardt-Llopis and Facciolo (IPOL 2013) arrange it.
Three things differ: bicubic weights are exact (OpenCV rounds positions to 1/32 px), a median
filter, where asked for, runs once a warp, and a level may end before its last warp.
"""

import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from . import kernels, median
from .settings import Settings


class _Frame:
    """A frame's pyramid, finest level first, as the first and as the second of a pair."""

    def __init__(self, grey: np.ndarray, settings: Settings) -> None:
        level = grey.astype(np.float32)
        self.levels = [level]
        for _ in range(1, settings.scales):
            level = cv2.resize(
                level, None, fx=settings.scale_step, fy=settings.scale_step,
                interpolation=cv2.INTER_LINEAR,
            )  # fmt: skip
            if min(level.shape) < 16:
                break
            self.levels.append(level)


def _aligned_zeros(count: int, size: int) -> np.ndarray:
    """Make planes whose rows start at whole cache lines: vectors across two cost double."""
    plain = np.zeros(count * size + 16, np.float32)
    skip = -plain.ctypes.data % 64 // 4
    return plain[skip : skip + count * size].reshape(count, size)


class _Level:
    """The planes of one level, allocated once for all pairs of a clip."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.stride = -(-width // kernels.MARGIN) * kernels.MARGIN + kernels.MARGIN
        planes = _aligned_zeros(10, (height + 2) * self.stride)
        self.inside = (np.arange(self.stride + 1) < width).astype(np.float32)
        border = 2 * kernels.BORDER
        self.packed = np.zeros((height + border, width + border, 4), np.float32)
        self.flow, self.dual, self.linear = planes[:2], planes[2:6], planes[6:]

    def pixels(self, plane: np.ndarray) -> np.ndarray:
        """View a plane without its margins."""
        rows = plane.reshape(self.height + 2, self.stride)
        return rows[1:-1, kernels.MARGIN : kernels.MARGIN + self.width]

    def solve(self, first: np.ndarray, second: np.ndarray, settings: Settings) -> None:
        """Refine the flow of this level in place."""
        self.dual[:] = 0
        kernels.pack(second, self.packed)
        _refine(
            first, self.packed, self.flow, self.dual, self.linear, self.inside, self.stride,
            np.float32(settings.lambda_ * settings.theta), np.float32(settings.theta),
            np.float32(settings.tau / settings.theta), settings.warps, settings.iterations,
            settings.epsilon, settings.warp_epsilon, settings.median,
        )  # fmt: skip


def _compiled(sources: int):
    """Compile the warps of a level as one function: a call from Python costs rows of pixels.

    numba keeps compiled code for as long as its own file stays the same, although it may hold code
    and constants of other files. Here ``sources``, a checksum of those, becomes part of the key;
    kernels and median take nothing of each other but how to compile.
    """

    @kernels.outer
    def refine(first, packed, u, p, linear, inside, stride, limit, theta, taut, warps, iterations,
               epsilon, warp_epsilon, size):  # fmt: skip
        _ = sources
        (height, width), start = first.shape, stride + kernels.MARGIN
        before, little = np.empty_like(u), warp_epsilon * warp_epsilon * height * width
        gx, gy, rho, inverse = linear[0], linear[1], linear[2], linear[3]
        for warp in range(warps):
            watched = little > 0 and warp < warps - 1
            if watched:
                before[:] = u
            kernels.linearise(first, packed, u[0], u[1], gx, gy, rho, inverse, stride)
            kernels.solve(
                u[0], u[1], p[0], p[1], p[2], p[3], gx, gy, rho, inverse, inside,
                height, width, stride, limit, theta, taut, iterations, epsilon,
            )  # fmt: skip
            ended = watched and kernels.squared_distance(u, before) < little
            if size:
                median.filter_plane(u[0], start, height, width, stride, size)
                median.filter_plane(u[1], start, height, width, stride, size)
            if ended:
                break

    return refine


_refine = _compiled(
    zlib.crc32(b"".join(Path(one.__file__).read_bytes() for one in (kernels, median)))
)


def lacks() -> str:
    """Say what this backend lacks to run here; empty if nothing."""
    return ""


def flow(first: np.ndarray, second: np.ndarray, settings: Settings, out: np.ndarray) -> None:
    """Compute the flow of pairs (N, H, W) uint8 into ``out`` (N, 2, H, W) float32.

    Threads take runs of pairs; each has the planes of one pair and uses them again.
    """
    threads = max(1, min(cv2.getNumThreads(), len(first)))
    bounds = np.linspace(0, len(first), threads + 1).round().astype(int)
    runs = [slice(*run) for run in pairwise(bounds)]
    if threads == 1:
        _run(first, second, settings, out)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda run: _run(first[run], second[run], settings, out[run]), runs):
            pass


def _run(first: np.ndarray, second: np.ndarray, settings: Settings, out: np.ndarray) -> None:
    """Compute one pair after another; the second frame of one may be the first of the next."""
    levels: list[_Level] = []
    ready: _Frame | None = None
    for k in range(len(first)):
        again = k > 0 and np.may_share_memory(first[k], second[k - 1])
        start = ready if again else _Frame(first[k], settings)
        ready = _Frame(second[k], settings)
        if not levels:
            levels = [_Level(*level.shape) for level in start.levels]
        _field(levels, start, ready, settings, out[k])


def _field(
    levels: list[_Level], first: _Frame, second: _Frame, settings: Settings, out: np.ndarray
) -> None:
    levels[-1].flow[:] = 0
    for number in range(len(levels) - 1, -1, -1):
        level = levels[number]
        level.solve(first.levels[number], second.levels[number], settings)
        if number:
            finer = levels[number - 1]
            for coarse, fine in zip(level.flow, finer.flow, strict=True):
                into = finer.pixels(fine)
                size = (finer.width, finer.height)
                cv2.resize(level.pixels(coarse), size, dst=into, interpolation=cv2.INTER_LINEAR)
                into *= np.float32(1 / settings.scale_step)
    for plane, into in zip(levels[0].flow, out, strict=True):
        into[:] = levels[0].pixels(plane)
