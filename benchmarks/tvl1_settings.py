"""Endpoint error against speed for settings of TV-L1, to choose the ones that ship.

Truth comes from Middlebury's pairs (``--middlebury FOLDER``: ``<pair>/frame10.png``,
``frame11.png``, ``flow10.flo``), from the sample's clips (``data/sample/*/truth``, written by
``dvc repro``), and from crops of their frames that move by up to 18 px. Each row changes some
settings of those in ``params.yaml``. Times are taken in interleaved rounds on one thread; the ratio
to the first row is the median of the rounds' ratios.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
from common import endpoint_error, middlebury

from pipeline import params
from pipeline.video.tvl1 import Settings, tvl1

PAPERS = {
    "lambda_": 0.15, "theta": 0.3, "scales": 5, "scale_step": 0.8, "warps": 5, "warp_epsilon": 0.0,
}  # fmt: skip
ROWS = (
    {},
    {**PAPERS, "iterations": 300, "median": 0},
    {**PAPERS, "iterations": 300},
    PAPERS,
    {"median": 0},
    {"median": 3},
    {"warps": 2},
    {"warps": 4},
    {"warps": 5},
    {"iterations": 15},
    {"iterations": 300},
    {"epsilon": 0.005},
    {"epsilon": 0.02},
    {"warp_epsilon": 0.0},
    {"warp_epsilon": 0.03},
    {"warp_epsilon": 0.08},
    {"scales": 5},
    {"scales": 6},
    {"scale_step": 0.5},
    {"scale_step": 0.8, "scales": 9},
    {"lambda_": 0.15},
    {"lambda_": 0.2},
    {"theta": 0.2},
    {"theta": 0.3},
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--middlebury", type=Path, help="folder of pairs with ground truth")
    parser.add_argument("--sample", type=Path, default=Path("data/sample"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where to write all this as JSON")
    args = parser.parse_args()
    cv2.setNumThreads(1)

    shipped = Settings(**dataclasses.asdict(params.load().flow.tvl1))
    rows = [dataclasses.replace(shipped, **change) for change in ROWS]
    sets = {"sample": list(sample(args.sample)), "pans": list(pans(args.sample))}
    if args.middlebury:
        sets["middlebury"] = [pair[1:] for pair in middlebury(args.middlebury)]
        sets["compressed"] = [(jpeg(frames), truth) for frames, truth in sets["middlebury"]]
    if not any(sets.values()):
        raise SystemExit(f"{args.sample}: no truth/*.h5 in it; run `dvc repro` first")
    tvl1(sets["sample"][0][0] if sets["sample"] else sets["middlebury"][0][0], shipped, "cpu")

    found = []
    times = [[] for _ in rows]
    for round_ in range(args.rounds):
        for number, settings in enumerate(rows):
            started, errors = time.perf_counter(), {}
            for name, pairs in sets.items():
                fields = [tvl1(frames, settings, "cpu")[0] for frames, _ in pairs]
                errors[name] = [endpoint_error(f, true) for f, (_, true) in
                                zip(fields, pairs, strict=True)]  # fmt: skip
            times[number].append(time.perf_counter() - started)
            if round_ == 0:
                found.append(errors)
    table = [
        {
            "changed": change,
            "times_as_fast": statistics.median(
                a / b for a, b in zip(times[0], times[number], strict=True)
            ),
            **{f"{name}_px": float(np.mean(values)) for name, values in found[number].items()},
            "worst_ratio": max(
                new / old
                for name, values in found[number].items()
                for new, old in zip(values, found[0][name], strict=True)
            ),
        }
        for number, change in enumerate(ROWS)
    ]
    show(table, shipped)
    if args.out:
        text = json.dumps({"shipped": dataclasses.asdict(shipped), "table": table}, indent=2)
        args.out.write_text(text + "\n", encoding="utf-8")


def jpeg(frames):
    """Compress frames hard, as video is."""
    coded = [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 50])[1] for frame in frames]
    return np.stack([cv2.imdecode(code, cv2.IMREAD_GRAYSCALE) for code in coded])


def sample(folder):
    """Yield three pairs of each clip with truth, before encoding."""
    for path in sorted(folder.glob("*/truth/*.h5")):
        with h5py.File(path) as file:
            count = len(file["flow"])
            for k in (count // 4, count // 2, 3 * count // 4):
                frames = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in file["frames"][k : k + 2]]
                yield np.stack(frames), file["flow"][k]


def pans(folder):
    """Yield crops of one frame a clip, twice its size, that move by a known number of px."""
    for path in sorted(folder.glob("*/truth/*.h5")):
        with h5py.File(path) as file:
            frame = cv2.cvtColor(file["frames"][0], cv2.COLOR_RGB2GRAY)
        frame = cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        for x, y in ((6, 3), (10, 5), (16, -8)):
            crops = [frame[40 - j : 296 - j, 50 - i : 390 - i] for i, j in ((0, 0), (x, y))]
            truth = np.broadcast_to(np.float32([x, y])[:, None, None], (2, 256, 340)).copy()
            truth[:, :, -x:] = truth[:, : max(-y, 0)] = 1e9  # what leaves the frame
            truth[:, 256 - max(y, 0) :] = 1e9
            yield np.stack(crops), truth


def show(table, shipped):
    """Print the table."""
    names = [name for name in table[0] if name.endswith("_px")]
    print(f"shipped: {shipped}\n")
    print(f"| {'changed':32} | times as fast | {' | '.join(names)} | worst pair |")
    print("|---|---|" + "---|" * len(names) + "---|")
    for row in table:
        change = ", ".join(f"{k} {v}" for k, v in row["changed"].items()) or "(as shipped)"
        errors = " | ".join(f"{row[name]:.4f}" for name in names)
        ratio, worst = row["times_as_fast"], row["worst_ratio"]
        print(f"| {change:32} | {ratio:13.2f} | {errors} | x{worst:.3f} |")


if __name__ == "__main__":
    main()
