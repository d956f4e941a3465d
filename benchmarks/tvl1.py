"""Time TV-L1's backends and their peers on the same frames, in one run.

Agreement is asserted first. Rounds are interleaved, so that a busy machine slows all alike; a
ratio is the median of the rounds' ratios. See ``benchmarks/README.md``.
"""

import argparse
import dataclasses
import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from common import endpoint_error, flow_machine, middlebury

from pipeline import params
from pipeline.video.tvl1 import Settings, choose, tvl1

SHORT_SIDE = 256
# What dense_flow and denseflow leave at OpenCV's defaults; its CUDA class has no median.
PAPERS = {
    "tau": 0.25, "lambda_": 0.15, "theta": 0.3, "scales": 5, "scale_step": 0.8, "warps": 5,
    "iterations": 300, "epsilon": 0.01, "warp_epsilon": 0.0,
    "median": 0,
}  # fmt: skip
BASE = "OpenCV TV-L1, its defaults"
_FIRST_FIELD = """
import dataclasses, sys
import numpy as np
from pipeline import params
from pipeline.video.tvl1 import Settings, tvl1
settings = Settings(**dataclasses.asdict(params.load().flow.tvl1))
tvl1(np.load(sys.argv[1]), settings, "cpu")
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path, help="a video; without it frames are made")
    parser.add_argument("--pairs", type=int, default=8, help="pairs of frames a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of each contender that has threads")
    parser.add_argument("--short-side", type=int, default=SHORT_SIDE)
    parser.add_argument("--middlebury", type=Path, help="folder of pairs with ground truth")
    parser.add_argument("--memory-pairs", type=int, default=1000, help="0 to leave memory out")
    parser.add_argument("--out", type=Path, help="where to write all this as JSON")
    args = parser.parse_args()

    shipped = Settings(**dataclasses.asdict(params.load().flow.tvl1))
    count = args.pairs + 1
    frames = read(args.frames, count, args.short_side) if args.frames else made(count)
    cv2.setNumThreads(args.threads)
    methods = contenders(shipped)
    result = {
        "machine": flow_machine() | {"threads": args.threads},
        "frames": {"from": args.frames.name if args.frames else "made", "shape": frames.shape},
        "settings": dataclasses.asdict(shipped),
        "parity": parity(frames, shipped),
        "speed": speed(frames, methods, args.rounds),
        "first_field_s": first_field(frames[:2], args.rounds),
    }
    if args.middlebury:
        result["endpoint_error_px"] = errors(args.middlebury, methods)
    if args.memory_pairs:
        result["peak_memory_mb"] = memory(frames, shipped, args.memory_pairs)
    show(result)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def read(path, count, short_side):
    """Read the first frames of a video as (T, H, W) grey."""
    video, frames = cv2.VideoCapture(str(path)), []
    while len(frames) < count:
        good, frame = video.read()
        if not good:
            raise SystemExit(f"{path}: {len(frames)} frames, expected at least {count}")
        scale = short_side / min(frame.shape[:2])
        size = [round(side * scale) for side in frame.shape[1::-1]]
        frames.append(cv2.cvtColor(cv2.resize(frame, size), cv2.COLOR_BGR2GRAY))
    return np.stack(frames)


def made(count, height=SHORT_SIDE, width=340):
    """Make a scene that zooms and turns, a square that moves across it, and noise."""
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.random((height, width)).astype(np.float32), (0, 0), 3)
    scene = cv2.normalize(scene, None, 20, 235, cv2.NORM_MINMAX)
    side = height // 3
    square = cv2.GaussianBlur(rng.random((side, side)).astype(np.float32), (0, 0), 2)
    square = cv2.normalize(square, None, 0, 255, cv2.NORM_MINMAX)
    frames = []
    for k in range(count):
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), 0.3 * k, 1 + 0.005 * k)
        frame = cv2.warpAffine(scene, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
        left = 3 * k % (width - side)
        frame[side : 2 * side, left : left + side] = square
        frame += rng.normal(0, 1.5, frame.shape)
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    return np.stack(frames)


def parity(frames, shipped):
    """Assert that the backends agree at the papers' settings, where medians don't differ.

    Some 99.5 % of pixels do, within 0.1 px. Where frames move by many px, warp after warp magnifies
    rounding, and float32 and float64 of one formula differ as much: hence the wide bounds here.
    """
    papers = dataclasses.replace(shipped, **PAPERS)
    theirs, found = tvl1(frames[:3], papers, "opencv"), {}
    for backend in sorted({"cpu", choose("auto")}):
        ours = tvl1(frames[:3], papers, backend)
        apart = np.abs(ours - theirs).max(axis=1)
        codes = [np.clip(np.rint(255 * (flow + 20) / 40), 0, 255) for flow in (ours, theirs)]
        found[backend] = {
            "mean_px": float(apart.mean()),
            "within_0.1_px": float((apart <= 0.1).mean()),
            "codes_within_one": float((np.abs(codes[0] - codes[1]) <= 1).mean()),
        }
        if found[backend]["within_0.1_px"] < 0.9 or found[backend]["codes_within_one"] < 0.95:
            raise AssertionError(f"{backend} and opencv disagree: {found}")
    return found


def contenders(shipped):
    """Name what is timed: functions from frames (T, H, W) to fields (T - 1, 2, H, W)."""
    papers = dataclasses.replace(shipped, **PAPERS)
    opencv = dataclasses.replace(papers, median=5)
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    farneback = cv2.FarnebackOpticalFlow_create()

    def each(compute):
        return lambda frames: np.stack([compute(*pair) for pair in pairwise(frames)])

    def by(method):
        return each(lambda first, second: method.calc(first, second, None).transpose(2, 0, 1))

    timed = {}
    for backend in sorted({"cpu", choose("auto")}):
        timed[f"{backend}, as shipped"] = lambda f, b=backend: tvl1(f, shipped, b)
        timed[f"{backend}, the papers' settings"] = lambda f, b=backend: tvl1(f, papers, b)
    timed[BASE] = lambda frames: tvl1(frames, opencv, "opencv")
    timed["OpenCV TV-L1 without median"] = lambda frames: tvl1(frames, papers, "opencv")
    try:
        from skimage.registration import optical_flow_tvl1
    except ImportError:
        print("scikit-image isn't installed and left out (pip install -e '.[bench]')")
    else:
        timed["scikit-image TV-L1, its defaults"] = each(
            lambda first, second: optical_flow_tvl1(first, second)[::-1]  # rows first
        )
    return timed | {"OpenCV DIS medium": by(dis), "OpenCV Farneback": by(farneback)}


def speed(frames, methods, rounds):
    """Time all contenders in turn, ``rounds`` times after a warm-up; rates in pairs/s.

    Pairs per CPU second, over all threads, stay meaningful when other programs take the cores.
    """
    for name, run in methods.items():
        if not name.startswith("OpenCV TV-L1"):  # seconds, and nothing there to warm
            run(frames[:3])
    rates, work = ({name: [] for name in methods} for _ in range(2))
    for _ in range(rounds):
        for name, run in methods.items():
            start, spent = time.perf_counter(), time.process_time()
            run(frames)
            rates[name].append((len(frames) - 1) / (time.perf_counter() - start))
            work[name].append((len(frames) - 1) / max(time.process_time() - spent, 1e-9))
    return {
        name: {
            "pairs_per_s": statistics.median(values),
            "iqr": float(np.subtract(*np.percentile(values, [75, 25]))),
            "pairs_per_cpu_s": statistics.median(work[name]),
            "times_opencv_defaults": statistics.median(
                mine / theirs for mine, theirs in zip(values, rates[BASE], strict=True)
            ),
        }
        for name, values in rates.items()
    }


def errors(folder, methods):
    """Mean endpoint errors on Middlebury's grey pairs, px; unknown pixels are left out."""
    found = {name: {} for name in methods}
    for pair, frames, truth in middlebury(folder):
        for name, run in methods.items():
            found[name][pair] = endpoint_error(run(frames)[0], truth)
    if not found[BASE]:
        raise SystemExit(f"{folder}: no */flow10.flo, expected Middlebury's folders")
    return found


