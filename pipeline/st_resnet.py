"""Stages ``st_resnet_stage1@NAME`` and ``st_resnet_stage2@NAME``: two streams joined.

Spatiotemporal Residual Networks (Feichtenhofer et al. 2016), in the paper's phases: after both
streams were trained alone, the joined network is trained on clips of a few frames, then on longer
ones with pooling over time. The first phase starts from the weights of the two streams, the second
from those of the first. Reads the stored frames and flow; writes the weights and the curve, whose
losses are the sum of both heads' over the steps in time.

A phase is a training like any stream's: it goes on where it was stopped, and what has been trained
before is taken from the item store. Everything that the networks have to be fed comes with the
weights: how many fields, what is subtracted and what they are divided by.
"""

import argparse
import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from models.from_streams import from_streams
from models.st_resnet import STResNet
from pipeline.learning import checkpoints, devices
from pipeline.learning.clip_task import ClipTask
from pipeline.learning.clips import Seen, TrainingJointClips, ValidationJointClips, paired
from pipeline.learning.heads import check_same, check_taught, read_heads
from pipeline.learning.interrupts import Interrupted
from pipeline.learning.joined import SHAPE, check_joined, is_joined, joined_network
from pipeline.learning.loading import one_line
from pipeline.learning.training import train_once
from pipeline.learning.weights import Weights, read_weights, write_weights
from pipeline.params import Params, ParamsError, load
from pipeline.parent import end_with_dvc
from pipeline.st_resnet_params import STResNetParams

PHASES = ("stage1", "stage2")


def run(
    frames: Path,
    flow: Path,
    starts: list[Path],
    weights: Path,
    curve: Path,
    *,
    phase: str,
    name: str,
    params: Params,
) -> None:
    """Train one phase on the subset ``train``.

    Parameters
    ----------
    frames, flow : Path
        Folders of stored frames and of the flow that the temporal stream sees.
    starts : list of Path
        The weights to start from: the spatial and the temporal stream's, or the first phase's.
    weights, curve : Path
        What to write.
    phase : {"stage1", "stage2"}
    name : str
        A key of params' ``st_resnet``.
    params : Params

    Raises
    ------
    ValueError
        If classes have no usable clip to train on, or weights are of another network or of other
        classes.
    """
    started = time.monotonic()
    section, engine, lr, seed = params.st_resnet[name], params.engine, params.lr, params.seed
    how = getattr(section, phase)
    listed, heads = read_heads(frames, (params.dataset.name,))
    videos = paired(listed, flow)
    training, val = ([v for v in videos if v.subset == subset] for subset in ("train", "val"))
    check_taught(frames, heads, training, params.limits.max_untaught)
    start = _join if phase == "stage1" else _go_on
    kept = [read_weights(path) for path in starts]
    for path, one in zip(starts, kept, strict=True):
        check_same(path, one, heads, frames)
    about, make_network = start(section, kept, starts)
    seen = Seen(**about["seen"])
    sources = frames, flow
    clips = TrainingJointClips(*sources, training, seen, section.crop, phase=how, seed=seed)
    views = ValidationJointClips(*sources, val, seen, section.crop, frames_of_clip=how.frames)

    def make() -> ClipTask:
        torch.manual_seed(seed)
        return ClipTask(make_network(how.time_pool), how, seen)

    about |= {
        "phase": asdict(how), "time_pool": how.time_pool, "crop": section.crop,
        "dropout": section.dropout, "lr": lr, "seed": seed, "engine": asdict(engine),
    }  # fmt: skip
    del about["engine"]["checkpoint_every"]
    key = {
        "data": [checkpoints.fingerprint(folder) for folder in sources],
        "starts": [hashlib.sha256(path.read_bytes()).hexdigest() for path in starts],
        **checkpoints.code_of(Path(__file__)), **about,
    }  # fmt: skip
    label = f"{name}.{phase}"
    reused = train_once(
        make, clips, views, name=label, labels=[video.label for video in training], params=how,
        engine=engine, lr=lr * how.lr_scale, seed=seed, key=key, weights=weights, curve=curve,
        write=lambda task, path: write_weights(path, task.model, heads, about),
    )  # fmt: skip
    if devices.place().rank == 0:
        print(
            f"st_resnet {label}: {len(clips)} clips, {how.epochs} epochs, "
            + ("trained before" if reused else f"{time.monotonic() - started:.1f} s")
        )


