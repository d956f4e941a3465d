"""Stage ``score@STREAM``: a trained network's answers on the clips of a dataset.

Reads the stream's stored frames or flow and its weights; writes a score file (see
:mod:`pipeline.learning.scores`): the means of the logits and of the softmax over all views of a
clip, by default 25 equally spaced snippets times 10 crops (Two-Stream section 5, TSN section 3.3).
The training clips are scored as well where the stage ``fuse`` fits its SVM on them (``fuse.svm``).
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from models import NORMALISATION
from pipeline.learning import dataset, devices
from pipeline.learning.heads import check_same, read_heads
from pipeline.learning.loading import loader, one_line
from pipeline.learning.scoring import score_views, write_answers
from pipeline.learning.weights import read_weights, stream_network
from pipeline.params import Params, ParamsError, load
from pipeline.parent import end_with_dvc


def run(source: Path, weights: Path, out: Path, *, name: str, params: Params) -> None:
    """Score the usable clips of ``source`` with one stream's weights.

    Raises
    ------
    ValueError
        If there is no usable clip, or the weights are of another network or other classes.
    """
    stream = params.streams[name]
    listed, classes = read_heads(source, (params.dataset.name,))
    videos = [v for v in listed if v.status == "ok" and v.subset in params.fuse.scored]
    if not videos:
        raise ValueError(
            f"{source}/videos.csv: got no usable clip of the dataset {params.dataset.name} in "
            f"{', '.join(params.fuse.scored)}, expected some to score"
        )
    kept = read_weights(weights)
    check_same(weights, kept, classes, source)
    mean, std = NORMALISATION[stream.network.name]
    clips = dataset.TestingClips(
        source, videos, stream, mean, snippets=stream.testing.frames, crops=stream.testing.crops,
        crop_ratio=stream.testing.crop_ratio,
    )  # fmt: skip
    network = stream_network(weights, kept, stream.network.name, channels=clips.modality.channels,
                             crop=stream.input.crop)  # fmt: skip
    std = clips.modality.divisors(std)

    def answer(share: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        read = loader(clips, batch_size=None, sampler=share)
        return score_views(
            network, read, crop=stream.input.crop, crops=stream.testing.crops,
            signed=clips.modality.signed, std=std, classes=len(kept.classes),
        )  # fmt: skip

    write_answers(out, videos, kept.classes, answer, name=name)


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("stream", help="a key of params.yaml's streams")
    parser.add_argument("source", type=Path, help="folder of stored frames or flow")
    parser.add_argument("weights", type=Path, help="the stream's trained weights")
    parser.add_argument("out", type=Path, help="score file to write")
    args = parser.parse_args()
    end_with_dvc()
    try:
        params = load()
        if args.stream not in params.streams:
            raise ParamsError(f"streams: no {args.stream!r} among {sorted(params.streams)}")
        devices.launch(params.engine.processes)
        run(args.source, args.weights, args.out, name=args.stream, params=params)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"score: {one_line(error)}") from None


if __name__ == "__main__":
    main()
