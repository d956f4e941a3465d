"""The choice of the SVM's C and of the clips that it is fitted on."""

import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import LinearSVC

from pipeline.learning import svm
from pipeline.learning.scores import Scores, ScoresError


def streams(*, recordings=30, takes=3, seed=0, signal=1.5):
    """Two streams over recordings of several takes; all takes of one share their noise."""
    rng = np.random.default_rng(seed)
    label = np.arange(recordings) % 3
    label = np.repeat(label, takes)
    made = []
    for name in ("rgb", "flow"):
        noise = np.repeat(rng.normal(size=(recordings, 3)), takes, 0)
        logits = noise + 0.1 * rng.normal(size=noise.shape) + signal * np.eye(3)[label]
        probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        ids = [f"v_g{i // takes:02}_c{i % takes}" for i in range(len(label))]
        made.append(Scores(stream=name, classes=tuple("abc"), video_id=np.array(ids), label=label,
                           subset=np.full(len(label), "train"), logits=logits.astype(np.float32),
                           probs=probs.astype(np.float32)))  # fmt: skip
    return made


def grouped(label, groups):
    """Choose C by hand: mean accuracy over folds of whole recordings, of equals the smallest."""
    x, found = svm.features(streams()), []
    for c in svm.CS:
        right = []
        for fit, held in StratifiedGroupKFold(5).split(x, label, groups):
            assert not {groups[i] for i in fit} & {groups[i] for i in held}
            one = LinearSVC(multi_class="crammer_singer", C=c, random_state=0, max_iter=100_000)
            right.append((one.fit(x[fit], label[fit]).predict(x[held]) == label[held]).mean())
        found.append(np.mean(right))
    return svm.CS[int(np.argmax(found))], max(found)


def test_c_is_chosen_over_folds_of_whole_recordings(capsys):
    both = streams()
    groups = [name[:5] for name in both[0].video_id]
    c, accuracy = grouped(both[0].label, groups)
    fitted = svm.fit(both, 0, fit_on="train", group_pattern=r"v_g\d+")
    assert fitted.C == c
    assert f"{c:g}: {accuracy:.4f}" in capsys.readouterr().out
    again = svm.fit(both, c, fit_on="train", group_pattern="")
    np.testing.assert_array_equal(fitted.coef_, again.coef_)


def test_takes_of_one_recording_on_both_sides_would_flatter(capsys):
    """The reason for groups: without them the takes tell each other's labels."""
    svm.fit(streams(signal=0.0), 0, fit_on="train", group_pattern="")
    svm.fit(streams(signal=0.0), 0, fit_on="train", group_pattern=r"v_g\d+")
    apart, together = (
        max(map(float, re.findall(r": (\d\.\d{4})", line)))
        for line in capsys.readouterr().out.splitlines()
        if "cross-validation" in line
    )
    assert apart > together + 0.1


def test_fitted_on_the_held_out_part_alone():
    both = streams()
    subset = np.where(np.arange(90) % 2, "val", "train")
    both = [replace(scores, subset=subset) for scores in both]
    fitted = svm.fit(both, 1.0, fit_on="val", group_pattern="")
    x = svm.features(both)[subset == "val"]
    direct = LinearSVC(multi_class="crammer_singer", C=1.0, random_state=0, max_iter=100_000)
    np.testing.assert_array_equal(fitted.coef_, direct.fit(x, both[0].label[subset == "val"]).coef_)
    told = svm.fit(streams(), 1.0, fit_on="val", group_pattern="")
    assert told == "the scores hold val clips of 0 classes, 2 are needed"


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("film", "v_g00_c0: got no match for the group pattern"), ("v", "clips of one group alone")],
)
def test_groups_that_do_not_serve_are_refused(pattern, said):
    with pytest.raises(ScoresError, match=said):
        svm.fit(streams(), 0, fit_on="train", group_pattern=pattern)
