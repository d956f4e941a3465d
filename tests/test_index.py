import os
import sys
from pathlib import Path

import pytest
from small_dataset import SWIM, columns, indexed, make, settings, write

from pipeline import index
from pipeline.index import run
from pipeline.listings import DatasetError

CONTENT_SHA256 = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"  # b"content"

# A folder a class


def test_folders(tmp_path, capsys):
    root = make(
        tmp_path / "videos", "Run/a.mp4", "Run/deep/b.AVI", "Jump/a.mov", "Jump/b.mov",
        "Jump/notes.txt", "Jump/.c.mp4", ".cache/x.mp4", "README",
    )  # fmt: skip
    (root / "Jump/a.mov").write_bytes(b"content")
    (root / "Swim").mkdir()
    rows = indexed(root, root, test_fraction=0.5)
    assert columns(rows, "video_id", "class_name", "label", "status") == {
        "Jump/a.mov": ("Jump__a", "Jump", 0, "ok"),
        "Jump/b.mov": ("Jump__b", "Jump", 0, "ok"),
        "Run/a.mp4": ("Run__a", "Run", 1, "ok"),
        "Run/deep/b.AVI": ("Run__deep__b", "Run", 1, "ok"),
    }
    row = rows["Jump/a.mov"]
    assert row.sha256 == CONTENT_SHA256
    assert (row.path, row.dataset, row.frames) == (str(root / "Jump/a.mov"), "mine", 0)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "index: no video in the folders: Swim"
    assert said[1].startswith(
        "index: 4 videos (2 train, 0 val, 2 test) of 2 classes; 0 missing, 0 excluded, "
        "2 other files; "
    )


def test_folders_of_subsets(tmp_path):
    root = make(
        tmp_path / "videos", "Train/Run/a.mp4", "train/Jump/b.mp4", "validation/Run/c.mp4",
        "test/Jump/d.mp4",
    )  # fmt: skip
    rows = indexed(root, root)
    assert columns(rows, "video_id", "label", "subset") == {
        "Train/Run/a.mp4": ("Train__Run__a", 1, "train"),
        "train/Jump/b.mp4": ("train__Jump__b", 0, "train"),
        "validation/Run/c.mp4": ("validation__Run__c", 1, "val"),
        "test/Jump/d.mp4": ("test__Jump__d", 0, "test"),
    }


def test_a_class_may_be_called_train(tmp_path):
    root = make(tmp_path / "videos", "train/a.mp4", "train/b.mp4", "car/a.mp4", "car/b.mp4")
    assert {row.class_name for row in indexed(root, root).values()} == {"train", "car"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], r"videos: no video in it \(0 other files\), expected <class>/<video>"),
        (["Run/a.txt"], r"no video in it \(1 other files\)"),
        (["Run/a.mp4", "b.mp4"], r"videos/b\.mp4: a video of no class, expected .*<class>/<video>"),
        (["train/a.mp4", "test/b.mp4"], r"test/b\.mp4: a video of no class"),
        (["train/R/a.mp4", "test/R/b.mp4", "Run/c.mp4"], r"folders test, train beside 1 others"),
    ],
)
def test_folders_that_are_laid_out_otherwise(tmp_path, files, expected):
    (tmp_path / "videos").mkdir()
    root = make(tmp_path / "videos", *files)
    with pytest.raises(DatasetError, match=expected):
        indexed(root, root)


def test_no_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"videos: no such folder"):
        indexed(tmp_path / "videos", tmp_path)


