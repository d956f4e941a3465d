"""Freed memory is kept for the next batch, and objects are shared with processes that load.

Processes of their own count their page faults, the small pieces that glibc keeps apart, and what
they share no more.
"""

import os
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

COLLECT = """
import gc
from pathlib import Path
import triton  # says at the end what was not collected
from pipeline import train
from pipeline.learning.loading import loader

def own():  # KiB
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))

class Collected:
    def __len__(self):
        return 1

    def __getitem__(self, number):
        before = own()
        gc.collect()
        return own() - before

print(*loader(Collected(), batch_size=None))
"""


def numbers_of(script):
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env=os.environ | {"PIPELINE_LOADERS": "1"},
    )  # fmt: skip
    assert done.stderr == ""
    return map(int, done.stdout.split())


def test_a_batch_takes_the_memory_of_the_one_before():
    before, after = numbers_of(COUNT)
    assert after < before / 50


def test_freed_small_pieces_are_joined():
    before, after = numbers_of(APART)
    assert before > 1000 * 48 / 2
    assert after == 0


def test_a_process_that_loads_collects_without_copies_of_what_it_shares():
    (kib,) = numbers_of(COLLECT)
    assert kib < 4096
