"""The item store: hashes and locks; tests/test_jobs.py has what is kept in it, and pruned."""

import fcntl
import multiprocessing
import time

from pipeline import items


def test_hashes_tell_contents_and_names(tmp_path):
    for folder, name, text in (("x", "1", "a"), ("y", "1", "a"), ("z", "2", "a"), ("w", "1", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    x, y, z, w = (items.hash_of(tmp_path / folder) for folder in "xyzw")
    assert x == y
    assert len({x, z, w}) == 3


def test_a_lock_is_let_go_although_a_forked_process_has_it_open(tmp_path):
    """As a loading process of a training that failed, which lives on for a while."""
    with items.waiting(tmp_path / "lock", "first"):
        forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
        forked.start()
    try:
        with (tmp_path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        forked.kill()
