"""The loops of TV-L1 over pixels, compiled by numba for one thread.

Planes are flat float32 arrays of ``height + 2`` rows of ``stride`` values; pixel (0, 0) stands at
``stride + MARGIN``, so that neighbours outside the frame can be read without a branch. All index
arithmetic is unsigned and no loop over a row branches: that is what lets LLVM use vectors.
"""

import llvmlite.binding
import numpy as np
from numba import njit

MARGIN = 8  # values before a row's first pixel: 32 bytes, one AVX register
BORDER = 4  # zero pixels around a packed image: a cubic kernel reaches two pixels out

# A row of the iteration reads and writes some twenty streams. LLVM vectorises such a loop only
# when it may check at run time that they don't overlap; its default gives up after eight checks.
llvmlite.binding.set_option("", "--runtime-memory-check-threshold=512")

_FAST = {"reassoc", "contract", "nsz", "arcp", "nnan", "ninf"}
_options = {
    "nogil": True, "cache": True, "fastmath": _FAST, "error_model": "numpy", "boundscheck": False,
}  # fmt: skip
_inner = njit(forceinline=True, **_options)
_outer = njit(**_options)

_ONE, _HALF, _ZERO = np.float32(1), np.float32(0.5), np.float32(0)
_LEAST_GRADIENT = np.float32(1e-30)


@_outer
def pack(image, packed):
    """Put an image and its centred differences side by side, as the warp reads them.

    Parameters
    ----------
    image : (H, W) float32
    packed : (H + 2 BORDER, W + 2 BORDER, 4) float32
        Receives I, ∂I/∂x, ∂I/∂y and 0; the border is left as it is, zero.
    """
    height, width = image.shape
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            packed[y + BORDER, x + BORDER, 0] = image[y, x]
            packed[y + BORDER, x + BORDER, 1] = _HALF * (image[y, right] - image[y, left])
            packed[y + BORDER, x + BORDER, 2] = _HALF * (image[down, x] - image[up, x])


@_inner
def _cubic(t):
    """Weights of the four taps at distances 1 + t, t, 1 - t, 2 - t (Keys 1981, a = -0.75)."""
    a = np.float32(-0.75)
    s = _ONE - t
    w0 = a * t * s * s
    w1 = ((a + np.float32(2)) * t - (a + np.float32(3))) * t * t + _ONE
    w3 = a * s * t * t
    return w0, w1, _ONE - w0 - w1 - w3, w3


@_outer
def linearise(first, packed, u1, u2, gx, gy, rho, inverse, width, stride):
    """Warp the second frame by the flow and linearise the brightness difference around it.

    Parameters
    ----------
    first : (H, W) float32
        The first frame.
    packed : (H + 2 BORDER, W + 2 BORDER, 4) float32
        The second frame and its gradient, see :func:`pack`; outside lies zero.
    u1, u2 : planes
        The flow, px.
    gx, gy, rho, inverse : planes
        Receive the warped gradient, the part of ρ that the flow doesn't change, and 1/|∇I|².
    """
    height = first.shape[0]
    for y in range(height):
        row = np.uint64((y + 1) * stride + MARGIN)
        for x in range(width):
            at = row + np.uint64(x)
            # Past these limits all sixteen taps lie in the zero border, as they would anyway.
            px = min(max(np.float32(x) + u1[at], np.float32(-3)), np.float32(width + 1))
            py = min(max(np.float32(y) + u2[at], np.float32(-3)), np.float32(height + 1))
            fx, fy = np.floor(px), np.floor(py)
            wx = _cubic(px - fx)
            wy = _cubic(py - fy)
            left = np.uint64(np.int64(fx) + BORDER - 1)
            top = np.uint64(np.int64(fy) + BORDER - 1)
            i = ix = iy = _ZERO
            for j in range(4):
                for k in range(4):
                    w = wy[j] * wx[k]
                    tap = packed[top + np.uint64(j), left + np.uint64(k)]
                    i += w * tap[0]
                    ix += w * tap[1]
                    iy += w * tap[2]
            gx[at] = ix
            gy[at] = iy
            rho[at] = i - ix * u1[at] - iy * u2[at] - first[y, x]
            # OpenCV moves pixels of no gradient by nothing; so does this, since gx = gy = 0 there.
            inverse[at] = _ONE / max(ix * ix + iy * iy, _LEAST_GRADIENT)


