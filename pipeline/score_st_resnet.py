"""Stage ``st_resnet_score@NAME``: a joined network's answers on the clips of a dataset.

Reads the stored frames and flow and the weights of the second phase; writes a score file like any
stream's (see :mod:`pipeline.learning.scores`), so that ``fuse`` takes it. The logits are averaged
over steps in time, positions, views and both heads, as the authors do; the probabilities are their
softmax.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.learning import devices
from pipeline.learning.clip_task import score_clips
from pipeline.learning.clips import Seen, TestingJointClips, paired
from pipeline.learning.heads import check_same, read_heads
from pipeline.learning.joined import joined_network
from pipeline.learning.loading import loader, one_line
from pipeline.learning.scoring import write_answers
from pipeline.learning.weights import read_weights
from pipeline.params import Params, ParamsError, load
from pipeline.parent import end_with_dvc


def run(frames: Path, flow: Path, weights: Path, out: Path, *, name: str, params: Params) -> None:
    """Score the clips that have both frames and flow, those of training where ``fuse.svm`` says so.

    Raises
    ------
    ValueError
        If there is none, or the weights are of another network or other classes.
    """
    testing = params.st_resnet[name].testing
    listed, heads = read_heads(frames, (params.dataset.name,))
    videos = [v for v in paired(listed, flow) if v.subset in params.fuse.scored]
    if not videos:
        raise ValueError(f"{frames}, {flow}: got no usable clip in "
                         f"{', '.join(params.fuse.scored)}, expected some to score")  # fmt: skip
    kept = read_weights(weights)
    check_same(weights, kept, heads, frames)
    network = joined_network(weights, kept)
    seen, crop = Seen(**kept.about["seen"]), kept.about["crop"]
    clips = TestingJointClips(frames, flow, videos, seen, crop, testing=testing)

    def answer(share: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        read = loader(clips, batch_size=None, sampler=share)
        return score_clips(network, read, seen=seen, crop=crop, views=testing.views)

    write_answers(out, videos, kept.classes, answer, name=name)


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("name", help="a key of params.yaml's st_resnet")
    parser.add_argument("frames", type=Path, help="folder of stored frames")
    parser.add_argument("flow", type=Path, help="folder of the flow that it was trained on")
    parser.add_argument("weights", type=Path, help="the second phase's weights")
    parser.add_argument("out", type=Path, help="score file to write")
    args = parser.parse_args()
    end_with_dvc()
    try:
        params = load()
        if args.name not in params.st_resnet:
            raise ParamsError(f"st_resnet: no {args.name!r} among {sorted(params.st_resnet)}")
        devices.launch(params.engine.processes)
        run(args.frames, args.flow, args.weights, args.out, name=args.name, params=params)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"score_st_resnet: {one_line(error)}") from None


if __name__ == "__main__":
    main()
