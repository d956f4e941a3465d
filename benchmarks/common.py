"""What several benchmarks say or measure: the machine, and endpoint errors."""

import importlib.metadata
import platform
from pathlib import Path

import cv2
import llvmlite.binding
import numpy as np

from pipeline.video.tvl1 import METHOD_VERSION


def machine():
    """Name the processor and the Python that run this."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    return {"cpu": model or platform.processor(), "python": platform.python_version()}


def flow_machine():
    """Say what runs this, and what else bears on the speed of flow."""
    names = ("numpy", "numba", "llvmlite", "opencv-contrib-python-headless", "torch")
    return machine() | {
        "vectors": llvmlite.binding.get_host_cpu_name(),
        "versions": {name: importlib.metadata.version(name) for name in names},
        "method_version": METHOD_VERSION,
    }


def middlebury(folder):
    """Yield (name, frames (2, H, W) uint8, truth (2, H, W)) of each pair."""
    for pair in sorted(path.parent for path in folder.glob("*/flow10.flo")):
        frames = np.stack([cv2.imread(str(pair / f"frame{k}.png"), 0) for k in (10, 11)])
        yield pair.name, frames, cv2.readOpticalFlow(str(pair / "flow10.flo")).transpose(2, 0, 1)


def endpoint_error(flow, truth):
    """Mean over the pixels whose truth is known, px."""
    known = (np.abs(truth) < 1e8).all(axis=0)
    return float(np.hypot(*(flow - truth))[known].mean())
