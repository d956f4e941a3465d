"""Freed memory is kept for the next batch: a process of its own counts its page faults."""

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


def test_a_batch_takes_the_memory_of_the_one_before():
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < before / 50
