"""Memory and time that a step of ST-ResNet's training takes, with and without checkpointing.

Two ResNet-50s of 101 classes, clips of 5 and of 11 frames of 224 px, one pass forward and backward
and one step of SGD, each in a process of its own. On a CPU it is the process's peak less what it
held before the network was there; on a GPU, torch's peak of what it has allocated. The seconds are
the median of three further steps. See ``benchmarks/README.md``.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from common import machine

from models.from_streams import NETWORKS
from models.st_resnet import STResNet, two_head_loss

FRAMES, CLIPS = (5, 11), (1, 2)
FIELDS, CLASSES = 10, 101


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--out", type=Path, help="where to write all this as JSON")
    parser.add_argument("--one", type=int, nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(*args.one, args.crop)))
        return
    rows = []
    for frames in FRAMES:
        for checkpointing in (0, 1):
            for clips in CLIPS:
                words = map(str, (clips, frames, checkpointing))
                command = [sys.executable, __file__, "--crop", str(args.crop), "--one", *words]
                told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                rows.append(json.loads(told.stdout))
                print(rows[-1], flush=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    result = {"machine": machine() | {"torch": torch.__version__, "device": device},
              "crop": args.crop, "rows": rows}  # fmt: skip
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def one(clips, frames, checkpointing, crop):
    """Train one step; give what it took in MiB, and how long further ones take."""
    on = "cuda" if torch.cuda.is_available() else "cpu"
    shapes = [(clips, frames, channels, crop, crop) for channels in (3, 2 * FIELDS)]
    inputs = [torch.randn(shape, device=on) for shape in shapes]
    labels = torch.arange(clips, device=on)
    before = 0 if on == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    streams = [NETWORKS["resnet50"](classes=CLASSES, channels=c, dropout=0.0) for c in (3, 20)]
    network = STResNet(
        *streams, connections="add", temporal_filters=True, time_pool=frames >= 11,
        checkpointing=bool(checkpointing),
    ).to(on)  # fmt: skip
    optimiser = torch.optim.SGD(network.parameters(), 1e-4, 0.9)
    # Of each weight, the gradient and the momentum, too.
    fixed = 3 * sum(p.numel() for p in network.parameters()) * 4 / 2**20

    def step():
        started = time.perf_counter()
        optimiser.zero_grad()
        two_head_loss(network(*inputs), labels).backward()
        optimiser.step()
        if on == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    if on == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    return {"clips": clips, "frames": frames, "checkpointing": bool(checkpointing),
            "weights_gradients_momentum_mib": round(fixed), "step_mib": round(peak),
            "step_s": round(statistics.median(step() for _ in range(3)), 3)}  # fmt: skip


if __name__ == "__main__":
    main()
