"""Killed at any moment, or on a full disk: nothing is lost, mixed or done twice."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import small_project as project

VICTIMS = ("worker", "stage", "dvc", "group")
# What DVC says of a file that it was writing when it was killed; it makes both anew.
TORN = {
    "Unable to read RWLock-file": ".dvc/tmp/rwlock",
    "dvc.lock' validation failed": "dvc.lock",
    "unable to read: 'dvc.lock'": "dvc.lock",
    "has no attribute 'endswith'": "dvc.lock",
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Give a finished project and what it holds."""
    folder = project.make(tmp_path_factory.mktemp("undisturbed"))
    project.run(folder)
    return folder, project.results(folder)


@pytest.fixture
def fresh(undisturbed, tmp_path):
    """Give a project that has not run yet."""
    folder = tmp_path / "project"
    shutil.copytree(undisturbed[0], folder, copy_function=shutil.copyfile)
    forget(folder)
    return folder


def forget(folder):
    """Take a project back to before its first run."""
    for name in (".items", ".dvc/cache", ".dvc/tmp", "data"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "dvc.lock").unlink(missing_ok=True)


def kill(victim, dvc, rng):
    """Send SIGKILL to one of the processes that are there now, or to all of them."""
    try:
        stages = psutil.Process(dvc.pid).children()
        workers = [worker for stage in stages for worker in stage.children()]
        found = {"worker": workers, "stage": stages}.get(victim, [])
        if victim == "group":
            os.killpg(dvc.pid, signal.SIGKILL)
        elif found:
            rng.choice(found).kill()
        else:
            dvc.kill()
    except psutil.NoSuchProcess:
        pass


class Chain:
    """One run after the other, each killed, until one gets to its end."""

    def __init__(self, folder, expected):
        self.folder, self.expected, self.torn = folder, expected, []
        self.made, self.ends = {}, 0
        self.run = project.start(folder)

    def kill_after(self, seconds, victim, rng):
        """Let it run for a while, then kill."""
        before = time.monotonic() + seconds
        while (left := before - time.monotonic()) > 0:
            try:
                self.run.wait(left)
            except subprocess.TimeoutExpired:
                break
            self.go_on()
        kill(victim, self.run, rng)
        if victim in ("dvc", "group"):
            self.run.wait()
            self.go_on()

    def note(self):
        """Check that what was whole once is still the same file on disk."""
        now = project.whole_items(self.folder)
        assert self.made.items() <= now.items()
        self.made = now

    def go_on(self):
        """Start again what has ended: at its end, from nothing; else where it was."""
        if self.run.returncode == 0:
            self.check()
            self.ends += 1
            self.made = {}
            forget(self.folder)
        elif self.run.returncode != -signal.SIGKILL:
            said = project.said(self.folder)
            for words, name in TORN.items():
                if words in said:
                    self.torn.append(name)
                    (self.folder / name).unlink()
                    break
            else:
                assert "failed to reproduce" in said, said
                assert re.search("exited with (-9|137)", said), said  # a shell tells 137
        self.note()
        self.run = project.start(self.folder)

    def check(self):
        """Compare a finished run with one that nothing disturbed."""
        self.note()
        assert len(self.made) == len(project.STAGES) * project.CLIPS
        found = project.results(self.folder)
        assert found.keys() == self.expected.keys()
        assert [name for name in found if found[name] != self.expected[name]] == []

    def finish(self):
        """Let it come to its end."""
        while self.run.wait() != 0:
            self.go_on()
        self.check()
        assert not list(self.folder.glob(".items/*/making-*"))


def test_killed_at_a_few_moments(fresh, undisturbed):
    rng = random.Random(0)
    chain = Chain(fresh, undisturbed[1])
    for victim in ("worker", "dvc", "stage", "group"):
        chain.kill_after(rng.uniform(1.5, 4), victim, rng)
    chain.finish()


@pytest.mark.slow
def test_killed_at_fifty_moments(fresh, undisturbed):
    rng = random.Random(1)
    chain = Chain(fresh, undisturbed[1])
    for number in range(50):
        chain.kill_after(rng.uniform(0.2, 8), VICTIMS[number % len(VICTIMS)], rng)
    chain.finish()
    print(f"came to the end {chain.ends + 1} times; torn: {chain.torn}")