def test_links(tmp_path):
    root = make(tmp_path / "real", "Run/a.mp4", "Run/b.mp4", *SWIM)
    cache = "cache/files/md5/ab/" + "0" * 30
    make(tmp_path, "outside.mp4", "elsewhere/Run/x.mp4", cache, cache + "1")
    (root / "Run/in.mp4").symlink_to("a.mp4")
    (root / "Run/out.mp4").symlink_to(tmp_path / "outside.mp4")
    (root / "Run/gone.mp4").symlink_to("nowhere.mp4")
    (root / "Run/loop.mp4").symlink_to("loop.mp4")
    (root / "Run/cached.mp4").symlink_to(tmp_path / cache)
    (root / "Run/no_cache.mp4").symlink_to(tmp_path / (cache + "1"))
    (root / "Run/linked").symlink_to(tmp_path / "elsewhere/Run")
    os.mkfifo(root / "Run/pipe.mp4")
    (tmp_path / "videos").symlink_to(root)
    rows = indexed(tmp_path / "videos", tmp_path)
    out = ("excluded", "symbolic link out of the dataset's folder", "")
    assert columns({k: r for k, r in rows.items() if r.status != "ok"}, "status", "reason",
                   "sha256") == {
        "Run/linked": out,
        "Run/out.mp4": out,
        "Run/no_cache.mp4": out,
        "Run/gone.mp4": ("missing", "no such file", ""),
        "Run/loop.mp4": ("excluded", "not a regular file", ""),
        "Run/pipe.mp4": ("excluded", "not a regular file", ""),
    }  # fmt: skip
    assert {path for path, row in rows.items() if row.status == "ok"} == {
        "Run/a.mp4", "Run/b.mp4", "Run/in.mp4", "Run/cached.mp4", *SWIM,
    }  # fmt: skip
    assert rows["Run/in.mp4"].subset == rows["Run/a.mp4"].subset  # one content


def test_a_name_that_is_not_utf8_is_a_row(tmp_path, capsys):
    root = make(tmp_path / "videos", "Run/a.mp4", "Run/b.mp4", 'Run/new\nline, "q".mp4', *SWIM)
    Path(os.fsdecode(os.fsencode(root) + b"/Run/caf\xe9.mp4")).write_bytes(b"x")
    rows = indexed(root, root)
    assert rows["Run/caf\\udce9.mp4"].reason == "name is not UTF-8"
    assert rows['Run/new\nline, "q".mp4'].status == "ok"
    assert "excluded: " in capsys.readouterr().out


def test_a_file_that_cannot_be_read_is_a_row(tmp_path, monkeypatch):
    root = make(tmp_path / "videos", "Run/a.mp4", "Run/b.mp4", "Run/c.mp4", *SWIM)
    hash_of = index.items.hash_of

    def refuse(path):
        if path.name == "b.mp4":
            raise PermissionError(13, "Permission denied")
        return hash_of(path)

    monkeypatch.setattr(index.items, "hash_of", refuse)
    row = indexed(root, root)["Run/b.mp4"]
    assert (row.status, row.reason) == ("excluded", "can't be read: Permission denied")


def test_rows_are_sorted_by_id(tmp_path):
    paths = ("a/x.mp4", "a b/x.mp4", "a-b/x.mp4", "A/x.mp4", "a/x!.mp4")
    root = make(
        tmp_path / "videos", *(f"{subset}/{p}" for subset in ("test", "train") for p in paths)
    )
    rows = indexed(root, root).values()
    ids = [row.video_id for row in rows]
    assert ids == sorted(ids)
    assert [row.path for row in rows] != sorted(row.path for row in rows)


def test_one_class_to_train_on_is_an_error(tmp_path, capsys):
    root = make(tmp_path / "videos", "Run/a.mp4", "Run/b.mp4")
    make(tmp_path, "elsewhere/b.mp4")
    (root / "Swim").symlink_to(tmp_path / "elsewhere")
    expected = r"videos: got usable train clips of 1 of 2 classes \(Run\), expected some of two"
    with pytest.raises(DatasetError, match=expected):
        indexed(root, root)
    said = capsys.readouterr().out
    assert "Swim (symbolic link out of the dataset's folder)" in said
    assert "index: no train clip of the classes: Swim\n" in said
    assert not (tmp_path / "index").exists()

    lists = write(tmp_path / "l.csv", "path,label,subset\nRun/a.mp4,Run,test\ngone,Swim,train\n")
    with pytest.raises(DatasetError, match=r"train clips of 0 of 2 classes \(none\)"):
        indexed(root, lists, format="csv")


