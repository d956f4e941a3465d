"""Work on one video is done once, whole or not at all."""

import errno
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import items
from pipeline.jobs import Done, Excluded, Job, _make_item, refuse_too_many, run_jobs
from pipeline.out_folder import out_folder
from pipeline.params import Limits

LIMITS = Limits(stalled_seconds=60.0, max_excluded=1.0, max_untaught=0.0)


def write_text(folder, video_id, text, log):
    """Stand for a stage's work: write one file, and a line that tells that it was done."""
    with log.open("a") as file:
        file.write(text + "\n")
    (folder / f"{video_id}.h5").write_text("half")
    if text == "bad":
        raise Excluded("not good")
    if text == "crash":
        raise ZeroDivisionError("a bug")
    if text == "full":
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))
    if text == "hang":
        time.sleep(600)
    if text == "deadly" or (text == "unlucky" and log.read_text().count("unlucky") == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"{video_id}.h5").write_text(text)
    return len(text)


def write_folder(folder, video_id, _log):
    """Stand for a store of pictures."""
    (folder / video_id).mkdir()
    for n in range(3):
        (folder / video_id / f"img_{n + 1:05}.jpg").write_text(str(n))
    return 3


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Run jobs in an empty project; returns (results, the texts that were worked on)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_WORKERS", "1")
    log = tmp_path / "log"

    def run(texts: dict, setting=1, out="out", limits=LIMITS):
        log.write_text("")
        jobs = [
            Job(
                video_id=name,
                source=Path(text),
                key={"t": text, "s": setting},
                arguments=(text, log),
            )
            for name, text in texts.items()
        ]
        done = run_jobs("work", write_text, jobs, tmp_path / out, limits)
        return done, log.read_text().split()

    return run


def test_only_what_is_new_is_computed(stage, tmp_path):
    assert stage({"a": "one", "b": "two"})[1] == ["one", "two"]
    # Added, removed, renamed, changed and changed back; the out folder is new, as DVC makes it.
    assert stage({"a": "one", "b": "two", "c": "three"}, out="o2")[1] == ["three"]
    assert stage({"b": "two"}, out="o3")[1] == []
    done, worked = stage({"renamed": "one"}, out="o4")
    assert worked == []
    assert (tmp_path / "o4/renamed.h5").read_text() == "one"
    assert done["renamed"] == Done(Path("one"), 3, "", True)
    assert stage({"a": "one"}, setting=2, out="o5")[1] == ["one"]
    assert stage({"a": "one"}, setting=1, out="o6")[1] == []


@pytest.mark.parametrize("change", ["cut", "longer", "gone", "note cut", "note gone"])
def test_an_item_that_has_changed_on_disk_is_made_anew(stage, tmp_path, capsys, change):
    stage({"a": "one", "b": "two"})
    item = next(path.parent for path in (tmp_path / ".items/work").glob("*/a.h5"))
    file = item / ("item.json" if change.startswith("note") else "a.h5")
    if change.endswith("gone"):
        file.unlink()
    else:
        with file.open("r+b") as opened:  # in place, as a failing disk does: the out changes too
            opened.truncate(100 if change == "longer" else 2)
    done, worked = stage({"a": "one", "b": "two"}, out="again")
    assert worked == ["one"] and not done["a"].reused and done["b"].reused
    assert "work: one: what was made of it has changed since on disk" in capsys.readouterr().out
    assert (tmp_path / "again/a.h5").read_text() == "one"
    assert stage({"a": "one", "b": "two"}, out="third")[1] == []


def test_a_folder_that_lacks_a_picture_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = [Job(video_id="v", source=Path("v"), key={}, arguments=(None,))]
    run_jobs("work", write_folder, jobs, tmp_path / "out", LIMITS)
    next((tmp_path / ".items/work").glob("*/v/img_00002.jpg")).unlink()
    assert not run_jobs("work", write_folder, jobs, tmp_path / "again", LIMITS)["v"].reused
    assert len(list((tmp_path / "again/v").iterdir())) == 3


def test_results_are_links(stage, tmp_path):
    stage({"a": "one"})
    stage({"a": "one"}, out="again")
    first, second = tmp_path / "out/a.h5", tmp_path / "again/a.h5"
    assert first.stat().st_ino == second.stat().st_ino


