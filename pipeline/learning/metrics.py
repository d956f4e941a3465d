"""How good a set of answers is."""

import numpy as np


def metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
    """Measure scores (N, C), higher is likelier, against labels (N,).

    Returns
    -------
    dict
        ``top1`` and ``top5`` (of fewer classes: all) accuracy, ``mean_class_accuracy`` over the
        classes that occur (UCF101's and HMDB51's measure), and ``videos``, the count.
    """
    # Ranks by a stable sort: of equal scores the lower class number wins, as argmax has it.
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = order == labels[:, None]
    right = hits[:, 0]
    by_class = [right[labels == label].mean() for label in np.unique(labels)]
    return {
        "top1": round(float(right.mean()), 6),
        "top5": round(float(hits[:, :5].any(1).mean()), 6),
        "mean_class_accuracy": round(float(np.mean(by_class)), 6),
        "videos": len(labels),
    }


def confusion_matrix(actual: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count answers: (classes, classes) int64, rows are the truth."""
    counts = np.bincount(actual * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)
