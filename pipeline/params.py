"""``params.yaml`` as frozen dataclasses.

Every value of the pipeline stands in ``params.yaml``; the code has no defaults that DVC can't
see. :func:`load` checks the *whole* file, whichever stage runs first, so that a typing error in the
last section is refused before the first video is touched. Parsed as YAML 1.2, where ``1e-3`` is a
number.

The dataclasses below, in :mod:`pipeline.stream_params` and in :mod:`pipeline.st_resnet_params` are
the reference of every key; ``README.md`` says what the keys do.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline import SUBSETS
from pipeline.st_resnet_params import STResNetParams, check_st_resnet
from pipeline.stream_params import Optimisation, Stream, check_stream
from pipeline.strict import (
    Bounds,
    Count,
    Fraction,
    Name,
    NonNegative,
    ParamsError,
    Positive,
    Seed,
    Whole,
    parse,
)

PATH = Path("params.yaml")
# What the stage fuse calls its own columns and answers, so no stream may be called that.
RESERVED = ("video_id", "truth", "average", "weighted", "svm", "class", "videos")


def _check_pattern(at: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ParamsError(
            f"{at}: got {pattern!r} ({error}), expected a regular expression"
        ) from None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A set of clips to render: ``sample.<name>``."""

    clips_per_class: Annotated[int, Bounds(3)]
    frames: Annotated[int, Bounds(16)]
    width: Annotated[int, Bounds(64, step=2)]  # even, because yuv420p halves the colour
    height: Annotated[int, Bounds(64, step=2)]
    fps: Count
    truth_clips: Whole
    seed: Seed


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
    seed: Seed

    def __post_init__(self) -> None:
        """Check that the pattern is one, before a video is hashed for it."""
        _check_pattern("dataset.group_pattern", self.group_pattern)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may go wrong with single videos: ``limits``, for decode, all flow and training."""

    stalled_seconds: Annotated[float, Bounds(0.1, 1e6)]
    max_excluded: Fraction
    max_untaught: Fraction


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
    warp_epsilon: NonNegative
    median: Literal[0, 3, 5]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Frames to displacement fields: ``flow``."""

    backend: Literal["auto", "cpu", "cuda", "opencv", "opencv_cuda", "given"]
    tvl1: Tvl1
    bound: Annotated[float, Bounds(0.5)]
    store: Literal["hdf5", "jpeg"]
    jpeg_quality: Annotated[int, Bounds(1, 100)]


@dataclass(frozen=True, kw_only=True)
class WarpedFlow:
    """Camera motion: ``warped_flow``; the rest of its settings are ``flow``'s."""

    compute: bool
    mode: Literal["recompute", "subtract"]
    detector: Literal["sift", "orb"]
    features: Count
    search_radius: Positive
    corners: Whole
    ransac_threshold: Positive
    min_inliers: Annotated[int, Bounds(4)]
    border: Whole


