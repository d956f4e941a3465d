"""Network definitions (never weights): :func:`build` makes any of them.

A network maps (N, channels, H, W) float32 to (N, classes) logits and knows nothing of modality.
"""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.bn_inception import bn_inception
from models.cnn_m import cnn_m_2048
from models.efficientnet_lite import efficientnet_lite0
from models.pretrained import load_pretrained
from models.resnet import resnet18, resnet34, resnet50, resnet101
from models.vgg import vgg16

_NETWORKS = {
    "cnn_m_2048": cnn_m_2048,
    "vgg16": vgg16,
    "bn_inception": bn_inception,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "efficientnet_lite0": efficientnet_lite0,
}
_CAFFE = ((123.0, 117.0, 104.0), (1.0, 1.0, 1.0))
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))

# What to subtract from RGB in 0-255 and what to divide by, as the pretrained weights expect it.
NORMALISATION: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cnn_m_2048": _CAFFE,
    "vgg16": _IMAGENET,
    "bn_inception": _CAFFE,
    "resnet18": _IMAGENET,
    "resnet34": _IMAGENET,
    "resnet50": _IMAGENET,
    "resnet101": _IMAGENET,
    "efficientnet_lite0": ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
}


def build(
    name: str, *, classes: int, channels: int, crop: int, dropout: float, weights: str
) -> nn.Module:
    """Make a network.

    Parameters
    ----------
    name : str
        One of the keys of :data:`NORMALISATION`.
    classes, channels : int
        Outputs and inputs: 3 channels of RGB, 2L of L stacked flow fields, or 3L of L differences.
    crop : int
        Height and width of the input in pixels.
    dropout : float
        The share dropped before the classifier; in CNN-M-2048 and VGG-16 after both hidden fully
        connected layers.
    weights : str
        ``none``, or what :func:`models.pretrained.load_pretrained` takes.

    Returns
    -------
    nn.Module
        Its new classifier is drawn from N(0, 0.001) with zero bias, as TSN's code does; in a
        network from scratch from N(0, 0.01), as the other fully connected layers there.
    """
    sizes = {"crop": crop} if name == "cnn_m_2048" else {}
    network = _NETWORKS[name](classes=classes, channels=channels, dropout=dropout, **sizes)
    classifier = classifier_of(network)
    nn.init.normal_(classifier.weight, std=0.001 if weights != "none" else 0.01)
    nn.init.zeros_(classifier.bias)
    if weights != "none":
        load_pretrained(network, name, weights)
    return network


def classifier_of(network: nn.Module) -> nn.Linear:
    """Find a network's last layer, which starts anew for a new set of classes."""
    return network.get_submodule(network.head)


def freeze_bn(network: nn.Module, which: str) -> None:
    """Freeze batch normalisation (TSN's partial BN, section 3.2): call after every ``.train()``.

    :class:`pipeline.learning.tasks.SnippetTask` does so in its own.

    A frozen layer normalises by its stored statistics, and its scale and shift don't train.

    Parameters
    ----------
    network : nn.Module
    which : {"none", "all_but_first", "all"}
        The first is the one after the first convolution.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    spared = {"none": len(layers), "all_but_first": 1, "all": 0}[which]
    for layer in layers[spared:]:
        layer.eval()
        layer.requires_grad_(False)


def freeze_up_to(network: nn.Module, name: str) -> list[nn.Module]:
    """Freeze a part of a network and all that comes before it; its normalisation is for the caller.

    Parameters
    ----------
    network : nn.Module
        Names its parts in the order in which they are run.
    name : str
        As in ``network.named_modules()``: ``layer2``, ``features.16``.

    Returns
    -------
    list of nn.Module
        The batch normalisations among them: call their ``.eval()`` after every ``.train()``.

    Raises
    ------
    ValueError
        If it has no such part before its classifier; names those it has.
    """
    names = [one for one, _ in network.named_modules()]
    parts = [one for one in names[1 : names.index(network.head)]
             if not network.head.startswith(f"{one}.")]  # fmt: skip
    if name not in parts:
        raise ValueError(
            f"frozen_up_to: got {name!r}, expected a part of the network before its classifier: "
            + ", ".join(one for one in parts if "." not in one)
        )
    last = max(i for i, one in enumerate(names) if one == name or one.startswith(f"{name}."))
    before = [module for _, module in list(network.named_modules())[: last + 1]]
    for module in before:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    return [module for module in before if isinstance(module, nn.BatchNorm2d)]


def fold_bn(network: nn.Module) -> nn.Module:
    """Fold each batch normalisation into the convolution before it, in place, for inference.

    The answers are the same but for rounding; on a CPU EfficientNet-Lite0 gives them in two thirds
    of the time. Relies on each network naming a convolution right before its normalisation.
    """
    for module in list(network.modules()):
        before = None
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and before is not None:
                fused = fuse_conv_bn_eval(module.get_submodule(before).eval(), child.eval())
                setattr(module, before, fused)
                setattr(module, name, nn.Identity())
            before = name if isinstance(child, nn.Conv2d) else None
    return network
