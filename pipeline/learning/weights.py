"""The weights that the stage train keeps: ``{"classes": [...], "state_dict": {...}}``."""

from pathlib import Path

import torch


def read_weights(path: Path) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Read the classes and the tensors that the stage train kept; nothing is executed.

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
    known = isinstance(kept, dict) and {"classes", "state_dict"} <= kept.keys()
    if not known or not isinstance(kept["state_dict"], dict):
        raise ValueError(f"{path}: no classes and state_dict in it, expected {expected}")
    return kept["classes"], kept["state_dict"]