@dataclass(frozen=True, kw_only=True)
class BidirectionalFlow:
    """Flow back in time as well: ``bidirectional_flow``; its settings are ``flow``'s."""

    compute: bool


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Where and how exactly networks are trained: ``engine``."""

    processes: Whole
    precision: Literal["float32", "bfloat16", "float16"]
    compile: bool
    deterministic: bool
    checkpoint_every: Count


@dataclass(frozen=True, kw_only=True)
class Fuse:
    """The streams' scores to one answer: ``fuse``."""

    streams: tuple[Name, ...]
    weights: dict[str, NonNegative]
    search_weights: bool
    weighted_of: Literal["logits", "probs"]
    svm: bool
    svm_c: NonNegative
    fit_on: Literal["train", "val"]
    group_pattern: str

    @property
    def scored(self) -> tuple[str, ...]:
        """The subsets whose clips are scored: only the SVM asks for those of training."""
        return SUBSETS if self.svm else tuple(one for one in SUBSETS if one != "train")

    def __post_init__(self) -> None:
        """Check that there is something to fuse."""
        _check_pattern("fuse.group_pattern", self.group_pattern)
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
    seed: Seed
    sample: dict[Name, Sample]
    dataset: Dataset
    auxiliary_datasets: dict[Name, Dataset]
    limits: Limits
    decode: Decode
    flow: Flow
    warped_flow: WarpedFlow
    bidirectional_flow: BidirectionalFlow
    engine: Engine
    streams: dict[Name, Stream]
    st_resnet: dict[Name, STResNetParams]
    fuse: Fuse

    def __post_init__(self) -> None:
        """Check what no single key can say."""
        known = sorted({**self.streams, **self.st_resnet})
        for name in self.fuse.streams:
            if name not in known:
                raise ParamsError(f"fuse.streams: got {name!r}, expected some of {known}")
        if set(self.fuse.weights) != set(self.fuse.streams):
            raise ParamsError(
                f"fuse.weights: got {sorted(self.fuse.weights)}, expected one weight for each of "
                f"fuse.streams: {sorted(self.fuse.streams)}"
            )
        recompute = self.warped_flow.compute and self.warped_flow.mode == "recompute"
        if self.flow.backend == "given" and recompute:
            raise ParamsError(
                "warped_flow.mode: got recompute with flow.backend given, expected subtract, or "
                "warped_flow.compute false"
            )
        if self.flow.backend == "given" and self.bidirectional_flow.compute:
            raise ParamsError(
                "bidirectional_flow.compute: got true with flow.backend given, expected false: "
                "given flow goes forward alone"
            )
        self._check_datasets()
        held_out = {"fit_on val": self.fuse.svm and self.fuse.fit_on == "val",
                    "search_weights": self.fuse.search_weights}  # fmt: skip
        for what, asked in held_out.items():
            self._check_validation("fuse", what, asked)
        computed = {"warped_flow": self.warped_flow, "bidirectional_flow": self.bidirectional_flow}
        for name, stream in self.streams.items():
            _check_name("streams", name)
            if stream.source in computed and not computed[stream.source].compute:
                raise ParamsError(
                    f"streams.{name}.source: got {stream.source}, expected {stream.source}.compute "
                    f"to be true then"
                )
            if unknown := set(stream.training.auxiliary) - set(self.auxiliary_datasets):
                raise ParamsError(
                    f"streams.{name}.training.auxiliary: got {sorted(unknown)[0]!r}, expected some "
                    f"of auxiliary_datasets: {sorted(self.auxiliary_datasets)}"
                )
            self._check_watched(f"streams.{name}.training", stream.training)
            check_stream(f"streams.{name}", stream)
        for name, section in self.st_resnet.items():
            at = f"st_resnet.{name}"
            _check_name("st_resnet", name)
            if name in self.streams:
                raise ParamsError(f"{at}: got the name of a stream, expected another one")
            for key in ("stage1", "stage2"):
                self._check_watched(f"{at}.{key}", getattr(section, key))
            if section.checkpointing and self.engine.compile:
                raise ParamsError(
                    f"{at}.checkpointing: got true with engine.compile, expected one of them alone"
                )
            check_st_resnet(at, section, self.streams)

    def _check_watched(self, at: str, params: Optimisation) -> None:
        watched = bool(params.patience or params.keep == "best")
        self._check_validation(at, "patience and keep best", watched)

    def _check_validation(self, at: str, what: str, asked: bool) -> None:
        """Refuse what needs validation clips where there are none; a CSV may name some."""
        if asked and self.dataset.val_fraction == 0 and self.dataset.format != "csv":
            raise ParamsError(
                f"{at}: needs validation clips for {what}, expected dataset.val_fraction above 0"
            )

    def _check_datasets(self) -> None:
        for at, one in (("dataset", self.dataset), *(
            (f"auxiliary_datasets.{key}", one) for key, one in self.auxiliary_datasets.items()
        )):  # fmt: skip
            if one.test_fraction + one.val_fraction >= 1:
                raise ParamsError(f"{at}: test_fraction + val_fraction leave nothing to train on")
            if at != "dataset" and (f"auxiliary_datasets.{one.name}" != at
                                    or one.name == self.dataset.name):  # fmt: skip
                raise ParamsError(
                    f"{at}.name: got {one.name!r}, expected the section's own name, other than "
                    f"dataset.name, {self.dataset.name!r}"
                )


def _check_name(at: str, name: str) -> None:
    if name in RESERVED:
        raise ParamsError(
            f"{at}.{name}: got a name that the results use, expected none of {', '.join(RESERVED)}"
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
        return parse(Params, tree, "")
    except ParamsError as error:
        raise ParamsError(f"{path}: {error}") from None
