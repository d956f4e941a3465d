"""CNN-M-2048 (Chatfield et al. 2014), the network of Two-Stream ConvNets (2014, figure 1).

conv1 7x7/2 96, LRN, pool; conv2 5x5/2 256, LRN in the spatial net only, pool; conv3-5 3x3 512;
pool; full6 4096; full7 2048; both with dropout. Pools are 3x3/2 in ceil mode and LRN is Caffe's:
size 5, alpha 5e-4 (divided by the size, as PyTorch does too), beta 0.75, k 2. The paper gives no
initial distribution; here: He's normal for convolutions, N(0, 0.01) for full6 and full7, biases 0.
"""

import torch
from torch import nn

from models.initialise import from_scratch


def _lrn() -> nn.Module:
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


class CNNM2048(nn.Module):
    """CNN-M-2048 over (N, channels, crop, crop) float32; gives (N, classes) logits.

    The second normalisation is there for RGB input (3 channels) and left out for flow, which the
    paper did to save memory. 224 px crops make full6's 18,432 inputs; other crops change that
    number, and with it which weight files fit.
    """

    first_conv, head = "conv1", "full8"

    def __init__(self, *, classes: int, channels: int, crop: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 96, 7, 2)
        self.conv2 = nn.Conv2d(96, 256, 5, 2, 1)
        self.conv3 = nn.Conv2d(256, 512, 3, padding=1)
        self.conv4 = nn.Conv2d(512, 512, 3, padding=1)
        self.conv5 = nn.Conv2d(512, 512, 3, padding=1)
        self.relu, self.pool, self.lrn1 = nn.ReLU(inplace=True), _pool(), _lrn()
        self.lrn2 = _lrn() if channels == 3 else nn.Identity()
        with torch.no_grad():
            side = self.features(torch.zeros(1, channels, crop, crop)).shape[-1]
        self.full6 = nn.Linear(512 * side * side, 4096)
        self.full7 = nn.Linear(4096, 2048)
        self.full8 = nn.Linear(2048, classes)
        self.dropout = nn.Dropout(dropout)
        from_scratch(self)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, 224, 224) to (N, 512, 6, 6)."""
        x = self.pool(self.lrn1(self.relu(self.conv1(x))))
        x = self.pool(self.lrn2(self.relu(self.conv2(x))))
        x = self.relu(self.conv4(self.relu(self.conv3(x))))
        return self.pool(self.relu(self.conv5(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, crop, crop) to (N, classes)."""
        x = self.features(x).flatten(1)
        x = self.dropout(self.relu(self.full6(x)))
        return self.full8(self.dropout(self.relu(self.full7(x))))


def cnn_m_2048(*, classes: int, channels: int, crop: int, dropout: float) -> CNNM2048:
    """CNN-M-2048, named as the other constructors are."""
    return CNNM2048(classes=classes, channels=channels, crop=crop, dropout=dropout)
