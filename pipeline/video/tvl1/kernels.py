"""The loops of TV-L1 over pixels, compiled by numba for one thread.

Planes are flat float32 arrays of ``height + 2`` rows of ``stride`` values; pixel (0, 0) stands at
``stride + MARGIN``, so that neighbours outside the frame can be read without a branch. All index
arithmetic is unsigned and no loop over a row branches: that is what lets LLVM use vectors.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.compiler import Compiler
from numba.extending import intrinsic

MARGIN = (
    16  # values before a row's first pixel, and what a row is rounded up to: one AVX-512 vector
)
BORDER = 4  # zero pixels around a packed image: a cubic kernel reaches two pixels out


class _NoAlias(Compiler):
    """numba's compiler, told that a function's array arguments don't overlap where it writes.

    A row of the iteration reads and writes sixteen streams; LLVM gives up on vectors, or spends as
    long on checks as on the row, unless it knows that.
    """

    def define_pipelines(self):
        self.state.flags.noalias = True
        return super().define_pipelines()


_FAST = {"reassoc", "contract", "nsz", "arcp", "nnan", "ninf"}
_options = {
    "nogil": True, "cache": True, "fastmath": _FAST, "error_model": "numpy", "boundscheck": False,
}  # fmt: skip
inner = njit(forceinline=True, **_options)
outer = njit(**_options)
# Inlined by force: as functions of their own they are optimised once in the process that compiles
# them and once more in the copy on disk, and the two round differently.
row_kernel = njit(pipeline_class=_NoAlias, forceinline=True, **_options)

_ONE, _HALF, _ZERO = np.float32(1), np.float32(0.5), np.float32(0)
_U1, _U2, _U3, _U4 = (np.uint64(i) for i in (1, 2, 3, 4))
_LEAST_GRADIENT = np.float32(1e-30)
_PART = 1024


@row_kernel
def _pack_row(middle, above, below, out):
    """Pack a row but for its two end pixels."""
    for x in range(_U1, np.uint64(middle.size - 1)):
        o = _U4 * x
        out[o] = middle[x]
        out[o + _U1] = _HALF * (middle[x + _U1] - middle[x - _U1])
        out[o + _U2] = _HALF * (below[x] - above[x])
        out[o + _U3] = _ZERO


@outer
def pack(image, packed):
    """Put an image and its centred differences side by side, as the warp reads them.

    Parameters
    ----------
    image : (H, W) float32
    packed : (H + 2 BORDER, W + 2 BORDER, 4) float32
        Receives I, ∂I/∂x, ∂I/∂y and 0; the border is left as it is, zero.
    """
    height, width = image.shape
    end = width - 1
    for y in range(height):
        above, below = image[max(y - 1, 0)], image[min(y + 1, height - 1)]
        middle, out = image[y], packed[y + BORDER, BORDER : BORDER + width]
        _pack_row(middle, above, below, out.reshape(4 * width))
        for x, slope in ((0, middle[1] - middle[0]), (end, middle[end] - middle[end - 1])):
            out[x, 0] = middle[x]
            out[x, 1] = _HALF * slope
            out[x, 2] = _HALF * (below[x] - above[x])


@inner
def _cubic(t):
    """Weights of the four taps at distances 1 + t, t, 1 - t, 2 - t (Keys 1981, a = -0.75)."""
    a = np.float32(-0.75)
    s = _ONE - t
    w0 = a * t * s * s
    w1 = ((a + np.float32(2)) * t - (a + np.float32(3))) * t * t + _ONE
    w3 = a * s * t * t
    return w0, w1, _ONE - w0 - w1 - w3, w3


@row_kernel
def _aim_row(rows, columns, u1, u2, at, y, width, taps, x0, x1, x2, x3, y0, y1, y2, y3):
    """Find for a row where its taps start in the packed image, and their weights."""
    pitch = np.int64(4 * columns)
    for x in range(width):
        i = at + np.uint64(x)
        # Past these limits all sixteen taps lie in the zero border, as they would anyway.
        px = max(np.float32(np.int32(x)) + u1[i], np.float32(1 - BORDER))
        py = max(np.float32(y) + u2[i], np.float32(1 - BORDER))
        px = min(px, np.float32(columns - 2 * BORDER + 1))
        py = min(py, np.float32(rows - 2 * BORDER + 1))
        fx, fy = np.floor(px), np.floor(py)
        top, left = np.int64(np.int32(fy)) + BORDER - 1, np.int64(np.int32(fx)) + BORDER - 1
        taps[x] = top * pitch + 4 * left
        x0[x], x1[x], x2[x], x3[x] = _cubic(px - fx)
        y0[x], y1[x], y2[x], y3[x] = _cubic(py - fy)


@intrinsic
def _blend(typing_context, flat, tap, pitch, wx, wy):
    """Weigh 4 x 4 taps of four packed channels; give the first three.

    A row's four taps lie side by side: one vector of sixteen values. Left to itself, LLVM collects
    the taps of neighbouring pixels one by one, at a fourth of the speed.
    """
    signature = types.UniTuple(types.float32, 3)(flat, tap, pitch, wx, wy)

    def generate(context, builder, signature, args):
        wide, four = ir.VectorType(ir.FloatType(), 16), ir.VectorType(ir.FloatType(), 4)
        lane = ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data

        def spread(weights, k, kind):
            one = builder.extract_value(weights, k)
            first = builder.insert_element(ir.Constant(kind, ir.Undefined), one, lane(0))
            every = ir.Constant(ir.VectorType(lane, kind.count), [0] * kind.count)
            return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), every)

        def add_scaled(total, weight, value):
            flags = ("contract", "nsz")
            scaled = builder.fmul(weight, value, flags=flags)
            return scaled if total is None else builder.fadd(total, scaled, flags=flags)

        column, row = None, args[1]
        for j in range(4):
            at = builder.bitcast(builder.gep(data, [row]), wide.as_pointer())
            column = add_scaled(column, spread(args[4], j, wide), builder.load(at, align=4))
            row = builder.add(row, args[2])
        total = None
        for k in range(4):
            lanes = ir.Constant(ir.VectorType(lane, 4), list(range(4 * k, 4 * k + 4)))
            part = builder.shuffle_vector(column, ir.Constant(wide, ir.Undefined), lanes)
            total = add_scaled(total, spread(args[3], k, four), part)
        sums = [builder.extract_element(total, lane(c)) for c in range(3)]
        return context.make_tuple(builder, signature.return_type, sums)

    return signature, generate


@row_kernel
def _warp_row(flat, columns, at, width, taps, x0, x1, x2, x3, y0, y1, y2, y3, image, gx, gy):
    """Sample a row of I, ∂I/∂x and ∂I/∂y where :func:`_aim_row` found."""
    pitch = np.int64(4 * columns)
    for x in range(width):
        i = at + np.uint64(x)
        image[i], gx[i], gy[i] = _blend(
            flat, taps[x], pitch, (x0[x], x1[x], x2[x], x3[x]), (y0[x], y1[x], y2[x], y3[x])
        )


@row_kernel
def _linearise_row(first, u1, u2, gx, gy, rho, inverse, at):
    """Turn a row of the warped image, given as ``rho``, into ρ's constant part."""
    for x in range(np.uint64(first.size)):
        i = at + x
        ix, iy = gx[i], gy[i]
        rho[i] = rho[i] - ix * u1[i] - iy * u2[i] - first[x]
        # OpenCV moves pixels of no gradient by nothing; so does this, since gx = gy = 0 there.
        inverse[i] = _ONE / max(ix * ix + iy * iy, _LEAST_GRADIENT)


