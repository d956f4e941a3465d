"""The same work on a Dask cluster: two workers that stand in for two machines."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_project as project

from pipeline import workers

pytest.importorskip("distributed")

PATH = os.pathsep.join(str(project.ROOT / name) for name in ("", "tests"))

STAGES = (
    "sh", "-ec",
    f"""{sys.executable} -m pipeline.decode data/index data/frames
    {sys.executable} -m pipeline.flow data/frames data/flow
    {sys.executable} -m pipeline.warped_flow data/frames data/flow data/warped_flow""",
)  # fmt: skip


class Cluster:
    """A scheduler and workers of one thread each, in a folder that is not the project's."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        self.file = folder / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                    "--scheduler-file", str(self.file),
                    DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1")  # fmt: skip
        deadline = time.monotonic() + 30
        while not self.file.exists() or not self.file.read_text().endswith("}"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.address = json.loads(self.file.read_text())["address"]

    def _start(self, kind, *options, **env):
        with (self.folder / f"{kind}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", kind, *options],
                cwd=self.folder, env={**os.environ, "PYTHONPATH": PATH} | env,
                stdout=log, stderr=log,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def worker(self, *options):
        """Start a worker; it joins when it is ready."""
        name = f"local{len(self.processes)}"
        return self._start("worker", self.address, "--nthreads", "1", "--no-dashboard",
                           "--host", "127.0.0.1", "--local-directory", str(self.folder / name),
                           *options)  # fmt: skip

    def end(self):
        """End all, the workers first."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def cluster(tmp_path_factory):
    """Start a scheduler; the test starts the workers."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.end()


def test_a_cluster_gives_the_same_bytes_and_outlives_a_worker(tmp_path, cluster):
    here, there = project.make(tmp_path / "here"), tmp_path / "there"
    project.run(
        here, command=(sys.executable, "-m", "pipeline.index", "videos", "videos", "data/index")
    )
    shutil.copytree(here, there, copy_function=shutil.copyfile)
    _, doomed = cluster.worker(), cluster.worker("--no-nanny")
    run = project.start(there, command=STAGES, DASK_SCHEDULER_ADDRESS=cluster.address)
    while len(list(there.glob(".items/flow/*/item.json"))) < 3:
        assert run.poll() is None, project.said(there)
        time.sleep(0.01)
    doomed.send_signal(signal.SIGKILL)
    assert run.wait() == 0, project.said(there)
    assert "Warning" not in project.said(there)
    on_cluster, made = project.results(there), project.whole_items(there)
    project.run(here, command=STAGES)
    assert project.results(here) == on_cluster

    # Nothing of the cluster is in the keys: without it, all is there already.
    for out in project.STAGES.values():
        shutil.rmtree(there / "data" / out)
    said = project.run(there, command=STAGES)
    assert said.count(f"({project.CLIPS} reused)") == len(project.STAGES)
    assert project.results(there) == on_cluster
    assert project.whole_items(there) == made


def deadly(number, log):
    """Do some work; one task kills whoever takes it up."""
    with log.open("a") as file:
        file.write(f"{number}\n")
    time.sleep(0.1)
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        raise ZeroDivisionError("a bug")


def test_a_task_that_kills_its_workers_fails_alone(tmp_path, cluster, monkeypatch):
    cluster.worker()
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.address)
    tasks = [workers.Task(tmp_path / str(n), (n, tmp_path / "log")) for n in range(8)]
    told = dict(workers.run(deadly, tasks, 30.0, workers.counts()))
    assert {name.name: failure for name, failure in told.items() if failure} == {
        "3": "its worker process died again and again (out of memory?)",
        "5": "ZeroDivisionError: a bug",
    }


def stalling(number, log):
    with log.open("a") as file:
        file.write(f"{number}\n")
    if number == 1:
        time.sleep(600)


def test_a_task_that_stalls_is_tried_once(tmp_path, cluster, monkeypatch):
    """Named by a path from here, while the workers stand in another folder."""
    cluster.worker()
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.address)
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log"
    tasks = [workers.Task(Path(str(n)), (n, log)) for n in range(3)]
    told = {
        name.name: failure for name, failure in workers.run(stalling, tasks, 2.0, workers.counts())
    }
    assert told == {"0": "", "1": "made no progress for 2 s (limits.stalled_seconds)", "2": ""}
    assert log.read_text().split().count("1") == 1


def test_a_cluster_without_the_pipeline_is_told_in_a_line(tmp_path, cluster, monkeypatch):
    cluster.worker()
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.address)
    (tmp_path / "only_here.py").write_text("def work():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    work = importlib.import_module("only_here").work
    expected = r"^the cluster at tcp://\S+ can't do .*No module named 'only_here'.*$"
    with pytest.raises(RuntimeError, match=expected):
        list(workers.run(work, [workers.Task(tmp_path / "x", ())], 1.0, workers.counts()))


def test_a_cluster_that_is_not_there_is_told_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:9")
    monkeypatch.setattr(workers, "_PATIENCE", 1)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9 after 1 s"):
        list(workers.run(print, [workers.Task(tmp_path / "x", ())], 1.0, workers.counts()))
