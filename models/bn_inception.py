"""BN-Inception (Ioffe & Szegedy 2015), the network of TSN, with the key names of its public files.

The public definition is TSN's Caffe prototxt; its port to PyTorch is in yjxiong/tsn-pytorch and in
Cadene/pretrained-models.pytorch, and so are ImageNet weights. They take B, G, R in 0-255, less 104,
117, 123 (the ports say 128 for red, against the prototxt). Here, as everywhere in this project, the
input is R, G, B; ``forward`` turns it round before the first convolution. So the filters of every
file are in the order B, G, R, those of public files and those that the stage train wrote alike.

Pools of stride 2 are Caffe's (ceil mode). At 224 px that is all; at crops where the pool beside a
convolution of stride 2 sees an odd side (112 px), the published layers don't fit together, and the
pool is padded as the convolution is. Batch normalisation has epsilon 1e-5 and PyTorch's momentum of
0.1; the ports' 0.9 is Caffe's, which counts the other way round. Dropout before the classifier is
TSN's. From scratch: He's normal (fan out), biases 0.
"""

import torch
import torch.nn.functional as F
from torch import nn

# Of each inception block: 1x1; 3x3 reduced and 3x3; double 3x3 reduced and both 3x3; the pool's
# projection. Without 1x1 and projection, the last convolutions and the pool have stride 2.
_BLOCKS = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}
_MAX_POOLED = "5b"  # the other blocks with a projection average
_PUBLIC_HEADS = ("fc", "fc_action", "new_fc")


class BNInception(nn.Module):
    """BN-Inception over (N, channels, H, W) float32; gives (N, classes) logits.

    Three channels are R, G, B; other numbers are taken as they come. So a file that tsn-pytorch
    trained on differences of frames, which it has as B, G, R, doesn't carry over.
    """

    first_conv, head = "conv1_7x7_s2", "last_linear"

    def __init__(self, *, classes: int, channels: int, dropout: float) -> None:
        super().__init__()
        self._add("conv1_7x7_s2", channels, 64, 7, 2)
        self._add("conv2_3x3_reduce", 64, 64)
        self._add("conv2_3x3", 64, 192, 3)
        inputs = 192
        for name, (one, reduced, three, double_reduced, double, projected) in _BLOCKS.items():
            at, stride = f"inception_{name}", 1 if one else 2
            if one:
                self._add(f"{at}_1x1", inputs, one)
            self._add(f"{at}_3x3_reduce", inputs, reduced)
            self._add(f"{at}_3x3", reduced, three, 3, stride)
            self._add(f"{at}_double_3x3_reduce", inputs, double_reduced)
            self._add(f"{at}_double_3x3_1", double_reduced, double, 3)
            self._add(f"{at}_double_3x3_2", double, double, 3, stride)
            if projected:
                self._add(f"{at}_pool_proj", inputs, projected)
            inputs = one + three + double + (projected or inputs)
        self.dropout = nn.Dropout(dropout)
        self.last_linear = nn.Linear(inputs, classes)

    def _add(self, name: str, inputs: int, outputs: int, size: int = 1, stride: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, size, stride, size // 2)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)
        setattr(self, name, conv)
        setattr(self, f"{name}_bn", nn.BatchNorm2d(outputs))

    def _unit(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.relu(getattr(self, f"{name}_bn")(getattr(self, name)(x)), inplace=True)

    def _block(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W), or to half of H and W, rounded up."""
        at, projected = f"inception_{name}", _BLOCKS[name][-1]
        three = self._unit(f"{at}_3x3", self._unit(f"{at}_3x3_reduce", x))
        double = self._unit(f"{at}_double_3x3_reduce", x)
        double = self._unit(f"{at}_double_3x3_2", self._unit(f"{at}_double_3x3_1", double))
        if not projected:
            odd = (x.shape[2] % 2, x.shape[3] % 2)
            return torch.cat([three, double, F.max_pool2d(x, 3, 2, odd, ceil_mode=True)], 1)
        pool = F.max_pool2d if name == _MAX_POOLED else F.avg_pool2d
        pooled = self._unit(f"{at}_pool_proj", pool(x, 3, 1, 1))
        return torch.cat([self._unit(f"{at}_1x1", x), three, double, pooled], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, H, W) to (N, classes)."""
        if x.shape[1] == 3:
            x = x.flip(1)  # R, G, B to B, G, R
        x = F.max_pool2d(self._unit("conv1_7x7_s2", x), 3, 2, ceil_mode=True)
        x = self._unit("conv2_3x3", self._unit("conv2_3x3_reduce", x))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for name in _BLOCKS:
            x = self._block(name, x)
        return self.last_linear(self.dropout(x.mean((2, 3))))

    @staticmethod
    def translate(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Give the tensors of a public file this network's keys and shapes.

        Training in parallel leaves ``module.`` before each key, tsn-pytorch ``base_model.``. The
        last layer is ``last_linear`` in Cadene's file, ``fc`` in yjxiong's, ``fc_action`` in files
        turned from Caffe's of Kinetics, ``new_fc`` in what tsn-pytorch trained. Files from before
        PyTorch 0.4 have batch normalisation of shape (1, C).
        """
        translated = {}
        for key, value in state.items():
            key = key.removeprefix("module.").removeprefix("base_model.")
            layer, dot, kind = key.rpartition(".")
            if layer in _PUBLIC_HEADS:
                layer = BNInception.head
            if layer.endswith("_bn") and value.ndim == 2 and value.shape[0] == 1:
                value = value[0]
            translated[f"{layer}{dot}{kind}"] = value
        return translated


def bn_inception(*, classes: int, channels: int, dropout: float) -> BNInception:
    """BN-Inception: 11,295,240 parameters with 1000 classes."""
    return BNInception(classes=classes, channels=channels, dropout=dropout)
