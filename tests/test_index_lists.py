"""The stage `index` by lists: a CSV, and the official ones of UCF101 and HMDB51."""

import pytest
from small_dataset import SWIM, columns, indexed, make, settings, write

from pipeline.index import run
from pipeline.listings import DatasetError
from pipeline.videos import read_videos

# CSV


def test_csv(tmp_path, capsys):
    root = make(tmp_path / "videos", "a.mp4", "sub/b, c.mp4", "d.mp4", "e.mp4")
    lists = write(
        tmp_path / "list.csv",
        '\ufeffpath,label,subset\r\na.mp4,Run,train\r\n"sub/b, c.mp4",Jump,test\r\n'
        "./d.mp4,Run,val\r\nd.mp4, Run,val\r\n\r\nnone.mp4,Jump,train\r\n"
        "e.mp4,Jump,train\r\n",
    )
    rows = indexed(root, lists, format="csv")
    assert columns(rows, "class_name", "label", "subset", "status") == {
        "a.mp4": ("Run", 1, "train", "ok"),
        "sub/b, c.mp4": ("Jump", 0, "test", "ok"),
        "d.mp4": ("Run", 1, "val", "ok"),
        "e.mp4": ("Jump", 0, "train", "ok"),
        "none.mp4": ("Jump", 0, "train", "missing"),
    }
    assert rows["none.mp4"].reason == "no such file"
    said = capsys.readouterr().out
    assert f"index: missing: {root}/none.mp4\n" in said
    assert "no test clip of the classes: Run\n" in said
    assert "4 videos (2 train, 1 val, 1 test) of 2 classes; 1 missing, 0 excluded" in said


def test_csv_numbers_are_renumbered_in_their_order(tmp_path):
    root = make(tmp_path / "videos", "a", "b", "c", "d")
    lists = write(
        tmp_path / "list.csv", "label,path,subset\n10,a,train\n9,b,train\n2,c,train\n09,d,test\n"
    )
    rows = indexed(root, lists, format="csv")
    assert columns(rows, "class_name", "label") == {
        "a": ("10", 2), "b": ("9", 1), "c": ("2", 0), "d": ("9", 1),
    }  # fmt: skip


def test_csv_paths_stay_inside(tmp_path):
    root = make(tmp_path / "videos", "a.mp4", "b.mp4", "dir/c.mp4", *SWIM)
    make(tmp_path, "secret/x.mp4")
    (root / "hole").symlink_to(tmp_path / "secret")
    lists = write(
        tmp_path / "list.csv",
        "path,label\na.mp4,R\nb.mp4,R\n../../../etc/passwd,R\n/etc/passwd,R\ndir/../b.mp4,R\n"
        "hole/x.mp4,R\ndir,R\n.,R\n" + "".join(f"{path},S\n" for path in SWIM),
    )
    run(root, lists, tmp_path / "index", settings(format="csv"))
    got = {row.path: row for row in read_videos(tmp_path / "index/videos.csv")}
    reasons = {path: row.reason for path, row in got.items() if row.status == "excluded"}
    absolute = "absolute path, expected one relative to the dataset's folder"
    leads_out = "path leads out of the dataset's folder"
    assert reasons == {
        f"{root}/../../../etc/passwd": leads_out,
        "/etc/passwd": absolute,
        f"{root}/dir/../b.mp4": leads_out,
        f"{root}/hole/x.mp4": "symbolic link out of the dataset's folder",
        f"{root}/dir": "not a regular file",
        f"{root}": "not a regular file",
    }
    assert {path for path, row in got.items() if row.sha256} == {
        f"{root}/{path}" for path in ("a.mp4", "b.mp4", *SWIM)
    }


# Official lists


