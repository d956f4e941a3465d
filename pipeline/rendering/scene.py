"""A clip: a wall, an actor before it, and a camera that pans, shakes, zooms and turns.

Every sprite is drawn through one matrix a frame, so the displacement of each pixel from one frame
to the next is known exactly: where a pixel shows sprite p, it moves by p's next matrix after the
inverse of its present one.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.rendering import actions, textures

MARGIN = 150  # px of wall around what the camera shows at rest


@dataclass(frozen=True)
class Clip:
    """A rendered clip and the truth about it.

    Attributes
    ----------
    frames : ndarray of shape (T, H, W, 3), uint8
        RGB.
    layers : ndarray of shape (T, H, W), uint8
        Which matrix moves a pixel; 0 is the wall.
    matrices : ndarray of shape (T, P, 3, 3), float64
        Sprite pixels to frame pixels.
    """

    frames: np.ndarray
    layers: np.ndarray
    matrices: np.ndarray

    def homographies(self) -> np.ndarray:
        """Give the camera's motion: (T-1, 3, 3), pixels of frame k to pixels of frame k+1."""
        wall = self.matrices[:, 0]
        return wall[1:] @ np.linalg.inv(wall[:-1])

    def flow(self) -> np.ndarray:
        """Give the true displacement fields: (T-1, 2, H, W) float32 px, x first."""
        count, height, width = self.layers.shape
        y, x = np.mgrid[:height, :width].astype(np.float64)
        here = np.stack([x, y, np.ones_like(x)])
        out = np.zeros((count - 1, 2, height, width), np.float32)
        for k in range(count - 1):
            moves = self.matrices[k + 1] @ np.linalg.inv(self.matrices[k])
            for part, move in enumerate(moves):
                shown = self.layers[k] == part
                there = move @ here[:, shown]
                out[k][:, shown] = there[:2] / there[2] - here[:2, shown]
        return out


def camera(
    frames: int, height: int, width: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a camera's way: (T, 3, 3) world to frame pixels, and where it looks, (T, 2)."""
    time = np.arange(frames)
    steadily = rng.uniform(-1, 1, 2) * (3.0, 0.8)
    looks = (time[:, None] - frames / 2) * steadily
    looks = np.clip(looks, -0.6 * MARGIN, 0.6 * MARGIN)
    shake = rng.standard_normal((frames, 3)) * rng.uniform(0.3, 1.6) * (1, 1, 0.006)
    shake = np.apply_along_axis(lambda s: np.convolve(s, [0.25, 0.5, 0.25], "same"), 0, shake)
    zoom = np.exp((time - frames / 2) * rng.uniform(-0.005, 0.005))
    turn = (time - frames / 2) * rng.uniform(-0.003, 0.003) + shake[:, 2]
    out = np.zeros((frames, 3, 3))
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    out[:, 0, 0], out[:, 0, 1], out[:, 1, 0], out[:, 1, 1], out[:, 2, 2] = cos, -sin, sin, cos, 1
    out[:, :2, 2] = (width / 2, height / 2) - (out[:, :2, :2] @ looks[..., None])[..., 0]
    out[:, :2, 2] += shake[:, :2]
    return out, looks


def render(
    action: str, *, frames: int, fps: int, height: int, width: int, recording: int, seed: int
) -> Clip:
    """Render one clip.

    The recording alone decides about wall, camera and light, so that they tell nothing about the
    class; action and recording decide about looks, place, speed and phase.
    """
    place = np.random.default_rng((seed, recording))
    wall = textures.background(place, height + 2 * MARGIN, width + 2 * MARGIN)
    view, looks = camera(frames, height, width, place)
    light, flicker = place.uniform(0.65, 1.1), place.uniform(0, 0.15)
    slope = 1 + place.uniform(-0.25, 0.25) * np.linspace(-1, 1, width)[:, None]

    own = np.random.default_rng((seed, recording, actions.CLASSES.index(action)))
    parts = actions.act(action, frames, fps, height * own.uniform(0.8, 0.92), own)
    side = own.uniform(-0.12, 0.12) * width
    world = np.tile(np.eye(3), (frames, 1, 1))
    world[:, :2, 2] = looks + (side, own.uniform(-0.02, 0.02) * height)
    centred = np.eye(3)
    centred[:2, 2] = -np.array(wall.shape[1::-1]) / 2
    sprites = [wall, *(part.sprite for part in parts)]
    matrices = np.stack([view @ centred, *(view @ world @ part.places for part in parts)], axis=1)

    shown = [_compose(sprites, at, height, width) for at in matrices]
    lit = [
        np.clip(frame * slope * light * (1 + flicker * np.sin(k / 4)), 0, 255).astype(np.uint8)
        for k, (frame, _) in enumerate(shown)
    ]
    return Clip(np.stack(lit), np.stack([layer for _, layer in shown]), matrices)


def _compose(
    sprites: list[np.ndarray], matrices: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the sprites over each other: float RGB (H, W, 3), and which one shows, (H, W) uint8."""
    picture = np.zeros((height, width, 3), np.float32)
    layer = np.zeros((height, width), np.uint8)
    for number, (sprite, matrix) in enumerate(zip(sprites, matrices, strict=True)):
        # Draw into the box that the sprite covers, not into the whole frame.
        high, wide = sprite.shape[:2]
        corners = matrix @ np.array([[0, wide, 0, wide], [0, 0, high, high], [1, 1, 1, 1]], float)
        left, top = np.maximum(np.floor(corners[:2].min(1)).astype(int) - 1, 0)
        right, bottom = np.minimum(np.ceil(corners[:2].max(1)).astype(int) + 2, (width, height))
        if left >= right or top >= bottom:
            continue
        shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]])
        size = (int(right - left), int(bottom - top))
        drawn = cv2.warpPerspective(sprite, shift @ matrix, size, flags=cv2.INTER_LINEAR)
        alpha = drawn[..., 3:].astype(np.float32) / 255
        box = picture[top:bottom, left:right]
        box += alpha * (drawn[..., :3] - box)
        layer[top:bottom, left:right][drawn[..., 3] > 127] = number
    return picture, layer
