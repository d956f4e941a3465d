"""ST-ResNet as the engine trains it (see :mod:`pipeline.learning.tasks`), and its answers."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn

from models import fold_bn
from models.st_resnet import STResNet, two_head_loss
from pipeline.learning import augment, devices, volumes
from pipeline.learning.clips import Seen
from pipeline.st_resnet_params import Phase


class ClipTask(nn.Module):
    """ST-ResNet over clips of T frames, each with its L fields.

    A clip's loss is the sum of both heads' over the steps in time. It is right where the mean of
    all their logits is.

    ``phase.bn_momentum`` is that of a batch, as in the authors' code, which updates the statistics
    once with the mean over its passes. Here each pass updates them, by so much that all of a whole
    batch together do, where its clips divide into ``phase.passes``; of several processes, the
    first's count.

    Parameters
    ----------
    network : STResNet
    phase : Phase
    seen : Seen
    """

    def __init__(self, network: STResNet, phase: Phase, seen: Seen) -> None:
        super().__init__()
        self.model, self.seen, self.smoothing = network, seen, phase.label_smoothing
        both = network.appearance, network.motion
        self.first_convs = [stream.get_submodule(stream.first_conv) for stream in both]
        self.new = [stream.get_submodule(stream.head) for stream in both]
        momentum = 1 - (1 - phase.bn_momentum) ** (1 / phase.passes)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum
                module.weight.lr_scale = phase.bn_scale_lr_scale
        self.train()

    def forward(
        self,
        rgb: torch.Tensor,
        flow: torch.Tensor,
        rgb_offsets: torch.Tensor,
        flow_offsets: torch.Tensor,
        labels: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run a batch: codes (N, T, H, W, 3 or 2L) uint8, offsets (N, T, 3 or 2L), labels (N,)."""
        heads = self.model(
            _normalise(rgb, rgb_offsets, self.seen.std),
            _normalise(flow, flow_offsets, self.seen.flow_std),
        )
        losses = two_head_loss(heads, labels, self.smoothing)[None]
        answers = sum(steps.mean(1) for steps in heads).argmax(1)
        return losses, (answers == labels).sum()

    def counts(self, labels: torch.Tensor) -> torch.Tensor:
        """Count the clips that aren't padding: (1,)."""
        return (labels >= 0).sum()[None]


def score_clips(
    network: STResNet, clips: Iterable[tuple], *, seen: Seen, crop: int, views: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Average each clip's logits over steps in time, positions, views and both heads.

    Parameters
    ----------
    network : STResNet
        Changed for good: its batch normalisation is folded into the convolutions over space.
    clips : iterable
        Of the parts of a :class:`pipeline.learning.clips.Clip`, as tensors, and a label.
    seen : Seen
    crop : int
        What the network was trained on, px.
    views : {"full", "ten_crops"}
        The whole frame and its mirror image, at every position where a window as large as the last
        map of a training crop fits (the authors' way); or the four corners, the centre and their
        mirror images, ``crop`` px each.

    Yields
    ------
    logits, probs : ndarray of shape (classes,), float32
        The mean logits, and their softmax.
    """
    on = devices.place().device
    network = devices.to_device(fold_bn(network.eval()), on)
    window = -(-crop // 32)
    for rgb, flow, rgb_offsets, flow_offsets, _ in clips:
        with torch.inference_mode():
            rgb = _normalise(rgb[None].to(on), rgb_offsets[None].to(on), seen.std)
            flow = _normalise(flow[None].to(on), flow_offsets[None].to(on), seen.flow_std)
            seen_so = list(_views(rgb, flow, crop, views))
            logits = [network.predict(*view, window=window) for view in seen_so]
            logits = torch.cat(logits).double().cpu().mean(0)
            answers = logits.float().numpy(), logits.softmax(0).float().numpy()
        yield answers  # outside: a caller that stops half-way would stay in inference mode


def _views(
    rgb: torch.Tensor, flow: torch.Tensor, crop: int, views: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Cut the views of a clip (1, T, channels, H, W), normalised: zero motion is 0."""
    height, width = rgb.shape[3:]
    places = [(0, 0, False), (0, 0, True)]
    if views == "ten_crops":
        places = augment.crop_places(height, width, crop, 10)
        height = width = crop
    for top, left, flipped in places:
        cut = (..., slice(top, top + height), slice(left, left + width))
        shown = (rgb[cut], False), (flow[cut], True)
        yield tuple(volumes.mirror(x, signed=s) if flipped else x for x, s in shown)


def _normalise(codes: torch.Tensor, offsets: torch.Tensor, std: tuple[float, ...]) -> torch.Tensor:
    """Turn codes (N, T, H, W, C) into what a network takes: (N, T, C, H, W)."""
    inputs = volumes.normalise(codes.flatten(0, 1), offsets.flatten(0, 1), std)
    return inputs.unflatten(0, codes.shape[:2])
