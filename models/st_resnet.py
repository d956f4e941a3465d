"""Spatiotemporal Residual Networks (Feichtenhofer et al. 2016): two ResNets, joined and given time.

An appearance network sees T frames of a clip, a motion network the stack of L flow fields around
each of them. In each of the four stages, the second unit of the appearance network sees what the
motion network made of the same frames, and the second units of both look at the frames beside
theirs. Each network keeps its own classifier.

Read off the authors' code (github.com/feichtenhofer/st-resnet, ``STResNet_stage1.m`` and
``STResNet_stage2.m``; for ``multiply``, that of their CVPR 2017 paper, ``STMulNet.m``). It differs:

- Bottlenecks stride in their 3x3 convolution, as :mod:`models.resnet` says. The units that are
  changed here have no stride.
- The authors have ResNet-50 alone. Basic blocks (ResNet-18 and -34) have no 1x1 convolutions: in
  their second units, both 3x3 convolutions become 3x3x3, so that a stage sees as far in time.

Shapes: N clips, T frames, L fields, C classes, H, W.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from models.resnet import BasicBlock, Bottleneck, ResNet

CONNECTIONS = ("add", "multiply", "none")
POOLED_FRAMES, POOLED_STRIDE = 5, 2  # STResNet_stage2.m: 11 frames give 4 steps
_STAGES = ("layer1", "layer2", "layer3", "layer4")
_PADDING = -1

Maps = tuple[torch.Tensor, torch.Tensor]


class TimeConv(nn.Conv3d):
    """A convolution over space that also looks at the frames before and behind.

    Its three taps in time are each a third of the convolution that it takes the place of, so it
    starts as the mean over three frames. Before a clip's first frame and behind its last are zeros:
    there it starts as two thirds of a mean.
    """

    def __init__(self, space: nn.Conv2d) -> None:
        size, stride, padding = space.kernel_size, space.stride, space.padding
        super().__init__(
            space.in_channels, space.out_channels, (3, *size), (1, *stride), (1, *padding),
            bias=False, device=space.weight.device, dtype=space.weight.dtype,
        )  # fmt: skip
        with torch.no_grad():
            self.weight.copy_(space.weight[:, :, None] / 3)

    def forward(self, x: torch.Tensor, clips: int) -> torch.Tensor:
        """Map (N*T, inputs, H, W) of N clips to (N*T, outputs, H, W)."""
        x = x.unflatten(0, (clips, -1)).transpose(1, 2)  # (N, inputs, T, H, W)
        return super().forward(x).transpose(1, 2).flatten(0, 1)


class STResNet(nn.Module):
    """Two ResNets over a clip's frames and flow.

    Parameters
    ----------
    appearance, motion : ResNet
        Networks of one depth and one number of classes over RGB and over 2L flow channels. They
        are taken over with their weights, and changed in place.
    connections : {"add", "multiply", "none"}
        With x the sum of the first unit's two branches *before* its ReLU f, the appearance
        network's second unit is f(x_a) + F(x_a + f(x_m)): its residual branch F alone sees the
        motion. ``multiply`` puts the product x_a * f(x_m) there, ``none`` f(x_a), a plain ResNet.
    temporal_filters : bool
        Whether, in the second unit of every stage of both networks, the 1x1 convolutions of a
        bottleneck are 3x1x1 over time and the 3x3 of a basic block 3x3x3. See :class:`TimeConv`.
        A stage then sees two frames further each way, all four eight.
    time_pool : bool
        Whether, after the last ReLU, each place and channel is the maximum over 5 frames, at every
        second frame: the second stage of training, and testing. At least 5 frames are wanted then.
    checkpointing : bool
        Keep no activations but the first layers' and, of each stage, those after the second unit
        and the last; compute the others again in the backward pass. The gradients and statistics
        are the same. ``benchmarks/st_resnet_memory.py`` measures what that saves.

    Raises
    ------
    ValueError
        For other ``connections``; when called, for clips of other shapes than its methods say.
    """

    heads = ("appearance.fc", "motion.fc")

    def __init__(
        self,
        appearance: ResNet,
        motion: ResNet,
        *,
        connections: str,
        temporal_filters: bool,
        time_pool: bool,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        if connections not in CONNECTIONS:
            raise ValueError(f"connections: got {connections}, expected one of {CONNECTIONS}")
        self.appearance, self.motion = appearance, motion
        self.connections, self.time_pool = connections, time_pool
        self.checkpointing = checkpointing
        if temporal_filters:
            for stream in (appearance, motion):
                for stage in _STAGES:
                    _give_time(stream.get_submodule(stage)[1])

    def forward(self, rgb: torch.Tensor, flow: torch.Tensor) -> Maps:
        """Classify every step in time of some clips.

        Parameters
        ----------
        rgb : Tensor of shape (N, T, 3, H, W), float32
        flow : Tensor of shape (N, T, 2L, H, W), float32

        Returns
        -------
        appearance, motion : Tensor of shape (N, T', C), float32
            Logits of both heads, from the mean over all places. T' is T, or with ``time_pool``
            (T - 5) // 2 + 1.
        """
        seen = [maps.mean((3, 4)) for maps in self.features(rgb, flow)]
        return self._classified(*seen)

    def predict(
        self, rgb: torch.Tensor, flow: torch.Tensor, *, window: int | None = None
    ) -> torch.Tensor:
        """Average the logits over steps in time, positions and both heads: (N, C) float32.

        For evaluation mode, with frames of any size and number. A position is where a window of
        ``window`` x ``window`` places (of 32 px) fits: 7 is the authors' pooling, made for crops of
        224 px, by which a larger frame's border counts for less. None takes every place alike.
        """
        seen = []
        for maps in self.features(rgb, flow):
            maps = maps.mean(1)
            if window is not None:
                maps = F.avg_pool2d(maps, [min(window, side) for side in maps.shape[2:]], 1)
            seen.append(maps.mean((2, 3)))
        # The classifiers are linear: the mean of logits is the logits of the mean.
        return sum(self._classified(*seen)) / 2

    def features(self, rgb: torch.Tensor, flow: torch.Tensor) -> Maps:
        """Map clips to both networks' last maps, each (N, T', channels, H/32, W/32) float32."""
        _check_clips(rgb, flow, POOLED_FRAMES if self.time_pool else 1)
        clips = rgb.shape[0]  # an int of its own where the network is traced
        appearance = self._run(_stem, self.appearance, rgb.flatten(0, 1))
        motion = self._run(_stem, self.motion, flow.flatten(0, 1))
        for stage in _STAGES:
            units = [s.get_submodule(stage) for s in (self.appearance, self.motion)]
            appearance, motion = self._run(self._joined, *units, appearance, motion, clips)
            appearance, motion = (
                self._run(of[2:], x) for of, x in zip(units, (appearance, motion), strict=True)
            )
        maps = (appearance.unflatten(0, (clips, -1)), motion.unflatten(0, (clips, -1)))
        return tuple(map(_pool_time, maps)) if self.time_pool else maps

    def _joined(
        self,
        appearance: nn.Sequential,
        motion: nn.Sequential,
        x_a: torch.Tensor,
        x_m: torch.Tensor,
        clips: int,
    ) -> Maps:
        """Run the first two units of a stage of both networks."""
        x_a = _unit_sum(appearance[0], x_a, x_a, clips)
        x_m = _unit_sum(motion[0], x_m, x_m, clips).relu()
        f_a = x_a.relu()
        join = {"add": torch.add, "multiply": torch.mul, "none": lambda *_: f_a}[self.connections]
        x_a = _unit_sum(appearance[1], f_a, join(x_a, x_m), clips).relu()
        return x_a, _unit_sum(motion[1], x_m, x_m, clips).relu()

    def _classified(self, appearance: torch.Tensor, motion: torch.Tensor) -> Maps:
        heads = (self.appearance, appearance), (self.motion, motion)
        appearance, motion = (stream.fc(stream.dropout(features)) for stream, features in heads)
        return appearance, motion

    def _run(self, part: Callable, *args: object) -> torch.Tensor | Maps:
        if not (self.checkpointing and torch.is_grad_enabled()):
            return part(*args)
        again = lambda: (nullcontext(), _statistics_kept(self))  # noqa: E731
        return checkpoint(part, *args, use_reentrant=False, context_fn=again)


def two_head_loss(logits: Maps, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Sum both heads' cross-entropies over the steps in time and over clips.

    A clip's label holds for each of its steps (the authors' ``dagnn.Loss``), so a longer clip
    weighs more. Without time this is the sum of two ordinary losses.

    Parameters
    ----------
    logits : two Tensors of shape (N, T', C), float32
    labels : Tensor of shape (N,), int64
        One below 0 is padding and counts nothing.
    label_smoothing : float
        As torch's ``cross_entropy`` takes it.

    Returns
    -------
    Tensor of shape ()
    """
    total = 0
    for steps in logits:
        repeated = labels.clamp(min=_PADDING).repeat_interleave(steps.shape[1])
        total = total + F.cross_entropy(
            steps.flatten(0, 1), repeated, ignore_index=_PADDING, reduction="sum",
            label_smoothing=label_smoothing,
        )  # fmt: skip
    return total