@outer
def linearise(first, packed, u1, u2, gx, gy, rho, inverse, stride):
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
    rows, columns, _ = packed.shape
    flat, width = packed.reshape(packed.size), first.shape[1]
    taps, w = np.empty(width, np.int64), np.empty((8, width), np.float32)
    for y in range(first.shape[0]):
        at = np.uint64((y + 1) * stride + MARGIN)
        _aim_row(rows, columns, u1, u2, at, y, width,
                 taps, w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7])  # fmt: skip
        _warp_row(flat, columns, at, width,
                  taps, w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], rho, gx, gy)  # fmt: skip
        _linearise_row(first[y], u1, u2, gx, gy, rho, inverse, at)


@row_kernel
def _squared_distance(a, b):
    total = _ZERO
    for x in range(np.uint64(a.size)):
        total += (a[x] - b[x]) * (a[x] - b[x])
    return total


@outer
def squared_distance(planes, others):
    """Sum the squared differences of two equal shapes of planes; margins are zero in both."""
    total, a, b = 0.0, planes.reshape(planes.size), others.reshape(others.size)
    # Part by part, since float32 loses what it adds to a large sum.
    for start in range(0, a.size, _PART):
        total += _squared_distance(a[start : start + _PART], b[start : start + _PART])
    return total


