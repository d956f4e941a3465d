"""The item store and the executor: work on one video is done once.

An item is a folder ``.items/<method>/<key>/`` under the project's root, outside every stage's outs,
because DVC deletes outs before it runs a stage. Its key is a hash of the content of the input, the
settings that bear on it and the version of the method, so that adding one video to ten thousand
computes one, a killed stage goes on where it stopped, and going back to old settings computes none.
Items are made in a temporary folder and renamed when whole, then hard-linked into the out folder
(copied where the file system has no links).
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(".items")


class Excluded(Exception):
    """Raised by a job whose video can't be used; the message is the reason in one line."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One video's work.

    Attributes
    ----------
    video_id : str
        Names what is made, and the link in the out folder.
    key : dict
        Everything that bears on the result, JSON-able: content hash, settings, versions.
    arguments : tuple
        Passed to the function after the folder it writes to; picklable.
    """

    video_id: str
    key: dict
    arguments: tuple


@dataclass(frozen=True)
class Done:
    """What came of a job: the count of frames or fields, or the reason why there are none."""

    frames: int
    reason: str
    reused: bool


def hash_of(path: Path) -> str:
    """Hash a file's content, or a folder's names and contents, as SHA-256 in hexadecimal."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for file in sorted(path.iterdir()):
        total.update(f"{file.name}\0{hash_of(file)}\n".encode())
    return total.hexdigest()


def workers() -> int:
    """Count the processes to use: ``PIPELINE_WORKERS``, else the cores this process may use."""
    return int(os.environ.get("PIPELINE_WORKERS") or len(os.sched_getaffinity(0)))


def run_jobs(
    method: str,
    make: Callable[..., int],
    jobs: Sequence[Job],
    out: Path,
) -> dict[str, Done]:
    """Do what is not done yet, side by side, and link every result into ``out``.

    Parameters
    ----------
    method : str
        Names the kind of work; a folder of the item store.
    make : callable
        ``make(folder, video_id, *arguments) -> count``: writes one video's result into ``folder``
        under a name that starts with ``video_id``. A function of a module, so that it can be sent
        to another process. Raises :class:`Excluded` for a video that can't be used; that answer is
        kept as well.
    jobs : sequence of Job
    out : Path
        The stage's out folder.

    Returns
    -------
    dict
        :class:`Done` by ``video_id``, in the order of ``jobs``.

    Raises
    ------
    RuntimeError
        If a worker dies, naming nothing lost: a new run goes on.
    """
    out.mkdir(parents=True, exist_ok=True)
    store = ROOT / method
    store.mkdir(parents=True, exist_ok=True)
    (ROOT / ".gitignore").write_text("*\n", encoding="utf-8")
    _sweep(store)
    started, done = time.monotonic(), {}
    todo = {}
    for job in jobs:
        item = store / _digest(job)
        if item.is_dir():
            done[job.video_id] = _finish(item, job.video_id, out, reused=True)
        else:
            todo.setdefault(item, []).append(job)
    bar = tqdm(total=len(jobs), initial=len(done), desc=method, unit="video", mininterval=1)
    computed = 0
    for item in _compute(make, todo):
        for job in todo[item]:
            done[job.video_id] = _finish(item, job.video_id, out, reused=False)
            computed += done[job.video_id].frames
            bar.set_postfix_str(f"{computed / (time.monotonic() - started):.1f} frames/s")
            bar.update()
    bar.close()
    reused = sum(result.reused for result in done.values())
    excluded = sum(bool(result.reason) for result in done.values())
    print(
        f"{method}: {len(jobs)} videos ({reused} reused, {excluded} excluded), "
        f"{computed} new frames in {time.monotonic() - started:.1f} s"
    )
    return {job.video_id: done[job.video_id] for job in jobs}


def _digest(job: Job) -> str:
    return hashlib.sha256(json.dumps(job.key, sort_keys=True).encode()).hexdigest()[:40]


def _compute(make: Callable[..., int], todo: dict[Path, list[Job]]) -> Iterator[Path]:
    """Make items in a pool of processes; yield each as it is there."""
    if not todo:
        return
    # One video a core: libraries that start threads of their own would fight for the same cores.
    for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers(), len(todo)), context, initializer=_start_worker, initargs=(os.getpid(),)
    ) as pool:
        futures = {
            pool.submit(_make_item, make, item, jobs[0].video_id, jobs[0].arguments): item
            for item, jobs in todo.items()
        }
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BrokenProcessPool:
            raise RuntimeError(
                "a worker process died (out of memory?); what was done is kept, run again to go on"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker(parent: int) -> None:
    """Keep one video on one core, and end when the stage is killed."""
    import cv2

    cv2.setNumThreads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make_item(make: Callable[..., int], item: Path, video_id: str, arguments: tuple) -> None:
    """Make one item in a folder of its own, then rename it: it is there whole or not at all."""
    with tempfile.TemporaryDirectory(prefix="making-", dir=item.parent) as scratch:
        folder = Path(scratch) / "item"
        folder.mkdir()
        try:
            told: dict[str, Any] = {"frames": make(folder, video_id, *arguments), "reason": ""}
        except Excluded as reason:
            shutil.rmtree(folder)
            folder.mkdir()
            told = {"frames": 0, "reason": str(reason)}
        told["name"] = video_id
        (folder / "item.json").write_text(json.dumps(told) + "\n", encoding="utf-8")
        try:
            folder.rename(item)
        except OSError:
            # Another run on this checkout may have made the same item first.
            if not item.is_dir():
                raise


def _sweep(store: Path) -> None:
    """Remove what killed runs left half-made, sparing what a run beside this one is making."""
    for left in store.glob("making-*"):
        if time.time() - left.stat().st_mtime > 24 * 3600:
            shutil.rmtree(left, ignore_errors=True)


def _finish(item: Path, video_id: str, out: Path, *, reused: bool) -> Done:
    """Link an item's files into the out folder, under this video's name."""
    told = json.loads((item / "item.json").read_text(encoding="utf-8"))
    for source in item.iterdir():
        if source.name != "item.json":
            _link(source, out / (video_id + source.name.removeprefix(told["name"])))
    return Done(told["frames"], told["reason"], reused)


def _link(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for inner in source.iterdir():
            _link(inner, target / inner.name)
        return
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
