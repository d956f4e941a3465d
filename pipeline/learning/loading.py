"""Processes that read and augment clips beside the network."""

import math
import mmap
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pipeline import memory
from pipeline.learning.epochs import Draws

_AHEAD = 2  # batches, of each process that loads


def loader_workers() -> int:
    """Count the processes that load: ``PIPELINE_LOADERS``, else one for every two cores.

    Raises
    ------
    ValueError
        If it is no number.
    """
    asked = os.environ.get("PIPELINE_LOADERS")
    if asked and not asked.isdecimal():
        raise ValueError(f"PIPELINE_LOADERS: got {asked!r}, expected a number of processes from 0")
    return int(asked) if asked else max(1, len(os.sched_getaffinity(0)) // 2)


def loader(clips: Dataset, **options) -> DataLoader:
    """Make torch's loader; ``options`` say what a batch is. It doesn't bear on results.

    Ctrl-C is for the process that trains: it still needs the batches of its last iteration.
    """
    workers = loader_workers()
    if workers:
        memory.share_objects()
        options |= {"multiprocessing_context": "fork", "prefetch_factor": _AHEAD}
    return DataLoader(
        clips, num_workers=workers, pin_memory=torch.cuda.is_available(), worker_init_fn=_start,
        **options,
    )  # fmt: skip


def training_batches(
    clips: Dataset, draws: Draws | list[list], size: int
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Load the batches of a training. One is to be used up before the next is asked for.

    Parameters
    ----------
    clips : Dataset
        Its samples are tuples of arrays and numbers, the same in shape for all draws.
    draws : Draws, or a list of lists
        What ``clips`` takes, a list a batch; it is begun twice.
    size : int
        How many draws a list has, at most.

    Yields
    ------
    tuple of Tensor
        Each part of the batch's samples, stacked.
    """
    first = next(iter(draws), None)
    if first is None:
        return
    shared = _SharedBatches(clips, clips[first[0]], size)
    numbered = ((number % shared.slots, drawn) for number, drawn in enumerate(draws))
    for batch in loader(shared, batch_size=None, sampler=numbered):
        yield batch.parts() if isinstance(batch, _Filled) else batch


class _SharedBatches(Dataset):
    """Batches that are written where the training process reads them.

    Torch would send each in new shared memory, which the system has to find page by page: a fifth
    of the time of loading frames. This memory is used over and over, and isn't of ``/dev/shm``,
    of which containers have little.
    """

    def __init__(self, clips: Dataset, sample: tuple, size: int) -> None:
        # Those being made, and the one in use.
        self.clips, self.slots = clips, _AHEAD * loader_workers() + 1
        self.parts = []
        for part in map(np.asarray, sample):
            shape = self.slots, size, *part.shape
            count = math.prod(shape) * part.itemsize
            try:
                pages = mmap.mmap(-1, count)
            except (OSError, OverflowError):
                raise ValueError(
                    f"got a batch of {size} clips, which takes {count / 2**30:.0f} GiB in "
                    f"{self.slots} copies, more than there is; expected a smaller training.batch"
                ) from None
            self.parts.append(np.frombuffer(pages, part.dtype).reshape(shape))
        _SHARED[id(self)] = self

    def __getitem__(self, asked: tuple[int, list]) -> "_Filled":
        """Fill a slot with the samples of some draws."""
        slot, draws = asked
        for place, drawn in enumerate(draws):
            sample = map(np.asarray, self.clips[drawn])
            for part, value in zip(self.parts, sample, strict=True):
                if (value.dtype, value.shape) != (part.dtype, part.shape[2:]):
                    raise ValueError(
                        f"got {value.dtype} {value.shape} in clip {drawn}, expected {part.dtype} "
                        f"{part.shape[2:]} as the first had"
                    )
                part[slot, place] = value
        return _Filled(id(self), slot, len(draws))


# By number, which is all that the processes tell each other.
_SHARED: WeakValueDictionary[int, _SharedBatches] = WeakValueDictionary()


@dataclass(frozen=True)
class _Filled:
    """Says where a batch lies."""

    shared: int
    slot: int
    count: int

    def parts(self) -> tuple[torch.Tensor, ...]:
        """Give the batch's parts, where they lie."""
        parts = _SHARED[self.shared].parts
        return tuple(torch.from_numpy(part[self.slot, : self.count]) for part in parts)

    def pin_memory(self) -> tuple[torch.Tensor, ...]:
        """Copy the batch to memory that a GPU reads by itself; the loader's thread calls this."""
        return tuple(part.pin_memory() for part in self.parts())


def _start(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    memory.keep_freed()


def one_line(error: Exception) -> str:
    """Say an error in one line: of one in a loading process, what was raised there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    return lines[-1].partition(": ")[2] if "Original Traceback" in str(error) else lines[0]
