"""The weights that training keeps, with what is needed to use them.

``{"classes": [...], "state_dict": {...}, "about": {...}}``: tensors, text and numbers, which
``torch.load(path, weights_only=True)`` reads. ``about`` has the stream's params: the network, its
input, and what its channels have subtracted and are divided by.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn


class Weights(NamedTuple):
    """A file of weights: classes in the order of their labels, tensors by name, and the rest."""

    classes: list[str]
    state: dict[str, torch.Tensor]
    about: dict


def write_weights(path: Path, network: nn.Module, classes: list[str], about: dict) -> None:
    """Write a network's weights.

    Parameters
    ----------
    path : Path
    network : nn.Module
    classes : list of str
    about : dict
        JSON-able: whatever a reader has to know beside them.
    """
    state = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    torch.save({"classes": classes, "state_dict": state, "about": about}, path)


def read_weights(path: Path) -> Weights:
    """Read what training kept; nothing is executed.

    Raises
    ------
    ValueError
        If it is another kind of file; names it.
    """
    expected = "weights written by the stage train"
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected {expected}")
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever it says of a file that isn't one of its own
        raise ValueError(f"{path}: not a file of tensors, expected {expected}") from error
    known = isinstance(kept, dict) and {"classes", "state_dict", "about"} <= kept.keys()
    if not known or not isinstance(kept["state_dict"], dict):
        raise ValueError(f"{path}: no classes, state_dict and about in it, expected {expected}")
    return Weights(kept["classes"], kept["state_dict"], kept["about"])
