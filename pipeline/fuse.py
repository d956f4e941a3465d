"""Stage ``fuse``: several streams' scores to one answer.

``average`` is the mean of the softmax scores, ``svm`` a multi-class linear SVM on the stacked
L2-normalised softmax scores (both Two-Stream, section 5; see :mod:`pipeline.learning.svm`);
``weighted`` is a weighted mean of the logits, as TSN's code does it (1 : 1.5 for RGB : flow), or of
the softmax, with weights that are given or found on held-out clips (see
:mod:`pipeline.learning.weighting`).
Writes ``metrics.json``, ``predictions.csv``, ``weights.json`` and ``svm.h5``.
"""

import argparse
import csv
import json
import math
from pathlib import Path

import h5py
import numpy as np
from sklearn.svm import LinearSVC

from pipeline.learning import svm
from pipeline.learning.metrics import metrics
from pipeline.learning.scores import Scores, ScoresError, join, read_scores
from pipeline.learning.weighting import search, weighted
from pipeline.params import PATH, RESERVED, Fuse, ParamsError, load
from pipeline.whole_file import whole_file

METHODS = ("average", "weighted", "svm")


def average(streams: list[Scores]) -> np.ndarray:
    """Average the softmax scores: (N, C) float64."""
    return np.mean([scores.probs.astype(np.float64) for scores in streams], axis=0)