def test_an_exclusion_is_an_answer_too(stage, tmp_path):
    done, worked = stage({"a": "bad", "b": "two"})
    assert done["a"] == Done(Path("bad"), 0, "not good", False)
    assert sorted(worked) == ["bad", "two"]
    done, worked = stage({"a": "bad"}, out="again")
    assert (done["a"].reason, done["a"].reused, worked) == ("not good", True, [])
    assert list((tmp_path / "again").iterdir()) == []


def whole(tmp_path):
    """List the store's items, having checked that nothing half-made lies beside them."""
    made = [path.name for path in (tmp_path / ".items/work").iterdir() if path.is_dir()]
    assert not [name for name in made if name.startswith("making-")]
    return made


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("crash", "ZeroDivisionError: a bug"),
        ("deadly", "its worker process died of signal 9, twice (out of memory?)"),
        ("hang", "made no progress for 2 s (limits.stalled_seconds)"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_bad_video_is_one_row(stage, tmp_path, monkeypatch, text, reason, workers):
    monkeypatch.setenv("PIPELINE_WORKERS", workers)
    limits = Limits(stalled_seconds=2.0, max_excluded=0.5, max_untaught=0.0)
    texts = {"a": "one", "b": text, "c": "three", "d": "four"}
    done, _ = stage(texts, limits=limits)
    assert {name: one.reason for name, one in done.items()} == {
        "a": "", "b": reason, "c": "", "d": ""
    }  # fmt: skip
    assert len(whole(tmp_path)) == 3
    # It says nothing about the file, so it is not kept: the next run tries again.
    assert stage(texts, out="again", limits=limits)[1][0] == text


def test_a_worker_that_is_killed_once_costs_nothing(stage, tmp_path):
    done, worked = stage({"a": "one", "b": "unlucky", "c": "three"})
    assert not any(one.reason for one in done.values())
    assert sorted(worked) == ["one", "three", "unlucky", "unlucky"]
    assert (tmp_path / "out/b.h5").read_text() == "unlucky"


def test_a_full_disk_stops_the_stage_and_loses_nothing(stage, tmp_path):
    with pytest.raises(OSError, match="No space left on device"):
        stage({"a": "one", "b": "full", "c": "three"})
    worked = stage({"a": "one", "c": "three"}, out="again")[1]
    assert "one" not in worked
    whole(tmp_path)


def test_too_many_exclusions_are_an_error_and_lose_nothing(stage):
    texts = {"a": "one", "b": "bad", "c": "bad"}
    done, _ = stage(texts)
    limits = Limits(stalled_seconds=60.0, max_excluded=0.6, max_untaught=0.0)
    said = r"^2 of 3 videos are excluded, .*; the first: bad: not good; all of them: o/videos\.csv$"
    with pytest.raises(RuntimeError, match=said):
        refuse_too_many(Path("o"), done, limits)
    refuse_too_many(Path("o"), done, replace(limits, max_excluded=0.7, max_untaught=0.0))
    done, worked = stage(texts, out="again")
    assert worked == []
    assert [one.reason for one in done.values()] == ["", "not good", "not good"]


def run_beside(folder, log):
    os.chdir(folder)
    jobs = [
        Job(video_id=str(n), source=Path(f"{n}"), key={"n": n}, arguments=(f"text{n}", log))
        for n in range(12)
    ]
    run_jobs("work", write_text, jobs, folder / "out", LIMITS)


def test_two_runs_at_once_share_the_work(tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=run_beside, args=(tmp_path, log)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
        assert run.exitcode == 0
    assert sorted(log.read_text().split()) == sorted(f"text{n}" for n in range(12))
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        f"{n}.h5": f"text{n}" for n in range(12)
    }


def test_linking_never_writes_into_what_stands_there(stage, tmp_path, monkeypatch):
    stage({"a": "one"})
    monkeypatch.setattr(items.Path, "hardlink_to", lambda *_: (_ for _ in ()).throw(OSError()))
    stage({"a": "other"})  # no links on this file system: a copy takes the place of a link
    assert (tmp_path / "out/a.h5").read_text() == "other"
    item = next((tmp_path / ".items/work").glob("*/a.h5"))
    assert {path.read_text() for path in item.parents[1].glob("*/a.h5")} == {"one", "other"}


def write_late(folder, video_id, go_on):
    """Stand for work that outlives its stage's folders."""
    (folder.parents[2] / "started").touch()
    while not go_on.exists():
        time.sleep(0.01)
    (folder / f"{video_id}.h5").write_text("late")
    return 1


def run_late(folder, kind):
    os.chdir(folder)
    job = Job(video_id="v", source=Path("v"), key={"late": 1}, arguments=(folder / "go_on",))
    try:
        with out_folder(Path("out")) as out:
            if kind == "links":
                run_jobs("work", write_late, [job], out, LIMITS)
            else:
                write_late(folder / ".items/work/x", "v", folder / "go_on")
            (out / "videos.csv").write_text("late")
    except RuntimeError as error:
        raise SystemExit(str(error)) from None


@pytest.mark.parametrize("kind", ["links", "table"])
@pytest.mark.parametrize("again", [True, False])
def test_a_run_left_over_writes_nothing_into_another_runs_folder(tmp_path, capfd, kind, again):
    """Its out folder was removed and made anew, as a later `dvc repro` does."""
    (tmp_path / ".items/work/x").mkdir(parents=True)
    left_over = multiprocessing.get_context("spawn").Process(target=run_late, args=(tmp_path, kind))
    left_over.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    (tmp_path / "out").rmdir()
    if again:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/v.h5").write_text("other params")
    (tmp_path / "go_on").touch()
    left_over.join()
    assert left_over.exitcode == 1
    assert "out was removed while this run wrote to it" in capfd.readouterr().err
    found = {path.name: path.read_text() for path in (tmp_path / "out").glob("*")}
    assert found == ({"v.h5": "other params"} if again else {})


def make_late(item, go_on):
    _make_item(write_late, item, "v", (go_on,))


def test_a_worker_left_over_harms_no_item(tmp_path):
    """It works on while another run clears up after it and makes the same item."""
    store = tmp_path / ".items/work"
    store.mkdir(parents=True)
    arguments = (store / "key", tmp_path / "go_on")
    context = multiprocessing.get_context("spawn")
    for cleared in (True, False):
        worker = context.Process(target=make_late, args=arguments)
        worker.start()
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        if cleared:
            items._remove_half_made(store)
        (tmp_path / "other").touch()
        _make_item(write_late, store / "key", "v", (tmp_path / "other",))
        (store / "key/v.h5").write_text("whole")
        (tmp_path / "go_on").touch()
        worker.join()
        assert worker.exitcode == (1 if cleared else 0)
        assert [path.name for path in store.iterdir()] == ["key"]
        assert (store / "key/v.h5").read_text() == "whole"
        for name in ("started", "go_on", "other"):
            (tmp_path / name).unlink()
        items.remove(store / "key")


def test_hdf5s_report_of_a_full_disk_is_told_in_a_line(tmp_path):
    def fail(*_):
        raise RuntimeError("Can't close (failed:\n, filename = '/v.h5', errno = 28, error = 'x'")

    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: '/v.h5'$"):
        _make_item(fail, tmp_path / "key", "v", ())
    assert list(tmp_path.iterdir()) == []


def test_prune_removes_what_the_last_run_did_not_use(stage, tmp_path, capsys):
    stage({"a": "one", "b": "two"})
    stage({"a": "one", "b": "three"}, out="again")
    (tmp_path / "out/b.h5").unlink()
    items.prune()
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == "work: removed 1 items, kept 2; freed 0.0 MB"
    assert stage({"a": "one", "b": "three"}, out="o3")[1] == []
    assert stage({"b": "two"}, out="o4")[1] == ["two"]


def test_equal_videos_are_computed_once(stage, tmp_path):
    done, worked = stage({"a": "same", "b": "same"})
    assert worked == ["same"]
    assert (tmp_path / "out/b.h5").read_text() == "same"
    assert list(done) == ["a", "b"]


def test_folders_are_linked_file_by_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_WORKERS", "1")
    job = Job(video_id="v", source=Path("v"), key={}, arguments=(0,))
    run_jobs("folders", write_folder, [job], tmp_path / "out", LIMITS)
    names = sorted(path.name for path in (tmp_path / "out/v").iterdir())
    assert names == ["img_00001.jpg", "img_00002.jpg", "img_00003.jpg"]
