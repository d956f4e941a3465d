"""The weights that training keeps, with what is needed to use them.

``{"heads": {DATASET: [CLASS, ...]}, "state_dict": {...}, "about": {...}}``: tensors, text and
numbers, which ``torch.load(path, weights_only=True)`` reads. The first head is of the dataset that
the network is for; the outputs of all stand in this order. ``about`` has the stream's params: the
network, its input, and what its channels have subtracted and are divided by; also the short side of
the frames that it learnt from, in px, and the bound of their flow.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from models import build

_PARTS = ("heads", "state_dict", "about")


class Weights(NamedTuple):
    """A file of weights: each dataset's classes in order, tensors by name, and the rest."""

    heads: dict[str, list[str]]
    state: dict[str, torch.Tensor]
    about: dict

    @property
    def classes(self) -> list[str]:
        """The classes of the dataset that the network is for."""
        return next(iter(self.heads.values()))


def write_weights(path: Path, network: nn.Module, heads: dict[str, list[str]], about: dict) -> None:
    """Write a network's weights.

    Parameters
    ----------
    path : Path
    network : nn.Module
    heads : dict of list of str
    about : dict
        JSON-able: whatever a reader has to know beside them.
    """
    # A kernel of 1x1 is contiguous whatever its strides; in the file they are the plain ones.
    state = {key: value.cpu().clone(memory_format=torch.contiguous_format)
             for key, value in network.state_dict().items()}  # fmt: skip
    torch.save({"heads": heads, "state_dict": state, "about": about}, path)


def stream_network(path: Path, kept: Weights, name: str, *, channels: int, crop: int) -> nn.Module:
    """Make a stream's network as it was kept, with all of its heads and without dropout.

    Raises
    ------
    ValueError
        If the weights are of another network or input; names the file.
    """
    classes = sum(map(len, kept.heads.values()))
    network = build(name, classes=classes, channels=channels, crop=crop, dropout=0.0,
                    weights="none")  # fmt: skip
    try:
        network.load_state_dict(kept.state)
    except (RuntimeError, TypeError, AttributeError):
        raise ValueError(
            f"{path}: got weights of another network or input, expected {name} over {channels} "
            "channels"
        ) from None
    return network


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
    known = isinstance(kept, dict) and kept.keys() >= {*_PARTS}
    if not known or not all(isinstance(kept[key], dict) for key in _PARTS):
        raise ValueError(f"{path}: no heads, state_dict and about in it, expected {expected}")
    if not kept["heads"]:
        raise ValueError(f"{path}: no head in it, expected {expected}")
    return Weights(kept["heads"], kept["state_dict"], kept["about"])
