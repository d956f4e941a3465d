"""fuse: the formulas, and the command on files of others."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from sklearn.svm import LinearSVC

from pipeline import fuse
from pipeline.learning import svm
from pipeline.learning.scores import Scores, ScoresError, write_scores
from pipeline.learning.weighting import search, weighted

ROOT = Path(__file__).parents[1]
CLASSES = tuple(f"class {i}" for i in range(4))
SVM = {"fit_on": "train", "group_pattern": ""}
OUTS = ("metrics.json", "predictions.csv", "weights.json", "svm.h5")


def make(stream, *, count=60, classes=CLASSES, signal=1.0, seed=0, train=True):
    """Noisy answers; the same seed or another, the videos and labels are the same."""
    rng = np.random.default_rng(seed)
    label = np.random.default_rng(99).integers(0, len(classes), count)
    logits = rng.normal(size=(count, len(classes))) + signal * np.eye(len(classes))[label]
    exps = np.exp(logits)
    return Scores(
        stream=stream,
        classes=classes,
        video_id=np.array([f"v_{i:05}" for i in range(count)]),
        label=label,
        subset=np.array([("train" if train and i % 2 else "test") for i in range(count)]),
        logits=logits.astype(np.float32),
        probs=(exps / exps.sum(1, keepdims=True)).astype(np.float32),
    )


@pytest.fixture
def streams():
    return [make("spatial", seed=1), make("temporal", seed=2), make("warped", seed=3)]


@pytest.fixture
def folder(tmp_path, monkeypatch, streams):
    """Three score files in a directory without params.yaml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scores").mkdir()
    for scores in streams:
        write_scores(tmp_path / "scores" / f"{scores.stream}.h5", scores)
    return tmp_path


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["fuse", *map(str, arguments)])
    fuse.main()


def results(out):
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))


def test_average_is_the_mean_of_the_softmax(streams):
    expected = sum(s.probs.astype(float) for s in streams) / 3
    found = fuse.average(streams)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("of", ["logits", "probs"])
def test_weighted_is_the_formula(streams, of):
    weights = [1.0, 1.5, 0.25]
    expected = sum(w * getattr(s, of).astype(float) for w, s in zip(weights, streams, strict=True))
    found = weighted(streams, weights, of)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected / 2.75, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(weighted(streams, [0, 1, 0], of), getattr(streams[1], of))


def test_svm_features_are_stacked_unit_vectors(streams):
    found = svm.features(streams)
    assert found.shape == (60, 12)
    for row in (0, 17):
        parts = [s.probs[row].astype(float) for s in streams]
        expected = np.concatenate([p / np.sqrt((p**2).sum()) for p in parts])
        np.testing.assert_allclose(found[row], expected, rtol=1e-13)


