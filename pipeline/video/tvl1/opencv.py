"""TV-L1 by OpenCV's ``DualTVL1OpticalFlow``: slow, and the reference of the other backends."""

import cv2
import numpy as np

from .settings import Settings

OUTER = 10  # OpenCV's own count of outer iterations; a median filter runs before each


def flow(first: np.ndarray, second: np.ndarray, settings: Settings, out: np.ndarray) -> None:
    """Compute the flow of pairs (N, H, W) uint8 into ``out`` (N, 2, H, W) float32.

    Every setting is given to OpenCV under its own name there, but for three. OpenCV has no
    ``warp_epsilon`` and spends all warps. ``median`` 0, 3, 5 is
    its ``medianFiltering`` 1, 3, 5, which filters before each of its outer iterations rather than
    once after each warp. ``iterations`` is split into outer times inner iterations: ten outer ones
    when a median filter is asked for and ten divides the number, else a single one.
    """
    # OpenCV lowers its number of scales for good on the first small frame: a fresh object a clip.
    method = make(settings)
    for k in range(len(first)):
        out[k] = method.calc(first[k], second[k], None).transpose(2, 0, 1)


def lacks() -> str:
    """Say what this backend lacks to run here; empty if nothing."""
    if hasattr(cv2, "optflow"):
        return ""
    return "this OpenCV has no cv2.optflow, expected opencv-contrib-python-headless"


def make(settings: Settings):
    """Build OpenCV's object for these settings."""
    outer = OUTER if settings.median and settings.iterations % OUTER == 0 else 1
    return cv2.optflow.DualTVL1OpticalFlow_create(
        tau=settings.tau,
        lambda_=settings.lambda_,
        theta=settings.theta,
        nscales=settings.scales,
        warps=settings.warps,
        epsilon=settings.epsilon,
        innnerIterations=settings.iterations // outer,  # spelt so in OpenCV
        outerIterations=outer,
        scaleStep=settings.scale_step,
        gamma=0.0,
        medianFiltering=settings.median or 1,
        useInitialFlow=False,
    )
