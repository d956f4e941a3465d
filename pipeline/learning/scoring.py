"""A trained network's answers on the views of clips."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn

from models import fold_bn
from pipeline.learning import devices, volumes


def score_views(
    network: nn.Module,
    clips: Iterable[tuple[torch.Tensor, torch.Tensor, int]],
    *,
    std: tuple[float, ...],
    classes: int | None = None,
    batch: int = 64,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Average the logits and the softmax over all views of each clip.

    Parameters
    ----------
    network : nn.Module
        Changed for good: its batch normalisation is folded into the convolutions.
    clips : iterable of (codes (V, H, W, C) uint8 or int16, offsets (V, C) float32, label)
    std : tuple of float
        What to divide each channel by, in codes.
    classes : int, optional
        Of the first head, where there are more.
    batch : int
        Views at a time; bounds memory, the result doesn't depend on it beyond rounding.

    Yields
    ------
    logits, probs : ndarray of shape (classes,), float32
    """
    on = devices.place().device
    network = devices.to_device(fold_bn(network.eval()), on)
    for codes, offsets, _ in clips:
        with torch.inference_mode():
            codes, offsets = (x.to(on, non_blocking=True) for x in (codes, offsets))
            parts = zip(codes.split(batch), offsets.split(batch), strict=True)
            logits = torch.cat([network(volumes.normalise(*part, std)) for part in parts])
            logits = logits[:, :classes].double().cpu()
            means = logits.mean(0).float().numpy(), logits.softmax(1).mean(0).float().numpy()
        yield means  # outside: a caller that stops half-way would stay in inference mode
