"""The weights of an ST-ResNet: what they say of it, and the network that they were kept of."""

from pathlib import Path

from models.from_streams import from_state
from models.st_resnet import STResNet
from pipeline.learning.weights import Weights

# What a phase's weights say of the network, and of what it is fed.
SHAPE = ("network", "source", "seen", "connections", "temporal_filters")


def is_joined(kept: Weights) -> bool:
    """Whether weights are those of an ST-ResNet, and not a stream's."""
    return {*SHAPE, "time_pool", "crop"} <= kept.about.keys()


def check_joined(path: Path, kept: Weights) -> None:
    """Refuse a stream's weights.

    Raises
    ------
    ValueError
        Names the file.
    """
    if not is_joined(kept):
        raise ValueError(f"{path}: got weights of a stream, expected those of an ST-ResNet")


def joined_network(
    path: Path,
    kept: Weights,
    *,
    time_pool: bool | None = None,
    dropout: float = 0.0,
    checkpointing: bool = False,
) -> STResNet:
    """Make the network that a phase has kept; ``time_pool`` is the phase's, unless given.

    Raises
    ------
    ValueError
        If it isn't one; names the file.
    """
    check_joined(path, kept)
    about = kept.about
    return from_state(
        about["network"], kept.state, origin=str(path), dropout=dropout,
        connections=about["connections"], temporal_filters=about["temporal_filters"],
        time_pool=about["time_pool"] if time_pool is None else time_pool,
        checkpointing=checkpointing,
    )  # fmt: skip
