"""Processes that read and augment clips beside the network."""

import os
import signal

import torch
from torch.utils.data import DataLoader, Dataset

from pipeline import memory


def loader_workers() -> int:
    """Count the processes that load: ``PIPELINE_LOADERS``, else one for every two cores."""
    asked = os.environ.get("PIPELINE_LOADERS")
    return int(asked) if asked else max(1, len(os.sched_getaffinity(0)) // 2)


def loader(clips: Dataset, **options) -> DataLoader:
    """Make torch's loader; ``options`` say what a batch is. It doesn't bear on results.

    Ctrl-C is for the process that trains: it still needs the batches of its last iteration.
    """
    return DataLoader(
        clips, num_workers=loader_workers(), pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start, **options,
    )  # fmt: skip


def _start(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    memory.keep_freed()


def one_line(error: Exception) -> str:
    """Say an error in one line: of one in a loading process, what was raised there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    return lines[-1].partition(": ")[2] if "Original Traceback" in str(error) else lines[0]
