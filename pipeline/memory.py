"""Memory that a process keeps, and that it shares with those that it forks."""

import atexit
import ctypes
import gc
from functools import cache

# Of mallopt(3).
_LARGEST_FAST, _TRIM_THRESHOLD, _MMAP_THRESHOLD = 1, -1, -3


def keep_freed() -> None:
    """Have this process keep freed memory for its next batch.

    Else glibc gives large pieces back to the system, and the next batch, which takes as much again,
    gets it page by page: up to a third of the time of loading flow, and a fifth of training on a
    CPU. The process stays about as large as it once was: small pieces, but for a few that each
    thread keeps, are joined with the free ones beside them at once. One that is not parts the room
    in which the next large one would fit, and a long training grew by that. Nothing happens where
    the C library isn't glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        # Old glibcs refuse more than 32 MiB.
        if library.mallopt(_MMAP_THRESHOLD, 1 << 30) or library.mallopt(_MMAP_THRESHOLD, 1 << 25):
            library.mallopt(_TRIM_THRESHOLD, 1 << 30)
            library.mallopt(_LARGEST_FAST, 0)


@cache
def share_objects() -> None:
    """Have this process share its objects, those of all it has imported, with those that it forks.

    Else Python's collector, which writes to every object as it looks through them all, has each
    process get a copy of its own: 64 MiB more for each that loads, some half an hour into a
    training. What is alive now is not collected before the end; later
    calls do nothing.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # else libraries say that theirs leak
