"""Stage ``train@STREAM``: one network on one kind of input.

Reads the stream's stored frames or flow; writes the weights and the training curve
(``epoch, lr, train_loss, train_top1, val_loss, val_top1``). Snippets of K segments, their logits
averaged or otherwise made one (``consensus``), are trained by SGD with momentum (TSN, section 3.1;
one segment is Two-Stream's way). Validation takes the same consensus of as many snippets, where
testing averages the logits of all views (see :mod:`models.tsn`).

A training that is killed goes on from its last checkpoint, and ends with the same bytes; what has
been trained before, from the same frames or flow and the same pre-trained file with the same
params, is taken from the item store (see :mod:`pipeline.learning.checkpoints`). ``torchrun`` or
``engine.processes`` train on several GPUs.

The papers count iterations: ``epoch_batches`` says how many make an epoch. Two-Stream draws clips
uniformly over classes (``sampling: class_uniform``); by default an epoch shows every clip once.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import torch

from models import NORMALISATION, build
from models.pretrained import file_of
from pipeline import items, project
from pipeline.learning import checkpoints, dataset, devices, heads
from pipeline.learning.interrupts import Interrupted
from pipeline.learning.loading import one_line
from pipeline.learning.tasks import SnippetTask
from pipeline.learning.training import train_once
from pipeline.learning.weights import write_weights
from pipeline.params import Params, ParamsError, load
from pipeline.parent import end_with_dvc

# Of the short side, at the centre: 224 of 256 px, as both papers crop. Not `testing.crop_ratio`,
# which must not retrain a stream.
_VALIDATION_CROP = 0.875


def run(
    source: Path,
    weights: Path,
    curve: Path,
    *,
    name: str,
    params: Params,
) -> None:
    """Train one stream on the subset ``train`` of ``source``.

    Raises
    ------
    ValueError
        If classes have no usable clip to train on.
    """
    started = time.monotonic()
    stream, engine, lr, seed = params.streams[name], params.engine, params.lr, params.seed
    datasets = (params.dataset.name, *stream.training.auxiliary)
    videos, classes = heads.read_heads(source, datasets)
    usable = [video for video in videos if video.status == "ok"]
    training, val = ([v for v in usable if v.subset == subset] for subset in ("train", "val"))
    heads.check_taught(source, classes, training, params.limits.max_untaught)
    sizes = tuple(map(len, classes.values()))
    mean, std = NORMALISATION[stream.network.name]
    clips = dataset.TrainingClips(source, training, stream, mean, seed=seed)
    std, channels = clips.modality.divisors(std), clips.modality.channels
    views = dataset.TestingClips(source, val, stream, mean, snippets=stream.training.segments,
                                 crops=1, crop_ratio=_VALIDATION_CROP)  # fmt: skip

    # Git ignores these files, so a queued experiment has none of its own.
    pretrained = file_of(stream.network.name, stream.network.weights, project.root())

    def make() -> SnippetTask:
        torch.manual_seed(seed)
        network = build(
            stream.network.name, classes=sum(sizes), channels=channels,
            crop=stream.input.crop, dropout=stream.network.dropout,
            weights=str(pretrained or stream.network.weights),
        )  # fmt: skip
        return SnippetTask(network, stream.training, std, sizes)

    told = {
        **asdict(stream), "datasets": datasets, "lr": lr, "seed": seed, "engine": asdict(engine),
        "pretrained": pretrained and items.hash_of(pretrained),
    }  # fmt: skip
    del told["testing"], told["engine"]["checkpoint_every"]
    about = {**told, **_pictures(clips), "channels": channels, "std": std,
             "mean": clips.modality.fixed or "the mean of each field"}  # fmt: skip
    key = {"data": checkpoints.fingerprint(source), **checkpoints.code_of(Path(__file__)),
           **told}  # fmt: skip
    reused = train_once(
        make, clips, views, name=name, labels=[video.label for video in training],
        params=stream.training, engine=engine, lr=lr * stream.training.lr_scale, seed=seed, key=key,
        weights=weights, curve=curve,
        write=lambda task, path: write_weights(path, task.model.network, classes, about),
    )  # fmt: skip
    if devices.place().rank == 0:
        print(
            f"train {name}: {len(clips)} clips, {stream.training.epochs} epochs, "
            + ("trained before" if reused else f"{time.monotonic() - started:.1f} s")
        )


def _pictures(clips: dataset.Clips) -> dict[str, float | None]:
    """Say how large the pictures are that a stream learns from, and what their codes stand for."""
    with clips.open(0) as video:
        codes, _ = clips.modality.snippet(video, 0)
        settings = video.made_by.get("settings", {})
    return {"short_side": min(codes.shape[:2]), "bound": settings.get("bound")}


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("stream", help="a key of params.yaml's streams")
    parser.add_argument("source", type=Path, help="folder of stored frames or flow")
    parser.add_argument("weights", type=Path, help="file for the trained weights")
    parser.add_argument("curve", type=Path, help="CSV file for the training curve")
    args = parser.parse_args()
    end_with_dvc()
    try:
        params = load()
        if args.stream not in params.streams:
            raise ParamsError(f"streams: no {args.stream!r} among {sorted(params.streams)}")
        devices.launch(params.engine.processes)
        run(args.source, args.weights, args.curve, name=args.stream, params=params)
    except Interrupted as stopped:
        raise SystemExit(1 if devices.place().rank else f"train: {stopped}") from None
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"train: {one_line(error)}") from None


if __name__ == "__main__":
    main()
