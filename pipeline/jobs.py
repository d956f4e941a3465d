"""Jobs: what a stage does for each of its videos, done once (see :mod:`pipeline.items`).

A stage may outlive the ``dvc`` that started it, and a worker its stage. Nothing that such a one
still writes ends in an item or in an out folder that another run made: see
:mod:`pipeline.out_folder` and :func:`_make_item`.
"""

import json
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import workers
from pipeline.items import digest, locked, note_used, remove
from pipeline.out_folder import link, plainly
from pipeline.params import Limits
from pipeline.progress import progress, ticking
from pipeline.videos import Video


class Excluded(Exception):
    """Raised by a job whose video can't be used; the message is the reason in one line."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One video's work.

    Attributes
    ----------
    video_id : str
        Names what is made, and the link in the out folder.
    source : Path
        What it is made from, to be named where it can't be used.
    key : dict
        Everything that bears on the result, JSON-able: content hash, settings, versions.
    arguments : tuple
        Passed to the function after the folder it writes to; picklable.
    """

    video_id: str
    source: Path
    key: dict
    arguments: tuple


@dataclass(frozen=True)
class Done:
    """What came of a job: the count of frames or fields, or the reason why there are none."""

    source: Path
    frames: int
    reason: str
    reused: bool


def run_jobs(
    method: str, make: Callable[..., int], jobs: Sequence[Job], out: Path, limits: Limits
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
        kept as well. What else goes wrong with one video excludes it from this run alone.
    jobs : sequence of Job
    out : Path
        The stage's out folder, from :func:`pipeline.out_folder.out_folder`.
    limits : Limits
        Seconds a video, and the share of videos that may be excluded.

    Returns
    -------
    dict
        :class:`Done` by ``video_id``, in the order of ``jobs``.

    Raises
    ------
    OSError
        If the disk is full or a folder can't be written. What is done is kept.
    RuntimeError
        After Ctrl-C. What is done is kept.
    """
    with locked(method) as store:
        out.mkdir(parents=True, exist_ok=True)
        items = {job.video_id: store / digest(job.key) for job in jobs}
        note_used(store, items.values())
        todo: dict[Path, list[Job]] = {}
        done: dict[str, Done] = {}
        for job in jobs:
            item = items[job.video_id]
            if item.is_dir() and not _is_whole(item):
                print(f"{method}: {job.source}: what was made of it has changed since on disk; it "
                      "is made anew")  # fmt: skip
                remove(item)
            if item.is_dir():
                done[job.video_id] = _finish(item, job, out, reused=True)
            else:
                todo.setdefault(item, []).append(job)
        tasks = [
            workers.Task(item, (make, item.absolute(), group[0].video_id, _absolute(group[0])))
            for item, group in todo.items()
        ]
        bar = progress(total=len(jobs), initial=len(done), desc=method, unit="video")
        made, computed = workers.counts(), 0
        running = workers.run(_make_item, tasks, limits.stalled_seconds, made)

        def told() -> str:
            """Say the frames so far; those of a video in the making count on this machine alone."""
            frames = max(sum(made), computed)
            return f"{frames} frames, {frames / max(bar.format_dict['elapsed'], 1e-3):.1f}/s"

        # Closed before an error is told: the bar, whose line comes first, and what still runs.
        with closing(bar), closing(running), ticking(bar, told):
            try:
                for item, failure in running:
                    for job in todo[item]:
                        done[job.video_id] = (
                            Done(job.source, 0, failure, False) if failure
                            else _finish(item, job, out, reused=False)
                        )  # fmt: skip
                        computed += done[job.video_id].frames
                        bar.set_postfix_str(told(), False)
                        bar.update()
            except KeyboardInterrupt:
                raise RuntimeError(f"stopped after {len(done)} of {len(jobs)} videos; the same "
                                   "command goes on from there") from None  # fmt: skip
    result = {job.video_id: done[job.video_id] for job in jobs}
    _conclude(method, result, bar.format_dict["elapsed"])
    return result


def _conclude(method: str, result: dict[str, Done], seconds: float) -> None:
    """Print the summary."""
    excluded = [done for done in result.values() if done.reason]
    new = sum(done.frames for done in result.values() if not done.reused)
    print(
        f"{method}: {len(result) - len(excluded)} videos done "
        f"({sum(done.reused and not done.reason for done in result.values())} reused), "
        f"{len(excluded)} excluded, "
        f"{sum(done.frames for done in result.values())} frames ({new} new) in {seconds:.1f} s"
    )
    for done in excluded[:10]:
        print(f"{method}: excluded {done.source}: {done.reason}")
    if len(excluded) > 10:
        print(f"{method}: ... and {len(excluded) - 10} more, see its videos.csv")


def refuse_too_many(out: Path, result: dict[str, Done], limits: Limits) -> None:
    """End the stage if too many videos are excluded, once the reasons of all are written.

    Raises
    ------
    RuntimeError
        If they are more than ``limits`` allows. What is done is kept.
    """
    excluded = [done for done in result.values() if done.reason]
    if len(excluded) > limits.max_excluded * len(result):
        raise RuntimeError(
            f"{len(excluded)} of {len(result)} videos are excluded, limits.max_excluded allows "
            f"{limits.max_excluded:g} of them; the first: {excluded[0].source}: "
            f"{excluded[0].reason}; all of them: {out}/videos.csv"
        )


def with_result(video: Video, done: Mapping[str, Done]) -> Video:
    """Put down on a row what came of the work on that video; ``done`` is by ``video_id``.

    A row of a video that nothing was done for stays as it is.
    """
    if video.video_id not in done:
        return video
    result = done[video.video_id]
    if result.reason:
        return replace(video, status="excluded", reason=result.reason, frames=0)
    return replace(video, frames=result.frames)


def _absolute(job: Job) -> tuple:
    """Give a job's arguments for a process that may stand in another folder."""
    return tuple(x.absolute() if isinstance(x, Path) else x for x in job.arguments)


def _make_item(make: Callable[..., int], item: Path, video_id: str, arguments: tuple) -> None:
    """Make one item in a folder of its own, then rename it: it is there whole or not at all."""
    if item.is_dir():
        return  # by a worker that was taken for dead
    # A name that no other has: a killed stage's worker may still be at work on the same item.
    scratch = item.with_name(f"making-{item.name}-{uuid.uuid4().hex}")
    scratch.mkdir()
    try:
        told = _make(make, scratch, video_id, arguments) | {"name": video_id}
        told["bytes"] = _bytes_of(scratch)
        (scratch / "item.json").write_text(json.dumps(told) + "\n", encoding="utf-8")
        try:
            scratch.rename(item)
        except OSError:
            if not item.is_dir():  # else that worker was faster
                raise
    except (OSError, RuntimeError) as error:
        raise plainly(error, item.parent) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _make(make: Callable[..., int], scratch: Path, video_id: str, arguments: tuple) -> dict:
    """Call the method; give what the item's ``item.json`` tells."""
    try:
        return {"frames": make(scratch, video_id, *arguments), "reason": ""}
    except Excluded as reason:
        shutil.rmtree(scratch)
        scratch.mkdir()
        return {"frames": 0, "reason": str(reason)}


def _bytes_of(item: Path) -> int:
    """Add up what is made, without the note on it."""
    files = (path for path in item.rglob("*") if path.is_file() and path != item / "item.json")
    return sum(path.stat().st_size for path in files)


def _is_whole(item: Path) -> bool:
    """Whether an item has the bytes that were written: out and cache are one file with it."""
    try:
        told = json.loads((item / "item.json").read_text(encoding="utf-8"))
        return told["bytes"] == _bytes_of(item)
    except (OSError, ValueError, KeyError):
        return False


def _finish(item: Path, job: Job, out: Path, *, reused: bool) -> Done:
    """Link an item's files into the out folder, under this video's name."""
    told = json.loads((item / "item.json").read_text(encoding="utf-8"))
    for source in item.iterdir():
        if source.name != "item.json":
            link(source, out / (job.video_id + source.name.removeprefix(told["name"])))
    return Done(job.source, told["frames"], told["reason"], reused)
