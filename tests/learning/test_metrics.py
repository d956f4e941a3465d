"""Metrics against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from sklearn.metrics import confusion_matrix as sklearn_confusion

from pipeline.learning.metrics import confusion_matrix, metrics


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(3, 12))
def test_metrics_are_scikit_learns(seed, count, classes):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(count, classes)).astype(np.float32)
    labels = rng.integers(0, classes, count)
    found = metrics(scores, labels)
    options = {"labels": range(classes)}
    assert found["top1"] == pytest.approx(top_k_accuracy_score(labels, scores, k=1, **options),
                                          abs=1e-6)  # fmt: skip
    if classes > 5:
        expected = top_k_accuracy_score(labels, scores, k=5, **options)
        assert found["top5"] == pytest.approx(expected, abs=1e-6)
    else:
        assert found["top5"] == 1.0
    answers = scores.argmax(1)
    by_class = [(answers[labels == c] == c).mean() for c in set(labels.tolist())]
    assert found["mean_class_accuracy"] == pytest.approx(np.mean(by_class), abs=1e-6)
    assert found["videos"] == count and isinstance(found["videos"], int)
    np.testing.assert_array_equal(
        confusion_matrix(labels, answers, classes), sklearn_confusion(labels, answers, **options)
    )


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_mean_class_accuracy_is_balanced_accuracy():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(7), [1, 2, 3, 5, 8, 13, 21])
    scores = rng.normal(size=(len(labels), 7)) + 1.5 * np.eye(7)[labels]
    found = metrics(scores, labels)
    expected = balanced_accuracy_score(labels, scores.argmax(1))
    assert found["mean_class_accuracy"] == pytest.approx(expected, abs=1e-6)
    assert abs(found["mean_class_accuracy"] - found["top1"]) > 0.01


def test_metrics_by_hand():
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1]])
    found = metrics(scores, np.array([0, 1, 0, 1]))
    assert found == {"top1": 0.75, "top5": 1.0, "mean_class_accuracy": 0.75, "videos": 4}


def test_of_equal_scores_the_lower_class_wins():
    scores = np.zeros((3, 8))
    assert metrics(scores, np.array([0, 0, 0]))["top1"] == 1.0
    assert metrics(scores, np.array([1, 4, 5])) == {
        "top1": 0.0, "top5": round(2 / 3, 6), "mean_class_accuracy": 0.0, "videos": 3,
    }  # fmt: skip


def test_rows_of_the_confusion_matrix_are_the_truth():
    found = confusion_matrix(np.array([0, 0, 2]), np.array([1, 1, 0]), 3)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, [[0, 2, 0], [0, 0, 0], [1, 0, 0]])
