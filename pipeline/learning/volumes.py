"""Input volumes: what a network is fed (Two-Stream, section 3.1; TSN, section 3.2).

:mod:`pipeline.learning.sampling` says which fields these are made of. A bidirectional volume is the
stack of its L/2 forward fields and then its L/2 backward ones.
"""

import cv2
import numpy as np
import torch
from torch.nn import functional


def flow_stack(fields: np.ndarray) -> np.ndarray:
    """Stack L fields as channels x1, y1, x2, y2, ...

    Parameters
    ----------
    fields : ndarray of shape (L, 2, H, W)
        x first.

    Returns
    -------
    ndarray of shape (H, W, 2L), the same dtype
        Channels last, as image functions take it; in memory it is the fields as they are, which
        :func:`pipeline.learning.augment.resize` takes one by one.
    """
    length, _, height, width = fields.shape
    return fields.reshape(2 * length, height, width).transpose(1, 2, 0)


def trajectory_stack(fields: np.ndarray) -> np.ndarray:
    """Stack the displacements that a point meets on its way: channels x1, y1, x2, y2, ...

    Pair k at pixel (u, v) is d_k(p_k), where d_k is the k-th of the fields, p_1 = (u, v) and
    p_k = p_(k-1) + d_(k-1)(p_(k-1)). Between pixels fields are bilinear, and outside the frame they
    are what they are at the nearest point of its border; points themselves may leave and come back.
    The paper leaves both open.

    Parameters
    ----------
    fields : ndarray of shape (L, 2, H, W), float32 or float64
        Consecutive fields in px, x first.

    Returns
    -------
    ndarray of shape (H, W, 2L), float64
        In px. In float32, rounding would grow along a trajectory to some hundredths of a px.
    """
    sampled = torch.from_numpy(fields).double()
    height, width = fields.shape[2:]
    v, u = (torch.arange(side, dtype=torch.float64) for side in (height, width))
    points = torch.stack(torch.meshgrid(u, v, indexing="xy"), -1)  # (H, W, 2)
    # grid_sample counts from -1 to 1 over a side. OpenCV's remap rounds places to 1/32 px.
    unit = 2 / torch.tensor([max(width - 1, 1), max(height - 1, 1)], dtype=torch.float64)
    pairs = [sampled[0].permute(1, 2, 0)]
    for field in sampled[1:]:
        points = points + pairs[-1]
        met = functional.grid_sample(
            field[None], (points * unit - 1)[None], padding_mode="border", align_corners=True
        )
        pairs.append(met[0].permute(1, 2, 0))
    return torch.cat(pairs, -1).numpy()


def difference_stack(frames: np.ndarray) -> np.ndarray:
    """Stack the differences of consecutive frames: channels R1, G1, B1, R2, ... (TSN's RGB-diff).

    Difference k is frame k+1 less frame k, as in tsn-pytorch.

    Parameters
    ----------
    frames : ndarray of shape (L+1, H, W, 3), uint8

    Returns
    -------
    ndarray of shape (H, W, 3L), int16
        From -255 to 255, exact. Crops are resized after this and rounded once, where tsn-pytorch
        resizes and rounds each frame.
    """
    planes = frames.transpose(0, 3, 1, 2).astype(np.int16, order="C")
    return np.diff(planes, axis=0).reshape(-1, *planes.shape[2:]).transpose(1, 2, 0)


def field_means(fields: np.ndarray) -> np.ndarray:
    """Average each of L fields (L, 2, H, W): their mean vectors, (2L,) float32, in their unit.

    They are taken over the whole fields, before any crop, and subtracted to make up for camera
    motion (section 3.1, "Mean flow subtraction"). From a trajectory volume too: the mean of all of
    d_k goes, not that of the places where trajectories meet it, and trajectories follow the motion
    as it is.
    """
    planes = fields.reshape(-1, *fields.shape[2:])
    return np.array([cv2.mean(plane)[0] for plane in planes], np.float32)


def flip(volume: np.ndarray, *, signed: bool) -> np.ndarray:
    """Mirror a volume (H, W, C) left to right; where ``signed``, flow in uint8, x changes its sign.

    Codes are odd around 127.5, so a negated x is the code 255 - c.
    """
    if volume.strides[1] == volume.itemsize:  # planes in memory: in a quarter of the time
        planes = np.empty((volume.shape[2], *volume.shape[:2]), volume.dtype)
        for plane, flipped in zip(volume.transpose(2, 0, 1), planes, strict=True):
            cv2.flip(plane, 1, dst=flipped)
        if signed:
            np.bitwise_not(planes[::2], out=planes[::2])  # which is 255 - c
        return planes.transpose(1, 2, 0)
    mirrored = np.atleast_3d(cv2.flip(volume, 1))
    if signed:
        height, width, channels = mirrored.shape
        rows = mirrored.reshape(height, width * channels)
        rows ^= np.tile(np.array([255, 0], np.uint8), width * channels // 2)
    return mirrored


def mirror(inputs: torch.Tensor, *, signed: bool) -> torch.Tensor:
    """Mirror what :func:`normalise` gave (..., C, H, W); where ``signed``, x changes its sign.

    As :func:`flip` does of codes.
    """
    out = inputs.flip(-1)
    if signed:
        out[..., ::2, :, :].neg_()
    return out


def packed(volume: np.ndarray) -> np.ndarray:
    """Lay a volume (H, W, C) of planes out with its channels last in memory too."""
    if volume.strides[2] == volume.itemsize:
        return np.ascontiguousarray(volume)  # perhaps a part of a frame
    planes = volume.transpose(2, 0, 1).reshape(volume.shape[2], -1)
    return cv2.transpose(planes).reshape(volume.shape)  # in half of the time of cv2.merge


def flip_means(means: np.ndarray) -> np.ndarray:
    """Give the field means (2L,) of the mirrored volume."""
    mirrored = means.copy()
    mirrored[::2] = 255 - mirrored[::2]
    return mirrored


def normalise(volumes: torch.Tensor, offsets: torch.Tensor, std: tuple[float, ...]) -> torch.Tensor:
    """Turn codes into what a network takes.

    The one place for it, in training and in testing, of every modality. RGB has the mean subtracted
    that the network was trained with; flow has its field means, or zero motion (127.5), subtracted;
    differences of frames are around zero as they are. All are divided by the network's standard
    deviation, so that codes of flow move as far from zero as grey values do (TSN's cross-modality
    initialisation counts on it).

    Parameters
    ----------
    volumes : Tensor of shape (N, H, W, C), uint8 or int16
    offsets : Tensor of shape (N, C), float32
        What to subtract from the codes.
    std : tuple of float
        What to divide each of the C channels by: a modality's ``divisors``.

    Returns
    -------
    Tensor of shape (N, C, H, W), float32, in channels-last memory
    """
    divisor = torch.tensor(std, dtype=torch.float32, device=volumes.device)
    inputs = (volumes - offsets[:, None, None, :]).div_(divisor).permute(0, 3, 1, 2)
    return inputs.contiguous(memory_format=torch.channels_last)
