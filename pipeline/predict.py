"""What happens in a video: the trained networks' answer to files that no dataset lists.

Goes the way of the stages, by the same code and ``params.yaml``: decodes a video, computes the flow
that its streams read, scores all views, and takes the mean of the streams' probabilities, which
``fuse`` calls ``average``. Nothing is kept but the answers and their pictures.
"""

import argparse
import csv
import io
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from pipeline import bidirectional_flow, decode, flow, score, score_st_resnet, warped_flow
from pipeline.flow_jobs import with_backend
from pipeline.jobs import Excluded
from pipeline.learning.loading import one_line
from pipeline.learning.scores import read_scores
from pipeline.learning.weights import read_weights
from pipeline.params import Flow, Params, load
from pipeline.prediction_picture import Answer, draw, likeliest
from pipeline.progress import progress
from pipeline.videos import Video, video_ids, write_videos
from pipeline.whole_file import whole_file


def run(
    paths: Sequence[Path], out: Path, params: Params, *, weights: Path, top: int
) -> tuple[list[Answer], dict[Path, str]]:
    """Answer what is in some videos; write ``predictions.csv`` and a picture of each to ``out``.

    Parameters
    ----------
    paths : sequence of Path
        Videos, or files that :mod:`pipeline.adopt` packed.
    out, weights : Path
        The folder to write to, and that of the trained weights: ``data/weights``.
    params : Params
        Those that the networks were trained with.
    top : int
        How many classes to write and draw of each.

    Returns
    -------
    answers : list of Answer
    excluded : dict
        The reason for each file that can't be used.

    Raises
    ------
    ValueError
        If a file isn't there, or weights are missing, of other classes than each other's, or of
        another input than the params say. Weights know no more of ``decode`` and ``flow`` than the
        frames' size and the flow's bound, and those of an ST-ResNet nothing.
    """
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path}: no such file, expected a video")
    streams = params.fuse.streams
    classes = _check_weights({name: weights / f"{name}.pt" for name in streams}, params)
    sections = params.streams | params.st_resnet
    # All flow is made of frames, and all other flow beside the plain one.
    made = {"frames", *(sections[name].source for name in streams)}
    made |= {"flow"} if made != {"frames"} else set()
    how = params.flow
    if "flow" in made and how.backend != "given":
        how = with_backend(how)
    paths = list(dict.fromkeys(paths))
    ids = dict(zip(paths, video_ids([path.as_posix() for path in paths], stems_alone=True),
                   strict=True))  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".predict-", dir=out) as scratch:
        data, counts, excluded = Path(scratch), {}, {}
        for source in made:
            (data / source).mkdir()
        for path in progress(paths, unit="video", desc="frames and flow"):
            try:
                counts[path] = _prepare(data, path, ids[path], made, how, params)
            # One file's own fault, as pipeline.stalls.guarded has it.
            except (Excluded, ValueError, RuntimeError, cv2.error) as error:
                excluded[path] = str(error).removeprefix(f"{path}: ")
        if not counts:
            return [], excluded
        for folder in data.iterdir():
            fields = folder.name != "frames"  # of which there is one less
            videos = {ids[path]: count - fields for path, count in counts.items()}
            write_videos(folder / "videos.csv", _rows(videos, classes, params.dataset.name))
        probs = {name: _score(name, data, weights, params) for name in streams}
        answers = []
        for path in counts:
            own = {name: of[ids[path]].astype(np.float64) for name, of in probs.items()}
            answers.append(Answer(path, out / f"{ids[path]}.png", tuple(classes), own,
                                  np.mean(list(own.values()), axis=0)))  # fmt: skip
            with whole_file(answers[-1].picture) as file:
                draw(file, answers[-1], data, ids[path], bound=params.flow.bound, top=top)
    with whole_file(out / "predictions.csv") as file:
        _write(file, answers, top)
    return answers, excluded


def _check_weights(paths: dict[str, Path], params: Params) -> list[str]:
    """Read all weights before any video; give their classes.

    DVC sees to it that the stages have weights of their params, but not here.
    """
    classes = None
    for name, path in paths.items():
        kept = read_weights(path)
        classes = classes or kept.classes
        if kept.classes != classes:
            raise ValueError(f"{path}: got weights of other classes than {next(iter(paths))}.pt, "
                             "expected the same")  # fmt: skip
        if name in params.streams:
            stream = params.streams[name]
            wanted = {"source": stream.source, "input": asdict(stream.input),
                      "short_side": params.decode.short_side}  # fmt: skip
            if stream.source != "frames":
                wanted["bound"] = params.flow.bound
        else:
            section = params.st_resnet[name]
            wanted = {"source": section.source, "connections": section.connections}
        for key, value in wanted.items():
            if kept.about.get(key) != value:
                raise ValueError(
                    f"{path}: got weights of {key} {kept.about.get(key)}, expected {value}, as "
                    "params.yaml says: dvc repro trains those"
                )
    return classes


