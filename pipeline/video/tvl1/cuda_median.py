"""Median filters of 3 x 3 and 5 x 5 pixels as Triton kernels; see ``cuda_kernels``."""

import triton
import triton.language as tl

from .cuda_kernels import tile


@triton.jit
def _order(a, b):
    return tl.minimum(a, b), tl.maximum(a, b)


@triton.jit
def _sort3(a, b, c):
    a, b = _order(a, b)
    b, c = _order(b, c)
    a, b = _order(a, b)
    return a, b, c


@triton.jit
def _sort5(a, b, c, d, e):
    a, b = _order(a, b)
    d, e = _order(d, e)
    c, e = _order(c, e)
    c, d = _order(c, d)
    a, d = _order(a, d)
    a, c = _order(a, c)
    b, e = _order(b, e)
    b, d = _order(b, d)
    b, c = _order(b, c)
    return a, b, c, d, e


@triton.jit
def _near(plane, y, x, height, width):
    """Read pixels; outside the frame the nearest one inside stands, as OpenCV's median has it."""
    y = tl.minimum(tl.maximum(y, 0), height - 1)
    x = tl.minimum(tl.maximum(x, 0), width - 1)
    return tl.load(plane + y * width + x)


@triton.jit
def _column3(plane, y, x, height, width):
    return _sort3(
        _near(plane, y - 1, x, height, width),
        _near(plane, y, x, height, width),
        _near(plane, y + 1, x, height, width),
    )


@triton.jit
def _column5(plane, y, x, height, width):
    return _sort5(
        _near(plane, y - 2, x, height, width),
        _near(plane, y - 1, x, height, width),
        _near(plane, y, x, height, width),
        _near(plane, y + 1, x, height, width),
        _near(plane, y + 2, x, height, width),
    )


@triton.jit
def _median3(plane, y, x, height, width):
    a0, a1, a2 = _column3(plane, y, x - 1, height, width)
    b0, b1, b2 = _column3(plane, y, x, height, width)
    c0, c1, c2 = _column3(plane, y, x + 1, height, width)
    _, _, high = _sort3(a0, b0, c0)
    _, middle, _ = _sort3(a1, b1, c1)
    low, _, _ = _sort3(a2, b2, c2)
    _, median, _ = _sort3(low, middle, high)
    return median


@triton.jit
def _median5(plane, y, x, height, width):
    """Sort columns, then rows; three anti-diagonals hold all that can be the median."""
    a0, a1, a2, a3, a4 = _column5(plane, y, x - 2, height, width)
    b0, b1, b2, b3, b4 = _column5(plane, y, x - 1, height, width)
    c0, c1, c2, c3, c4 = _column5(plane, y, x, height, width)
    d0, d1, d2, d3, d4 = _column5(plane, y, x + 1, height, width)
    e0, e1, e2, e3, e4 = _column5(plane, y, x + 2, height, width)
    a0, b0, c0, d0, e0 = _sort5(a0, b0, c0, d0, e0)
    a1, b1, c1, d1, e1 = _sort5(a1, b1, c1, d1, e1)
    a2, b2, c2, d2, e2 = _sort5(a2, b2, c2, d2, e2)
    a3, b3, c3, d3, e3 = _sort5(a3, b3, c3, d3, e3)
    a4, b4, c4, d4, e4 = _sort5(a4, b4, c4, d4, e4)
    low = tl.maximum(tl.maximum(d0, c1), tl.maximum(b2, a3))
    _, _, middle, _, _ = _sort5(e0, d1, c2, b3, a4)
    high = tl.minimum(tl.minimum(e1, d2), tl.minimum(c3, b4))
    _, median, _ = _sort3(low, middle, high)
    return median


@triton.jit
def median(
    planes, out,  # (2 B, H, W)
    side,  # (B,) int32: negative for pairs to leave as they are, see iterate
    height, width, SIZE: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Filter two planes a pair by the median of SIZE x SIZE pixels, SIZE 3 or 5."""
    if tl.load(side + tl.program_id(1) // 2) >= 0:
        y, x = tile(width, HIGH, WIDE)
        first = tl.program_id(1).to(tl.int64) * height * width
        if SIZE == 3:
            found = _median3(planes + first, y, x, height, width)
        else:
            found = _median5(planes + first, y, x, height, width)
        tl.store(out + first + y * width + x, found, mask=(y < height) & (x < width))
