"""Pictures that the scenes are made of: RGBA sprites, uint8, with alpha 0-255."""

import cv2
import numpy as np

BALL = 96  # px across, of a ball's sprite


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint a wall full of corners: noise of several scales under random shapes; (H, W, 4)."""
    picture = np.zeros((height, width, 3), np.float32)
    for cell, strength in ((128, 40), (32, 30), (8, 25), (3, 20)):
        shape = (height // cell + 2, width // cell + 2)
        small = rng.standard_normal((*shape, 3)) * 0.35 + rng.standard_normal((*shape, 1))
        picture += strength * cv2.resize(
            small.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
    picture = np.clip(picture + rng.uniform(90, 160, 3), 0, 255).astype(np.uint8)
    for _ in range(height * width // 5000):
        centre = np.array([rng.integers(width), rng.integers(height)])
        size = rng.integers(5, 34, 2)
        box = cv2.boxPoints((centre.tolist(), size.tolist(), float(rng.uniform(0, 180))))
        colour = rng.integers(20, 235, 3).tolist()
        if rng.random() < 0.5:
            cv2.fillPoly(picture, [box.astype(np.int32)], colour, cv2.LINE_AA)
        else:
            cv2.circle(picture, centre.tolist(), int(size[0]) // 2, colour, 3, cv2.LINE_AA)
    return np.dstack([picture, np.full((height, width), 255, np.uint8)])


def _disc_alpha() -> np.ndarray:
    alpha = np.zeros((BALL, BALL), np.uint8)
    cv2.circle(alpha, (BALL // 2, BALL // 2), BALL // 2 - 2, 255, -1, cv2.LINE_AA)
    return alpha


def basketball(rng: np.random.Generator) -> np.ndarray:
    """Paint an orange ball with dark seams and a rough skin; (BALL, BALL, 4)."""
    shade = rng.uniform(0.8, 1.1)
    picture = np.full((BALL, BALL, 3), np.array([214, 106, 40]) * shade, np.float32)
    picture += rng.normal(0, 9, (BALL, BALL, 1))
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    half = BALL // 2
    for shift in (-BALL, 0, BALL):
        seam = half if shift == 0 else BALL // 2 + 12
        centre = (half + (0 if shift == 0 else int(shift * 0.78)), half)
        if shift == 0:
            cv2.line(picture, (half, 0), (half, BALL), (30, 20, 15), 3, cv2.LINE_AA)
            cv2.line(picture, (0, half), (BALL, half), (30, 20, 15), 3, cv2.LINE_AA)
        else:
            cv2.circle(picture, centre, seam - 8, (30, 20, 15), 3, cv2.LINE_AA)
    return np.dstack([picture, _disc_alpha()])


def beachball(rng: np.random.Generator) -> np.ndarray:
    """Paint a ball of coloured wedges around a white cap; (BALL, BALL, 4)."""
    picture = np.full((BALL, BALL, 3), 245, np.uint8)
    colours = [(225, 40, 50), (245, 245, 240), (40, 90, 220), (245, 210, 40), (245, 245, 240),
               (40, 170, 80)]  # fmt: skip
    start = int(rng.integers(len(colours)))
    for wedge in range(6):
        colour = colours[(start + wedge) % 6]
        cv2.ellipse(picture, (BALL // 2, BALL // 2), (BALL, BALL), 0, 60 * wedge, 60 * wedge + 60,
                    colour, -1, cv2.LINE_AA)  # fmt: skip
    cv2.circle(picture, (BALL // 2, BALL // 2), 9, (250, 250, 250), -1, cv2.LINE_AA)
    # As rough as the basketball, or flow would tell the two apart by where it finds no texture.
    rough = picture * 0.9 + rng.normal(0, 9, (BALL, BALL, 1))
    return np.dstack([np.clip(rough, 0, 255).astype(np.uint8), _disc_alpha()])


def limb(
    length: float, thickness: float, colour: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Paint a rounded, striped bar that starts at its joint, pointing down.

    The joint is at (thickness, thickness) of the sprite of 2 thickness + 1 columns.
    """
    high, wide = round(length + 2 * thickness), round(2 * thickness) + 1
    alpha = np.zeros((high, wide), np.uint8)
    top, bottom = (
        (round(thickness), round(thickness)),
        (round(thickness), round(thickness + length)),
    )
    cv2.line(alpha, top, bottom, 255, max(round(1.6 * thickness), 1), cv2.LINE_AA)
    rows = np.arange(high)[:, None, None]
    stripes = 1 + 0.25 * np.sign(np.sin(rows * 2 * np.pi / rng.uniform(7, 12)))
    picture = colour * stripes + rng.normal(0, 8, (high, wide, 1))
    return np.dstack([np.clip(picture, 0, 255).astype(np.uint8), alpha])


def head(radius: float, skin: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """Paint a face under hair; the centre of the sprite is the head's."""
    side = 2 * round(radius) + 3
    middle, size = side // 2, round(radius)
    picture = np.full((side, side, 3), skin, np.uint8)
    cv2.ellipse(picture, (middle, middle - size // 2), (size, size * 2 // 3), 0, 0, 360,
                hair.tolist(), -1, cv2.LINE_AA)  # fmt: skip
    for eye in (-1, 1):
        place = (middle + eye * size // 3, middle + size // 4)
        cv2.circle(picture, place, max(size // 7, 1), (20, 20, 20), -1, cv2.LINE_AA)
    alpha = np.zeros((side, side), np.uint8)
    cv2.circle(alpha, (middle, middle), size, 255, -1, cv2.LINE_AA)
    return np.dstack([picture, alpha])


def barbell(length: float, plate: float) -> np.ndarray:
    """Paint a bar with a plate at each end; the centre of the sprite is the bar's."""
    high, wide = round(2 * plate) + 3, round(length) + 3
    picture = np.full((high, wide, 3), (150, 150, 158), np.uint8)
    alpha = np.zeros((high, wide), np.uint8)
    middle = high // 2
    cv2.line(alpha, (0, middle), (wide, middle), 255, max(round(plate / 5), 2), cv2.LINE_AA)
    for left in (0, wide - round(plate / 1.5) - 1):
        corner = (left + round(plate / 1.5), high)
        cv2.rectangle(alpha, (left, 0), corner, 255, -1)
        cv2.rectangle(picture, (left, 0), corner, (35, 35, 40), -1)
        cv2.rectangle(
            picture, (left + 1, middle - 3), (corner[0] - 1, middle + 3), (200, 30, 30), -1
        )
    return np.dstack([picture, alpha])
