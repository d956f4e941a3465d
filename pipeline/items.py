"""The item store: work on one video is done once.

An item is a folder ``.items/<method>/<key>/`` under the project's root, outside every stage's outs,
because DVC deletes outs before it runs a stage. Its key is a hash of the content of the input, the
settings that bear on it and the version of the method, so that adding one video to ten thousand
computes one, a killed stage goes on where it stopped, and going back to old settings computes none.
Items are made in a temporary folder and renamed when whole, then hard-linked into the out folder
(copied where the file system has no links): item, out and DVC's cache are one file on disk.

A stage may outlive the ``dvc`` that started it, and a worker its stage. Nothing that such a one
still writes ends in an item or in an out folder that another run made: see
:mod:`pipeline.out_folder` and :func:`_make_item`.

``python -m pipeline.items --prune`` removes the items that the last run of each stage didn't use.
"""

import argparse
import fcntl
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline import workers
from pipeline.out_folder import link, plainly
from pipeline.params import Limits
from pipeline.progress import progress, ticking
from pipeline.whole_file import whole_file


def root() -> Path:
    """Find the store: the project's own, also from an experiment that ``dvc queue`` runs.

    Those run in ``<root>/.dvc/tmp/exps/<name>``, which DVC removes afterwards.
    """
    above, in_queue, _ = str(Path.cwd()).partition("/.dvc/tmp/exps/")
    return Path(above, ".items") if in_queue else Path(".items")


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


def hash_of(path: Path) -> str:
    """Hash a file's content, or a folder's names and contents, as SHA-256 in hexadecimal."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for file in sorted(path.iterdir()):
        total.update(f"{file.name}\0{hash_of(file)}\n".encode())
    return total.hexdigest()


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
    with _locked(method) as store:
        out.mkdir(parents=True, exist_ok=True)
        items = {job.video_id: store / digest(job.key) for job in jobs}
        note_used(store, items.values())
        todo: dict[Path, list[Job]] = {}
        done: dict[str, Done] = {}
        for job in jobs:
            item = items[job.video_id]
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
        f"({sum(done.reused for done in result.values())} reused), {len(excluded)} excluded, "
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


def _absolute(job: Job) -> tuple:
    """Give a job's arguments for a process that may stand in another folder."""
    return tuple(x.absolute() if isinstance(x, Path) else x for x in job.arguments)


def digest(key: dict) -> str:
    """Hash all that bears on a result: the name of an item."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:40]


def store_of(method: str) -> Path:
    """Make one method's part of the store."""
    store = root() / method
    store.mkdir(parents=True, exist_ok=True)
    (root() / ".gitignore").write_text("*\n", encoding="utf-8")
    return store


@contextmanager
def waiting(path: Path, who: str, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock; say so if another run has it."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{who}: waiting for another run of this stage to end", flush=True)
            fcntl.flock(lock, kind)
        try:
            yield
        finally:
            # A process that was forked meanwhile has the file open, too, and would hold on.
            fcntl.flock(lock, fcntl.LOCK_UN)


@contextmanager
def _locked(method: str) -> Iterator[Path]:
    """Hold one method's part of the store: a stage left running by a killed ``dvc`` goes first."""
    store = store_of(method)
    with waiting(store.with_suffix(".lock"), method):
        _remove_half_made(store)
        try:
            yield store
        finally:
            _remove_half_made(store)


def _remove_half_made(store: Path) -> None:
    """Remove what killed workers left. One that still lives loses its folder in one step."""
    for left in store.glob("making-*"):
        # File by file, it could be renamed to an item with half of them gone.
        with suppress(FileNotFoundError):  # it was renamed to an item just now
            _remove(left)
    for doomed in store.glob("removing-*"):
        shutil.rmtree(doomed, ignore_errors=True)


def _remove(item: Path) -> None:
    """Remove an item whole or not at all, whenever this process is killed."""
    doomed = item.with_name(f"removing-{uuid.uuid4().hex}")
    item.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _make_item(make: Callable[..., int], item: Path, video_id: str, arguments: tuple) -> None:
    """Make one item in a folder of its own, then rename it: it is there whole or not at all."""
    if item.is_dir():
        return  # by a worker that was taken for dead
    # A name that no other has: a killed stage's worker may still be at work on the same item.
    scratch = item.with_name(f"making-{item.name}-{uuid.uuid4().hex}")
    scratch.mkdir()
    try:
        told = _make(make, scratch, video_id, arguments) | {"name": video_id}
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


def _finish(item: Path, job: Job, out: Path, *, reused: bool) -> Done:
    """Link an item's files into the out folder, under this video's name."""
    told = json.loads((item / "item.json").read_text(encoding="utf-8"))
    for source in item.iterdir():
        if source.name != "item.json":
            link(source, out / (job.video_id + source.name.removeprefix(told["name"])))
    return Done(job.source, told["frames"], told["reason"], reused)


def note_used(store: Path, used: Iterable[Path]) -> None:
    """Put down which items the last run used: those that :func:`prune` leaves."""
    names = sorted({item.name for item in used})
    with whole_file(store / "used.txt") as scratch:
        scratch.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def prune() -> None:
    """Remove the items that the last run of their stage didn't use; print what that freed."""
    for store in sorted(path for path in root().glob("*") if path.is_dir()):
        with _locked(store.name):
            noted = store / "used.txt"
            used = set(noted.read_text("utf-8").split()) if noted.exists() else set()
            count = freed = shared = 0
            for item in [path for path in store.iterdir() if path.is_dir()]:
                if item.name in used:
                    continue
                for file in [path for path in item.rglob("*") if path.is_file()]:
                    # A file that DVC's cache holds too stays on disk until `dvc gc`.
                    size, links = file.stat().st_size, file.stat().st_nlink
                    freed, shared = freed + size * (links == 1), shared + size * (links > 1)
                _remove(item)
                count += 1
            for file in [*store.glob("*.pt"), *store.glob("*.lock")]:  # of trainings
                if file.stem not in used:
                    freed += file.stat().st_size
                    file.unlink()
            print(
                f"{store.name}: removed {count} items, kept {len(used)}; freed {freed / 1e6:.1f} "
                f"MB" + (f", {shared / 1e6:.1f} MB more with `dvc gc`" if shared else "")
            )


def main() -> None:
    """Look after the item store from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--prune", action="store_true", required=True,
        help="remove the items that the last run of each stage didn't use",
    )  # fmt: skip
    parser.parse_args()
    prune()


if __name__ == "__main__":
    main()