def test_ucf101(tmp_path, capsys):
    root = make(
        tmp_path / "videos", "Archery/v_Archery_g01_c01.avi", "Archery/v_Archery_g08_c01.avi",
        "HandStandPushups/v_HandStandPushups_g01_c01.avi",
        "HandstandPushups/v_HandstandPushups_g08_c01.avi", "Archery/v_Archery_g09_c01.avi",
        "Zumba/v_Zumba_g09_c01.avi",
    )  # fmt: skip
    lists = tmp_path / "lists"
    write(lists / "classInd.txt", "1 Zumba\r\n2 Yoga\r\n3 HandstandPushups\r\n4 Archery\r\n\r\n")
    write(
        lists / "trainlist02.txt",
        "Archery/v_Archery_g08_c01.avi 4\r\nHandstandPushups/v_HandStandPushups_g08_c01.avi 3\r\n"
        "Zumba/v_Zumba_g08_c01.avi 1\r\nZumba/v_Zumba_g09_c01.avi 1\r\n../../../etc/passwd 4\r\n",
    )
    write(
        lists / "testlist02.txt",
        "Archery/v_Archery_g01_c01.avi\r\nHandstandPushups/v_HandStandPushups_g01_c01.avi\r\n",
    )
    # Yoga is in no list, so it has no label.
    rows = indexed(root, lists, format="ucf101", split=2, name="ucf101")
    escape = rows.pop("../../../etc/passwd")
    assert (escape.class_name, escape.status, escape.sha256) == ("Archery", "excluded", "")
    assert columns(rows, "video_id", "class_name", "label", "subset", "status") == {
        "Archery/v_Archery_g01_c01.avi": ("v_Archery_g01_c01", "Archery", 2, "test", "ok"),
        "Archery/v_Archery_g08_c01.avi": ("v_Archery_g08_c01", "Archery", 2, "train", "ok"),
        "HandStandPushups/v_HandStandPushups_g01_c01.avi":
            ("v_HandStandPushups_g01_c01", "HandstandPushups", 1, "test", "ok"),
        "HandstandPushups/v_HandstandPushups_g08_c01.avi":
            ("v_HandStandPushups_g08_c01", "HandstandPushups", 1, "train", "ok"),
        "Zumba/v_Zumba_g08_c01.avi": ("v_Zumba_g08_c01", "Zumba", 0, "train", "missing"),
        "Zumba/v_Zumba_g09_c01.avi": ("v_Zumba_g09_c01", "Zumba", 0, "train", "ok"),
    }  # fmt: skip
    assert "no test clip of the classes: Zumba\n" in capsys.readouterr().out


def test_hmdb51(tmp_path):
    root = make(
        tmp_path / "videos",
        "wave/#1 (a)_wave_f.avi",
        "wave/b.avi",
        "wave/e.avi",
        "run/c.avi",
        "run/d.avi",
    )
    lists = tmp_path / "lists"
    write(
        lists / "wave_test_split1.txt",
        "#1 (a)_wave_f.avi 2 \r\nb.avi 0 \r\ne.avi 1\r\n/etc/passwd 1 \r\n",
    )
    write(lists / "run_test_split1.txt", "c.avi 1 \nd.avi 2\n../../x.avi 1\n")
    write(lists / "run_test_split2.txt", "c.avi 2 \n")
    out = tmp_path / "index"
    run(root, lists, out, settings(format="hmdb51"))
    got = {row.path: row for row in read_videos(out / "videos.csv")}
    assert columns(got, "class_name", "label", "subset", "status") == {
        f"{root}/wave/#1 (a)_wave_f.avi": ("wave", 1, "test", "ok"),
        f"{root}/wave/e.avi": ("wave", 1, "train", "ok"),
        "/etc/passwd": ("wave", 1, "train", "excluded"),
        f"{root}/run/c.avi": ("run", 0, "train", "ok"),
        f"{root}/run/d.avi": ("run", 0, "test", "ok"),
        f"{root}/run/../../x.avi": ("run", 0, "train", "excluded"),
    }
    assert got[f"{root}/run/c.avi"].video_id == "run__c"


def test_content_on_two_sides_of_an_official_split_is_said(tmp_path, capsys):
    root = make(tmp_path / "videos", "wave/a.avi", "wave/b.avi", "run/c.avi", "run/d.avi")
    for path in ("wave/a.avi", "wave/b.avi", "run/c.avi"):
        (root / path).write_bytes(b"one content")
    lists = tmp_path / "lists"
    write(lists / "wave_test_split1.txt", "a.avi 1\nb.avi 2\n")
    write(lists / "run_test_split1.txt", "c.avi 2\nd.avi 1\n")
    run(root, lists, tmp_path / "index", settings(format="hmdb51"))
    said = capsys.readouterr().out
    same = f"{root}/run/c.avi = {root}/wave/a.avi = {root}/wave/b.avi"
    assert f"index: the same content in two subsets: {same}\n" in said
    assert f"index: the same content in two classes: {same}\n" in said


def test_no_usable_video_and_long_lists_are_said_in_one_line(tmp_path, capsys):
    lists = tmp_path / "lists"
    write(lists / "run_test_split1.txt", "".join(f"{i:02}.avi 1\n" for i in range(12)))
    (tmp_path / "videos").mkdir()
    with pytest.raises(DatasetError, match=r"videos: none of 12 listed videos can be used \(the "
                       r"first: .*run/00\.avi: no such file\), expected"):  # fmt: skip
        indexed(tmp_path / "videos", lists, format="hmdb51")
    write(lists / "swim_test_split1.txt", "1.avi 1\n2.avi 2\n")
    make(tmp_path / "videos", "run/00.avi", "swim/1.avi", "swim/2.avi")
    indexed(tmp_path / "videos", lists, format="hmdb51")
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("index: missing"))
    assert line.count("run/") == 10 and line.endswith("… (11 in all)")
