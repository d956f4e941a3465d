"""Time TV-L1's ``cuda`` backend on this machine's GPU: batch sizes, frame sizes, the roofline.

Agreement with the ``cpu`` backend is asserted first. "End to end" is from uint8 frames on the host
to codes on the host. The share of the roofline is that of fixed work (no early end): an iteration
reads u, p and the linearised frame and writes u and p, 15 values of 4 bytes a pixel, at the speed
of a plain copy on the same GPU. Without a GPU it says so and ends.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from common import flow_machine
from tvl1 import PAPERS, made, read

from pipeline import params
from pipeline.video import tvl1
from pipeline.video.tvl1 import Settings, cuda

BYTES = 15 * 4  # a pixel and iteration


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path, help="a video; without it frames are made")
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where to write all this as JSON")
    args = parser.parse_args()
    if cuda.lacks():
        raise SystemExit(f"tvl1_cuda: {cuda.lacks()}")

    shipped = Settings(**dataclasses.asdict(params.load().flow.tvl1))
    papers = dataclasses.replace(shipped, **PAPERS)
    sizes = {}
    for short_side in (128, 256, 512):
        if args.frames:
            frames = read(args.frames, args.pairs + 1, short_side)
        else:
            frames = made(args.pairs + 1, short_side, round(short_side * 4 / 3))
        parity(frames[:3], papers)
        sizes["x".join(map(str, frames.shape[1:]))] = {
            "as shipped": by_batch(frames, shipped, args.rounds),
            "the papers' settings": by_batch(frames, papers, args.rounds),
            "roofline": roofline(frames, papers, args.rounds),
        }
    result = {"machine": flow_machine() | {"gpu": torch.cuda.get_device_name()}, "sizes": sizes}
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")


def parity(frames, settings):
    """Assert that cuda and cpu agree, and cuda with itself."""
    ours, theirs = (tvl1.tvl1(frames, settings, name) for name in ("cuda", "cpu"))
    within = (np.abs(ours - theirs).max(axis=1) <= 0.1).mean()
    if within < 0.9 or not (ours == tvl1.tvl1(frames, settings, "cuda")).all():
        raise AssertionError(f"{within:.4f} of the pixels agree within 0.1 px")


def median_rate(run, count, rounds):
    """Give things a second: the median of some rounds after a warm-up."""
    run()
    rates = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        rates.append(count / (time.perf_counter() - start))
    return statistics.median(rates)


def by_batch(frames, settings, rounds):
    """Time whole clips at batch sizes, to fields and to codes; rates in pairs/s."""
    found, plain = {}, tvl1._PIXELS
    for pairs in (8, 16, 32, 64, 128, 256):
        tvl1._PIXELS = pairs * frames[0].size
        found[f"batches of {pairs}"] = {
            "fields": median_rate(
                lambda: tvl1.tvl1(frames, settings, "cuda"), len(frames) - 1, rounds
            ),
            "end to end": median_rate(
                lambda cut=pairs: list(
                    tvl1.tvl1_codes(batches(frames, cut), settings, "cuda", 20.0)
                ),
                len(frames) - 1,
                rounds,
            ),
        }
    tvl1._PIXELS = plain
    return found


def batches(frames, pairs):
    """Cut a clip as the stage does."""
    for start in range(0, len(frames) - 1, pairs):
        part = frames[start : start + pairs + 1]
        yield part[:-1], part[1:]


def roofline(frames, settings, rounds):
    """Compare an iteration's traffic at fixed work with a plain copy's, both in GB/s."""
    iterations = 200
    fixed = dataclasses.replace(settings, scales=1, warps=1, iterations=iterations, epsilon=0.0)
    pairs = min(64, len(frames) - 1)
    first, second = (torch.from_numpy(x[:pairs].copy()).cuda() for x in (frames[:-1], frames[1:]))
    work = pairs * frames[0].size * iterations * BYTES
    ours = median_rate(lambda: cuda._Batch(first, second, fixed).solve(), work, rounds)
    source = torch.empty(2**28, device="cuda")
    target = torch.empty_like(source)
    copy = median_rate(lambda: target.copy_(source), 2 * 4 * 2**28, rounds)
    return {"iterations_gb_s": ours / 1e9, "copy_gb_s": copy / 1e9, "share": ours / copy}


if __name__ == "__main__":
    main()