def test_a_half_finished_download_is_used_and_keeps_the_labels(tmp_path, capsys):
    classes = ("Archery", "Bowling", "Crawl", "Diving")
    lists = tmp_path / "lists"
    write(lists / "classInd.txt", "".join(f"{i} {name}\n" for i, name in enumerate(classes, 1)))
    for kind, number in (("train", 2), ("test", 1)):
        lines = [f"{c}/v_{c}_g0{number}.avi {i}\n" for i, c in enumerate(classes, 1)]
        write(lists / f"{kind}list01.txt", "".join(lines))
    root = make(tmp_path / "videos", "Bowling/v_Bowling_g02.avi", "Bowling/v_Bowling_g01.avi",
                "Diving/v_Diving_g02.avi", "Crawl/v_Crawl_g01.avi")  # fmt: skip
    rows = indexed(root, lists, format="ucf101", test_fraction=0.0).values()
    assert {(row.class_name, row.label) for row in rows} == set(zip(classes, range(4), strict=True))
    assert {row.class_name for row in rows if (row.subset, row.status) == ("train", "ok")} == {
        "Bowling", "Diving",
    }  # fmt: skip
    said = capsys.readouterr().out
    assert "index: no train clip of the classes: Archery, Crawl\n" in said
    assert "fractions aren't used" not in said


def test_fractions_that_are_not_used_are_said(tmp_path, capsys):
    root = make(tmp_path / "videos", *(f"{s}/{c}/a.mp4" for s in ("train", "test") for c in "ab"))
    indexed(root, root, test_fraction=0.1, val_fraction=0.0)
    make(root, *(f"val/{c}/a.mp4" for c in "ab"))
    indexed(root, root, test_fraction=0.0, val_fraction=0.1)
    said = capsys.readouterr().out.splitlines()
    assert sum("dataset's fractions aren't used" in line for line in said) == 2


def test_a_part_of_a_given_train_list_is_held_out_by_group(tmp_path, capsys):
    names = [f"{c}/v_{c}_g{g:02}_c{n:02}.avi" for c in ("Dive", "Run") for g in range(1, 11)
             for n in (1, 2)]  # fmt: skip
    lists = tmp_path / "lists"
    write(lists / "classInd.txt", "1 Dive\n2 Run\n")
    write(lists / "trainlist01.txt", "".join(f"{n} {1 + ('Run' in n)}\n" for n in names[2:]))
    write(lists / "testlist01.txt", "".join(f"{n}\n" for n in names[:2]))
    root = make(tmp_path / "videos", *names)
    rows = indexed(root, lists, format="ucf101", val_fraction=0.25, test_fraction=0.0,
                   group_pattern=r"v_\w+_g\d+").values()  # fmt: skip
    assert {row.video_id for row in rows if row.subset == "test"} == {
        "v_Dive_g01_c01", "v_Dive_g01_c02",
    }  # fmt: skip
    held = {row.video_id[:-4] for row in rows if row.subset == "val"}
    assert {sum(c in group for group in held) for c in ("Dive", "Run")} <= {2, 3}
    assert not held & {row.video_id[:-4] for row in rows if row.subset == "train"}
    assert "fractions aren't used" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\na,R\nb,S\n", r"no usable clip of the subset test, .*test_fraction above 0"),
        ("path,label,subset\na,R,train\nb,S,train\n", "subset test, 0 are listed: expected some"),
        ("path,label,subset\na,R,train\nb,S,train\nc,S,test\n", "subset test, 1 are listed"),
    ],
)
def test_a_dataset_without_a_test_clip_is_an_error(tmp_path, text, expected):
    root = make(tmp_path / "videos", "a", "b")
    with pytest.raises(DatasetError, match=expected):
        indexed(root, write(tmp_path / "l.csv", text), format="csv", test_fraction=0.0)
    assert not (tmp_path / "index").exists()


