import os
import subprocess

import pytest

from pipeline.whole_file import remove_left, whole_file


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_file_takes_its_place_once_it_is_whole(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")
    (tmp_path / "link").hardlink_to(path)
    with whole_file(path) as scratch:
        scratch.write_text("new")
        assert path.read_text() == "old"
        assert (scratch.parent, scratch.suffix) == (tmp_path, ".csv")
        assert scratch.name.startswith(".")
    assert (path.read_text(), (tmp_path / "link").read_text()) == ("new", "old")
    assert sorted(names(tmp_path)) == ["a.csv", "link"]


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(failure), whole_file(path) as scratch:
        scratch.write_text("half")
        raise failure
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.csv"]


def test_what_a_killed_process_left_is_not_written_into(tmp_path):
    item = tmp_path / "item"
    item.write_text("whole")
    (tmp_path / f".a.csv.{os.getpid()}.csv").hardlink_to(item)
    with whole_file(tmp_path / "a.csv") as scratch:
        scratch.write_text("new")
    assert item.read_text() == "whole"


def test_two_links_to_one_file_leave_nothing_behind(tmp_path):
    (tmp_path / "item").write_text("whole")
    for _ in range(2):
        with whole_file(tmp_path / "a.csv") as scratch:
            scratch.hardlink_to(tmp_path / "item")
    assert sorted(names(tmp_path)) == ["a.csv", "item"]


def test_what_killed_processes_left_of_a_file_is_removed_and_nothing_else(tmp_path):
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    keep = ["a[1].csv", "b.csv", f".b.csv.{dead.pid}.csv", f".a[1].csv.{os.getpid()}.csv",
            ".a[1].csv.old.csv", f".a1.csv.{dead.pid}.csv"]  # fmt: skip
    for name in (*keep, f".a[1].csv.{dead.pid}.csv", f".a[1].csv.{10**30}.csv"):
        (tmp_path / name).touch()
    remove_left(tmp_path / "a[1].csv")
    assert sorted(names(tmp_path)) == sorted(keep)
