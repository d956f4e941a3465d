"""The loops of TV-L1 over pixels as Triton kernels; many pairs of frames a launch.

Every plane of a pair is (H, W) float32, row after row. A program computes one tile of one pair;
``grid`` says how many there are. With ``TRITON_INTERPRET=1`` the same code runs on a CPU, slowly.
"""

import triton
import triton.language as tl

HIGH, WIDE = 8, 128  # pixels of a tile
_LEAST_GRADIENT = tl.constexpr(1e-30)


def grid(pairs: int, height: int, width: int) -> tuple[int, int]:
    """Count the programs: tiles of a frame, pairs."""
    return triton.cdiv(height, HIGH) * triton.cdiv(width, WIDE), pairs


@triton.jit
def tile(width, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """Give the rows (HIGH, 1) and columns (1, WIDE) of this program's tile."""
    across = tl.cdiv(width, WIDE)
    y = (tl.program_id(0) // across) * HIGH + tl.arange(0, HIGH)[:, None]
    x = (tl.program_id(0) % across) * WIDE + tl.arange(0, WIDE)[None, :]
    return y, x


@triton.jit
def _cubic(t):
    """Weights of the taps at distances 1 + t, t, 1 - t, 2 - t (Keys 1981, a = -0.75)."""
    s = 1.0 - t
    w0 = -0.75 * t * s * s
    w1 = (1.25 * t - 2.25) * t * t + 1.0
    w3 = -0.75 * s * t * t
    return w0, w1, 1.0 - w0 - w1 - w3, w3


@triton.jit
def _tap(image, slopes, row, column, height, width, plane):
    """Read I, ∂I/∂x and ∂I/∂y at whole pixels; outside the frame all are zero."""
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    at = row * width + column
    return (
        tl.load(image + at, mask=inside, other=0.0),
        tl.load(slopes + at, mask=inside, other=0.0),
        tl.load(slopes + plane + at, mask=inside, other=0.0),
    )


@triton.jit
def _line(image, slopes, row, column, w0, w1, w2, w3, height, width, plane):
    """Blend four taps of a row."""
    a0, a1, a2 = _tap(image, slopes, row, column - 1, height, width, plane)
    b0, b1, b2 = _tap(image, slopes, row, column, height, width, plane)
    c0, c1, c2 = _tap(image, slopes, row, column + 1, height, width, plane)
    d0, d1, d2 = _tap(image, slopes, row, column + 2, height, width, plane)
    return (
        w0 * a0 + w1 * b0 + w2 * c0 + w3 * d0,
        w0 * a1 + w1 * b1 + w2 * c1 + w3 * d1,
        w0 * a2 + w1 * b2 + w2 * c2 + w3 * d2,
    )


@triton.jit
def _total(tiles_of, pair, tiles, TILES: tl.constexpr):
    """Sum a pair's tiles; each program of the pair comes to the same number, in whatever batch."""
    number = tl.arange(0, TILES)
    return tl.sum(tl.load(tiles_of + pair * tiles + number, mask=number < tiles, other=0.0), 0)


@triton.jit
def _add_up(squared, inside, tiles_of, pair, tiles):
    total = tl.sum(tl.sum(tl.where(inside, squared, 0.0), 1), 0)
    tl.store(tiles_of + pair * tiles + tl.program_id(0), total)


# Sizes and sides vary from launch to launch: no new compilation for each.
@triton.jit(do_not_specialize=["tiles", "height", "width"])
def squared_distance(
    u, other,  # (B, 2, H, W)
    distance,  # (B, tiles): receives each tile's sum of squared differences
    height, width, tiles, HIGH: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Say how far the flow moved, tile by tile."""
    y, x = tile(width, HIGH, WIDE)
    plane, pair = height * width, tl.program_id(1).to(tl.int64)
    at, inside = pair * 2 * plane + y * width + x, (y < height) & (x < width)
    d1 = tl.load(u + at, mask=inside, other=0.0) - tl.load(other + at, mask=inside, other=0.0)
    at += plane
    d2 = tl.load(u + at, mask=inside, other=0.0) - tl.load(other + at, mask=inside, other=0.0)
    _add_up(d1 * d1 + d2 * d2, inside, distance, pair, tiles)


@triton.jit
def _linearise(
    first, second, slopes, u, linear, height, width, HIGH: tl.constexpr, WIDE: tl.constexpr
):
    y, x = tile(width, HIGH, WIDE)
    plane, pair = height * width, tl.program_id(1).to(tl.int64)
    image, slopes = second + pair * plane, slopes + pair * 2 * plane
    at, inside = y * width + x, (y < height) & (x < width)
    u1 = tl.load(u + pair * 2 * plane + at, mask=inside, other=0.0)
    u2 = tl.load(u + (pair * 2 + 1) * plane + at, mask=inside, other=0.0)
    # Further out all taps are zero anyway; a huge flow would not fit a whole number.
    px = tl.minimum(tl.maximum(x + u1, -4.0), width + 3.0)
    py = tl.minimum(tl.maximum(y + u2, -4.0), height + 3.0)
    fx, fy = tl.floor(px), tl.floor(py)
    column, row = fx.to(tl.int32), fy.to(tl.int32)
    w0, w1, w2, w3 = _cubic(px - fx)
    v0, v1, v2, v3 = _cubic(py - fy)
    a0, a1, a2 = _line(image, slopes, row - 1, column, w0, w1, w2, w3, height, width, plane)
    b0, b1, b2 = _line(image, slopes, row, column, w0, w1, w2, w3, height, width, plane)
    c0, c1, c2 = _line(image, slopes, row + 1, column, w0, w1, w2, w3, height, width, plane)
    d0, d1, d2 = _line(image, slopes, row + 2, column, w0, w1, w2, w3, height, width, plane)
    warped = v0 * a0 + v1 * b0 + v2 * c0 + v3 * d0
    gx = v0 * a1 + v1 * b1 + v2 * c1 + v3 * d1
    gy = v0 * a2 + v1 * b2 + v2 * c2 + v3 * d2
    still = tl.load(first + pair * plane + at, mask=inside, other=0.0)
    out = linear + pair * 3 * plane + at
    tl.store(out, gx, mask=inside)
    tl.store(out + plane, gy, mask=inside)
    tl.store(out + 2 * plane, warped - gx * u1 - gy * u2 - still, mask=inside)


@triton.jit(do_not_specialize=["tiles", "height", "width"])
def linearise(
    first,  # (B, H, W)
    second,  # (B, H, W)
    slopes,  # (B, 2, H, W): centred differences of second
    u,  # (B, 2, H, W): the flow
    linear,  # (B, 3, H, W): receives the warped gradient and ρ's constant part
    moved,  # (B, tiles): how far the warp before moved the flow, see squared_distance
    ended,  # (B,) int32: receives 1 for pairs whose level ended with that warp
    height, width, little, tiles, TILES: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Warp the second frame by the flow and linearise the brightness difference around it.

    Pairs that the warp before moved by less than ``little`` stay as they are from then on.
    """
    if _total(moved, tl.program_id(1).to(tl.int64), tiles, TILES) < little:
        tl.store(ended + tl.program_id(1), 1)
    else:
        _linearise(first, second, slopes, u, linear, height, width, HIGH, WIDE)


@triton.jit
def _flow(u, p, linear, y, x, height, width, plane, limit, theta):
    """Give u at (y, x) before and after an iteration; outside the frame both are zero.

    The thresholding step (Zach 2007, Eq. 15) is a clamp of -ρ/|∇I|² to ±λθ; p is zero outside.
    """
    at, inside = y * width + x, (y < height) & (x < width)
    left, above = inside & (x > 0), inside & (y > 0)
    u1 = tl.load(u + at, mask=inside, other=0.0)
    u2 = tl.load(u + plane + at, mask=inside, other=0.0)
    gx = tl.load(linear + at, mask=inside, other=0.0)
    gy = tl.load(linear + plane + at, mask=inside, other=0.0)
    rho = tl.load(linear + 2 * plane + at, mask=inside, other=0.0)
    d = -(rho + gx * u1 + gy * u2) / tl.maximum(gx * gx + gy * gy, _LEAST_GRADIENT)
    d = tl.minimum(tl.maximum(d, -limit), limit)
    p += at
    across1 = tl.load(p, mask=inside, other=0.0) - tl.load(p - 1, mask=left, other=0.0)
    p += plane
    down1 = tl.load(p, mask=inside, other=0.0) - tl.load(p - width, mask=above, other=0.0)
    p += plane
    across2 = tl.load(p, mask=inside, other=0.0) - tl.load(p - 1, mask=left, other=0.0)
    p += plane
    down2 = tl.load(p, mask=inside, other=0.0) - tl.load(p - width, mask=above, other=0.0)
    v1 = u1 + d * gx + theta * (across1 + down1)
    v2 = u2 + d * gy + theta * (across2 + down2)
    return u1, u2, v1, v2


@triton.jit
def _dual(p, out, ux, uy, at, inside, plane, taut):
    """One semi-implicit step of a dual variable (Zach 2007, Eq. 14)."""
    scale = 1.0 / (1.0 + taut * tl.sqrt(ux * ux + uy * uy))
    px = tl.load(p + at, mask=inside, other=0.0)
    py = tl.load(p + plane + at, mask=inside, other=0.0)
    tl.store(out + at, (px + taut * ux) * scale, mask=inside)
    tl.store(out + plane + at, (py + taut * uy) * scale, mask=inside)


@triton.jit(do_not_specialize=["which", "tiles", "height", "width"])
def iterate(
    u, u_out,  # (B, 2, H, W) the flow, before and after
    p, p_out,  # (B, 4, H, W) the dual variables p11 p12 p21 p22, before and after
    linear,  # (B, 3, H, W) see linearise
    change, change_out,  # (B, tiles): each tile's sum of squared change, of the iteration before
    ended,  # (B,) int32: 1 for pairs whose flow has settled
    side, which,  # (B,) int32 receives ``which`` for pairs that went on: their newest buffer
    height, width, limit, theta, taut, enough, tiles,
    TILES: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Iterate u and p once, unless the iteration before changed a pair by no more than enough.

    A tile needs the new u of the pixels right of it and below it, and computes them again rather
    than wait for its neighbours: one launch an iteration, nothing but u, p and linear read.
    """
    pair = tl.program_id(1).to(tl.int64)
    going = tl.load(ended + pair) == 0
    if going:
        going = _total(change, pair, tiles, TILES) > enough
        if not going:
            tl.store(ended + pair, 1)
    if going:
        y, x = tile(width, HIGH, WIDE)
        plane = height * width
        at, inside = y * width + x, (y < height) & (x < width)
        u, u_out = u + pair * 2 * plane, u_out + pair * 2 * plane
        p, p_out = p + pair * 4 * plane, p_out + pair * 4 * plane
        linear += pair * 3 * plane
        u1, u2, v1, v2 = _flow(u, p, linear, y, x, height, width, plane, limit, theta)
        _, _, r1, r2 = _flow(u, p, linear, y, x + 1, height, width, plane, limit, theta)
        _, _, b1, b2 = _flow(u, p, linear, y + 1, x, height, width, plane, limit, theta)
        tl.store(u_out + at, v1, mask=inside)
        tl.store(u_out + plane + at, v2, mask=inside)
        right, below = inside & (x + 1 < width), inside & (y + 1 < height)
        x1, y1 = tl.where(right, r1 - v1, 0.0), tl.where(below, b1 - v1, 0.0)
        x2, y2 = tl.where(right, r2 - v2, 0.0), tl.where(below, b2 - v2, 0.0)
        _dual(p, p_out, x1, y1, at, inside, plane, taut)
        _dual(p + 2 * plane, p_out + 2 * plane, x2, y2, at, inside, plane, taut)
        d1, d2 = v1 - u1, v2 - u2
        _add_up(d1 * d1 + d2 * d2, inside, change_out, pair, tiles)
        tl.store(side + pair, which)
