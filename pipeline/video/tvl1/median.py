"""Median filters of 3 x 3 and 5 x 5 pixels, compiled for one thread.

Columns are sorted once for all windows that share them, whole vectors of columns at a time; then
only those comparisons are made that can move the median. OpenCV's filter is exact too; this one
takes half its time. At borders the nearest pixel inside stands for those outside, as in OpenCV.
"""

import numpy as np

from .kernels import inner, outer, row_kernel

_U1, _U2, _U3, _U4 = (np.uint64(i) for i in range(1, 5))  # signed ones would keep vectors away


@inner
def _order(a, b):
    return min(a, b), max(a, b)


@inner
def _sort3(a, b, c):
    a, b = _order(a, b)
    b, c = _order(b, c)
    a, b = _order(a, b)
    return a, b, c


@inner
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


@row_kernel
def _columns3(r0, r1, r2, c0, c1, c2):
    for x in range(np.uint64(r0.size)):
        c0[x], c1[x], c2[x] = _sort3(r0[x], r1[x], r2[x])


@row_kernel
def _columns5(r0, r1, r2, r3, r4, c0, c1, c2, c3, c4):
    for x in range(np.uint64(r0.size)):
        c0[x], c1[x], c2[x], c3[x], c4[x] = _sort5(r0[x], r1[x], r2[x], r3[x], r4[x])


@row_kernel
def _rows3(c0, c1, c2, out):
    """Of sorted columns: the greatest least, the middle middle and the least greatest."""
    for x in range(np.uint64(out.size)):
        _, _, high = _sort3(c0[x], c0[x + _U1], c0[x + _U2])
        _, middle, _ = _sort3(c1[x], c1[x + _U1], c1[x + _U2])
        low, _, _ = _sort3(c2[x], c2[x + _U1], c2[x + _U2])
        _, median, _ = _sort3(low, middle, high)
        out[x] = median


@row_kernel
def _rows5(c0, c1, c2, c3, c4, out):
    """Of columns and rows that are sorted, three anti-diagonals hold all that can be the median."""
    for x in range(np.uint64(out.size)):
        _, _, _, d0, e0 = _sort5(c0[x], c0[x + _U1], c0[x + _U2], c0[x + _U3], c0[x + _U4])
        _, _, t1, d1, e1 = _sort5(c1[x], c1[x + _U1], c1[x + _U2], c1[x + _U3], c1[x + _U4])
        _, b2, t2, d2, _ = _sort5(c2[x], c2[x + _U1], c2[x + _U2], c2[x + _U3], c2[x + _U4])
        a3, b3, t3, _, _ = _sort5(c3[x], c3[x + _U1], c3[x + _U2], c3[x + _U3], c3[x + _U4])
        a4, b4, _, _, _ = _sort5(c4[x], c4[x + _U1], c4[x + _U2], c4[x + _U3], c4[x + _U4])
        low = max(max(d0, t1), max(b2, a3))
        _, _, middle, _, _ = _sort5(e0, d1, t2, b3, a4)
        high = min(min(e1, d2), min(t3, b4))
        _, median, _ = _sort3(low, middle, high)
        out[x] = median


@outer
def filter_plane(plane, start, height, width, stride, size):
    """Filter a plane's pixels in place by the median of ``size`` x ``size`` of them, 3 or 5.

    Parameters
    ----------
    plane : flat float32
        Pixel (0, 0) stands at ``start``, and each row ``stride`` values after the one above.
    """
    reach = size // 2
    wide = np.empty((height + 2 * reach, width + 2 * reach), np.float32)
    for y in range(height + 2 * reach):
        at = start + min(max(y - reach, 0), height - 1) * stride
        wide[y, reach : reach + width] = plane[at : at + width]
        for x in range(reach):
            wide[y, x] = plane[at]
            wide[y, reach + width + x] = plane[at + width - 1]
    c = np.empty((5, width + 2 * reach), np.float32)
    for y in range(height):
        out = plane[start + y * stride : start + y * stride + width]
        if size == 3:
            _columns3(wide[y], wide[y + 1], wide[y + 2], c[0], c[1], c[2])
            _rows3(c[0], c[1], c[2], out)
        else:
            _columns5(wide[y], wide[y + 1], wide[y + 2], wide[y + 3], wide[y + 4],
                      c[0], c[1], c[2], c[3], c[4])  # fmt: skip
            _rows5(c[0], c[1], c[2], c[3], c[4], out)