# Groups


def test_groups_are_the_first_capture_over_all_classes(tmp_path):
    names = [f"{c}/v_g{g:02}_c{i}.avi" for c in ("Jump", "Run") for g in range(10) for i in (1, 2)]
    root = make(tmp_path / "v_g99_c0", *names)
    rows = indexed(root, root, group_pattern=r"_g(\d+)_", test_fraction=0.3, val_fraction=0.2)
    sides = {(path.split("_")[1], row.subset) for path, row in rows.items()}
    assert len(sides) == 10
    assert sorted(subset for _, subset in sides) == ["test"] * 3 + ["train"] * 5 + ["val"] * 2
    again = indexed(root, root, group_pattern=r"g\d+(?=_c)", test_fraction=0.3, val_fraction=0.2)
    assert len({(path.split("_")[1], row.subset) for path, row in again.items()}) == 10


def test_copies_stay_together_but_empty_files_are_no_copies(tmp_path, capsys):
    root = make(tmp_path / "videos", *(f"Run/{name}.mp4" for name in "abcdefgh"), *SWIM)
    for name in "abcd":
        (root / f"Run/{name}.mp4").write_bytes(b"")
    for name in "efg":
        (root / f"Run/{name}.mp4").write_bytes(b"one content")
    for seed in range(5):
        rows = indexed(root, root, test_fraction=0.5, seed=seed)
        assert len({rows[f"Run/{name}.mp4"].subset for name in "efg"}) == 1
        assert len({rows[f"Run/{name}.mp4"].subset for name in "abcd"}) == 2
        assert rows["Run/a.mp4"].sha256.startswith("e3b0c442")
    assert "same content" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"group_pattern": r"_g(\d+)_"}, r"Run/odd\.mp4: got no match for dataset\.group_pattern"),
        ({"group_pattern": "mp"}, r"test_fraction: got 2 clips in 1 groups.*none is left for test"),
        ({"val_fraction": 0.3}, r"val_fraction: got 2 clips in 2 groups.*none is left for val"),
    ],
)
def test_groups_that_do_not_work(tmp_path, changes, expected):
    root = make(tmp_path / "videos", "Run/a_g01_.mp4", "Run/odd.mp4")
    with pytest.raises(DatasetError, match=expected):
        indexed(root, root, **changes)


def test_a_pattern_is_refused_before_a_video_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(index.items, "hash_of", lambda path: pytest.fail(f"read {path}"))
    root = make(tmp_path / "videos", "Run/a_g01_.mp4", "Run/odd.mp4")
    with pytest.raises(DatasetError, match=r"dataset\.group_pattern"):
        indexed(root, root, group_pattern=r"_g(\d+)_")


def test_a_class_of_one_group_cannot_be_tested(tmp_path):
    root = make(tmp_path / "videos", "Jump/a.mp4", *(f"Run/{i}.mp4" for i in range(9)))
    with pytest.raises(DatasetError, match=r"test_fraction: .* for test of the classes: Jump; "):
        indexed(root, root)


def test_the_same_dataset_gives_the_same_bytes(tmp_path):
    root = make(tmp_path / "videos", *(f"{c}/{i}.mp4" for c in "abc" for i in range(9)))
    run(root, root, tmp_path / "one", settings())
    run(root, root, tmp_path / "two", settings())
    one = (tmp_path / "one/videos.csv").read_bytes()
    assert one == (tmp_path / "two/videos.csv").read_bytes()
    run(root, root, tmp_path / "two", settings(seed=2))
    assert one != (tmp_path / "two/videos.csv").read_bytes()


def test_main_says_an_error_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["index", str(tmp_path / "none"), "lists", "out"])
    monkeypatch.setattr(index, "load", lambda: type("P", (), {"dataset": settings()}))
    with pytest.raises(SystemExit, match=r"^index: .*none: no such folder, expected [^\n]*$"):
        index.main()
