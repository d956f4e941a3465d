"""Where networks compute: on a CPU, a GPU, or several, with a process each.

``torchrun`` and clusters tell a process its place by ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``;
on one machine the param ``engine.processes`` starts them. Without either, everything here is of one
process.
"""

import atexit
import os
import sys
from typing import NamedTuple

import torch
from torch import distributed, nn

from pipeline import memory


class Place(NamedTuple):
    """Which of how many processes this is, and where it computes."""

    rank: int
    world: int
    device: torch.device


def place() -> Place:
    """Join the other processes, if there are any, and choose this one's device."""
    cuda = torch.cuda.is_available()
    if "RANK" not in os.environ:
        return Place(0, 1, torch.device("cuda" if cuda else "cpu"))
    device = torch.device("cpu")
    if cuda:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if cuda else "gloo")
        if not cuda:
            # Else gloo's threads outlive Python, and every other run aborts when all is done. With
            # NCCL it isn't needed, and would wait for others where one has failed.
            atexit.register(distributed.destroy_process_group)
    return Place(distributed.get_rank(), distributed.get_world_size(), device)


def to_device(module: nn.Module, device: torch.device) -> nn.Module:
    """Move a module, with the kernels of its 2D convolutions channels last."""
    module.to(device)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            # Of a kernel of 1x1 as well, which is contiguous either way: its gradient has these
            # strides, and DistributedDataParallel else copies it.
            last = torch.empty_like(parameter, memory_format=torch.channels_last)
            parameter.data = last.copy_(parameter.data)
    return module


def set_determinism(wanted: bool) -> None:
    """Have torch compute the same bytes at each run; where it can't, it warns."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # it costs, and nothing reads it
    torch.backends.cudnn.benchmark = not wanted


def total(values: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all processes."""
    if not distributed.is_initialized():
        return values
    summed = values.to(place().device, copy=True)
    distributed.all_reduce(summed)
    return summed.to(values.device)


def same_buffers(module: nn.Module) -> None:
    """Give a module's buffers in all processes the values of the first one's."""
    if distributed.is_initialized():
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)


def gather(own: list) -> list:
    """Join the lists of all processes, by turns: the first of each, the second of each, ..."""
    if not distributed.is_initialized():
        return own
    parts = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, own)
    return [part[i] for i in range(max(map(len, parts))) for part in parts if i < len(part)]


def launch(processes: int) -> None:
    """Run this command in so many processes, and end with them; return in those that compute.

    Those keep freed memory (:mod:`pipeline.memory`).

    Parameters
    ----------
    processes : int
        0 for one a GPU.

    Raises
    ------
    SystemExit
        When they have ended.
    """
    processes = processes or torch.cuda.device_count()
    if "RANK" in os.environ or processes <= 1:
        memory.keep_freed()
        return
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    module = sys.modules["__main__"].__spec__.name
    options = ["--standalone", f"--nproc-per-node={processes}", "--module", module]
    try:
        run.main([*options, *sys.argv[1:]])
    except (ChildFailedError, SignalException):  # they, or the launcher, have said what it was
        raise SystemExit(1) from None
    raise SystemExit(0)
