"""What the engine trains: networks together with their loss.

A task is an ``nn.Module`` over batches. ``task(*batch)``, whose last tensor is the labels (N,)
int64, gives

- losses (H,): of each of H heads, the sum over the clips of the batch that are its own;
- right: how many clips are classified right.

``counts(labels)`` (H,) says how many clips are each head's own, so that a mean over clips stays one
where a batch is shared out over processes or passes. A label below 0 is padding and counts nowhere.
``first_convs`` and ``new`` are the parts that learn at a rate of their own.
"""

import torch
import torch.nn.functional as F
from torch import nn

from models import classifier_of, freeze_bn, freeze_up_to
from models.tsn import TSN
from pipeline.learning import volumes
from pipeline.stream_params import Training

_PADDING = -100  # what cross_entropy ignores


class SnippetTask(nn.Module):
    """One network over the snippets of K segments, with a softmax head for each dataset.

    Two-Stream's multi-task learning (section 3.3): the heads share the network, each one's loss is
    the mean over the clips of its own dataset alone, and the total is their sum. In a network they
    are one fully connected layer: the classes of the first dataset, then those of the second.

    Parameters
    ----------
    network : nn.Module
        (N, C, H, W) to (N, classes of all heads).
    params : Training
    std : tuple of float
        What to divide each channel by, in codes.
    heads : tuple of int
        Classes of each dataset. A clip's label counts over all of them.
    """

    def __init__(
        self, network: nn.Module, params: Training, std: tuple[float, ...], heads: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.model = TSN(
            network, consensus=params.consensus, segments=params.segments, top_k=params.top_k
        )
        ends = [sum(heads[: head + 1]) for head in range(len(heads))]
        self.spans = [(end - size, end) for size, end in zip(heads, ends, strict=True)]
        self.std, self.smoothing, self.frozen_bn = std, params.label_smoothing, params.freeze_bn
        self.first_convs = [network.get_submodule(network.first_conv)]
        self.new = [classifier_of(network), self.model.consensus]
        self.still = []  # modules that stay as they are
        if params.trained == "classifier":
            network.requires_grad_(False)
            classifier_of(network).requires_grad_(True)
            self.frozen_bn = "all"  # a classifier alone learns on features that don't move
        elif params.frozen_up_to:
            self.still = freeze_up_to(network, params.frozen_up_to)
        self.train()

    def train(self, mode: bool = True) -> "SnippetTask":
        """Set the mode of all that isn't frozen."""
        super().train(mode)
        if mode:
            freeze_bn(self.model.network, self.frozen_bn)
            for module in self.still:
                module.eval()
        return self

    def forward(
        self, snippets: torch.Tensor, offsets: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run a batch: codes (N, K, H, W, C) uint8 or int16, offsets (N, K, C), labels (N,)."""
        inputs = volumes.normalise(snippets.flatten(0, 1), offsets.flatten(0, 1), self.std)
        logits = self.model(inputs.unflatten(0, snippets.shape[:2]))
        losses, right = [], labels.new_zeros(())
        for first, end in self.spans:
            own = (labels >= first) & (labels < end)
            targets = torch.where(own, labels - first, _PADDING)
            losses.append(F.cross_entropy(
                logits[:, first:end], targets, ignore_index=_PADDING, reduction="sum",
                label_smoothing=self.smoothing,
            ))  # fmt: skip
            right = right + (own & (logits[:, first:end].argmax(1) == targets)).sum()
        return torch.stack(losses), right

    def counts(self, labels: torch.Tensor) -> torch.Tensor:
        """Count the clips of each head: (H,)."""
        return torch.stack([((labels >= a) & (labels < b)).sum() for a, b in self.spans])
