"""Compare the stage `flow` with its kernel, and `warped_flow` with `flow`.

What reading, quantising, encoding and writing cost, and what the camera's homography does.

Takes stored frames (``data/frames`` after ``dvc repro decode``), runs the stage on them from
nothing in a temporary folder, and computes the flow of the same frames, already in memory, with as
many threads. In turn, so that a busy machine slows all alike. Also the peak memory of a worker on a
long video of large frames, made here.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from common import flow_machine

from pipeline import flow, params, warped_flow, workers
from pipeline.video import store, tvl1
from pipeline.videos import read_videos

_WORKER = """
import re, sys, cv2
from pathlib import Path
from pipeline import flow, params
cv2.setNumThreads(1)
folder, frames, values = (Path(name) for name in sys.argv[1:])
flow.flow_video(folder, "v", frames, "", params.load(values).flow, "")
# Not getrusage's, which begins with the memory of the process that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", type=Path, nargs="?", default=Path("data/frames"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where to write all this as JSON")
    args = parser.parse_args()
    values, project = params.load(), Path.cwd()
    os.environ["PYTHONPATH"] = str(project)

    ratios, rates, warped_ratios = [], [], []
    for _ in range(args.rounds):
        pairs, kernel = time_kernel(args.frames, values.flow)
        with tempfile.TemporaryDirectory() as scratch:
            os.chdir(scratch)  # an item store of its own
            started = time.perf_counter()
            flow.run(project / args.frames, Path("flow"), values.flow, values.limits)
            stage = time.perf_counter() - started
            warped = dataclasses.replace(values.warped_flow, compute=True)
            started = time.perf_counter()
            warped_flow.run(
                project / args.frames, Path("flow"), Path("warped_flow"), values.flow, warped,
                values.limits,
            )  # fmt: skip
            warped_ratios.append((time.perf_counter() - started) / stage)
            os.chdir(project)
        ratios.append(kernel / stage)
        rates.append(pairs / stage)
    result = {
        "machine": flow_machine() | {"workers": workers.count()},
        "pairs": pairs,
        "stage_pairs_per_s": statistics.median(rates),
        "share_of_kernel": statistics.median(ratios),
        "warped_flow_times_flow": statistics.median(warped_ratios),
        "worker_peak_mb_1080p": {f"{n} frames": peak(n, project) for n in (10, 40)},
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def time_kernel(folder, values):
    """Compute all flow with frames in memory, a video a thread; give pairs and seconds."""
    settings = tvl1.Settings(**dataclasses.asdict(values.tvl1))
    clips = []
    for video in read_videos(folder / "videos.csv"):
        if video.status == "ok":
            with store.StoredVideo(folder, video.video_id, store.FRAMES) as stored:
                clips.append(stored.read_many(range(len(stored)), grey=True))
    cv2.setNumThreads(1)
    tvl1.tvl1(clips[0][:2], settings, values.backend)
    with ThreadPoolExecutor(workers.count()) as pool:
        started = time.perf_counter()
        for _ in pool.map(lambda clip: tvl1.tvl1(clip, settings, values.backend).shape, clips):
            pass
        return sum(len(clip) - 1 for clip in clips), time.perf_counter() - started


def peak(count, project):
    """Store a video of 1080p frames and compute its flow in a process; give its peak memory."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 256, (140, 240, 3), np.uint8), (2040, 1190))
    pictures = ((scene[k : k + 1080, 2 * k : 2 * k + 1920],) for k in range(count))
    with tempfile.TemporaryDirectory() as scratch:
        here, there = Path(scratch, "frames"), Path(scratch, "flow")
        here.mkdir()
        there.mkdir()
        store.write_video(here, "v", pictures, store.FRAMES, store="hdf5", quality=90, made_by={})
        command = [sys.executable, "-c", _WORKER, there, here, project / "params.yaml"]
        return int(subprocess.check_output(command, text=True).split()[-1])


if __name__ == "__main__":
    main()
