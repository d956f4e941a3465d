"""Endpoint error against speed for settings of TV-L1, to choose the ones that ship.

Truth comes from Middlebury's pairs (``--middlebury FOLDER``: ``<pair>/frame10.png``,
``frame11.png``, ``flow10.flo``) and from the sample's clips (``data/sample/*/truth``, written by
``dvc repro``). Each row changes some settings of those in ``params.yaml``. Times are taken in
interleaved rounds on one thread; the ratio to the first row is the median of the rounds' ratios.
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

from pipeline import params
from pipeline.video.tvl1 import Settings, tvl1

ROWS = (
    {},
    {"median": 0},
    {"median": 3},
    {"epsilon": 0.005},
    {"epsilon": 0.02},
    {"epsilon": 0.03},
    {"epsilon": 0.05},
    {"warps": 3},
    {"warps": 3, "epsilon": 0.02},
    {"warps": 10},
    {"iterations": 100},
    {"iterations": 50},
    {"iterations": 30},
    {"iterations": 30, "epsilon": 0.02},
    {"scales": 8},
    {"scales": 10, "iterations": 50},
    {"scale_step": 0.5},
    {"scale_step": 0.7},
    {"lambda_": 0.1},
    {"lambda_": 0.2},
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
    sets = {"sample": list(sample(args.sample))}
    if args.middlebury:
        sets["middlebury"] = list(middlebury(args.middlebury))
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


def middlebury(folder):
    """Yield (frames (2, H, W) uint8, truth (2, H, W)) of each pair."""
    for pair in sorted(path.parent for path in folder.glob("*/flow10.flo")):
        frames = np.stack([cv2.imread(str(pair / f"frame{k}.png"), 0) for k in (10, 11)])
        yield frames, cv2.readOpticalFlow(str(pair / "flow10.flo")).transpose(2, 0, 1)


def sample(folder):
    """Yield three pairs of each clip with truth, before encoding."""
    for path in sorted(folder.glob("*/truth/*.h5")):
        with h5py.File(path) as file:
            count = len(file["flow"])
            for k in (count // 4, count // 2, 3 * count // 4):
                frames = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in file["frames"][k : k + 2]]
                yield np.stack(frames), file["flow"][k]


def endpoint_error(flow, truth):
    """Mean over the pixels whose truth is known, px."""
    known = (np.abs(truth) < 1e8).all(axis=0)
    return float(np.hypot(*(flow - truth))[known].mean())


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
