"""Freed memory is kept for the next batch: a process of its own counts its page faults."""

import subprocess
import sys

COUNT = """
import resource
import numpy as np
from pipeline import memory

def faults(batches=20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(batches):
        [np.ones(6_000_000, np.float32) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

"""


def told(script):
    done = subprocess.run(
        [sys.executable, "-c", COUNT + script], capture_output=True, text=True, check=True
    )
    return map(int, done.stdout.split())


def test_a_batch_takes_the_memory_of_the_one_before():
    before, after = told("""
first = faults()
memory.keep_freed()
faults()
print(first, faults())
""")
    assert after < before / 50


def test_once_in_a_while_it_is_given_back():
    whole, too_soon, after = told("""
memory.keep_freed()
first = faults(1)
memory.trim()
soon = faults(1)
memory._TRIM_EVERY_S = 0
memory.trim()
print(first, soon, faults(1))
""")
    assert too_soon < whole / 50 and after > whole / 2
