"""A section of ``params.yaml``'s ``st_resnet``, ``st_resnet.<name>``, as frozen dataclasses."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pipeline.stream_params import Optimisation, Stream, check_optimisation
from pipeline.strict import Bounds, Count, Fraction, Name, ParamsError, Positive, Whole

# models/ knows both; they stand here too so that params are checked without torch.
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
POOLED_FRAMES = 5


@dataclass(frozen=True, kw_only=True)
class Phase(Optimisation):
    """One phase of the training: ``st_resnet.<name>.stage1`` and ``stage2``."""

    frames: Count
    stride: tuple[Count, ...]
    time_pool: bool
    flip: bool
    bn_momentum: Fraction
    bn_scale_lr_scale: Positive


@dataclass(frozen=True, kw_only=True)
class ClipTesting:
    """What of a clip is tested: ``st_resnet.<name>.testing``."""

    frames: Count
    stride: Whole
    views: Literal["full", "ten_crops"]


@dataclass(frozen=True, kw_only=True)
class STResNetParams:
    """Two streams joined: ``st_resnet.<name>``."""

    spatial: Name
    temporal: Name
    source: Literal["flow", "warped_flow"]
    connections: Literal["add", "multiply", "none"]
    temporal_filters: bool
    dropout: Annotated[float, Bounds(0, 0.99)]
    checkpointing: bool
    crop: Annotated[int, Bounds(16)]
    stage1: Phase
    stage2: Phase
    testing: ClipTesting


def check_st_resnet(at: str, section: STResNetParams, streams: dict[str, Stream]) -> None:
    """Check what no single key of a section can say; ``at`` is its path."""
    for key in ("spatial", "temporal"):
        if getattr(section, key) not in streams:
            raise ParamsError(
                f"{at}.{key}: got {getattr(section, key)!r}, expected some of {sorted(streams)}"
            )
    spatial, temporal = streams[section.spatial], streams[section.temporal]
    if spatial.source != "frames" or spatial.input.kind != "stack":
        raise ParamsError(
            f"{at}.spatial: got {section.spatial!r}, which sees {spatial.input.kind} of "
            f"{spatial.source}, expected a stream that sees frames"
        )
    seen = temporal.input
    if (temporal.source, seen.kind, seen.stride) != (section.source, "stack", 1):
        raise ParamsError(
            f"{at}.temporal: got {section.temporal!r}, which sees {seen.kind} of {temporal.source} "
            f"with stride {seen.stride}, expected stack of {section.source}, as {at}.source says, "
            f"with stride 1"
        )
    names = spatial.network.name, temporal.network.name
    if names[0] != names[1] or names[0] not in RESNETS:
        raise ParamsError(
            f"{at}: got streams of {names[0]} and {names[1]}, expected both to be the same one of "
            f"{', '.join(RESNETS)}"
        )
    for key in ("stage1", "stage2"):
        _check_phase(f"{at}.{key}", getattr(section, key))
    if section.stage2.time_pool and section.testing.frames < POOLED_FRAMES:
        raise ParamsError(
            f"{at}.testing.frames: got {section.testing.frames}, expected at least "
            f"{POOLED_FRAMES} with stage2.time_pool"
        )


def _check_phase(at: str, phase: Phase) -> None:
    if len(phase.stride) != 2 or phase.stride[0] > phase.stride[1]:
        raise ParamsError(
            f"{at}.stride: got {list(phase.stride)}, expected the lowest and the highest"
        )
    if phase.time_pool and phase.frames < POOLED_FRAMES:
        raise ParamsError(
            f"{at}.frames: got {phase.frames}, expected at least {POOLED_FRAMES} with time_pool"
        )
    check_optimisation(at, phase)
