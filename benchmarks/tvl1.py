"""Time the TV-L1 backends side by side, on the same frames, in one run.

Agreement is asserted first. Rounds are interleaved, so that a busy machine slows all alike; a
ratio is the median of the rounds' ratios. See ``benchmarks/README.md``.
"""

import argparse
import dataclasses
import json
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import llvmlite
import numba
import numpy as np

from pipeline import params
from pipeline.video.tvl1 import METHOD_VERSION, Settings, tvl1, tvl1_pair

SHORT_SIDE = 256


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path, help="a video; without it frames are made")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of frames a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--middlebury", type=Path, help="folder of pairs with ground truth")
    parser.add_argument("--out", type=Path, help="where to write all this as JSON")
    args = parser.parse_args()

    production = Settings(**dataclasses.asdict(params.load().flow.tvl1))
    frames = read(args.frames, args.pairs + 1) if args.frames else made(args.pairs + 1)
    cv2.setNumThreads(1)
    result = {
        "machine": machine(),
        "frames": {"from": args.frames.name if args.frames else "made", "shape": frames.shape},
        "settings": dataclasses.asdict(production),
        "parity": parity(frames, production),
        "speed": speed(frames, production, args.rounds),
    }
    if args.middlebury:
        result["endpoint_error_px"] = errors(args.middlebury, production)
    show(result)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def read(path, count):
    """Read the first frames of a video as (T, H, W) grey, the short side 256."""
    video, frames = cv2.VideoCapture(str(path)), []
    while len(frames) < count:
        good, frame = video.read()
        if not good:
            raise SystemExit(f"{path}: {len(frames)} frames, expected at least {count}")
        scale = SHORT_SIDE / min(frame.shape[:2])
        size = [round(side * scale) for side in frame.shape[1::-1]]
        frames.append(cv2.cvtColor(cv2.resize(frame, size), cv2.COLOR_BGR2GRAY))
    return np.stack(frames)


