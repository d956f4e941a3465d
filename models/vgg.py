"""VGG-16 (Simonyan & Zisserman 2015, configuration D), with torchvision's key names.

One of the networks that TSN compares. Dropout stands after both hidden fully connected layers, as
in VGG's paper. Crops other than 224 px are averaged to 7x7 before them, as torchvision does, so
that any crop from 32 px on takes the same weight files. From scratch: He's normal for convolutions
(fan out), N(0, 0.01) for the fully connected layers, biases 0.
"""

import torch
from torch import nn

from models.initialise import from_scratch

# Convolutions and their width, up to each pool.
_STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


class VGG16(nn.Module):
    """VGG-16 over (N, channels, H, W) float32; gives (N, classes) logits."""

    first_conv, head = "features.0", "classifier.6"

    def __init__(self, *, classes: int, channels: int, dropout: float) -> None:
        super().__init__()
        layers, inputs = [], channels
        for convolutions, width in _STAGES:
            for _ in range(convolutions):
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(inputs * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, classes),
        )
        from_scratch(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, H, W) to (N, classes)."""
        x = self.avgpool(self.features(x))  # (N, 512, 7, 7)
        return self.classifier(x.flatten(1))


def vgg16(*, classes: int, channels: int, dropout: float) -> VGG16:
    """VGG-16: 138,357,544 parameters with 1000 classes."""
    return VGG16(classes=classes, channels=channels, dropout=dropout)