def _prepare(
    data: Path, path: Path, video_id: str, made: set[str], how: Flow, params: Params
) -> int:
    """Store a video's frames and its flow of the kinds in ``made``; give the number of frames."""
    frames, plain, warped, both_ways = (
        data / name for name in ("frames", "flow", "warped_flow", "bidirectional_flow")
    )
    count = decode.decode_video(frames, video_id, path, "", params.decode, "")
    if "flow" in made:
        if how.backend == "given":
            flow.given_flow(plain, video_id, path, "", how, "")
        else:
            flow.flow_video(plain, video_id, frames, "", how, "")
    if "warped_flow" in made:
        warped_flow.warp_video(warped, video_id, frames, plain, [], how, params.warped_flow, "")
    if "bidirectional_flow" in made:
        bidirectional_flow.both_ways(both_ways, video_id, frames, plain, [], how, "")
    return count


def _rows(videos: dict[str, int], classes: list[str], dataset: str) -> list[Video]:
    """List the videos, as of the first class, and the classes, by a video each that isn't there."""
    one = {"dataset": dataset, "subset": "test", "sha256": "", "path": ""}
    named = [
        Video(video_id=f"class {label}", class_name=name, label=label, status="missing",
              reason="names a class", **one)
        for label, name in enumerate(classes)
    ]  # fmt: skip
    return named + [
        Video(video_id=video_id, class_name=classes[0], label=0, status="ok", reason="",
              frames=count, **one)
        for video_id, count in videos.items()
    ]  # fmt: skip


def _score(name: str, data: Path, weights: Path, params: Params) -> dict[str, np.ndarray]:
    """Give one stream's probabilities (classes,) of each video."""
    file, scores = weights / f"{name}.pt", data / f"{name}.h5"
    with redirect_stdout(io.StringIO()):  # of accuracies, which are of no class that is known
        if name in params.streams:
            score.run(data / params.streams[name].source, file, scores, name=name, params=params)
        else:
            source = data / params.st_resnet[name].source
            score_st_resnet.run(data / "frames", source, file, scores, name=name, params=params)
    found = read_scores(scores)
    return dict(zip(found.video_id, found.probs, strict=True))


def _write(path: Path, answers: list[Answer], top: int) -> None:
    """Write the likeliest classes of each video, and the probabilities that streams give them."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("video", "picture", "rank", "class", "average", *answers[0].streams))
        for answer in answers:
            for rank, label in enumerate(likeliest(answer.average, top), 1):
                shares = [answer.average[label], *(of[label] for of in answer.streams.values())]
                told = (f"{share:.4f}" for share in shares)
                told = (answer.path, answer.picture.name, rank, answer.classes[label], *told)
                writer.writerow(told)


def show(answer: Answer, top: int) -> str:
    """Say an answer in a line for each of the likeliest classes."""
    lines = [f"{answer.path}"]
    for label in likeliest(answer.average, top):
        of = "  ".join(f"{name} {probs[label]:.2f}" for name, probs in answer.streams.items())
        lines.append(f"  {answer.average[label]:.2f} {answer.classes[label]:<24} {of}")
    return "\n".join(lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description="Say what happens in videos, by the networks that dvc repro has trained.",
        epilog="Run it where params.yaml is, as it was when they were trained.",
    )
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO")
    parser.add_argument("--top", type=int, default=5, help="classes to show (default: 5)")
    parser.add_argument("--out", type=Path, default=Path("data/predictions"),
                        help="folder of predictions.csv and pictures "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--weights", type=Path, default=Path("data/weights"),
                        help="folder of the trained weights (default: %(default)s)")  # fmt: skip
    args = parser.parse_args()
    try:
        if args.top < 1:
            raise ValueError(f"--top: got {args.top}, expected at least 1")
        answers, excluded = run(args.videos, args.out, load(), weights=args.weights, top=args.top)
    except KeyboardInterrupt:
        raise SystemExit("predict: stopped") from None
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"predict: {one_line(error)}") from None
    for answer in answers:
        print(show(answer, args.top))
    if answers:
        print(f"{args.out} has predictions.csv and a picture of each")
    for path, reason in excluded.items():
        print(f"predict: {path}: {reason}", file=sys.stderr)
    raise SystemExit(1 if excluded else 0)


if __name__ == "__main__":
    main()