Start = tuple[dict, Callable[[bool], STResNet]]  # what a file of weights says, and the network


def _join(section: STResNetParams, kept: list[Weights], starts: list[Path]) -> Start:
    """Start the first phase from the two streams."""
    if len(kept) != 2:
        raise ValueError(f"stage1: got {len(kept)} files of weights, expected the spatial and the "
                         "temporal stream's")  # fmt: skip
    for path, one, source in zip(starts, kept, ("frames", section.source), strict=True):
        found = "an ST-ResNet" if is_joined(one) else f"a stream of {one.about['source']}"
        if found != f"a stream of {source}":
            raise ValueError(f"{path}: got weights of {found}, expected those of a stream of "
                             f"{source}: first the spatial, then the temporal one's")  # fmt: skip
    spatial, temporal = kept
    names = [one.about["network"]["name"] for one in kept]
    if names[0] != names[1]:
        raise ValueError(f"{starts[0]}, {starts[1]}: got weights of {names[0]} and {names[1]}, "
                         "expected those of one network")  # fmt: skip
    seen = Seen(
        length=temporal.about["input"]["length"],
        subtract_mean=temporal.about["input"]["subtract_mean"],
        mean=tuple(spatial.about["mean"]),
        std=tuple(spatial.about["std"]),
        flow_std=tuple(temporal.about["std"]),
    )
    shape = {"connections": section.connections, "temporal_filters": section.temporal_filters}
    about = {"network": names[0], "source": section.source, "seen": seen._asdict(), **shape}

    def make(time_pool: bool) -> STResNet:
        return from_streams(
            names[0], _own_head(spatial), _own_head(temporal), dropout=section.dropout,
            time_pool=time_pool, checkpointing=section.checkpointing, **shape,
        )  # fmt: skip

    return about, make


def _go_on(section: STResNetParams, kept: list[Weights], starts: list[Path]) -> Start:
    """Start the second phase from the first."""
    if len(kept) != 1:
        raise ValueError(f"stage2: got {len(kept)} files of weights, expected the first phase's")
    check_joined(starts[0], kept[0])
    about = {key: kept[0].about[key] for key in SHAPE}

    def make(time_pool: bool) -> STResNet:
        return joined_network(starts[0], kept[0], time_pool=time_pool, dropout=section.dropout,
                          checkpointing=section.checkpointing)  # fmt: skip

    return about, make


def _own_head(kept: Weights) -> dict[str, torch.Tensor]:
    """Give a stream's weights without the classes that it learned of other datasets."""
    own = len(kept.classes)
    return kept.state | {key: kept.state[key][:own] for key in ("fc.weight", "fc.bias")}


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("phase", choices=PHASES)
    parser.add_argument("name", help="a key of params.yaml's st_resnet")
    parser.add_argument("frames", type=Path, help="folder of stored frames")
    parser.add_argument("flow", type=Path, help="folder of the flow that the temporal stream sees")
    parser.add_argument("weights", type=Path, help="file for the trained weights")
    parser.add_argument("curve", type=Path, help="CSV file for the training curve")
    # No option: torchrun, which engine.processes starts, takes some for its own.
    parser.add_argument("starts", type=Path, nargs="+",
                        help="weights to start from: the spatial and the temporal stream's, or the "
                        "first phase's")  # fmt: skip
    args = parser.parse_args()
    end_with_dvc()
    try:
        params = load()
        if args.name not in params.st_resnet:
            raise ParamsError(f"st_resnet: no {args.name!r} among {sorted(params.st_resnet)}")
        devices.launch(params.engine.processes)
        run(args.frames, args.flow, args.starts, args.weights, args.curve, phase=args.phase,
            name=args.name, params=params)  # fmt: skip
    except Interrupted as stopped:
        raise SystemExit(1 if devices.place().rank else f"st_resnet: {stopped}") from None
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"st_resnet: {one_line(error)}") from None


if __name__ == "__main__":
    main()
