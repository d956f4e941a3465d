"""TV-L1 on a GPU, many pairs of frames at a time.

The same scheme as the ``cpu`` backend, in the same order; see there. Pairs of a batch advance
together. Whether a pair has settled is decided on the device, iteration by iteration; the host asks
now and then whether all have, and never waits for the answer. A pair's field doesn't depend on the
batch it is in.

With ``TRITON_INTERPRET=1`` in the environment the kernels run on the CPU in Triton's interpreter,
for tests.
"""

import os
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import torch

from . import Unavailable, batch_size
from .settings import Settings

_ASK_EVERY = 16  # iterations


def lacks() -> str:
    """Say what this backend lacks to run here; empty if nothing."""
    if find_spec("triton") is None:
        return "Triton isn't installed (torch's CUDA builds bring it)"
    if torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1":
        return ""
    return "torch finds no CUDA device"


def flow(first: np.ndarray, second: np.ndarray, settings: Settings, out: np.ndarray) -> None:
    """Compute the flow of pairs (N, H, W) uint8 into ``out`` (N, 2, H, W) float32.

    Raises
    ------
    Unavailable
        When the GPU's memory is too small, or taken by others.
    """
    count = batch_size(*first.shape[1:])
    starts = range(0, len(first), count)
    batches = ((first[k : k + count], second[k : k + count]) for k in starts)
    for start, fields in zip(starts, _in_turn(batches, settings, None), strict=True):
        out[start : start + count] = fields


def codes(
    batches: Iterator[tuple[np.ndarray, np.ndarray]], settings: Settings, bound: float
) -> Iterator[np.ndarray]:
    """Yield the flow of batches of pairs (N, H, W) uint8, field by field (2, H, W) uint8 codes.

    Raises
    ------
    Unavailable
        When the GPU's memory is too small, or taken by others.
    """
    for batch in _in_turn(batches, settings, bound):
        yield from batch


def quantise(fields: torch.Tensor, bound: float) -> torch.Tensor:
    """Map displacements to the codes of :func:`pipeline.video.store.quantise` on the device."""
    clipped = fields.double().clamp(-bound, bound).nan_to_num(nan=0.0)
    return (255 * (clipped + bound) / (2 * bound)).round().to(torch.uint8)


def _in_turn(
    batches: Iterator[tuple[np.ndarray, np.ndarray]], settings: Settings, bound: float | None
) -> Iterator[np.ndarray]:
    """Yield each batch's fields (N, 2, H, W), or its codes if there is a bound.

    A batch is launched before the one before it is yielded: the GPU has work while the host reads
    frames and takes results.
    """
    copies = torch.cuda.Stream() if torch.cuda.is_available() else None
    launched = None
    for first, second in batches:
        before, launched = launched, _launch(first, second, settings, bound, copies)
        if before:
            yield _finished(*before)
    if launched:
        yield _finished(*launched)


