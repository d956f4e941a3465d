"""Stage ``score@STREAM``: a trained network's answers on the train, val and test clips.

Reads the stream's stored frames or flow and its weights; writes a score file (see
:mod:`pipeline.learning.scores`): the means of the logits and of the softmax over all views of a
clip, by default 25 equally spaced snippets times 10 crops (Two-Stream section 5, TSN section 3.3).
The training clips are scored as well: the SVM of the stage ``fuse`` is fitted on them.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from models import NORMALISATION, build
from pipeline import SUBSETS
from pipeline.learning import dataset, engine
from pipeline.learning.scores import Scores, write_scores
from pipeline.params import ParamsError, Stream, load
from pipeline.progress import progress
from pipeline.videos import read_videos


def run(source: Path, weights: Path, out: Path, *, name: str, stream: Stream) -> None:
    """Score all usable clips of ``source`` with one stream's weights."""
    videos = [video for video in read_videos(source / "videos.csv") if video.status == "ok"]
    kept = torch.load(weights, map_location="cpu", weights_only=True)
    network = build(
        stream.network.name,
        classes=len(kept["classes"]),
        channels=dataset.channels_of(stream),
        crop=stream.input.crop,
        dropout=0.0,
        weights="none",
    )
    network.load_state_dict(kept["state_dict"])
    mean, std = NORMALISATION[stream.network.name]
    clips = dataset.TestingClips(
        source, videos, stream, mean, snippets=stream.testing.frames, crops=stream.testing.crops
    )
    loader = DataLoader(clips, batch_size=None, num_workers=engine.loader_workers())
    answers = engine.score_views(network, loader, std=std)
    bar = progress(answers, desc=f"score {name}", total=len(videos), unit="video")
    logits, probs = map(np.stack, zip(*bar, strict=True))
    scores = Scores(
        stream=name,
        classes=tuple(kept["classes"]),
        video_id=np.array([video.video_id for video in videos]),
        label=np.array([video.label for video in videos]),
        subset=np.array([video.subset for video in videos]),
        logits=logits,
        probs=probs,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_scores(out, scores)
    for subset in SUBSETS:
        of = scores.subset == subset
        if of.any():
            right = (probs[of].argmax(1) == scores.label[of]).mean()
            print(f"{name}: top-1 {right:.4f} on {of.sum()} {subset} clips")


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("stream", help="a key of params.yaml's streams")
    parser.add_argument("source", type=Path, help="folder of stored frames or flow")
    parser.add_argument("weights", type=Path, help="the stream's trained weights")
    parser.add_argument("out", type=Path, help="score file to write")
    args = parser.parse_args()
    params = load()
    if args.stream not in params.streams:
        raise ParamsError(f"streams: no {args.stream!r} among {sorted(params.streams)}")
    run(args.source, args.weights, args.out, name=args.stream, stream=params.streams[args.stream])


if __name__ == "__main__":
    main()
