"""Stage ``report``: the numbers and pictures of the last run.

Reads what ``fuse`` wrote and the training curves; writes ``metrics.json``, ``predictions.csv``,
``confusion.csv``, ``training.csv`` (which ``dvc metrics`` and ``dvc plots`` read),
``per_class.csv``, ``confusion.png`` and ``training.png``.
"""

import argparse
import csv
import json
import shutil
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from pipeline.learning.curves import CURVE, read_curve
from pipeline.learning.metrics import confusion_matrix

# matplotlib writes its version into a picture; without it the bytes are those of the picture.
_PNG = {"dpi": 110, "metadata": {"Software": None}}


def run(fusion: Path, curves: Path, out: Path) -> None:
    """Write all results into ``out``.

    Raises
    ------
    ValueError
        If a file isn't what ``fuse`` or ``train`` writes; names it.
    """
    streams = _read_streams(fusion / "metrics.json")
    predictions = _read_predictions(fusion / "predictions.csv")
    out.mkdir(parents=True, exist_ok=True)
    for name in ("metrics.json", "predictions.csv"):
        shutil.copyfile(fusion / name, out / name)
    truth = [row["truth"] for row in predictions]
    answer = [row["average"] for row in predictions]
    classes = sorted(set(truth) | set(answer))
    _write(out / "confusion.csv", ("actual", "predicted"), zip(truth, answer, strict=True))
    columns = [name for name in predictions[0] if name not in ("video_id", "truth")]
    _write(out / "per_class.csv", ("class", "videos", *columns), _per_class(predictions, columns))
    _draw_confusion(out / "confusion.png", truth, answer, classes)
    # Scores that others wrote come without a curve; an ST-ResNet's first phase has one of its own.
    named = (curves / f"{name}{phase}.csv" for name in streams for phase in (".stage1", ""))
    trained = {path.stem: read_curve(path) for path in named if path.exists()}
    rows = [
        (name, *(row[key] for key in CURVE)) for name, curve in trained.items() for row in curve
    ]
    _write(out / "training.csv", ("stream", *CURVE), rows)
    _draw_training(out / "training.png", trained)


def _read_streams(path: Path) -> list[str]:
    """List the streams that were fused."""
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["streams"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path}: got other content, expected the metrics that the stage fuse writes"
        ) from None


def _read_predictions(path: Path) -> list[dict[str, str]]:
    """Read one row a test video: ``video_id``, ``truth``, and each stream's and fusion's answer."""
    with path.open(encoding="utf-8", newline="") as file:
        try:
            rows = list(csv.DictReader(file, strict=True))
        except (csv.Error, UnicodeDecodeError):
            rows = []
    if not rows or not {"video_id", "truth", "average"} <= rows[0].keys():
        raise ValueError(
            f"{path}: got other content, expected rows with the columns video_id, truth, average, "
            f"as the stage fuse writes them"
        )
    return rows


def _write(path: Path, header: tuple, rows: object) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _per_class(predictions: list[dict], columns: list[str]) -> list[tuple]:
    rows = []
    for name in sorted({row["truth"] for row in predictions}):
        of = [row for row in predictions if row["truth"] == name]
        shares = [sum(row[column] == name for row in of) / len(of) for column in columns]
        rows.append((name, len(of), *(f"{share:.4f}" for share in shares)))
    return rows


def _draw_confusion(path: Path, truth: list[str], answer: list[str], classes: list[str]) -> None:
    """Draw the confusion matrix of the averaged streams, each row as shares of its class."""
    number = {name: i for i, name in enumerate(classes)}
    actual, predicted = (np.array([number[name] for name in names]) for names in (truth, answer))
    counts = confusion_matrix(actual, predicted, len(classes))
    side = max(4.5, min(22, 1.8 + 0.42 * len(classes)))
    figure, axes = plt.subplots(figsize=(side, side), layout="constrained")
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    size = 9 if len(classes) <= 30 else 5
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(len(classes)), classes, fontsize=size, parse_math=False)
    axes.set_xlabel("answer (average of the streams)")
    axes.set_ylabel("truth")
    axes.set_title(f"{int(np.trace(counts))} of {len(truth)} test clips right")
    if len(classes) <= 30:
        for row, column in np.argwhere(counts):
            light = counts[row, column] > counts[row].sum() / 2
            axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=8,
                      color="white" if light else "black")  # fmt: skip
    figure.savefig(path, **_PNG)
    plt.close(figure)


def _draw_training(path: Path, trained: dict[str, list[dict]]) -> None:
    """Draw loss and accuracy of every stream over its epochs.

    The loss on a logarithmic axis: an ST-ResNet's is a sum over heads and steps in time, many times
    a stream's.
    """
    figure, panels = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axes, key in zip(panels, ("loss", "top1"), strict=True):
        for number, (name, curve) in enumerate(trained.items()):
            for part, style in (("train", "-"), ("val", "--")):
                seen = [row for row in curve if row[f"{part}_{key}"]]
                if seen:
                    axes.plot([int(row["epoch"]) for row in seen],
                              [float(row[f"{part}_{key}"]) for row in seen],
                              style, color=f"C{number}", label=f"{name}, {part}",
                              marker="" if len(seen) > 1 else "o")  # fmt: skip
        axes.set_xlabel("epoch")
        axes.set_title({"loss": "cross-entropy", "top1": "top-1 accuracy"}[key])
        axes.grid(alpha=0.3)
    if panels[0].lines:
        panels[0].set_yscale("log")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(path, **_PNG)
    plt.close(figure)


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("fusion", type=Path, help="folder that the stage fuse wrote")
    parser.add_argument("curves", type=Path, help="folder of the streams' training curves")
    parser.add_argument("out", type=Path, help="folder for the results")
    args = parser.parse_args()
    try:
        run(args.fusion, args.curves, args.out)
    except (ValueError, OSError) as error:
        raise SystemExit(f"report: {error}") from None


if __name__ == "__main__":
    main()
