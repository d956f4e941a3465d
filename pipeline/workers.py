"""Many tasks side by side: on this machine's cores, or on a Dask cluster.

``PIPELINE_WORKERS`` sets the number of processes; ``DASK_SCHEDULER_ADDRESS`` names a cluster whose
workers share this file system. Neither bears on results. A task that a worker dies of, or that
makes no progress, fails alone: the rest goes on. Where this machine has several GPUs, each process
sees one of them, in turn; a Dask worker sees what ``CUDA_VISIBLE_DEVICES`` gave it at its start.
"""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    as_completed,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import NamedTuple

from pipeline.parent import end_with
from pipeline.stalls import STALLED, count_into, guarded, mark_of, stalled

_LOST = "its worker process died"
_DEVICES = Path("/dev")
_PATIENCE = 30  # seconds for a cluster to answer


class Task(NamedTuple):
    """Something to do: arguments for the function, and a name to know it by."""

    name: Path
    arguments: tuple


def count() -> int:
    """Count the processes to use: ``PIPELINE_WORKERS``, else the cores this process may use.

    Raises
    ------
    ValueError
        If ``PIPELINE_WORKERS`` is no whole number from 1.
    """
    asked = os.environ.get("PIPELINE_WORKERS")
    if not asked:
        return len(os.sched_getaffinity(0))
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"PIPELINE_WORKERS: got {asked!r}, expected a whole number from 1")
    return int(asked)


def elsewhere() -> bool:
    """Tell whether tasks run on other machines than this one."""
    return bool(os.environ.get("DASK_SCHEDULER_ADDRESS"))


def counts() -> ctypes.Array:
    """Make a number for each process of this machine: of its signs of progress."""
    return multiprocessing.get_context("spawn").RawArray("q", count())


def run(
    function: Callable[..., None], tasks: Sequence[Task], seconds: float, made: ctypes.Array
) -> Iterator[tuple[Path, str]]:
    """Call ``function(*task.arguments)`` for each task.

    Parameters
    ----------
    function : callable
        Of a module, so that it can be sent to another process.
    tasks : sequence of Task
    seconds : float
        A task that shows no progress (see :func:`pipeline.stalls.alive`) for so long fails.
    made : ctypes.Array
        Of :func:`counts`; counts the signs of progress on this machine.

    Yields
    ------
    name : Path
        Of a task that ended, in no order.
    failure : str
        Empty, or why it failed, in one line.

    Raises
    ------
    OSError, ImportError
        From the function: a full disk or a missing package is no fault of one task.
    """
    if not tasks:
        return
    for task in tasks:
        mark_of(task.name).unlink(missing_ok=True)
    if address := os.environ.get("DASK_SCHEDULER_ADDRESS"):
        yield from _on_cluster(address, function, tasks, seconds)
    else:
        yield from _on_this_machine(function, tasks, seconds, made)


def _guarded_here(*call) -> str:
    """Do as :func:`pipeline.stalls.guarded` in a process of our own."""
    try:
        return guarded(*call)
    except OSError:
        # The stage ends and says why. After a failed write HDF5 would go on about it while this
        # process ends, in tracebacks that bury that line.
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a descriptor, not a path
            os.dup2(nowhere.fileno(), 2)
        raise


