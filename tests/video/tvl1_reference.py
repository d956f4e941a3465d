"""TV-L1 in plain float64 NumPy, written from the papers' formulas, to compare backends with.

Zach, Pock and Bischof (2007) and Sánchez, Meinhardt-Llopis and Facciolo (IPOL 2013), with the
border rules of OpenCV's class: central differences halved at borders, zero outside when warping.
"""

import cv2
import numpy as np


def bicubic(image, x, y):
    """Sample at (x, y) with Keys' kernel, a = -0.75, and zeros outside."""
    height, width = image.shape
    ix, iy = np.floor(x).astype(int), np.floor(y).astype(int)
    total = np.zeros(x.shape)
    for j in range(-1, 3):
        for i in range(-1, 3):
            column, row = ix + i, iy + j
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            taps = image[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)] * inside
            total += keys(x - column) * keys(y - row) * taps
    return total


def keys(distance, a=-0.75):
    """Keys (1981), Eq. 4 with a free parameter."""
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def central(image):
    """∂I/∂x and ∂I/∂y by central differences."""
    padded = np.pad(image, 1, mode="edge")
    return (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2, (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2


def forward(u):
    """Forward differences, zero at the far borders."""
    return np.diff(u, axis=1, append=u[:, -1:]), np.diff(u, axis=0, append=u[-1:])


def divergence(px, py):
    """Backward differences, the negative adjoint of :func:`forward`."""
    return np.diff(px, axis=1, prepend=0.0) + np.diff(py, axis=0, prepend=0.0)


def threshold(rho, ix, iy, limit):
    """The three cases of Zach (2007), Eq. 15."""
    squared = ix**2 + iy**2
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = np.where(squared > np.finfo(np.float32).eps, -rho / squared, 0.0)
    d = np.where(rho < -limit * squared, limit, np.where(rho > limit * squared, -limit, middle))
    return d * ix, d * iy


def one_scale(first, second, u, settings):
    """Refine ``u`` (2, H, W) on one level of the pyramid."""
    y, x = np.mgrid[: first.shape[0], : first.shape[1]].astype(float)
    p = np.zeros((2, 2, *first.shape))
    taut = settings.tau / settings.theta
    dx, dy = central(second)
    for _ in range(settings.warps):
        before = u
        warped, ix, iy = (bicubic(image, x + u[0], y + u[1]) for image in (second, dx, dy))
        constant = warped - ix * u[0] - iy * u[1] - first
        for _ in range(settings.iterations):
            rho = constant + ix * u[0] + iy * u[1]
            v = u + threshold(rho, ix, iy, settings.lambda_ * settings.theta)
            new = v + settings.theta * np.stack([divergence(*p[0]), divergence(*p[1])])
            change = np.mean(np.sum((new - u) ** 2, axis=0))
            u = new
            for k in range(2):
                slope = np.stack(forward(u[k]))
                p[k] = (p[k] + taut * slope) / (1 + taut * np.hypot(*slope))
            if change <= settings.epsilon**2:
                break
        moved = np.mean(np.sum((u - before) ** 2, axis=0))
        if settings.median:
            u = np.stack([cv2.medianBlur(c.astype(np.float32), settings.median) for c in u])
            u = u.astype(float)
        if moved < settings.warp_epsilon**2:
            break
    return u


def reference(first, second, settings):
    """The (2, H, W) float64 field from one grey frame to another."""
    pyramid = [(first.astype(float), second.astype(float))]
    step = settings.scale_step
    while len(pyramid) < settings.scales:
        smaller = tuple(cv2.resize(image, None, fx=step, fy=step) for image in pyramid[-1])
        if min(smaller[0].shape) < 16:
            break
        pyramid.append(smaller)
    u = np.zeros((2, *pyramid[-1][0].shape))
    for number, (a, b) in enumerate(reversed(pyramid)):
        if number:
            u = np.stack([cv2.resize(c, a.shape[::-1]) for c in u]) / step
        u = one_scale(a, b, u, settings)
    return u
