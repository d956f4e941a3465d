"""The constants of TV-L1, shared by all backends."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Constants of multi-scale duality TV-L1; no backend has values of its own.

    The names follow Sánchez, Meinhardt-Llopis and Facciolo (IPOL 2013), section 4.

    Parameters
    ----------
    tau : float
        Time step of the dual variables, at most 0.25.
    lambda_ : float
        Weight of the data term, for intensities 0-255.
    theta : float
        Tightness of the coupling between the two sub-problems.
    scales : int
        Levels of the pyramid, at most; a level under 16 px ends it.
    scale_step : float
        Size of a level over that of the next finer one.
    warps : int
        Linearisations of the second frame a level.
    iterations : int
        Iterations of the numerical scheme a warp, at most.
    epsilon : float
        A warp ends when the mean squared change of the flow is at most ``epsilon ** 2`` px²;
        0 spends all iterations unless the flow stops changing.
    warp_epsilon : float
        A level ends when a warp's iterations together changed the flow by less than
        ``warp_epsilon ** 2`` px² mean square: linearising again would tell next to nothing new.
        0 spends all warps. OpenCV's classes always do.
    median : int
        Size of a median filter of the flow after each warp: 0 (none), 3 or 5.

    Raises
    ------
    ValueError
        When a value is out of range.
    """

    tau: float
    lambda_: float
    theta: float
    scales: int
    scale_step: float
    warps: int
    iterations: int
    epsilon: float
    warp_epsilon: float
    median: int

    def __post_init__(self) -> None:
        """Refuse what no backend can compute with."""
        checks = {
            "tau": (0 < self.tau <= 0.25, "over 0 and at most 0.25"),
            "lambda_": (0 < self.lambda_ < math.inf, "over 0"),
            "theta": (0 < self.theta < math.inf, "over 0"),
            "scales": (self.scales >= 1, "at least 1"),
            "scale_step": (0 < self.scale_step < 1, "between 0 and 1"),
            "warps": (self.warps >= 1, "at least 1"),
            "iterations": (self.iterations >= 1, "at least 1"),
            "epsilon": (0 <= self.epsilon < math.inf, "at least 0"),
            "warp_epsilon": (0 <= self.warp_epsilon < math.inf, "at least 0"),
            "median": (self.median in (0, 3, 5), "0, 3 or 5"),
        }
        for name, (good, expected) in checks.items():
            if not good:
                raise ValueError(f"TV-L1: {name} is {getattr(self, name)!r}, expected {expected}")