@pytest.mark.parametrize("c", [0.1, 1.0])
def test_svm_is_scikit_learns_fitted_on_the_training_clips(streams, c):
    x = np.hstack([s.probs.astype(float) for s in streams]).reshape(60, 3, 4)
    x = (x / np.sqrt((x**2).sum(2, keepdims=True))).reshape(60, 12)
    train = streams[0].subset == "train"
    direct = LinearSVC(multi_class="crammer_singer", C=c, random_state=0, max_iter=100_000)
    direct.fit(x[train], streams[0].label[train])
    fitted = svm.fit(streams, c, **SVM)
    np.testing.assert_allclose(fitted.coef_, direct.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        svm.scores_of(fitted, streams), direct.decision_function(x), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("shown", [(1, 3), (0, 1, 3)])
def test_a_class_the_svm_was_not_shown_comes_last(streams, shown):
    kept = np.isin(streams[0].label, shown) | (streams[0].subset == "test")
    streams = [s.rows(kept) for s in streams]
    fitted = svm.fit(streams, 1.0, **SVM)
    found = svm.scores_of(fitted, streams)
    assert found.shape == (kept.sum(), 4)
    hidden = [c for c in range(4) if c not in shown]
    assert (found[:, hidden].max(1) < found[:, list(shown)].min(1)).all()
    np.testing.assert_array_equal(found.argmax(1), fitted.predict(svm.features(streams)))


def test_command_without_params_file(folder, monkeypatch, streams, capsys):
    paths = [f"scores/{s.stream}.h5" for s in streams]
    options = ("--weights", 1, 1.5, 0.5, "--weighted-of", "probs", "--svm-c", 0.5)
    call(monkeypatch, "out", *paths, *options)
    assert sorted(p.name for p in (folder / "out").iterdir()) == sorted(OUTS)
    test = streams[0].subset == "test"
    labels, found = streams[0].label[test], results(folder / "out")
    assert list(found) == ["streams", "fusion"]
    assert list(found["streams"]) == ["spatial", "temporal", "warped"]
    assert list(found["fusion"]) == list(fuse.METHODS)
    expected = {
        "average": fuse.average(streams),
        "weighted": weighted(streams, [1, 1.5, 0.5], "probs"),
        "svm": svm.scores_of(svm.fit(streams, 0.5, **SVM), streams),
    }
    columns = {s.stream: s.probs for s in streams} | expected
    measured = found["streams"] | found["fusion"]
    for name, scores in columns.items():
        assert measured[name]["videos"] == test.sum() == 30
        right = accuracy_score(labels, scores[test].argmax(1))
        assert measured[name]["top1"] == pytest.approx(right, abs=1e-6)
    with (folder / "out/predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["video_id", "truth", *columns]
    assert [r["video_id"] for r in rows] == streams[0].video_id[test].tolist()
    assert [r["truth"] for r in rows] == [CLASSES[i] for i in labels]
    for name, scores in columns.items():
        assert [r[name] for r in rows] == [CLASSES[i] for i in scores[test].argmax(1)]
    assert "fusion svm" in capsys.readouterr().out


def test_weights_are_searched_by_val_and_told(folder, monkeypatch, streams, capsys):
    held_out = [replace(s, subset=np.where(np.arange(60) % 4 == 1, "val", s.subset))
                for s in streams]  # fmt: skip
    for scores in held_out:
        write_scores(folder / "scores" / f"{scores.stream}.h5", scores)
    call(monkeypatch, "out", *(f"scores/{s.stream}.h5" for s in streams), "--search-weights",
         "--weighted-of", "logits", "--svm-c", 1)  # fmt: skip
    found = json.loads((folder / "out/weights.json").read_text())
    assert list(found.values()) == search(held_out, "logits")
    said = ", ".join(f"{name} {weight:g}" for name, weight in found.items())
    assert f"weighted: {said}, the best on 15 val clips" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call(monkeypatch, "out", "scores/spatial.h5", "--search-weights", "--weights", 1)


def test_svm_file_gives_the_svms_answers_again(folder, monkeypatch, streams):
    call(monkeypatch, "out", *(f"scores/{s.stream}.h5" for s in streams),
         "--weights", 1, 1, 1, "--weighted-of", "logits", "--svm-c", 1)  # fmt: skip
    with h5py.File(folder / "out/svm.h5") as file:
        assert list(file.attrs["streams"]) == ["spatial", "temporal", "warped"]
        assert tuple(file.attrs["classes"]) == CLASSES
        x = svm.features(streams)
        values = x @ file["coef"][()].T + file["intercept"][()]
        answers = file["labels"][()][values.argmax(1)]
    fitted = svm.fit(streams, 1.0, **SVM)
    np.testing.assert_array_equal(answers, fitted.predict(x))


def test_command_with_params_takes_the_streams_it_names(folder, monkeypatch, streams):
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"))
    known = fuse.load().fuse
    # A file that params don't name must not be taken.
    write_scores(folder / "scores" / "other.h5", make("other", seed=8))
    call(monkeypatch, "out", "scores")
    found = results(folder / "out")
    assert tuple(found["streams"]) == known.streams
    by_name = {s.stream: s for s in streams}
    chosen = [by_name[name] for name in known.streams]
    test = chosen[0].subset == "test"
    scores = weighted(chosen, [known.weights[n] for n in known.streams], known.weighted_of)
    right = accuracy_score(chosen[0].label[test], scores[test].argmax(1))
    assert found["fusion"]["weighted"]["top1"] == pytest.approx(right, abs=1e-6)


def test_files_that_params_do_not_name_weigh_the_same(folder, monkeypatch, capsys):
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (folder / "scores/spatial.h5").rename(folder / "scores/mine.h5")
    call(monkeypatch, "out", "scores/mine.h5", "scores/temporal.h5")
    assert "equal weights" in capsys.readouterr().out
    assert list(results(folder / "out")["streams"]) == ["mine", "temporal"]


def test_outputs_are_the_same_bytes_each_time(folder, monkeypatch, streams):
    for out in ("one", "two"):
        call(monkeypatch, out, *(f"scores/{s.stream}.h5" for s in streams),
             "--weights", 1, 1, 1, "--weighted-of", "logits", "--svm-c", 1)  # fmt: skip
    for name in OUTS:
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes(), name


def test_no_training_clips_no_svm(tmp_path, capsys):
    streams = [make(name, seed=i, train=False) for i, name in enumerate(("rgb", "flow"))]
    fuse.run(tmp_path / "out", streams, weights=[1, 1], weighted_of="logits", svm_c=1.0, **SVM)
    assert results(tmp_path / "out")["fusion"]["svm"] is None
    assert not (tmp_path / "out/svm.h5").exists()
    header = (tmp_path / "out/predictions.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "video_id,truth,rgb,flow,average,weighted"
    assert "svm: not fitted: the scores hold train clips of 0 classes" in capsys.readouterr().out


def test_params_without_an_svm_fit_none(folder, monkeypatch, capsys):
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(params.replace("  svm: true ", "  svm: false"))
    call(monkeypatch, "out", "scores")
    assert results(folder / "out")["fusion"]["svm"] is None
    assert "svm: not fitted: fuse.svm is false" in capsys.readouterr().out
    call(monkeypatch, "out", "scores", "--svm-c", 1)  # asked for by name
    assert results(folder / "out")["fusion"]["svm"]["videos"] > 0


def test_a_run_without_an_svm_removes_the_last_ones(tmp_path):
    for train, files in ((True, OUTS), (False, OUTS[:3])):
        streams = [make("rgb", train=train)]
        fuse.run(tmp_path / "out", streams, weights=[1], weighted_of="logits", svm_c=1.0, **SVM)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(files)


def test_a_failed_write_leaves_the_last_files_whole(tmp_path, monkeypatch):
    def write(seed):
        streams = [make("rgb", seed=seed)]
        fuse.run(tmp_path / "out", streams, weights=[1], weighted_of="logits", svm_c=1.0, **SVM)

    write(1)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(path, *_):
        path.write_text("half a line")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fuse, "_write_predictions", full)
    with pytest.raises(OSError, match="No space left"):
        write(2)
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert after.keys() == before.keys()
    assert after["predictions.csv"] == before["predictions.csv"]


@pytest.mark.parametrize("names", [("rgb", "rgb"), *((name, "rgb") for name in fuse.RESERVED)])
def test_streams_whose_names_clash_are_refused(tmp_path, names):
    streams = [make(name, seed=i) for i, name in enumerate(names)]
    with pytest.raises(ScoresError, match=f"score files: got the name '{names[0]}', expected each"):
        fuse.run(tmp_path / "out", streams, weights=[1, 1], weighted_of="logits", svm_c=1.0, **SVM)
    assert not (tmp_path / "out").exists()


def test_a_single_stream_is_its_own_average(tmp_path):
    fuse.run(tmp_path / "out", [make("rgb")], weights=[1], weighted_of="logits", svm_c=1.0, **SVM)
    found = results(tmp_path / "out")
    assert found["fusion"]["average"] == found["streams"]["rgb"] == found["fusion"]["weighted"]


def test_no_test_clips_is_an_error(tmp_path):
    scores = make("rgb")
    with pytest.raises(ScoresError, match="rgb: no video of the subset test"):
        fuse.run(tmp_path / "out", [scores.rows(scores.subset == "train")],
                 weights=[1], weighted_of="logits", svm_c=1.0, **SVM)  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scores/gone.h5", "--weights", 1], r"fuse: scores/gone\.h5"),
        (["scores", "--weights", 1], "needed to know which streams"),
        (["scores/spatial.h5", "scores/warped.h5", "--weights", 1], "each of 2 score files"),
        (["scores/spatial.h5", "scores/warped.h5", "--weights", 0, 0], "weights"),
        (["scores/spatial.h5", "scores/warped.h5", "--weights", 1, -1], "weights"),
        (["scores/spatial.h5", "scores/warped.h5", "--weights", 1, "nan"], r"got \[1\.0, nan\]"),
        (["scores/spatial.h5", "scores/warped.h5", "--weights", 1, "inf"], r"got \[1\.0, inf\]"),
        (["scores/spatial.h5", "./scores/spatial.h5", "--weights", 1, 1], "the name 'spatial'"),
    ],
)
def test_the_command_ends_in_one_line(folder, monkeypatch, arguments, said):
    with pytest.raises(SystemExit, match=said) as caught:
        call(monkeypatch, "out", *arguments, "--weighted-of", "logits", "--svm-c", 1)
    assert "\n" not in str(caught.value)


