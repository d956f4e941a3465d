"""A task that makes no progress ends its process, and leaves a mark by which it fails alone.

The mark is a file, because whoever does a dead worker's tasks again may be on another machine.
"""

import ctypes
import math
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
STALLED = 124  # such a process's exit status, as `timeout` has it


def alive(things: Iterable[T]) -> Iterator[T]:
    """Pass things on; each one shows that the task at hand still makes progress, and is counted."""
    for thing in things:
        _watch.beat()
        yield thing


def count_into(counts: ctypes.Array, slot: int) -> None:
    """Let :func:`alive` count what it passes on in this process, in a slot that no other has.

    Shared without a lock, which a killed process would keep for good.
    """
    _watch.counts, _watch.slot = counts, slot


class _Watch:
    """Ends this process when its task makes no progress for too long, and leaves a mark of it."""

    def __init__(self) -> None:
        self.seconds, self.deadline, self.mark = 0.0, math.inf, Path()
        self.counts, self.slot = [0], 0

    def beat(self) -> None:
        """Start the time anew."""
        self.counts[self.slot] += 1
        if self.deadline < math.inf:
            self.deadline = time.monotonic() + self.seconds

    def start(self, seconds: float, mark: Path) -> None:
        """Begin with a task."""
        self.seconds, self.mark = seconds, mark
        self.deadline = time.monotonic() + seconds
        threading.Thread(target=self._look, args=(self.mark,), daemon=True).start()

    def stop(self) -> None:
        """End with a task."""
        self.deadline = math.inf

    def _look(self, mark: Path) -> None:
        while self.mark == mark and self.deadline < math.inf:
            if time.monotonic() > self.deadline:
                mark.touch()
                os._exit(STALLED)
            time.sleep(min(1.0, self.seconds / 4))


_watch = _Watch()


def mark_of(name: Path) -> Path:
    """Name the file that says that a task stalled: beside its item, where all workers see it.

    They may stand in another folder than the stage.
    """
    return name.absolute().with_name(f"stalled-{name.name}")


def stalled(seconds: float) -> str:
    """Say that a task made no progress, as a reason why its video is excluded."""
    return f"made no progress for {seconds:g} s (limits.stalled_seconds)"


def guarded(
    function: Callable[..., None], arguments: tuple, seconds: float, threads: int, mark: Path
) -> str:
    """Call the function; give the failure in a line. Ends the process if it stalls."""
    if mark.exists():
        return stalled(seconds)
    import cv2

    # One video a core: libraries that start threads of their own would fight for the same cores.
    cv2.setNumThreads(threads)
    _watch.start(seconds, mark)
    try:
        function(*arguments)
    except (OSError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the other videos go on
        traceback.print_exc()
        return f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        _watch.stop()
    return ""