def test_what_dvc_itself_leaves_torn_costs_no_work(undisturbed, tmp_path):
    folder, expected = tmp_path / "project", undisturbed[1]
    shutil.copytree(undisturbed[0], folder)
    (folder / "dvc.lock").write_bytes(b"")
    assert project.start(folder).wait() != 0
    assert any(words in project.said(folder) for words in TORN)
    (folder / "dvc.lock").unlink()
    # The lock of a dvc that is dead is no obstacle.
    dead = subprocess.Popen(["true"])
    dead.wait()
    held = {str(folder / "data/flow"): {"pid": dead.pid, "cmd": "dvc repro"}}
    (folder / ".dvc/tmp/rwlock").write_text(json.dumps({"write": held}))
    said = project.run(folder)
    assert [line for line in said.splitlines() if " new)" in line and "(0 new)" not in line] == []
    assert project.results(folder) == expected


def test_ctrl_c_ends_a_stage_at_once_in_one_line_and_it_goes_on(fresh, undisturbed):
    project.run(fresh, command=("dvc", "repro", "index"))
    command = (sys.executable, "-m", "pipeline.decode", "data/index", "data/frames")
    status = 0
    while status == 0:  # it was faster than this
        shutil.rmtree(fresh / ".items", ignore_errors=True)
        run = project.start(fresh, command=command)
        while run.poll() is None and not list(fresh.glob(".items/decode/making-*")):
            time.sleep(0.002)
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does: the workers get it, too
        status = run.wait(timeout=20)
    assert status == 1
    said = project.said(fresh)
    assert re.search(r"\ndecode: stopped after \d+ of 12 videos; the same command goes on", said)
    assert "Traceback" not in said
    made = project.whole_items(fresh)
    project.run(fresh, command=command)
    assert made.items() <= project.whole_items(fresh).items()
    frames = {name: data for name, data in undisturbed[1].items() if "/frames/" in name}
    assert frames.items() <= project.results(fresh).items()


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/dash"])
def test_a_stage_ends_soon_after_its_dvc(fresh, shell):
    """Whether the shell between them makes way for the stage, as bash does, or stays."""
    if not Path(shell).exists():
        pytest.skip(f"no {shell} here")
    dvc = project.start(fresh, SHELL=shell)
    while not list(fresh.glob(".items/decode/making-*")):
        assert dvc.poll() is None
        time.sleep(0.01)
    family = psutil.Process(dvc.pid).children(recursive=True)
    assert any("pipeline.decode" in process.cmdline() for process in family)
    dvc.kill()
    dvc.wait()
    assert psutil.wait_procs(family, timeout=10)[1] == []


@pytest.fixture
def mounted():
    """Mount things, and take the mounts away at the end."""
    at = []

    def mount(*command):
        if subprocess.run(["mount", *map(str, command)], capture_output=True).returncode:
            pytest.skip("nothing can be mounted here")
        at.append(command[-1])

    yield mount
    for path in reversed(at):
        subprocess.run(["umount", "--lazy", str(path)], capture_output=True)


def stage(folder, name, *paths):
    """Run one stage without DVC; return its exit status and the last line that it said."""
    command = (sys.executable, "-m", f"pipeline.{name}", *paths)
    status = project.start(folder, command=command).wait()
    assert "Traceback" not in project.said(folder)
    return status, project.said(folder).splitlines()[-1]


def test_a_full_or_read_only_disk_stops_a_stage_in_one_line(undisturbed, tmp_path, mounted):
    folder, expected = tmp_path / "project", undisturbed[1]
    shutil.copytree(undisturbed[0], folder, ignore=shutil.ignore_patterns("frames", ".items"))
    decode = ("decode", "data/index", "data/frames")
    (folder / ".items").mkdir()
    mounted("-t", "tmpfs", "-o", "size=160k", "tmpfs", folder / ".items")
    status, said = stage(folder, *decode)
    assert status != 0
    assert said.startswith("decode: [Errno 28] No space left on device: ")
    made = project.whole_items(folder)
    assert 0 < len(made) < project.CLIPS

    mounted("-o", "remount,ro", folder / ".items")
    status, said = stage(folder, *decode)
    assert status != 0
    assert said.startswith("decode: [Errno 30] Read-only file system: '.items/")
    mounted("-o", "remount,rw,size=9m", folder / ".items")
    mounted("--bind", folder / "data", folder / "data")
    mounted("-o", "remount,ro,bind", folder / "data")
    status, said = stage(folder, *decode)
    assert status != 0
    first = r"'data/frames/\.c\d__v\d\d\.h5"  # whichever clip is placed first
    assert re.match(r"decode: \[Errno 30\] Read-only file system: " + first, said)

    subprocess.run(["umount", folder / "data"], check=True)
    status, said = stage(folder, *decode)
    assert status == 0
    assert f"({len(made)} reused)" in said
    assert made.items() <= project.whole_items(folder).items()
    frames = {name: data for name, data in expected.items() if name.startswith("data/frames/")}
    assert frames.items() <= project.results(folder).items()
