"""Spatiotemporal Residual Networks from two image networks that were trained alone."""

from collections.abc import Callable

import torch

from models.pretrained import load_exactly
from models.resnet import ResNet, resnet18, resnet34, resnet50, resnet101
from models.st_resnet import STResNet

NETWORKS: dict[str, Callable[..., ResNet]] = {
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
}


def from_streams(
    name: str,
    spatial_state: dict[str, torch.Tensor],
    temporal_state: dict[str, torch.Tensor],
    *,
    dropout: float,
    connections: str,
    temporal_filters: bool,
    time_pool: bool,
    checkpointing: bool,
) -> STResNet:
    """Join a spatial and a temporal network that were trained alone.

    Parameters
    ----------
    name : str
        One of :data:`NETWORKS`, of which both are.
    spatial_state, temporal_state : dict of Tensor
        Their state dicts, with torchvision's keys. They say how many classes and channels there
        are; that the classes are the same ones is for the caller to know.
    dropout : float
        The share dropped before both classifiers; the authors leave it out (0).

    Raises
    ------
    ValueError
        If a state isn't that of such a network, or they differ in their number of classes; names
        the stream and the keys.
    """
    if name not in NETWORKS:
        raise ValueError(f"no ResNet is called {name}, expected one of {', '.join(NETWORKS)}")
    appearance = _image_network(name, "spatial", spatial_state, dropout)
    motion = _image_network(name, "temporal", temporal_state, dropout)
    classes = appearance.fc.out_features, motion.fc.out_features
    if classes[0] != classes[1]:
        raise ValueError(f"the spatial stream has {classes[0]} classes, the temporal {classes[1]}")
    return STResNet(
        appearance, motion, connections=connections, temporal_filters=temporal_filters,
        time_pool=time_pool, checkpointing=checkpointing,
    )  # fmt: skip


def from_state(
    name: str,
    state: dict[str, torch.Tensor],
    *,
    origin: str,
    dropout: float,
    connections: str,
    temporal_filters: bool,
    time_pool: bool,
    checkpointing: bool,
) -> STResNet:
    """Make a network that goes on from the weights of one.

    Parameters
    ----------
    name : str
        One of :data:`NETWORKS`, of which both streams are.
    state : dict of Tensor
        The network's ``state_dict()``. It says how many classes and channels there are.
    origin : str
        Where it is from, for the error.

    Raises
    ------
    ValueError
        If it isn't that of such a network; names ``origin`` and the keys.
    """
    streams = []
    for stream in ("appearance", "motion"):
        own = {key.removeprefix(f"{stream}."): value for key, value in state.items()
               if key.startswith(f"{stream}.")}  # fmt: skip
        streams.append(_empty(name, f"{origin}: {stream}", own, dropout))
    network = STResNet(
        *streams, connections=connections, temporal_filters=temporal_filters,
        time_pool=time_pool, checkpointing=checkpointing,
    )  # fmt: skip
    load_exactly(network, state, name, origin)
    return network


def _image_network(
    name: str, stream: str, state: dict[str, torch.Tensor], dropout: float
) -> ResNet:
    """Make one network with the weights of a state."""
    network = _empty(name, stream, state, dropout)
    load_exactly(network, state, name, stream)
    return network


def _empty(name: str, stream: str, state: dict[str, torch.Tensor], dropout: float) -> ResNet:
    """Make one network of the classes and channels of a state."""
    try:
        classes, channels = len(state["fc.weight"]), state["conv1.weight"].shape[1]
    except KeyError as missing:
        raise ValueError(f"{stream}: not weights of {name}: no {missing.args[0]}") from None
    return NETWORKS[name](classes=classes, channels=channels, dropout=dropout)
