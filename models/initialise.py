"""How the networks with several fully connected layers start from scratch."""

from torch import nn


def from_scratch(network: nn.Module) -> None:
    """Draw all weights in place: He's normal (fan out) and N(0, 0.01) for the linear; biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.zeros_(module.bias)