def test_the_command_without_params_or_values_says_so(folder, monkeypatch):
    expected = r"^fuse: params\.yaml: no such file, expected it or --weighted-of, --svm-c$"
    with pytest.raises(SystemExit, match=expected):
        call(monkeypatch, "out", "scores/spatial.h5", "--weights", 1)


@pytest.mark.parametrize("c", ["-1", "nan", "inf"])
def test_the_c_of_an_svm_is_above_zero(folder, monkeypatch, c):
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"))
    with pytest.raises(SystemExit, match=rf"^fuse: svm_c: got {float(c)}, expected a number above"):
        call(monkeypatch, "out", "scores/spatial.h5", f"--svm-c={c}")


def test_an_out_that_is_a_file_is_one_line(folder, monkeypatch):
    (folder / "out").write_text("mine")
    with pytest.raises(SystemExit, match=r"^fuse: [^\n]*out'?$"):
        call(monkeypatch, "out", "scores/spatial.h5",
             "--weights", 1, "--weighted-of", "logits", "--svm-c", 1)  # fmt: skip
    assert (folder / "out").read_text() == "mine"


def test_two_files_of_ucf101s_size(tmp_path, monkeypatch):
    """3,783 test videos of 101 classes: summed logits give numpy's accuracy exactly."""
    monkeypatch.chdir(tmp_path)
    classes = tuple(f"c{i:03}" for i in range(101))
    made = [make(name, count=3783, classes=classes, signal=2.0, seed=seed, train=False)
            for name, seed in (("rgb", 1), ("flow", 2))]  # fmt: skip
    for scores in made:
        order = np.random.default_rng(len(scores.stream)).permutation(3783)
        write_scores(tmp_path / f"{scores.stream}.h5", scores.rows(order))
    call(monkeypatch, "out", "rgb.h5", "flow.h5",
         "--weights", 1, 1, "--weighted-of", "logits", "--svm-c", 1)  # fmt: skip
    summed = made[0].logits.astype(float) + made[1].logits.astype(float)
    right = summed.argmax(1) == made[0].label
    found = results(tmp_path / "out")["fusion"]["weighted"]
    assert found["top1"] == round(float(right.mean()), 6) and found["videos"] == 3783
    assert 0.2 < found["top1"] < 0.95
    by_class = [right[made[0].label == c].mean() for c in range(101)]
    assert found["mean_class_accuracy"] == round(float(np.mean(by_class)), 6)
    with (tmp_path / "out/predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(r["weighted"] == r["truth"] for r in rows) == right.sum()
