import os
from collections import Counter
from pathlib import Path

import pytest

from pipeline.listings import DatasetError, read_csv, read_hmdb51, read_ucf101


def write(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.txt").write_bytes(text.encode())
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", r"list\.csv: no video in it"),
        ("path,label\n", r"list\.csv: no video in it"),
        ("path;label\na;b\n", r"list\.csv:1: got the columns path;label, expected path, label"),
        ("path,label,subsett\n", r":1: got the columns"),
        ("path,label\na.mp4\n", r":2: got 1 values, expected 2"),
        ("path,label\na.mp4, \n", r":2: got an empty value"),
        ("path,label\n,Run\n", r":2: got an empty value"),
        ("path,label\na.mp4,-1\n", r":2: got label -1, expected a name or a number from 0"),
        ("path,label,subset\na.mp4,R,dev\n", r":2: got subset 'dev', expected train, val, test"),
        ("path,label,subset\na.mp4,R,test\nb.mp4,R,\n", r":3: got subsets in some rows"),
        ("path,label\na.mp4,R\n./a.mp4,S\n", r":3: got \./a\.mp4 as S , expected R .*csv:2"),
        (
            "path,label,subset\na,R,test\n\n\na,R,train\n",
            r":5: got a as R train, expected R test as in .*list\.csv:2",
        ),
        ('path,label\n"a.mp4"x,R\n', r":2: got .*expected"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path, text, expected):
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode())
    with pytest.raises(DatasetError, match=expected):
        read_csv(path)