@inner
def _step(u1, u2, gx, gy, rho, inverse, limit):
    """Thresholding step (Zach 2007, Eq. 15) as a clamp of -ρ/|∇I|² to ±λθ."""
    d = -(rho + gx * u1 + gy * u2) * inverse
    d = d if d > -limit else -limit
    d = d if d < limit else limit
    return u1 + d * gx, u2 + d * gy


@inner
def _dual(px, py, ux, uy, taut):
    """One semi-implicit step of a dual variable (Zach 2007, Eq. 14)."""
    scale = _ONE / (_ONE + taut * np.sqrt(ux * ux + uy * uy))
    return (px + taut * ux) * scale, (py + taut * uy) * scale


@row_kernel
def _first_row(u1, u2, p11, p12, p21, p22, gx, gy, rho, inverse, at, width, limit, theta):
    """Update u in row 0, above which p is zero."""
    change = _ZERO
    for x in range(width):
        i = at + x
        v1, v2 = _step(u1[i], u2[i], gx[i], gy[i], rho[i], inverse[i], limit)
        v1 += theta * (p11[i] - p11[i - _U1] + p12[i])
        v2 += theta * (p21[i] - p21[i - _U1] + p22[i])
        d1, d2 = v1 - u1[i], v2 - u2[i]
        u1[i] = v1
        u2[i] = v2
        change += d1 * d1 + d2 * d2
    return change


@row_kernel
def _row(u1, u2, p11, p12, p21, p22, gx, gy, rho, inverse, a1, a2, q11, q12, q21, q22, inside,
         at, stride, width, limit, theta, taut):  # fmt: skip
    """Update u in a row, and p in the row above, which needs no more than that.

    ``a`` and ``q`` are u and p again, for the row above.
    """
    change = _ZERO
    above = at - stride
    for x in range(width):
        i, j = at + x, above + x
        o12, o22 = q12[j], q22[j]
        v1, v2 = _step(u1[i], u2[i], gx[i], gy[i], rho[i], inverse[i], limit)
        v1 += theta * (p11[i] - p11[i - _U1] + p12[i] - o12)
        v2 += theta * (p21[i] - p21[i - _U1] + p22[i] - o22)
        d1, d2 = v1 - u1[i], v2 - u2[i]
        u1[i] = v1
        u2[i] = v2
        change += d1 * d1 + d2 * d2
        more = inside[x + _U1]
        q11[j], q12[j] = _dual(q11[j], o12, more * (a1[j + _U1] - a1[j]), v1 - a1[j], taut)
        q21[j], q22[j] = _dual(q21[j], o22, more * (a2[j + _U1] - a2[j]), v2 - a2[j], taut)
    return change


@row_kernel
def _last_row(u1, u2, p11, p12, p21, p22, inside, at, width, taut):
    """Update p in the last row, below which u does not change."""
    for x in range(width):
        i, more = at + x, inside[x + _U1]
        p11[i], p12[i] = _dual(p11[i], p12[i], more * (u1[i + _U1] - u1[i]), _ZERO, taut)
        p21[i], p22[i] = _dual(p21[i], p22[i], more * (u2[i + _U1] - u2[i]), _ZERO, taut)


@outer
def solve(u1, u2, p11, p12, p21, p22, gx, gy, rho, inverse, inside, height, width, stride, limit,
          theta, taut, iterations, epsilon):  # fmt: skip
    """Iterate u and p in place until the flow's change falls under ε or iterations are spent.

    Each iteration passes once over memory, in whole vectors: right of the frame u and p stay zero.
    ``inside`` is 1 for the pixels of a row and 0 right of them. Returns the iterations done.
    """
    enough = np.float32(epsilon * epsilon * height * width)
    stride, whole = np.uint64(stride), np.uint64(-(-width // MARGIN) * MARGIN)
    start = stride + np.uint64(MARGIN)
    for done in range(iterations):
        change = np.float64(
            _first_row(u1, u2, p11, p12, p21, p22, gx, gy, rho, inverse, start, whole, limit, theta)
        )
        at = start
        for _ in range(1, height):
            at += stride
            change += _row(u1, u2, p11, p12, p21, p22, gx, gy, rho, inverse, u1, u2, p11, p12, p21,
                           p22, inside, at, stride, whole, limit, theta, taut)  # fmt: skip
        _last_row(u1, u2, p11, p12, p21, p22, inside, at, whole, taut)
        if change <= enough:
            return done + 1
    return iterations
