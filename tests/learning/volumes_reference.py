"""The two-stream paper's input volumes (section 3.1), plainly and slowly, of a whole clip.

Written from the formulas, in float64, with the paper's k from 1 to L; nothing of the project is
used. ``forward[t]`` is the field from frame t to frame t+1, ``backward[t]`` the one from frame t+1
to frame t; both (T, 2, H, W). Volumes are (H, W, 2L).
"""

import math

import numpy as np


def stack(forward, tau, length, stride):
    """I(u, v, 2k-1) = x of d_(tau+k-1)(u, v), I(u, v, 2k) = y of it."""
    count, _, height, width = forward.shape
    volume = np.zeros((height, width, 2 * length))
    for k in range(1, length + 1):
        field = tau + (k - 1) * stride
        if field > count - 1:
            field = count - 1
        for v in range(height):
            for u in range(width):
                volume[v, u, 2 * k - 2] = forward[field, 0, v, u]
                volume[v, u, 2 * k - 1] = forward[field, 1, v, u]
    return volume


def between(plane, x, y):
    """Sample a plane (H, W) between pixels; outside it, at the nearest point of its border."""
    height, width = plane.shape
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    left, top = math.floor(x), math.floor(y)
    total = 0.0
    for row, of_row in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, of_column in ((left, 1 - (x - left)), (left + 1, x - left)):
            if of_row and of_column:
                total += of_row * of_column * float(plane[row, column])
    return total


def trajectory(forward, tau, length):
    """I(u, v, 2k-1) = x of d_(tau+k-1)(p_k); p_1 = (u, v), p_k = p_(k-1) + d_(tau+k-2)(p_(k-1))."""
    count, _, height, width = forward.shape
    volume = np.zeros((height, width, 2 * length))
    for v in range(height):
        for u in range(width):
            x, y = float(u), float(v)
            for k in range(1, length + 1):
                field = forward[min(tau + k - 1, count - 1)]
                dx, dy = between(field[0], x, y), between(field[1], x, y)
                volume[v, u, 2 * k - 2], volume[v, u, 2 * k - 1] = dx, dy
                x, y = x + dx, y + dy
    return volume


def bidirectional(forward, backward, tau, length, stride):
    """L/2 fields forward from frame tau, then L/2 backward from it, those nearest to tau first."""
    count, _, height, width = forward.shape
    volume = np.zeros((height, width, 2 * length))
    for k in range(1, length + 1):
        if k <= length // 2:
            frame = tau + (k - 1) * stride  # to the frame behind it
            field = forward[min(frame, count - 1)]
        else:
            frame = tau - (k - 1 - length // 2) * stride  # to the frame before it
            field = backward[max(frame - 1, 0)]
        for v in range(height):
            for u in range(width):
                volume[v, u, 2 * k - 2] = field[0, v, u]
                volume[v, u, 2 * k - 1] = field[1, v, u]
    return volume


def means(volume_of_fields):
    """Give the mean of each channel of a stack (H, W, 2L)."""
    height, width, channels = volume_of_fields.shape
    totals = [0.0] * channels
    for v in range(height):
        for u in range(width):
            for channel in range(channels):
                totals[channel] += float(volume_of_fields[v, u, channel])
    return [total / (height * width) for total in totals]
