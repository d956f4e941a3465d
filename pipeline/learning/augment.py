"""Crops of a frame, for training and for testing."""

from typing import NamedTuple

import cv2
import numpy as np

# Of ImageNet's colours in 0-1: a column a principal component, and its eigenvalue.
_COLOUR_COMPONENTS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
_COLOUR_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])


class Box(NamedTuple):
    """A part of a frame, px."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, volume: np.ndarray, size: int) -> np.ndarray:
        """Cut it out of a volume (H, W, C) and resize it to a square of ``size`` px."""
        cut = volume[self.top : self.top + self.height, self.left : self.left + self.width]
        return resize(cut, size, size)


def random_box(
    frame: tuple[int, int],
    size: int,
    scale_jitter: tuple[float, ...],
    places: str,
    rng: np.random.Generator,
) -> Box:
    """Draw a box to train on.

    Its height and width are drawn uniformly from all pairs of :func:`box_sides` that are at most
    one step apart (TSN, section 3.2), and its place uniformly from the whole frame (Two-Stream,
    section 5) or from the fixed ones of TSN's corner cropping. One value of 0.875 gives the
    two-stream paper's 224 of 256 px.

    Parameters
    ----------
    frame : (int, int)
        Its height and width, px.
    size : int
        Height and width that the network sees.
    scale_jitter : tuple of float
        Shares of the short side, in order of size.
    places : {"anywhere", "five", "thirteen"}
    rng : numpy.random.Generator

    Returns
    -------
    Box
        Inside the frame.
    """
    sides = list(enumerate(box_sides(min(frame), size, scale_jitter)))
    pairs = [(h, w) for i, h in sides for j, w in sides if abs(i - j) <= 1]
    height, width = pairs[int(rng.integers(len(pairs)))]
    below, right = frame[0] - height, frame[1] - width
    if places == "anywhere":
        top, left = int(rng.integers(below + 1)), int(rng.integers(right + 1))
    else:
        fixed = fixed_places(below, right, places)
        top, left = fixed[int(rng.integers(len(fixed)))]
    return Box(top, left, height, width)


def box_sides(short: int, size: int, scale_jitter: tuple[float, ...]) -> list[int]:
    """List the sides of random boxes in px: shares of a frame's short side, rounded down.

    One less than 3 px off the network's ``size`` is that size, so that it need not be resized, as
    in the TSN authors' code; unless the frame is smaller.
    """
    sides = [max(int(short * share), 1) for share in scale_jitter]
    return [min(size, short) if abs(side - size) < 3 else side for side in sides]


def fixed_places(below: int, right: int, places: str) -> list[tuple[int, int]]:
    """List the (top, left) of TSN's random boxes.

    They lie on a grid of a quarter of the room, rounded down, as in the authors' code, so that the
    lower and right ones may be up to 3 px off the frame's border.

    Parameters
    ----------
    below, right : int
        The room that a box leaves in the frame, px: its height and width less the box's.
    places : {"five", "thirteen"}
        Four corners and the centre (section 3.2); the code adds the middles of the four sides and
        the four points half-way from the centre to the corners.
    """
    grid = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
    if places == "thirteen":
        grid += [(2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3)]
    return [(row * (below // 4), column * (right // 4)) for row, column in grid]


def rgb_jitter(sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a change of light: (3,) float32, to be added to the R, G and B of a clip's codes.

    Along each principal component of ImageNet's colours, ``sigma`` times a normal number times its
    eigenvalue (Krizhevsky et al. 2012, section 4.1, with a sigma of 0.1; Two-Stream's "RGB
    jittering", section 5, gives no number). The components are those of fb.resnet.torch.
    """
    drawn = rng.standard_normal(3) * sigma * _COLOUR_EIGENVALUES
    return (255 * _COLOUR_COMPONENTS @ drawn).astype(np.float32)


def scaled_frame(volume: np.ndarray, size: int, crop_ratio: float) -> np.ndarray:
    """Scale a volume so that a crop of ``size`` px is ``crop_ratio`` of its short side."""
    height, width = volume.shape[:2]
    scale = size / crop_ratio / min(height, width)
    return resize(volume, max(round(height * scale), size), max(round(width * scale), size))


def crop_places(height: int, width: int, size: int, crops: int) -> list[tuple[int, int, bool]]:
    """List the crops of a test frame as (top, left, flipped).

    10 is four corners, the centre and their mirror images (both papers); 5 leaves the mirror images
    out, 2 is the centre and its mirror image, 1 the centre.
    """
    bottom, right = height - size, width - size
    centre = (bottom // 2, right // 2)
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    places = [centre] if crops <= 2 else [*corners, centre]
    flips = (False, True) if crops in (2, 10) else (False,)
    return [(top, left, flipped) for flipped in flips for top, left in places]


def resize(volume: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale a volume (H, W, C) of up to 128 channels; it averages where it shrinks much.

    With more than four channels it gives planes (see :func:`pipeline.learning.volumes.packed`).
    """
    if volume.shape[:2] == (height, width):
        return volume
    # Averages, so that fine texture does not alias; a little of it costs less than it takes.
    shrinks = 1.25 * height < volume.shape[0] and 1.25 * width < volume.shape[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if volume.shape[2] <= 4:  # more can't be averaged at a time
        return np.atleast_3d(cv2.resize(volume, (width, height), interpolation=way))
    planes = np.empty((volume.shape[2], height, width), volume.dtype)
    for plane, scaled in zip(volume.transpose(2, 0, 1), planes, strict=True):
        cv2.resize(plane, (width, height), dst=scaled, interpolation=way)
    return planes.transpose(1, 2, 0)