def run(
    out: Path,
    streams: list[Scores],
    *,
    weights: list[float] | None,
    weighted_of: str,
    svm_c: float | None,
    fit_on: str,
    group_pattern: str,
) -> None:
    """Fuse scores and write what came of it.

    Without ``weights``, find them by the subset val; without ``svm_c``, fit no SVM.

    Raises
    ------
    ScoresError
        If the streams don't fit together, have names that clash or hold no test clip, or a value
        doesn't fit them.
    """
    names = [scores.stream for scores in streams]
    if clashing := [name for name in names if name in RESERVED or names.count(name) > 1]:
        raise ScoresError(
            f"score files: got the name {clashing[0]!r}, expected each once and none of "
            f"{', '.join(RESERVED)}, which the results use"
        )
    if weights is not None and (
        len(weights) != len(streams)
        or not all(math.isfinite(weight) and weight >= 0 for weight in weights)
        or not any(weights)
    ):
        raise ScoresError(
            f"weights: got {weights}, expected one from 0 for each of {len(streams)} score files, "
            "not all 0"
        )
    if svm_c is not None and not (math.isfinite(svm_c) and svm_c >= 0):
        raise ScoresError(f"svm_c: got {svm_c}, expected a number above 0, or 0 to have it chosen")
    streams = join(streams)
    test = streams[0].subset == "test"
    if not test.any():
        raise ScoresError(f"{streams[0].stream}: no video of the subset test")
    if weights is None:
        weights = search(streams, weighted_of)
        told = ", ".join(f"{n} {w:g}" for n, w in zip(names, weights, strict=True))
        print(f"weighted: {told}, the best on {(streams[0].subset == 'val').sum()} val clips")
    fitted = "fuse.svm is false"
    if svm_c is not None:
        fitted = svm.fit(streams, svm_c, fit_on=fit_on, group_pattern=group_pattern)
    answers: dict[str, np.ndarray | None] = {
        "average": average(streams),
        "weighted": weighted(streams, weights, weighted_of),
        "svm": None if isinstance(fitted, str) else svm.scores_of(fitted, streams),
    }
    labels = streams[0].label[test]
    results = {
        "streams": {s.stream: metrics(s.probs[test], labels) for s in streams},
        "fusion": {
            name: None if scores is None else metrics(scores[test], labels)
            for name, scores in answers.items()
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    if isinstance(fitted, str):
        print(f"svm: not fitted: {fitted}")
        (out / "svm.h5").unlink(missing_ok=True)  # of an earlier run
    else:
        with whole_file(out / "svm.h5") as path:
            _write_svm(path, fitted, streams)
    with whole_file(out / "metrics.json") as path:
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    with whole_file(out / "weights.json") as path:
        by_name = dict(zip(names, weights, strict=True))
        path.write_text(json.dumps(by_name, indent=2) + "\n", encoding="utf-8")
    with whole_file(out / "predictions.csv") as path:
        _write_predictions(path, streams, answers, test)
    print(table(results))
    print(f"fuse: {out}/ has the numbers, every test clip's answers, weights"
          + (", no SVM" if isinstance(fitted, str) else " and SVM"))  # fmt: skip


def _write_svm(path: Path, svm: LinearSVC, streams: list[Scores]) -> None:
    with h5py.File(path, "w", track_order=True) as file:
        file.attrs["streams"] = [scores.stream for scores in streams]
        file.attrs["classes"] = list(streams[0].classes)
        file.create_dataset("labels", data=svm.classes_)
        file.create_dataset("coef", data=svm.coef_)
        file.create_dataset("intercept", data=svm.intercept_)


def _write_predictions(
    path: Path, streams: list[Scores], answers: dict[str, np.ndarray | None], test: np.ndarray
) -> None:
    """Write one row a test video: the truth, each stream's and each fusion's answer."""
    columns = {scores.stream: scores.probs for scores in streams}
    columns |= {name: scores for name, scores in answers.items() if scores is not None}
    names = np.array(streams[0].classes, dtype=object)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["video_id", "truth", *columns])
        for row in np.flatnonzero(test):
            told = [names[scores[row].argmax()] for scores in columns.values()]
            writer.writerow([streams[0].video_id[row], names[streams[0].label[row]], *told])


def table(results: dict) -> str:
    """Lay the results out for a terminal."""
    lines = [f"{'':24}{'top-1':>8}{'top-5':>8}{'mean class':>12}{'videos':>8}"]
    for kind, group in results.items():
        for name, m in group.items():
            if m is None:
                lines.append(f"{kind[:6] + ' ' + name:24}{'-':>8}{'-':>8}{'-':>12}{'-':>8}")
            else:
                lines.append(
                    f"{kind[:6] + ' ' + name:24}{m['top1']:8.4f}{m['top5']:8.4f}"
                    f"{m['mean_class_accuracy']:12.4f}{m['videos']:8}"
                )
    return "\n".join(lines)


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="Values that are not given are those of the section fuse of params.yaml.",
    )
    parser.add_argument("out", type=Path, help="folder for the results")
    parser.add_argument("scores", type=Path, nargs="+",
                        help="score files; or one folder, of which the streams that fuse.streams "
                        "names are taken")  # fmt: skip
    parser.add_argument("--weights", type=float, nargs="+", help="one a score file, in order")
    parser.add_argument("--search-weights", action="store_true",
                        help="find the weights by the subset val")  # fmt: skip
    parser.add_argument("--weighted-of", choices=("logits", "probs"))
    parser.add_argument("--svm-c", type=float,
                        help="C of the SVM; 0 chooses one by cross-validation")  # fmt: skip
    parser.add_argument("--fit-on", choices=("train", "val"),
                        help="the subset that the SVM is fitted on (train where there are no "
                        "params)")  # fmt: skip
    parser.add_argument("--group-pattern", help="of video ids that stay together to choose C")
    args = parser.parse_args()
    if args.search_weights and args.weights:
        parser.error("--weights and --search-weights exclude each other")
    known = args.weights or args.search_weights or None
    options = {"--weights": known, "--weighted-of": args.weighted_of, "--svm-c": args.svm_c}
    missing = [name for name, value in options.items() if value is None]
    paths = args.scores
    is_folder = len(paths) == 1 and paths[0].is_dir()
    try:
        if not PATH.exists() and is_folder:
            raise ParamsError(f"{PATH}: needed to know which streams of {paths[0]} to take")
        if not PATH.exists() and missing:
            raise ParamsError(f"{PATH}: no such file, expected it or {', '.join(missing)}")
        params = load().fuse if missing or is_folder else None
        if is_folder:
            paths = [paths[0] / f"{name}.h5" for name in params.streams]
        streams = [read_scores(path) for path in paths]
        run(
            args.out,
            streams,
            weights=_weights(args, params, streams),
            weighted_of=args.weighted_of or params.weighted_of,
            svm_c=(params.svm_c if params.svm else None) if args.svm_c is None else args.svm_c,
            fit_on=args.fit_on or (params.fit_on if params else "train"),
            group_pattern=(params.group_pattern if params else "")
            if args.group_pattern is None
            else args.group_pattern,
        )
    except (ScoresError, ParamsError, OSError) as error:
        raise SystemExit(f"fuse: {error}") from None


def _weights(
    args: argparse.Namespace, params: Fuse | None, streams: list[Scores]
) -> list[float] | None:
    """Take the command's weights, or params' if they name all of the streams, else equal ones."""
    if args.weights:
        return args.weights
    if args.search_weights or params.search_weights:
        return None
    if all(scores.stream in params.weights for scores in streams):
        return [params.weights[scores.stream] for scores in streams]
    print("weighted: equal weights, because fuse.weights doesn't name all of these files")
    return [1.0] * len(streams)


if __name__ == "__main__":
    main()
