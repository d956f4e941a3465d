"""The actions: which sprites there are, and where each is in every frame.

Balls that bounce and balls that spin look alike in every single frame, and so do the slow and the
fast raising of arms: only motion tells them apart. A basketball and a beach ball, and squats with
and without a barbell, move alike: only appearance tells them apart. Nothing depends on left or
right, because training mirrors the clips.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.rendering import textures

CLASSES = (
    "bounce_basketball",
    "bounce_beachball",
    "spin_basketball",
    "spin_beachball",
    "jumping_jack",
    "stretching",
    "squat",
    "squat_barbell",
)


@dataclass(frozen=True)
class Part:
    """A sprite (h, w, 4) and its places: (T, 3, 3) float64, sprite pixels to actor coordinates.

    Actor coordinates are in px around the middle of the action, y downwards.
    """

    sprite: np.ndarray
    places: np.ndarray


def act(action: str, frames: int, fps: int, size: float, rng: np.random.Generator) -> list[Part]:
    """Make an actor's parts, the hindmost first.

    Parameters
    ----------
    action : str
        One of :data:`CLASSES`.
    frames, fps : int
    size : float
        Height of the room for the action, in px.
    rng : numpy.random.Generator
        Draws looks, speed and phase.
    """
    time = np.arange(frames) / fps
    if "ball" in action:
        return _ball(action, time, size, rng)
    return _figure(action, time, size, rng)


def _place(
    x: np.ndarray, y: np.ndarray, angle: np.ndarray, scale: float, pivot: tuple
) -> np.ndarray:
    """Put a sprite's pivot at (x, y), turned clockwise by angle: (T, 3, 3)."""
    x, y, angle = np.broadcast_arrays(x, y, angle)
    out = np.zeros((len(x), 3, 3))
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    out[:, 0, 0], out[:, 0, 1], out[:, 1, 0], out[:, 1, 1] = cos, -sin, sin, cos
    out[:, 0, 2] = x - cos * pivot[0] + sin * pivot[1]
    out[:, 1, 2] = y - sin * pivot[0] - cos * pivot[1]
    out[:, 2, 2] = 1
    return out


def _ball(action: str, time: np.ndarray, size: float, rng: np.random.Generator) -> list[Part]:
    """Bounce without turning, or turn in one place, anywhere that the bouncing ball may be."""
    paint = textures.basketball if action.endswith("basketball") else textures.beachball
    sprite = paint(rng)
    radius = size * rng.uniform(0.2, 0.27)
    range_ = size / 2 - radius
    turn = rng.uniform(0, 2 * np.pi)
    phase = rng.random()
    if action.startswith("bounce"):
        beat = (time * rng.uniform(1.1, 1.5) + phase) % 1
        y = range_ * (1 - 8 * beat * (1 - beat))  # a parabola from floor to floor
        angle = np.full_like(time, turn)
    else:
        y = np.full_like(time, range_ * (1 - 8 * phase * (1 - phase)))
        angle = turn + rng.choice([-1, 1]) * 2 * np.pi * rng.uniform(0.5, 0.8) * time
    half = (textures.BALL - 1) / 2
    return [Part(sprite, _place(0.0, y, angle, 2 * radius / textures.BALL, (half, half)))]


def _figure(action: str, time: np.ndarray, size: float, rng: np.random.Generator) -> list[Part]:
    """Raise arms and spread legs (fast or slow), or bend the knees."""
    hertz = rng.uniform(0.3, 0.4) if action == "stretching" else rng.uniform(1.1, 1.5)
    wave = 0.5 - 0.5 * np.cos(2 * np.pi * (hertz * time + rng.random()))
    if action.startswith("squat"):
        hip, knee = 1.15 * wave, -1.15 * wave
        arm, elbow = np.full_like(time, 0.55), np.full_like(time, 2.2)
    else:
        hip, knee = 0.08 + 0.42 * wave, np.zeros_like(time)
        arm, elbow = 0.15 + 2.6 * wave, np.full_like(time, 0.15)
    unit = size * rng.uniform(0.88, 1.0)
    thigh, shin, trunk, upper, fore = (unit * part for part in (0.22, 0.22, 0.3, 0.17, 0.16))
    shirt, trousers = rng.integers(40, 230, (2, 3)).astype(float)
    skin = np.array([[236, 196, 160], [198, 140, 100], [110, 74, 52]])[rng.integers(3)]
    hair = rng.integers(20, 120, 3)
    floor = size / 2
    hip_y = floor - (thigh + shin) * 0.97 * np.cos(hip) - 0.03 * unit
    neck_y = hip_y - trunk
    parts = []

    def bone(x, y, angle, length, thickness, colour):
        sprite = textures.limb(length, thickness, colour, rng)
        pivot = (round(thickness), round(thickness))
        parts.append(Part(sprite, _place(x, y, angle, 1.0, pivot)))
        return x - length * np.sin(angle), y + length * np.cos(angle)

    thick = 0.045 * unit
    for side in (-1, 1):
        x = np.full_like(time, side * 0.06 * unit)
        knees = bone(x, hip_y, -side * hip, thigh, thick * 1.3, trousers)
        bone(*knees, -side * (hip + knee * 2), shin, thick * 1.1, trousers * 0.8)
    bone(np.zeros_like(time), neck_y, np.zeros_like(time), trunk, 0.105 * unit, shirt)
    if action == "squat_barbell":
        sprite = textures.barbell(0.85 * unit, 0.1 * unit)
        pivot = ((sprite.shape[1] - 1) / 2, (sprite.shape[0] - 1) / 2)
        parts.append(Part(sprite, _place(0.0, neck_y + 0.02 * unit, 0.0, 1.0, pivot)))
    for side in (-1, 1):
        x = np.full_like(time, side * 0.1 * unit)
        elbows = bone(x, neck_y + 0.02 * unit, -side * arm, upper, thick, shirt * 0.9)
        bone(*elbows, -side * (arm + elbow), fore, thick * 0.85, skin.astype(float))
    face = textures.head(0.085 * unit, skin, hair)
    middle = (face.shape[0] - 1) / 2
    parts.append(Part(face, _place(0.0, neck_y - 0.11 * unit, 0.0, 1.0, (middle, middle))))
    return parts