@_inner
def _step(u1, u2, gx, gy, rho, inverse, limit):
    """Thresholding step (Zach 2007, Eq. 15) as a clamp of -ρ/|∇I|² to ±λθ."""
    d = -(rho + gx * u1 + gy * u2) * inverse
    d = d if d > -limit else -limit
    d = d if d < limit else limit
    return u1 + d * gx, u2 + d * gy


@_inner
def _dual(px, py, ux, uy, taut):
    """One semi-implicit step of a dual variable (Zach 2007, Eq. 14)."""
    scale = _ONE / (_ONE + taut * np.sqrt(ux * ux + uy * uy))
    return (px + taut * ux) * scale, (py + taut * uy) * scale


@njit(inline="never", **_options)
def _first_row(u1, u2, p11, p12, p21, p22, gx, gy, rho, inverse, at, width, limit, theta):
    """Update u in row 0, above which p is zero."""
    change = _ZERO
    one = np.uint64(1)
    for x in range(np.uint64(width)):
        i = at + x
        v1, v2 = _step(u1[i], u2[i], gx[i], gy[i], rho[i], inverse[i], limit)
        v1 += theta * (p11[i] - p11[i - one] + p12[i])
        v2 += theta * (p21[i] - p21[i - one] + p22[i])
        d1, d2 = v1 - u1[i], v2 - u2[i]
        u1[i] = v1
        u2[i] = v2
        change += d1 * d1 + d2 * d2
    return change


@njit(inline="never", **_options)
def _row(u1, u2, p11, p12, p21, p22, gx, gy, rho, inverse, at, stride, width, limit, theta, taut):
    """Update u in a row, and p in the row above, which needs no more than that."""
    change = _ZERO
    one = np.uint64(1)
    above = at - stride
    for x in range(np.uint64(width)):
        i, j = at + x, above + x
        q12, q22 = p12[j], p22[j]
        v1, v2 = _step(u1[i], u2[i], gx[i], gy[i], rho[i], inverse[i], limit)
        v1 += theta * (p11[i] - p11[i - one] + p12[i] - q12)
        v2 += theta * (p21[i] - p21[i - one] + p22[i] - q22)
        d1, d2 = v1 - u1[i], v2 - u2[i]
        u1[i] = v1
        u2[i] = v2
        change += d1 * d1 + d2 * d2
        p11[j], p12[j] = _dual(p11[j], q12, u1[j + one] - u1[j], v1 - u1[j], taut)
        p21[j], p22[j] = _dual(p21[j], q22, u2[j + one] - u2[j], v2 - u2[j], taut)
    return change


@njit(inline="never", **_options)
def _last_row(u1, u2, p11, p12, p21, p22, at, width, taut):
    """Update p in the last row, below which u does not change."""
    one = np.uint64(1)
    for x in range(np.uint64(width)):
        i = at + x
        p11[i], p12[i] = _dual(p11[i], p12[i], u1[i + one] - u1[i], _ZERO, taut)
        p21[i], p22[i] = _dual(p21[i], p22[i], u2[i + one] - u2[i], _ZERO, taut)


@_outer
def solve(u1, u2, p11, p12, p21, p22, gx, gy, rho, inverse, height, width, stride, limit, theta,
          taut, iterations, epsilon):  # fmt: skip
    """Iterate u and p in place until the flow's change falls under ε or iterations are spent.

    Each iteration passes once over memory. Returns the number of iterations done.
    """
    stride, width = np.uint64(stride), np.uint64(width)
    start = stride + np.uint64(MARGIN)
    enough = np.float32(epsilon * epsilon * height * width)
    one = np.uint64(1)
    for done in range(iterations):
        change = np.float64(
            _first_row(u1, u2, p11, p12, p21, p22, gx, gy, rho, inverse, start, width, limit, theta)
        )
        # The pixel right of the last one repeats it: the forward difference there is zero.
        u1[start + width] = u1[start + width - one]
        u2[start + width] = u2[start + width - one]
        at = start
        for _ in range(1, height):
            at += stride
            change += _row(u1, u2, p11, p12, p21, p22, gx, gy, rho, inverse, at, stride, width,
                           limit, theta, taut)  # fmt: skip
            u1[at + width] = u1[at + width - one]
            u2[at + width] = u2[at + width - one]
        _last_row(u1, u2, p11, p12, p21, p22, at, width, taut)
        if change <= enough:
            return done + 1
    return iterations