def made(count, height=SHORT_SIDE, width=340):
    """Make a scene that zooms and turns, a square that moves across it, and noise."""
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.random((height, width)).astype(np.float32), (0, 0), 3)
    scene = cv2.normalize(scene, None, 20, 235, cv2.NORM_MINMAX)
    square = cv2.GaussianBlur(rng.random((80, 80)).astype(np.float32), (0, 0), 2)
    square = cv2.normalize(square, None, 0, 255, cv2.NORM_MINMAX)
    frames = []
    for k in range(count):
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), 0.3 * k, 1 + 0.005 * k)
        frame = cv2.warpAffine(scene, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
        left = 30 + 3 * k % (width - 120)
        frame[90:170, left : left + 80] = square
        frame += rng.normal(0, 1.5, frame.shape)
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    return np.stack(frames)


def parity(frames, settings):
    """Assert that cpu and opencv agree without the median filter, which they place differently."""
    plain = dataclasses.replace(settings, median=0)
    ours, theirs = (tvl1(frames[:3], plain, name) for name in ("cpu", "opencv"))
    apart = np.abs(ours - theirs).max(axis=1)
    codes = [np.clip(np.rint(255 * (flow + 20) / 40), 0, 255) for flow in (ours, theirs)]
    found = {
        "mean_px": float(apart.mean()),
        "within_0.1_px": float((apart <= 0.1).mean()),
        "codes_within_one": float((np.abs(codes[0] - codes[1]) <= 1).mean()),
    }
    if found["within_0.1_px"] < 0.99 or found["codes_within_one"] < 0.995:
        raise AssertionError(f"cpu and opencv disagree: {found}")
    return found


def contenders(frames, settings):
    """Name what is timed: a function to run, the pairs that it computes and OpenCV's threads."""
    pairs = len(frames) - 1
    plain = dataclasses.replace(settings, median=0)
    filtered = dataclasses.replace(settings, median=5)
    pool = ThreadPoolExecutor(2)

    def together(chosen):
        list(pool.map(lambda _: tvl1(frames, chosen, "cpu"), range(2)))

    def each(compute):
        for first, second in pairwise(frames):
            compute(first, second, None)

    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    farneback = cv2.FarnebackOpticalFlow_create()
    timed = {
        "cpu, 1 thread": (partial(tvl1, frames, settings, "cpu"), pairs, 1),
        "cpu, 2 videos side by side": (partial(together, settings), 2 * pairs, 1),
        "cpu without median, 1 thread": (partial(tvl1, frames, plain, "cpu"), pairs, 1),
        "cpu without median, 2 videos": (partial(together, plain), 2 * pairs, 1),
    }
    for threads in (1, 2):
        of = f", {threads} thread{'s' * (threads > 1)}"
        timed |= {
            f"OpenCV defaults{of}": (partial(tvl1, frames, filtered, "opencv"), pairs, threads),
            f"OpenCV without median{of}": (partial(tvl1, frames, plain, "opencv"), pairs, threads),
            f"OpenCV DIS medium{of}": (partial(each, dis.calc), pairs, threads),
            f"OpenCV Farneback{of}": (partial(each, farneback.calc), pairs, threads),
        }
    return timed


def speed(frames, settings, rounds):
    """Time all contenders in turn, ``rounds`` times after a warm-up; rates in pairs/s.

    Pairs per CPU second, over all threads, stay meaningful when other programs take the cores.
    """
    timed = contenders(frames, settings)
    for name, (run, _, _) in contenders(frames[:2], settings).items():
        if not name.startswith("OpenCV d"):  # minutes, and nothing there to warm
            run()
    rates = {name: [] for name in timed}
    work = {name: [] for name in timed}
    for _ in range(rounds):
        for name, (run, pairs, threads) in timed.items():
            cv2.setNumThreads(threads)
            start, spent = time.perf_counter(), time.process_time()
            run()
            rates[name].append(pairs / (time.perf_counter() - start))
            work[name].append(pairs / (time.process_time() - spent))
    base = rates["OpenCV defaults, 2 threads"]
    return {
        name: {
            "pairs_per_s": statistics.median(values),
            "iqr": float(np.subtract(*np.percentile(values, [75, 25]))),
            "pairs_per_cpu_s": statistics.median(work[name]),
            "times_opencv_defaults_2_threads": statistics.median(
                mine / theirs for mine, theirs in zip(values, base, strict=True)
            ),
        }
        for name, values in rates.items()
    }


def errors(folder, settings):
    """Mean endpoint errors on Middlebury's grey pairs, px; unknown pixels are left out."""
    plain = dataclasses.replace(settings, median=0)
    filtered = dataclasses.replace(settings, median=5)
    methods = {
        "cpu, median 0": (plain, "cpu"),
        "cpu, median 5": (filtered, "cpu"),
        "OpenCV without median": (plain, "opencv"),
        "OpenCV defaults": (filtered, "opencv"),
    }
    found = {}
    for pair in sorted(path.parent for path in folder.glob("*/flow10.flo")):
        first, second = (cv2.imread(str(pair / f"frame{k}.png"), 0) for k in (10, 11))
        truth = cv2.readOpticalFlow(str(pair / "flow10.flo")).transpose(2, 0, 1)
        known = (np.abs(truth) < 1e8).all(axis=0)
        found[pair.name] = {
            name: float(np.hypot(*(tvl1_pair(first, second, *how) - truth))[known].mean())
            for name, how in methods.items()
        }
    if not found:
        raise SystemExit(f"{folder}: no */flow10.flo, expected Middlebury's folders")
    return found


def machine():
    """Say what ran this."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "vectors": llvmlite.binding.get_host_cpu_name(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "opencv": cv2.__version__,
        "method_version": METHOD_VERSION,
    }


def show(result):
    """Print the tables."""
    print(f"{result['frames']}\nparity {result['parity']}\n")
    print(f"| {'what':32} | pairs/s |   IQR | pairs/CPU-s | times OpenCV |\n|---|---|---|---|---|")
    for name, row in result["speed"].items():
        rate, spread, work, times = row.values()
        print(f"| {name:32} | {rate:7.2f} | {spread:5.2f} | {work:11.2f} | {times:12.1f} |")
    for pair, row in result.get("endpoint_error_px", {}).items():
        print(pair, *(f"{name} {value:.3f} px;" for name, value in row.items()))


if __name__ == "__main__":
    main()