def first_field(pair, rounds):
    """Seconds from the start of a process to a pair's field, by code that another compiled.

    The median of some, by the ``cpu`` backend; the fields computed before filled numba's cache.
    """
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "pair.npy"), pair)
        for _ in range(rounds):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", _FIRST_FIELD, f"{folder}/pair.npy"], check=True)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def memory(frames, shipped, pairs):
    """Measure the peak memory of a process that computes few pairs, and of one that does many."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for count in (pairs // 10, pairs):
        with context.Pool(1) as pool:
            found[f"{count} pairs"] = pool.apply(
                _peak, (frames, shipped, count, cv2.getNumThreads())
            )
    return found


def _peak(frames, settings, count, threads):
    cv2.setNumThreads(threads)
    for _ in range(count // (len(frames) - 1)):
        tvl1(frames, settings, choose("auto"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show(result):
    """Print the tables."""
    print(
        f"{result['frames']}, {result['machine']['threads']} threads\nparity {result['parity']}\n"
    )
    found = result.get("endpoint_error_px", {})
    pairs = list(next(iter(found.values()), {}))
    heads = ["pairs/s", "IQR", "pairs/CPU-s", "times OpenCV", *(f"{p}, px" for p in pairs)]
    print(f"| what | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for name, row in result["speed"].items():
        rate, spread, work, times = row.values()
        cells = [f"{rate:.2f}", f"{spread:.2f}", f"{work:.2f}", f"{times:.1f}"]
        print(f"| {name} | {' | '.join([*cells, *(f'{found[name][p]:.3f}' for p in pairs)])} |")
    print(f"a process's first field after {result['first_field_s']:.2f} s")
    for what, peak in result.get("peak_memory_mb", {}).items():
        print(f"peak memory after {what}: {peak:.0f} MB")


if __name__ == "__main__":
    main()