def _launch(
    first: np.ndarray, second: np.ndarray, settings: Settings, bound: float | None, copies
) -> tuple[torch.Tensor, object]:
    """Start on a batch; give what its result will be in on the host, and the event of that."""
    frames = [torch.from_numpy(x) for x in (first, second)]
    try:
        if copies is not None:
            frames = [x.pin_memory().to("cuda", non_blocking=True) for x in frames]
        result = _Batch(*frames, settings).solve()
        if bound is not None:
            result = quantise(result, bound)
    except torch.OutOfMemoryError as error:
        raise Unavailable(f"TV-L1 backend 'cuda': {error}".splitlines()[0]) from None
    if copies is None:
        return result, None
    copies.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(copies):
        host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        host.copy_(result, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
    result.record_stream(copies)
    return host, event


def _finished(host: torch.Tensor, event) -> np.ndarray:
    if event is not None:
        event.synchronize()
    return host.numpy()


class _Settled:
    """Whether all pairs have settled, as of some iterations ago: asking doesn't stall the GPU."""

    def __init__(self, ended: torch.Tensor) -> None:
        self.ended, self.on_gpu = ended, ended.is_cuda
        self.answer = torch.zeros(1, dtype=torch.bool, pin_memory=self.on_gpu)
        self.event = None

    def __call__(self) -> bool:
        """Take the last answer if it has come, and ask again."""
        if not self.on_gpu:
            return bool(self.ended.all())
        if self.event is not None:
            if not self.event.query():
                return False
            if self.answer.item():
                return True
        self.answer.copy_(self.ended.all().reshape(1), non_blocking=True)
        self.event = torch.cuda.Event()
        self.event.record()
        return False


class _Batch:
    """Pairs of frames on the device, B at a time, (B, H, W) uint8."""

    def __init__(self, first: torch.Tensor, second: torch.Tensor, settings: Settings) -> None:
        self.settings, self.device = settings, first.device
        self.levels = [(first.float(), second.float())]
        step = settings.scale_step
        for _ in range(1, settings.scales):
            size = [round(side * step) for side in self.levels[-1][0].shape[1:]]
            if min(size) < 16:
                break
            self.levels.append(tuple(_resize(x, size, 1 / step, 1 / step) for x in self.levels[-1]))

    def solve(self) -> torch.Tensor:
        """Compute the fields, coarse to fine: (B, 2, H, W) float32."""
        u = torch.zeros(self._shape(2, -1), device=self.device)
        for number in range(len(self.levels) - 1, -1, -1):
            u = self._solve_level(number, u)
            if number:
                size = self.levels[number - 1][0].shape[1:]
                scale = [old / new for old, new in zip(u.shape[2:], size, strict=True)]
                u = _resize(u, size, *scale) * np.float32(1 / self.settings.scale_step)
        return u

    def _shape(self, planes: int, number: int) -> tuple[int, int, int, int]:
        pairs, height, width = self.levels[number][0].shape
        return pairs, planes, height, width

    def _solve_level(self, number: int, u: torch.Tensor) -> torch.Tensor:
        from . import cuda_kernels as kernels
        from .cuda_median import median

        first, second = (x.contiguous() for x in self.levels[number])
        pairs, height, width = first.shape
        settings, how = self.settings, {"HIGH": kernels.HIGH, "WIDE": kernels.WIDE}
        grid = kernels.grid(pairs, height, width)
        tiles = grid[0]
        moved = torch.full((pairs, tiles), np.inf, device=self.device)
        little = float(settings.warp_epsilon**2 * height * width)
        slopes = _centred_differences(second)
        # Two buffers each, as tensors of their own: Triton compiles anew for other alignments.
        flows = [u.contiguous(), torch.empty_like(u)]
        duals = [torch.zeros(self._shape(4, number), device=self.device) for _ in range(2)]
        linear = torch.empty(self._shape(3, number), device=self.device)
        for warp in range(settings.warps):
            ended = torch.zeros(pairs, dtype=torch.int32, device=self.device)
            kernels.linearise[grid](
                first, second, slopes, flows[0], linear, moved, ended, height, width, little,
                tiles, TILES=_power_of_two(tiles), **how,
            )  # fmt: skip
            watched = little > 0 and warp < settings.warps - 1
            before = flows[0].clone() if watched else None
            side = self._iterate(flows, duals, linear, ended, grid)
            if watched:
                kernels.squared_distance[grid](flows[0], before, moved, height, width, tiles, **how)
            if settings.median:
                planes = flows[0].clone()
                median[tiles, 2 * pairs](
                    planes, flows[0], side, height, width, SIZE=settings.median, **how
                )
        return flows[0]

    def _iterate(
        self,
        flows: list[torch.Tensor],
        duals: list[torch.Tensor],
        linear: torch.Tensor,
        ended: torch.Tensor,
        grid: tuple[int, int],
    ) -> torch.Tensor:
        """Iterate between the two buffers of u and p; what is newest ends in the first.

        Gives a negative number for each pair that had ended before, (B,) int32.
        """
        from . import cuda_kernels as kernels

        tiles, pairs = grid
        height, width = linear.shape[2:]
        change = [torch.full((pairs, tiles), np.inf, device=self.device) for _ in range(2)]
        side = torch.full((pairs,), -1, dtype=torch.int32, device=self.device)
        settled = _Settled(ended)
        settings = self.settings
        for number in range(settings.iterations):
            old, new = number % 2, 1 - number % 2
            kernels.iterate[grid](
                flows[old], flows[new], duals[old], duals[new], linear, change[old], change[new],
                ended, side, new, height, width, settings.lambda_ * settings.theta,
                settings.theta, settings.tau / settings.theta,
                settings.epsilon**2 * height * width, tiles, TILES=_power_of_two(tiles),
                HIGH=kernels.HIGH, WIDE=kernels.WIDE,
            )  # fmt: skip
            if (number + 1) % _ASK_EVERY == 0 and settled():
                break
        second = (side == 1)[:, None, None, None]
        for buffers in (flows, duals):
            torch.where(second, buffers[1], buffers[0], out=buffers[0])
        return side


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _centred_differences(images: torch.Tensor) -> torch.Tensor:
    """Give ∂I/∂x and ∂I/∂y of (B, H, W), halved at the borders: (B, 2, H, W)."""
    padded = torch.nn.functional.pad(images[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    return 0.5 * torch.stack([across, down], 1)


def _resize(images: torch.Tensor, size, scale_y: float, scale_x: float) -> torch.Tensor:
    """Resize (..., H, W) bilinearly, as OpenCV does: torch rounds sizes and scales otherwise."""
    for axis, new, scale in ((-1, size[1], scale_x), (-2, size[0], scale_y)):
        last = images.shape[axis] - 1
        at = torch.arange(new, dtype=torch.float64, device=images.device)
        at = ((at + 0.5) * scale - 0.5).clamp(0, last).float()
        low = at.floor().long()
        part = (at - low) if axis == -1 else (at - low)[:, None]
        high = (low + 1).clamp(max=last)
        images = images.index_select(axis, low) * (1 - part) + (
            images.index_select(axis, high) * part
        )
    return images
