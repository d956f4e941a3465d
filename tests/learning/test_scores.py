"""Score files of whoever wrote them, and how several are joined."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from pipeline.learning.scores import Scores, ScoresError, join, read_scores, write_scores
from pipeline.learning.scoring import write_answers
from pipeline.videos import Video

CLASSES = ("run", "jump", "café")


def make(stream="rgb", *, count=6, classes=CLASSES, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, len(classes))).astype(np.float32)
    exps = np.exp(logits.astype(float))
    return Scores(
        stream=stream,
        classes=classes,
        video_id=np.array([f"v_{i:02}" for i in range(count)]),
        label=np.arange(count) % len(classes),
        subset=np.array((["train", "test", "val"] * count)[:count]),
        logits=logits,
        probs=(exps / exps.sum(1, keepdims=True)).astype(np.float32),
    )


def same(a, b):
    assert a.classes == b.classes
    for name in ("video_id", "label", "subset", "logits", "probs"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_written_and_read(tmp_path):
    write_scores(tmp_path / "rgb.h5", make())
    found = read_scores(tmp_path / "rgb.h5")
    assert found.stream == "rgb"
    same(found, make())
    assert [path.name for path in tmp_path.iterdir()] == ["rgb.h5"]


def test_same_scores_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_scores(tmp_path / name, make())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def foreign(path, scores, **changes):
    """Write a file as another program would: bytes, float64, and things of its own."""
    data = {
        "video_id": np.array([v.encode() for v in scores.video_id.tolist()]),
        "label": scores.label.astype(np.uint8),
        "subset": np.array([v.encode() for v in scores.subset.tolist()]),
        "logits": scores.logits.astype(np.float64),
        "probs": scores.probs.astype(np.float64),
    } | changes
    with h5py.File(path, "w") as file:
        file.attrs["classes"] = np.array([name.encode() for name in scores.classes])
        file["features"] = np.zeros((len(scores.label), 7))
        for name, values in data.items():
            if values is not None:
                file[name] = values
    return path


def test_another_programs_file(tmp_path):
    found = read_scores(foreign(tmp_path / "rgb.h5", make()))
    same(found, make())
    assert found.logits.dtype == found.probs.dtype == np.float32


def test_half_precision_is_read(tmp_path):
    scores = make()
    path = foreign(tmp_path / "rgb.h5", scores, probs=scores.probs.astype(np.float16))
    np.testing.assert_allclose(read_scores(path).probs, scores.probs, atol=1e-3)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
def test_labels_that_are_whole_numbers_are_read(tmp_path, kind):
    found = read_scores(foreign(tmp_path / "rgb.h5", make(), label=make().label.astype(kind)))
    same(found, make())
    assert found.label.dtype == np.int64


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(ValueError):
        write_scores(tmp_path / "rgb.h5", replace(make(), label=np.array(["run"] * 6)))
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(OSError):
        write_scores(tmp_path / "folder.h5", make())
    assert [path.name for path in tmp_path.iterdir()] == ["folder.h5"]


def test_rows_in_any_order(tmp_path):
    shuffled = make().rows(np.random.default_rng(3).permutation(6))
    read = read_scores(foreign(tmp_path / "flow.h5", shuffled))
    first, second = join([make(), read])
    assert second.stream == "flow"
    same(second, first)


def test_classes_in_any_order():
    mine = make()
    order = [2, 0, 1]
    theirs = replace(
        mine,
        stream="flow",
        classes=tuple(CLASSES[i] for i in order),
        label=np.argsort(order)[mine.label],
        logits=mine.logits[:, order],
        probs=mine.probs[:, order],
    )
    assert (theirs.label != mine.label).any()
    same(join([mine, theirs])[1], mine)
    # As the first, it decides the order.
    same(join([theirs, mine])[1], theirs)


def test_videos_that_one_lacks_are_left_out_and_named(capsys):
    first, second = join([make().rows([0, 1, 2, 4]), make("flow").rows([5, 4, 2, 1])])
    assert first.video_id.tolist() == second.video_id.tolist() == ["v_01", "v_02", "v_04"]
    np.testing.assert_array_equal(first.logits, make().logits[[1, 2, 4]])
    assert (
        "2 videos are not in every score file and left out: v_00, v_05" in capsys.readouterr().out
    )


def test_nothing_is_said_where_all_is_there(capsys):
    join([make(), make("flow")])
    assert capsys.readouterr().out == ""


def bad(name, row, value):
    def spoil(scores):
        values = getattr(scores, name).copy()
        values[row] = value
        return {name: values}

    return spoil


def as_bytes(*values):
    return np.array([v.encode() for v in values])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: {"probs": None}, "no probs, expected video_id, label, subset, logits, probs"),
        (lambda s: {"logits": s.logits[:, :2]}, r"logits has shape \(6, 2\), expected \(6, 3\)"),
        (lambda s: {"probs": s.probs[:5]}, r"probs has shape \(5, 3\), expected \(6, 3\)"),
        (lambda s: {"label": s.label[:4]}, r"label has shape \(4,\), expected \(6,\)"),
        (
            lambda s: {"video_id": as_bytes("a", "b", "c", "b", "d", "e")},
            "video_id 'b' is there more than once",
        ),
        (bad("label", 3, 3), "label holds .* expected 0 to 2"),
        (lambda s: {"label": s.label.astype(np.int64) - 1}, "label holds .* expected 0 to 2"),
        (lambda s: {"label": s.label + 0.5}, "label holds .* expected whole numbers"),
        (lambda s: {"label": s.label + np.nan}, "label holds .* expected whole numbers"),
        (lambda s: {"label": s.label * 2.0}, "label holds .* expected 0 to 2"),
        (lambda s: {"label": np.int64(0)}, r"label has shape \(\), expected \(6,\)"),
        (lambda s: {"video_id": b"v_00"}, r"video_id has shape \(\), expected one dimension"),
        (lambda s: {"subset": "test"}, r"subset has shape \(\), expected one dimension"),
        (
            lambda s: {"video_id": np.array([b"caf\xe9", *[f"{i}".encode() for i in range(5)]])},
            "video_id is not UTF-8",
        ),
        (
            lambda s: {"logits": s.logits.astype("S9")},
            r"logits has the type \|S9, expected numbers",
        ),
        (lambda s: {"probs": s.probs.astype(bool)}, "probs has the type bool, expected numbers"),
        (
            lambda s: {"subset": as_bytes(*["train"] * 5, "dev")},
            "subset holds 'dev', expected one of train, val, test",
        ),
        (bad("logits", (2, 1), np.nan), "logits of v_02 are not finite"),
        (bad("probs", (4, 0), np.inf), "probs of v_04 are not finite"),
        (lambda s: {"probs": s.probs * 1.1}, "probs of v_00 sum to 1.1, expected probabilities"),
        (bad("probs", 1, [-0.5, 0.5, 1.0]), "probs of v_01 sum to 1, expected probabilities"),
        (lambda s: {"probs": s.logits.astype(np.float64)}, "expected probabilities"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, spoil, said):
    path = foreign(tmp_path / "rgb.h5", make(), **spoil(make()))
    with pytest.raises(ScoresError, match=said) as caught:
        read_scores(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_no_file_no_hdf5_no_classes_and_a_class_twice(tmp_path):
    with pytest.raises(ScoresError, match=r"gone\.h5"):
        read_scores(tmp_path / "gone.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(ScoresError, match=r"text\.h5: not a readable HDF5 file"):
        read_scores(tmp_path / "text.h5")
    path = foreign(tmp_path / "rgb.h5", make())
    with h5py.File(path, "a") as file:
        del file.attrs["classes"]
    with pytest.raises(ScoresError, match="no attribute classes"):
        read_scores(path)
    with h5py.File(path, "a") as file:
        file.attrs["classes"] = "run"
    with pytest.raises(ScoresError, match=r"rgb\.h5: classes has shape \(\), expected one"):
        read_scores(path)
    with h5py.File(path, "a") as file:
        file.attrs["classes"] = np.array([b"run", b"jump", b"caf\xe9"], h5py.string_dtype())
    with pytest.raises(ScoresError, match=r"rgb\.h5: classes is not UTF-8"):
        read_scores(path)
    with h5py.File(path, "a") as file:
        del file["probs"]
        file.create_group("probs")
    with pytest.raises(ScoresError, match=r"rgb\.h5: probs is a group, expected a dataset"):
        read_scores(path)
    path = foreign(tmp_path / "twice.h5", replace(make(), classes=("run", "jump", "run")))
    with pytest.raises(ScoresError, match="one name twice"):
        read_scores(path)


def test_streams_that_do_not_fit_together():
    mine, theirs = make(), make("flow")
    with pytest.raises(ScoresError, match="no video is in all of rgb, flow"):
        join([mine.rows([0, 1]), theirs.rows([2, 3])])
    with pytest.raises(ScoresError, match="flow and rgb have other classes: 'jump' is in one only"):
        join([mine, replace(theirs, classes=("run", "leap", "café"))])
    other = replace(theirs, label=np.where(theirs.video_id == "v_03", 1, theirs.label))
    with pytest.raises(ScoresError, match="disagree on the label of v_03: 1 and 0"):
        join([mine, other])
    other = replace(theirs, subset=np.where(theirs.video_id == "v_01", "val", theirs.subset))
    with pytest.raises(ScoresError, match="disagree on the subset of v_01: val and test"):
        join([mine, other])


def test_answers_that_are_no_numbers_are_refused(tmp_path):
    videos = [Video(video_id=f"v{n}", path="", dataset="d", class_name="a", label=0, subset="test",
                    sha256="", status="ok", reason="", frames=2) for n in range(3)]  # fmt: skip

    def answer(share):
        for number in share:
            yield np.full(2, np.nan if number else 1.0), np.full(2, 0.5)

    with pytest.raises(ValueError, match="rgb: got scores of v1 that are no numbers, and of 1 mor"):
        write_answers(tmp_path / "rgb.h5", videos, ["a", "b"], answer, name="rgb")
    assert not list(tmp_path.iterdir())
