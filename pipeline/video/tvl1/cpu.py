"""TV-L1 on one CPU thread; the GIL is free inside, so videos can run side by side.

The algorithm is OpenCV's ``DualTVL1OpticalFlow``: the duality-based scheme of Zach, Pock and
Bischof (2007) coarse to fine as Sánchez, Meinhardt-Llopis and Facciolo (IPOL 2013) arrange it.
Two things differ: bicubic weights are exact (OpenCV rounds positions to 1/32 px), and a median
filter, where asked for, runs once a warp.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from . import kernels
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


class _Level:
    """The planes of one level, allocated once for all pairs of a clip."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.stride = -(-width // 8) * 8 + kernels.MARGIN
        planes = np.zeros((10, (height + 2) * self.stride), np.float32)
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
        theta, limit = np.float32(settings.theta), np.float32(settings.lambda_ * settings.theta)
        taut = np.float32(settings.tau / settings.theta)
        self.dual[:] = 0
        kernels.pack(second, self.packed)
        for _ in range(settings.warps):
            kernels.linearise(first, self.packed, *self.flow, *self.linear, self.stride)
            kernels.solve(
                *self.flow, *self.dual, *self.linear, self.inside,
                self.height, self.width, self.stride,
                limit, theta, taut, settings.iterations, settings.epsilon,
            )  # fmt: skip
            if settings.median:
                for plane in self.flow:
                    pixels = self.pixels(plane)
                    pixels[:] = cv2.medianBlur(np.ascontiguousarray(pixels), settings.median)


def fields(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], settings: Settings
) -> Iterator[np.ndarray]:
    """Yield the (2, H, W) float32 field of each pair; see :func:`pipeline.video.tvl1.tvl1`.

    A frame that was the second of one pair and is the first of the next is prepared once.
    """
    levels: list[_Level] = []
    second: _Frame | None = None
    second_grey = None
    for first_grey, next_grey in pairs:
        first = second if first_grey is second_grey else None
        if first is None:
            first = _Frame(first_grey, settings)
        second, second_grey = _Frame(next_grey, settings), next_grey
        if not levels:
            levels = [_Level(*level.shape) for level in first.levels]
        yield _field(levels, first, second, settings)


def _field(levels: list[_Level], first: _Frame, second: _Frame, settings: Settings) -> np.ndarray:
    levels[-1].flow[:] = 0
    for number in range(len(levels) - 1, -1, -1):
        level = levels[number]
        level.solve(first.levels[number], second.levels[number], settings)
        if number:
            finer = levels[number - 1]
            for plane, up in zip(level.flow, finer.flow, strict=True):
                zoomed = cv2.resize(
                    level.pixels(plane), (finer.width, finer.height),
                    interpolation=cv2.INTER_LINEAR,
                )  # fmt: skip
                finer.pixels(up)[:] = zoomed * np.float32(1 / settings.scale_step)
    return np.stack([levels[0].pixels(plane) for plane in levels[0].flow])