def test_csv_that_is_no_file_or_no_utf8(tmp_path):
    with pytest.raises(DatasetError, match=r"list\.csv: no such file, expected a list"):
        read_csv(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_bytes(b"path,label\ncaf\xe9,Run\n")
    with pytest.raises(DatasetError, match="expected UTF-8"):
        read_csv(tmp_path / "list.csv")


CLASSES = "1 Archery\n2 Run\n"


@pytest.mark.parametrize(
    ("classes", "train", "test", "expected"),
    [
        (CLASSES, "Archery/a.avi 2\n", "", r"trainlist01\.txt:1: got label 2, expected 1 for Arch"),
        (
            CLASSES,
            "Run/b.avi 2\nRun/a.avi\n",
            "",
            r"trainlist01\.txt:2: got 'Run/a\.avi', expected",
        ),
        (CLASSES, "Run/b.avi 3\n", "", r"trainlist01\.txt:1: got label 3, expected 2 for Run"),
        (CLASSES, "Swim/b.avi 1\n", "", r":1: got the class 'Swim', expected one of Archery, Run"),
        (CLASSES, "", "Run/a.avi\n\nSwim/b.avi\n", r"testlist01\.txt:3: got the class 'Swim'"),
        (CLASSES, "", "Run/a.avi 1\n", r"testlist01\.txt:1: got label 1, expected 2 for Run"),
        (CLASSES, "", "../../etc/passwd\n", r"testlist01\.txt:1: got the class 'etc'"),
        (CLASSES, "Run/a.avi 2\n", "Run/a.avi\n", r"testlist01\.txt:1: got Run/a\.avi as Run test"),
        (CLASSES, "", "", r"no video in trainlist01\.txt and testlist01\.txt"),
        ("Archery 1\n", "", "", r"classInd\.txt:1: got 'Archery 1', expected <number> <class>"),
        ("0 Archery\n", "", "", r"classInd\.txt:1: got label 0, expected one from 1"),
        ("1 Archery\n1 Run\n", "", "", r"classInd\.txt:2: got label 1 for Run, .*1 is Archery"),
        ("1 Archery\n2 archery\n", "", "", r"classInd\.txt:2: got label 2 for archery"),
        (
            None,
            "Run/a.avi 2\nArchery/a.avi 2\n",
            "",
            r"trainlist01\.txt:2: got label 2 for Archery",
        ),
        (None, "Run/a.avi 2\nRun/b.avi 3\n", "", r"trainlist01\.txt:2: got label 3 for Run"),
        (None, "Run/a.avi 2\n", "Swim/a.avi\n", r"testlist01\.txt:1: got the class 'Swim'"),
        (CLASSES, None, "Run/a.avi\n", r"trainlist01\.txt: no such file"),
        (CLASSES, "Run/a.avi 2\n", None, r"testlist01\.txt: no such file"),
    ],
)
def test_ucf101_lists_that_cannot_be_used(tmp_path, classes, train, test, expected):
    texts = {"classInd": classes, "trainlist01": train, "testlist01": test}
    write(tmp_path, **{name: text for name, text in texts.items() if text is not None})
    with pytest.raises(DatasetError, match=expected):
        read_ucf101(tmp_path, 1)


def test_ucf101_without_classes_numbers_them_as_the_train_list_does(tmp_path):
    write(
        tmp_path,
        trainlist03="Archery/a.avi 9\nYoga/a.avi 4\nArchery/a.avi 9\n",
        testlist03="Yoga/b.avi\n",
    )
    assert [(x.path, x.label, x.subset) for x in read_ucf101(tmp_path, 3).videos] == [
        ("Archery/a.avi", 1, "train"),
        ("Yoga/a.avi", 0, "train"),
        ("Yoga/b.avi", 0, "test"),
    ]


def test_ucf101_folders_may_be_spelt_otherwise(tmp_path):
    write(
        tmp_path,
        classInd="37 HandstandPushups\n",
        trainlist01="HandStandPushups/a.avi 37\n",
        testlist01="handstandpushups/b.avi\n",
    )
    assert [(x.path, x.class_name, x.label) for x in read_ucf101(tmp_path, 1).videos] == [
        ("HandStandPushups/a.avi", "HandstandPushups", 0),
        ("handstandpushups/b.avi", "HandstandPushups", 0),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.avi 3\n", r"wave_test_split1\.txt:1: got 'a\.avi 3', expected <video> and 0, 1 or 2"),
        ("a.avi 1\na.avi\n", r"wave_test_split1\.txt:2: got 'a\.avi'"),
        ("a.avi 1\na.avi 2\n", r":2: got wave/a\.avi as wave test, expected wave train"),
        ("a.avi 0\n", r"no video in its lists with 1 or 2"),
    ],
)
def test_hmdb51_lists_that_cannot_be_used(tmp_path, text, expected):
    with pytest.raises(DatasetError, match=expected):
        read_hmdb51(write(tmp_path, wave_test_split1=text), 1)
    with pytest.raises(DatasetError, match=r"no list in it, expected <class>_test_split3\.txt"):
        read_hmdb51(tmp_path, 3)


@pytest.mark.data
@pytest.mark.parametrize(
    ("split", "train", "test"), [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)]
)
def test_the_official_lists_have_their_known_counts(split, train, test):
    folder = os.environ.get("OFFICIAL_LISTS")
    if not folder:
        pytest.skip("OFFICIAL_LISTS names no folder with ucfTrainTestlist and "
                    "testTrainMulti_7030_splits")  # fmt: skip
    ucf101 = read_ucf101(Path(folder) / "ucfTrainTestlist", split).videos
    assert Counter(video.subset for video in ucf101) == {"train": train, "test": test}
    labels = {video.class_name: video.label for video in ucf101}
    assert sorted(labels.values()) == list(range(101))
    assert (labels["ApplyEyeMakeup"], labels["HandstandPushups"], labels["YoYo"]) == (0, 36, 100)
    hmdb51 = read_hmdb51(Path(folder) / "testTrainMulti_7030_splits", split).videos
    assert Counter(video.subset for video in hmdb51) == {"train": 3570, "test": 1530}
    labels = {video.class_name: video.label for video in hmdb51}
    assert sorted(labels.values()) == list(range(51))
    assert (labels["brush_hair"], labels["wave"]) == (0, 50)
