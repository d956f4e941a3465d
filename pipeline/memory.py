"""Memory that the C library keeps."""

import ctypes
import time

# Of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_TRIM_EVERY_S = 60

_trimmed = time.monotonic()


def keep_freed() -> None:
    """Have this process keep freed memory for its next batch.

    Else glibc gives large pieces back to the system, and the next batch, which takes as much again,
    gets it page by page: up to a third of the time of loading flow, and a fifth of training on a
    CPU. The process stays about as large as it once was. Nothing happens where the C library isn't
    glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        # Old glibcs refuse more than 32 MiB.
        if library.mallopt(_MMAP_THRESHOLD, 1 << 30) or library.mallopt(_MMAP_THRESHOLD, 1 << 25):
            library.mallopt(_TRIM_THRESHOLD, 1 << 30)


def trim() -> None:
    """Give back what this process has freed, once in a while.

    Batches of two sizes, as at the end of each epoch, split freed memory in ever new ways, and what
    was once touched would stay: a process would grow for hours. To get it again takes a part of an
    iteration.
    """
    global _trimmed
    if time.monotonic() - _trimmed >= _TRIM_EVERY_S:
        _trimmed, library = time.monotonic(), ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):
            library.malloc_trim(0)