def _on_this_machine(
    function: Callable[..., None], tasks: Sequence[Task], seconds: float, made: ctypes.Array
) -> Iterator[tuple[Path, str]]:
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    processes = min(count(), len(tasks))
    left = {
        task.name: (function, task.arguments, seconds, count() // processes, mark_of(task.name))
        for task in tasks
    }
    others = set(multiprocessing.active_children())
    while left:
        turns = context.Value("i", 0)
        with ProcessPoolExecutor(
            processes, context, initializer=_start, initargs=(os.getpid(), turns, made)
        ) as pool:
            running = _Few(pool, left, processes)
            try:
                for name, failure in running:
                    del left[name]
                    yield name, failure
            except (BrokenProcessPool, KeyboardInterrupt) as why:
                # Ctrl-C waits for no long video. And a process that was being started when another
                # died is not told to end by Python 3.11, and waited for without end.
                for child in set(multiprocessing.active_children()) - others:
                    child.kill()
                if isinstance(why, KeyboardInterrupt):
                    raise
            finally:
                pool.shutdown(cancel_futures=True)
        # One worker died and took the others along: who is to blame left a mark, or dies again
        # when alone.
        for name in running.names:
            failure = _alone(context, *left[name])
            del left[name]
            yield name, failure


class _Few:
    """Hand out no more tasks than there are workers, so that it is known which were running."""

    def __init__(self, pool: ProcessPoolExecutor, left: dict[Path, tuple], limit: int) -> None:
        self.pool, self.waiting, self.limit = pool, iter(list(left.items())), limit
        self.futures: dict[Future, Path] = {}

    @property
    def names(self) -> list[Path]:
        """List the tasks that were handed out and have not ended."""
        return list(self.futures.values())

    def __iter__(self) -> Iterator[tuple[Path, str]]:
        """Yield (name, failure) as tasks end."""
        while True:
            for name, call in self.waiting:
                self.futures[self._submit(call)] = name
                if len(self.futures) >= self.limit:
                    break
            if not self.futures:
                return
            ended, _ = wait(self.futures, return_when=FIRST_COMPLETED)
            for future in ended:
                failure = future.result()
                yield self.futures.pop(future), failure

    def _submit(self, call: tuple) -> Future:
        try:
            with _without_interrupts():
                return self.pool.submit(_guarded_here, *call)
        except OSError as error:  # raised when the pool broke while it started this process
            if any(f.done() and isinstance(f.exception(), BrokenProcessPool) for f in self.futures):
                raise BrokenProcessPool from error
            raise


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C never reaches: it is for the stage, which then ends them.

    They inherit what is blocked here; what they ignore themselves would come too late.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _alone(context, *call) -> str:
    """Do one task in a process of its own; say in a line what became of it."""
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_call_and_send, args=(send, os.getpid(), call))
    with _without_interrupts():
        process.start()
    send.close()
    try:
        result = receive.recv()
    except EOFError:
        process.join()
        if process.exitcode == STALLED:
            return stalled(call[2])
        by = f" of signal {-process.exitcode}" if process.exitcode < 0 else ""
        return f"{_LOST}{by}, twice (out of memory?)"
    process.join()
    if isinstance(result, Exception):
        raise result
    return result


def _call_and_send(send, parent: int, call: tuple) -> None:
    end_with(parent)
    try:
        send.send(_guarded_here(*call))
    except (OSError, ImportError) as error:
        send.send(error)


def _start(parent: int, turns: Synchronized, made: ctypes.Array) -> None:
    """Set up a pool's process: one GPU, a count of what it makes, an end when the stage ends."""
    end_with(parent)
    with turns:
        turn = turns.value
        turns.value += 1
    count_into(made, turn % len(made))
    if len(gpus := visible_gpus()) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[turn % len(gpus)]


def visible_gpus() -> list[str]:
    """List the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    # CUDA counts from 0 whatever the numbers of those that a container was given.
    nodes = [path for path in _DEVICES.glob("nvidia*") if path.name[6:].isdigit()]
    return [str(number) for number in range(len(nodes))]


def _on_cluster(
    address: str, function: Callable[..., None], tasks: Sequence[Task], seconds: float
) -> Iterator[tuple[Path, str]]:
    """Send all tasks to a Dask cluster, which does those of a dead worker again elsewhere."""
    try:
        from dask.distributed import Client, KilledWorker
    except ImportError:
        raise RuntimeError(
            "DASK_SCHEDULER_ADDRESS is set, but Dask isn't installed: pip install -e '.[cluster]'"
        ) from None
    with Client(address, timeout=_PATIENCE) as client:
        pool = client.get_executor(pure=False, retries=0)
        calls = {
            task.name: (guarded, function, task.arguments, seconds, 1, mark_of(task.name))
            for task in tasks
        }
        futures = {pool.submit(*call): name for name, call in calls.items()}
        suspects = []
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except KilledWorker:
                suspects.append(futures[future])
            except (ImportError, RuntimeError) as error:
                # Raised by the worker, or by the scheduler, which reads the tasks as well.
                raise RuntimeError(
                    f"the cluster at {address} can't do this stage's work: "
                    f"{error.__cause__ or error}; start its scheduler and workers where this "
                    "project is installed"
                ) from None
            except CancelledError:
                raise RuntimeError(f"the cluster at {address} is gone") from None
        # Dask also blames tasks that waited on the same worker: who is to blame dies again alone.
        for name in suspects:
            try:
                yield name, pool.submit(*calls[name]).result()
            except KilledWorker:
                yield (
                    name,
                    f"{_LOST} again and again (out of memory?)",
                )
