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
_U1, _U2, _U3, _U4, _U8, _U12 = (np.uint64(i) for i in (1, 2, 3, 4, 8, 12))
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


@njit(inline="never", **_options)
def _warp_row(packed, u1, u2, at, y, taps):
    """Sample a row of I, ∂I/∂x and ∂I/∂y where the flow points to: ``taps`` is (4 W,)."""
    rows, columns, _ = packed.shape
    flat = packed.ravel()
    pitch = np.uint64(4 * columns)
    for x in range(taps.size // 4):
        i = at + np.uint64(x)
        # Past these limits all sixteen taps lie in the zero border, as they would anyway.
        px = max(np.float32(x) + u1[i], np.float32(1 - BORDER))
        py = max(np.float32(y) + u2[i], np.float32(1 - BORDER))
        px = min(px, np.float32(columns - 2 * BORDER + 1))
        py = min(py, np.float32(rows - 2 * BORDER + 1))
        fx, fy = np.floor(px), np.floor(py)
        wx = _cubic(px - fx)
        wy = _cubic(py - fy)
        top = np.uint64(np.int64(fy) + BORDER - 1)
        tap = top * pitch + np.uint64(4) * np.uint64(np.int64(fx) + BORDER - 1)
        # Four channels for three images: whole vectors are loaded, weighted and stored.
        s0 = s1 = s2 = s3 = _ZERO
        for j in range(4):
            w0, w1, w2, w3 = wx[0] * wy[j], wx[1] * wy[j], wx[2] * wy[j], wx[3] * wy[j]
            s0 += w0 * flat[tap] + w1 * flat[tap + _U4] + w2 * flat[tap + _U8] + w3 * flat[tap + _U12]
            t = tap + _U1
            s1 += w0 * flat[t] + w1 * flat[t + _U4] + w2 * flat[t + _U8] + w3 * flat[t + _U12]
            t = tap + _U2
            s2 += w0 * flat[t] + w1 * flat[t + _U4] + w2 * flat[t + _U8] + w3 * flat[t + _U12]
            t = tap + _U3
            s3 += w0 * flat[t] + w1 * flat[t + _U4] + w2 * flat[t + _U8] + w3 * flat[t + _U12]
            tap += pitch
        o = np.uint64(4 * x)
        taps[o] = s0
        taps[o + _U1] = s1
        taps[o + _U2] = s2
        taps[o + _U3] = s3


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
    taps = np.empty(4 * width, np.float32)
    for y in range(first.shape[0]):
        row = np.uint64((y + 1) * stride + MARGIN)
        _warp_row(packed, u1, u2, row, y, taps)
        for x in range(np.uint64(width)):
            at, o = row + x, _U4 * x
            ix, iy = taps[o + _U1], taps[o + _U2]
            gx[at] = ix
            gy[at] = iy
            rho[at] = taps[o] - ix * u1[at] - iy * u2[at] - first[y, x]
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
