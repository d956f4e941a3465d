"""Input volumes: what a network is fed (Two-Stream, section 3.1)."""

import numpy as np
import torch


def flow_stack(fields: np.ndarray) -> np.ndarray:
    """Stack L fields as channels x1, y1, x2, y2, ...

    Parameters
    ----------
    fields : ndarray of shape (L, 2, H, W)
        x first.

    Returns
    -------
    ndarray of shape (H, W, 2L), the same dtype
        Channels last, as image functions take it.
    """
    length, _, height, width = fields.shape
    return np.ascontiguousarray(fields.reshape(2 * length, height, width).transpose(1, 2, 0))


def field_means(volume: np.ndarray) -> np.ndarray:
    """Average each channel of a volume (H, W, 2L): the mean vector of each field, (2L,) float32.

    It is taken over the whole field, before any crop, and subtracted to make up for camera motion
    (section 3.1, "Mean flow subtraction").
    """
    return volume.mean((0, 1), dtype=np.float64).astype(np.float32)


def flip(volume: np.ndarray, *, flow: bool) -> np.ndarray:
    """Mirror a uint8 volume (H, W, C) left to right; for flow, x changes its sign too.

    Codes are odd around 127.5, so a negated x is the code 255 - c.
    """
    mirrored = volume[:, ::-1].copy()
    if flow:
        mirrored[..., ::2] = 255 - mirrored[..., ::2]
    return mirrored


def flip_means(means: np.ndarray) -> np.ndarray:
    """Give the field means (2L,) of the mirrored volume."""
    mirrored = means.copy()
    mirrored[::2] = 255 - mirrored[::2]
    return mirrored


def normalise(volumes: torch.Tensor, offsets: torch.Tensor, std: tuple[float, ...]) -> torch.Tensor:
    """Turn codes into what a network takes.

    RGB has the mean subtracted that the network was trained with; flow has its field means, or zero
    motion (127.5), subtracted. Both are divided by the network's standard deviation, so that flow
    codes move as far from zero as grey values do (TSN's cross-modality initialisation counts on
    it).

    Parameters
    ----------
    volumes : Tensor of shape (N, H, W, C), uint8
    offsets : Tensor of shape (N, C), float32
        What to subtract from the codes.
    std : tuple of float
        The network's standard deviation for R, G and B, in codes.

    Returns
    -------
    Tensor of shape (N, C, H, W), float32, in channels-last memory
    """
    divisor = torch.tensor(std)
    if offsets.shape[1] != 3:
        divisor = divisor.mean()
    return ((volumes - offsets[:, None, None, :]) / divisor).permute(0, 3, 1, 2)
