"""TV-L1 by OpenCV's CUDA class, what the papers used: for those who built OpenCV with CUDA."""

import cv2
import numpy as np

from .settings import Settings


def lacks() -> str:
    """Say what this backend lacks to run here; empty if nothing."""
    if not hasattr(getattr(cv2, "cuda", None), "OpticalFlowDual_TVL1_create"):
        return "this OpenCV was built without CUDA (no wheel has it), expected one built by hand"
    return "" if cv2.cuda.getCudaEnabledDeviceCount() else "OpenCV finds no CUDA device"


def flow(first: np.ndarray, second: np.ndarray, settings: Settings, out: np.ndarray) -> None:
    """Compute the flow of pairs (N, H, W) uint8 into ``out`` (N, 2, H, W) float32.

    Raises
    ------
    ValueError
        When a median is asked for, which this class doesn't have.
    """
    if settings.median:
        raise ValueError("TV-L1 backend 'opencv_cuda': median: OpenCV's CUDA class has 0 alone")
    method = cv2.cuda.OpticalFlowDual_TVL1_create(
        settings.tau, settings.lambda_, settings.theta, settings.scales, settings.warps,
        settings.epsilon, settings.iterations, settings.scale_step, 0.0, False,
    )  # fmt: skip
    for k in range(len(first)):
        pair = (cv2.cuda.GpuMat(frame[k]) for frame in (first, second))
        out[k] = method.calc(*pair, None).download().transpose(2, 0, 1)
