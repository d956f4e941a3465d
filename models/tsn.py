"""Temporal Segment Networks (Wang et al. 2016, section 3.1): one network, many snippets."""

import torch
from torch import nn


class TSN(nn.Module):
    """Share one network between the segments of a video and average their logits.

    With one segment this is the training of the two-stream paper.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, snippets: torch.Tensor) -> torch.Tensor:
        """Map snippets (N, S, C, H, W) to the segmental consensus (N, classes)."""
        logits = self.network(snippets.flatten(0, 1))
        return logits.unflatten(0, snippets.shape[:2]).mean(1)
