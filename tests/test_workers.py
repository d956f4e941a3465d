"""Processes and the GPUs they see; tests/test_jobs.py has what becomes of failing tasks."""

import multiprocessing
import os
import signal
import time
from multiprocessing.context import SpawnProcess

import pytest

from pipeline import workers


def tell_gpu(name, log):
    """Note which GPU this process may use; long enough for the other process to take its turn."""
    time.sleep(0.2)
    with log.open("a") as file:
        file.write(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")


@pytest.mark.parametrize(
    ("visible", "seen"),
    [("5,7", {"5", "7"}), ("5", {"5"}), ("GPU-ab, GPU-cd,GPU-ef", {"GPU-ab", "GPU-cd"})],
)
def test_each_process_sees_one_gpu_in_turn(tmp_path, monkeypatch, visible, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("PIPELINE_WORKERS", "2")
    log = tmp_path / "log"
    tasks = [workers.Task(tmp_path / str(n), (n, log)) for n in range(12)]
    assert not any(failure for _, failure in workers.run(tell_gpu, tasks, 30.0, workers.counts()))
    told = dict(line.split() for line in log.read_text().splitlines())
    assert len(told) == 2
    assert set(told.values()) == seen


def die_at_first(log):
    """Die of a signal when there is no log yet."""
    if not log.exists():
        log.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.5])  # within which the pool notes that it is broken
def test_a_worker_that_dies_while_another_starts_leaves_none_behind(tmp_path, monkeypatch, pause):
    monkeypatch.setenv("PIPELINE_WORKERS", "2")
    start, started = SpawnProcess.start, []

    def slowly(process):
        started.append(process)
        if len(started) == 2:
            while started[0].is_alive():
                time.sleep(0.05)
            time.sleep(pause)
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", slowly)
    before = set(multiprocessing.active_children())
    tasks = [workers.Task(tmp_path / str(n), (tmp_path / "log",)) for n in range(4)]
    told = dict(workers.run(die_at_first, tasks, 30.0, workers.counts()))
    assert told == {task.name: "" for task in tasks}
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize(
    ("variable", "nodes", "expected"),
    [
        (None, ["nvidia3", "nvidia6", "nvidiactl", "nvidia-uvm", "nvidia-caps"], ["0", "1"]),
        (None, ["nvidiactl", "null"], []),
        ("", ["nvidia0"], []),
        ("1", ["nvidia0", "nvidia1"], ["1"]),
        ("MIG-a,MIG-b", [], ["MIG-a", "MIG-b"]),
    ],
)
def test_visible_gpus(tmp_path, monkeypatch, variable, nodes, expected):
    monkeypatch.setattr(workers, "_DEVICES", tmp_path)
    for name in nodes:
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert workers.visible_gpus() == expected