def _stem(stream: ResNet, x: torch.Tensor) -> torch.Tensor:
    return stream.maxpool(stream.relu(stream.bn1(stream.conv1(x))))


def _unit_sum(
    unit: BasicBlock | Bottleneck, x: torch.Tensor, shown: torch.Tensor, clips: int
) -> torch.Tensor:
    """Add a unit's shortcut from x and its residual branch over what it is shown: no ReLU yet."""
    shortcut = x if unit.downsample is None else unit.downsample(x)
    last = 3 if isinstance(unit, Bottleneck) else 2
    for number in range(1, last + 1):
        conv, bn = getattr(unit, f"conv{number}"), getattr(unit, f"bn{number}")
        shown = bn(conv(shown, clips) if isinstance(conv, TimeConv) else conv(shown))
        shown = unit.relu(shown) if number < last else shown
    return shown + shortcut


def _give_time(unit: BasicBlock | Bottleneck) -> None:
    for name in ("conv1", "conv3") if isinstance(unit, Bottleneck) else ("conv1", "conv2"):
        setattr(unit, name, TimeConv(getattr(unit, name)))


def _pool_time(maps: torch.Tensor) -> torch.Tensor:
    """Take the maximum over steps in time; max_pool3d's gradient is not deterministic on a GPU."""
    starts = range(0, maps.shape[1] - POOLED_FRAMES + 1, POOLED_STRIDE)
    return torch.stack([maps[:, t : t + POOLED_FRAMES].amax(1) for t in starts], 1)


def _check_clips(rgb: torch.Tensor, flow: torch.Tensor, frames: int) -> None:
    shapes = f"rgb {tuple(rgb.shape)} and flow {tuple(flow.shape)}"
    if rgb.ndim != 5 or flow.ndim != 5:
        raise ValueError(f"{shapes}: expected (N, T, channels, H, W)")
    if rgb.shape[:2] != flow.shape[:2] or rgb.shape[3:] != flow.shape[3:]:
        raise ValueError(f"{shapes}: expected the same N, T, H and W")
    if rgb.shape[1] < frames:
        raise ValueError(f"{shapes}: expected at least {frames} frames")


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """Keep batch normalisation from counting a batch again that is computed again."""
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(layer.momentum, layer.num_batches_tracked.clone()) for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, (momentum, batches) in zip(layers, before, strict=True):
            layer.momentum = momentum
            layer.num_batches_tracked.copy_(batches)
