"""Work on one video is done once, whole or not at all."""

import pytest

from pipeline import items


def write_text(folder, video_id, text, log):
    """Stand for a stage's work: write one file, and a line that tells that it was done."""
    with log.open("a") as file:
        file.write(text + "\n")
    if text == "bad":
        raise items.Excluded("not good")
    if text == "crash":
        (folder / f"{video_id}.h5").write_text("half")
        raise ZeroDivisionError("a bug")
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

    def run(texts: dict, setting=1, out="out"):
        log.write_text("")
        jobs = [
            items.Job(video_id=name, key={"t": text, "s": setting}, arguments=(text, log))
            for name, text in texts.items()
        ]
        done = items.run_jobs("work", write_text, jobs, tmp_path / out)
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
    assert done["renamed"] == items.Done(3, "", True)
    assert stage({"a": "one"}, setting=2, out="o5")[1] == ["one"]
    assert stage({"a": "one"}, setting=1, out="o6")[1] == []


def test_results_are_links(stage, tmp_path):
    stage({"a": "one"})
    stage({"a": "one"}, out="again")
    first, second = tmp_path / "out/a.h5", tmp_path / "again/a.h5"
    assert first.stat().st_ino == second.stat().st_ino


def test_an_exclusion_is_an_answer_too(stage, tmp_path):
    done, worked = stage({"a": "bad", "b": "two"})
    assert done["a"] == items.Done(0, "not good", False)
    assert sorted(worked) == ["bad", "two"]
    done, worked = stage({"a": "bad"}, out="again")
    assert (done["a"].reason, done["a"].reused, worked) == ("not good", True, [])
    assert list((tmp_path / "again").iterdir()) == []


def test_a_crash_keeps_the_rest_and_leaves_nothing_half_made(stage, tmp_path):
    with pytest.raises(ZeroDivisionError):
        stage({"a": "one", "b": "crash"})
    made = list((tmp_path / ".items/work").iterdir())
    assert [path.name.startswith("making-") for path in made] == [False]
    assert stage({"a": "one"}, out="again")[1] == []


def test_equal_videos_are_computed_once(stage, tmp_path):
    done, worked = stage({"a": "same", "b": "same"})
    assert worked == ["same"]
    assert (tmp_path / "out/b.h5").read_text() == "same"
    assert list(done) == ["a", "b"]


def test_folders_are_linked_file_by_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_WORKERS", "1")
    job = items.Job(video_id="v", key={}, arguments=(0,))
    items.run_jobs("folders", write_folder, [job], tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out/v").iterdir())
    assert names == ["img_00001.jpg", "img_00002.jpg", "img_00003.jpg"]


def test_hashes_tell_contents_and_names(tmp_path):
    for folder, name, text in (("x", "1", "a"), ("y", "1", "a"), ("z", "2", "a"), ("w", "1", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    x, y, z, w = (items.hash_of(tmp_path / folder) for folder in "xyzw")
    assert x == y
    assert len({x, z, w}) == 3
