"""Stage ``train@STREAM``: one network on one kind of input.

Reads the stream's stored frames or flow; writes the weights and the training curve
(``epoch, lr, train_loss, train_top1, val_loss, val_top1``). Snippets of K segments, their logits
averaged or otherwise made one (``consensus``), are trained by SGD with momentum (TSN, section 3.1;
one segment is Two-Stream's way). Validation takes the same consensus of as many snippets, where
testing averages the logits of all views (see :mod:`models.tsn`).

The papers count iterations: ``epoch_batches`` says how many make an epoch. Two-Stream draws clips
uniformly over classes (``sampling: class_uniform``); by default an epoch shows every clip once.
"""

import argparse
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from models import NORMALISATION, build
from pipeline.learning import dataset, engine
from pipeline.learning.curves import write_curve
from pipeline.learning.epochs import EpochSampler
from pipeline.params import ParamsError, load
from pipeline.parent import end_with_dvc
from pipeline.stream_params import Stream
from pipeline.videos import read_videos

# Of the short side, at the centre: 224 of 256 px, as both papers crop. Not `testing.crop_ratio`,
# which must not retrain a stream.
_VALIDATION_CROP = 0.875


def run(
    source: Path, weights: Path, curve: Path, *, name: str, stream: Stream, lr: float, seed: int
) -> None:
    """Train one stream on the subset ``train`` of ``source``.

    Raises
    ------
    ValueError
        If fewer than two classes have a usable clip to train on.
    """
    started = time.monotonic()
    videos = read_videos(source / "videos.csv")
    classes = dataset.class_names(videos)
    usable = [video for video in videos if video.status == "ok"]
    training, val = ([v for v in usable if v.subset == subset] for subset in ("train", "val"))
    taught = {video.class_name for video in training}
    if len(taught) < 2:
        raise ValueError(
            f"{source}/videos.csv: got usable clips in the subset train of {len(taught)} of "
            f"{len(classes)} classes, expected some of two or more"
        )
    if untaught := [class_name for class_name in classes if class_name not in taught]:
        print(f"{name}: no usable train clip of the classes: {', '.join(untaught)}")
    mean, std = NORMALISATION[stream.network.name]
    torch.manual_seed(seed)
    network = build(
        stream.network.name,
        classes=len(classes),
        channels=dataset.channels_of(stream),
        crop=stream.input.crop,
        dropout=stream.network.dropout,
        weights=stream.network.weights,
    )
    clips = dataset.TrainingClips(source, training, stream, mean, seed=seed)
    loaders, batch = engine.loader_workers(), stream.training.batch
    size = batch * stream.training.epoch_batches or len(clips)
    views = dataset.TestingClips(source, val, stream, mean, snippets=stream.training.segments,
                                 crops=1, crop_ratio=_VALIDATION_CROP)  # fmt: skip

    def epoch_loader(epoch: int) -> DataLoader:
        draws = EpochSampler([video.label for video in training], size=size, seed=seed,
                             by=stream.training.sampling, epoch=epoch)  # fmt: skip
        return DataLoader(clips, batch, sampler=draws, num_workers=loaders)

    rows = engine.train(
        network,
        epoch_loader,
        DataLoader(views, batch, num_workers=loaders) if val else None,
        clips=size,
        lr=lr * stream.training.lr_scale,
        std=dataset.deviations(stream, std),
        params=stream.training,
        seed=seed,
        label=name,
    )
    weights.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    torch.save({"classes": classes, "state_dict": state}, weights)
    write_curve(curve, rows)
    print(
        f"train {name}: {len(clips)} clips, {stream.training.epochs} epochs of {size} draws in "
        f"{time.monotonic() - started:.1f} s"
    )


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
        run(args.source, args.weights, args.curve, name=args.stream,
            stream=params.streams[args.stream], lr=params.lr, seed=params.seed)  # fmt: skip
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"train: {engine.one_line(error)}") from None


if __name__ == "__main__":
    main()
