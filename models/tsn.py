"""Temporal Segment Networks (Wang et al. 2016, section 3.1; journal 2018): one network, K snippets.

The segmental consensus G makes one answer of the K snippets', on logits, before the softmax. Its
learned parts train with the network and are not kept: they belong to the K segments of training. At
testing, whatever the consensus, the scores of a clip's 25 snippets are averaged, as the authors do;
there are no more than K learned weights to apply to them.
"""

from contextlib import nullcontext

import torch
from torch import nn

from models import classifier_of


class Average(nn.Module):
    """Mean over the snippets."""

    def forward(self, logits: torch.Tensor, features: None = None) -> torch.Tensor:
        """Map logits (N, K, classes) to (N, classes)."""
        return logits.mean(1)


class Max(nn.Module):
    """Maximum over the snippets, of each class by itself."""

    def forward(self, logits: torch.Tensor, features: None = None) -> torch.Tensor:
        """Map logits (N, K, classes) to (N, classes)."""
        return logits.amax(1)


class TopK(nn.Module):
    """Mean of the k largest of the K snippets, of each class by itself (journal)."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, logits: torch.Tensor, features: None = None) -> torch.Tensor:
        """Map logits (N, K, classes) to (N, classes)."""
        return logits.topk(self.k, 1).values.mean(1)


class Weighted(nn.Module):
    """Sum with a learned weight omega_k for each segment; all start as 1/K: as the average."""

    def __init__(self, segments: int) -> None:
        super().__init__()
        self.omega = nn.Parameter(torch.full((segments,), 1 / segments))

    def forward(self, logits: torch.Tensor, features: None = None) -> torch.Tensor:
        """Map logits (N, K, classes) to (N, classes)."""
        return torch.einsum("nkc,k->nc", logits, self.omega)


class Attention(nn.Module):
    """Sum with weights that depend on what is seen (journal): A_k = softmax_k(w_att . R(T_k)).

    R(T_k) is the snippet's feature, before dropout. The paper gives no initial w_att; here 0: as
    the average.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w_att = nn.Parameter(torch.zeros(width))

    def forward(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Map logits (N, K, classes) and features (N, K, D) to (N, classes)."""
        shares = (features @ self.w_att).softmax(1)
        return torch.einsum("nkc,nk->nc", logits, shares)


class TSN(nn.Module):
    """Share one network between the segments of a video and take their consensus.

    With one segment and the average this is the training of the two-stream paper.

    Parameters
    ----------
    network : nn.Module
        (N, C, H, W) to (N, classes); ``head`` names its last layer.
    consensus : {"average", "max", "weighted", "top_k", "attention"}
    segments : int
        K.
    top_k : int
        Of ``top_k`` alone: how many of the K count.
    """

    def __init__(
        self, network: nn.Module, *, consensus: str = "average", segments: int = 1, top_k: int = 1
    ) -> None:
        super().__init__()
        self.network = network
        self.consensus = {
            "average": Average,
            "max": Max,
            "weighted": lambda: Weighted(segments),
            "top_k": lambda: TopK(top_k),
            "attention": lambda: Attention(classifier_of(network).in_features),
        }[consensus]()

    def forward(self, snippets: torch.Tensor) -> torch.Tensor:
        """Map snippets (N, K, C, H, W) to the segmental consensus (N, classes)."""
        taken = []
        looks = isinstance(self.consensus, Attention)
        hook = lambda _, given: taken.extend(given)  # noqa: E731
        with self._behind_features().register_forward_pre_hook(hook) if looks else nullcontext():
            logits = self.network(snippets.flatten(0, 1)).unflatten(0, snippets.shape[:2])
        features = taken[-1].unflatten(0, snippets.shape[:2]) if looks else None
        return self.consensus(logits, features)

    def _behind_features(self) -> nn.Module:
        """Find what takes the features: the last dropout, so that they are whole, or the head."""
        dropouts = [part for part in self.network.modules() if isinstance(part, nn.Dropout)]
        return (dropouts or [classifier_of(self.network)])[-1]
