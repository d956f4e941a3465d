"""The linear SVM on the streams' softmax scores (Two-Stream, section 5).

The paper gives no C. One can be given, or be chosen by cross-validation on the clips that the SVM
is fitted on, grouped so that no recording stands on both sides.

A network that has fitted its training clips scores them near one-hot. An SVM fitted on such scores
sees few mistakes that it could learn from, and nothing of how sure each stream is on new clips:
``fit_on`` can name the held-out subset ``val`` instead.
"""

import re
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.svm import LinearSVC

from pipeline.learning.scores import Scores, ScoresError

CS = (0.01, 0.1, 1.0, 10.0, 100.0)
_FOLDS = 5


def features(streams: Sequence[Scores]) -> np.ndarray:
    """Stack each stream's softmax, scaled to length one: (N, streams * C) float64."""
    parts = [scores.probs.astype(np.float64) for scores in streams]
    return np.hstack([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts])


def fit(streams: Sequence[Scores], c: float, *, fit_on: str, group_pattern: str) -> LinearSVC | str:
    """Fit the Crammer-Singer SVM on one subset; say why where that can't be done.

    Parameters
    ----------
    streams : sequence of Scores
        Of the same videos in the same order.
    c : float
        Its C, or 0: the one of :data:`CS` with the best accuracy in five-fold cross-validation, of
        equals the smallest.
    fit_on : {"train", "val"}
    group_pattern : str
        Videos whose ids match it alike stay together in that; '' for none.

    Raises
    ------
    ScoresError
        If the pattern doesn't match an id, or a class has too few groups to choose C.
    """
    chosen = streams[0].subset == fit_on
    labels, x = streams[0].label[chosen], features(streams)[chosen]
    if len(np.unique(labels)) < 2:
        return f"the scores hold {fit_on} clips of {len(np.unique(labels))} classes, 2 are needed"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        if c:
            svm = _svm(c).fit(x, labels)
        else:
            svm = _best(x, labels, _groups(streams[0].video_id[chosen], group_pattern))
    if any(issubclass(one.category, ConvergenceWarning) for one in said):
        print("svm: not converged; its answers may change with a smaller C")
    return svm


def scores_of(svm: LinearSVC, streams: Sequence[Scores]) -> np.ndarray:
    """Give the SVM's decision values (N, C); a class it was not shown gets the lowest."""
    seen = svm.decision_function(features(streams))
    if seen.ndim == 1:  # two classes
        seen = np.stack([-seen, seen], axis=1)
    scores = np.full((len(seen), len(streams[0].classes)), seen.min() - 1)
    scores[:, svm.classes_] = seen
    return scores


def _svm(c: float) -> LinearSVC:
    return LinearSVC(multi_class="crammer_singer", C=c, random_state=0, max_iter=100_000)


def _groups(video_ids: Sequence[str], pattern: str) -> list[str]:
    found = [re.search(pattern, name) if pattern else None for name in video_ids]
    for name, match in zip(video_ids, found, strict=True):
        if pattern and not match:
            raise ScoresError(f"{name}: got no match for the group pattern {pattern!r}")
    return [match[0] if match else name for name, match in zip(video_ids, found, strict=True)]


def _best(x: np.ndarray, labels: np.ndarray, groups: list[str]) -> LinearSVC:
    """Fit with the C that does best in cross-validation."""
    of_class = set(zip(labels.tolist(), groups, strict=True))
    sizes = Counter(label for label, _ in of_class)
    folds = min(_FOLDS, *sizes.values())
    if folds < 2:
        raise ScoresError(
            f"svm_c: got 0, but class {min(sizes, key=sizes.get)} has clips of one group alone to "
            "choose C by; expected a number above 0 then"
        )
    search = GridSearchCV(_svm(1.0), {"C": CS}, cv=StratifiedGroupKFold(folds))
    search.fit(x, labels, groups=groups)
    means = search.cv_results_["mean_test_score"]
    told = ", ".join(f"{c:g}: {mean:.4f}" for c, mean in zip(CS, means, strict=True))
    print(f"svm: C {search.best_params_['C']:g} of {folds}-fold cross-validation ({told})")
    return search.best_estimator_
