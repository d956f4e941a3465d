"""Progress of long work, as a log file shows it."""

import re
import time

from pipeline import progress, stalls, workers


def beat(count):
    """Show some signs of progress, slowly."""
    for _ in stalls.alive(range(count)):
        time.sleep(0.02)


def test_signs_of_progress_are_counted_while_tasks_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_WORKERS", "2")
    made = workers.counts()
    tasks = [workers.Task(tmp_path / str(count), (count,)) for count in (5, 7, 11)]
    assert dict(workers.run(beat, tasks, 30.0, made)) == {task.name: "" for task in tasks}
    assert sum(made) == 5 + 7 + 11


def test_a_bar_tells_of_work_that_has_not_ended(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_LOG_EVERY", 0.2)
    frames = iter(range(1000))
    with (
        progress.progress(total=1, desc="flow", unit="video") as bar,
        progress.ticking(bar, lambda: f"{next(frames)} frames"),
    ):
        time.sleep(2)
    lines = [line for line in capsys.readouterr().err.splitlines() if "frames" in line]
    assert len(lines) >= 2
    assert all(re.fullmatch(r"flow: +0%\|.*0/1 \[00:0.*\d+ frames\]", line) for line in lines)
