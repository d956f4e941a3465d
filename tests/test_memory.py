"""Freed memory is kept for the next batch, in pieces as large as they can be.

Processes of their own count their page faults, and the small pieces that glibc keeps apart.
"""

import subprocess
import sys

COUNT = """
import resource
import numpy as np
from pipeline import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [np.ones(6_000_000, np.float32) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
memory.keep_freed()
faults()
print(first, faults())
"""

APART = """
import ctypes
from pipeline import memory

class Info(ctypes.Structure):  # of mallinfo(3)
    _fields_ = [(name, ctypes.c_int) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    )]

library = ctypes.CDLL(None)
library.mallinfo.restype = Info
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def apart():
    pieces = [library.malloc(48) for _ in range(1000)]
    for piece in pieces:
        library.free(piece)
    return library.mallinfo().fsmblks  # before the list goes, which joins them

first = apart()
memory.keep_freed()
print(first, apart())
"""


def numbers_of(script):
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return map(int, done.stdout.split())


def test_a_batch_takes_the_memory_of_the_one_before():
    before, after = numbers_of(COUNT)
    assert after < before / 50


def test_freed_small_pieces_are_joined():
    before, after = numbers_of(APART)
    assert before > 1000 * 48 / 2
    assert after == 0
