"""Crops of a frame, for training and for testing."""

import cv2
import numpy as np

# Of ImageNet's colours in 0-1: a column a principal component, and its eigenvalue.
_COLOUR_COMPONENTS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
_COLOUR_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])


def random_crop(
    volume: np.ndarray, size: int, scale_jitter: tuple[float, ...], rng: np.random.Generator
) -> np.ndarray:
    """Cut a random box and resize it to a square.

    Its height and width are drawn from ``scale_jitter`` times the short side, at most one step
    apart (TSN, section 3.2), and its place uniformly from the whole frame (Two-Stream, section 5).
    One value of 0.875 gives the two-stream paper's 224 of 256 pixels. TSN draws the place from 5 or
    13 fixed ones instead.

    Parameters
    ----------
    volume : ndarray of shape (H, W, C), uint8 or int16
    size : int
        Height and width of the result.
    scale_jitter : tuple of float
        Shares of the short side, in order of size.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (size, size, C), of the same dtype
    """
    short = min(volume.shape[:2])
    steps = len(scale_jitter)
    first = int(rng.integers(steps))
    second = int(rng.integers(max(first - 1, 0), min(first + 1, steps - 1) + 1))
    height, width = (max(int(short * scale_jitter[i]), 1) for i in (first, second))
    top = int(rng.integers(volume.shape[0] - height + 1))
    left = int(rng.integers(volume.shape[1] - width + 1))
    return _resize(volume[top : top + height, left : left + width], size, size)


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
    return _resize(volume, max(round(height * scale), size), max(round(width * scale), size))


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


def _resize(volume: np.ndarray, height: int, width: int) -> np.ndarray:
    if volume.shape[:2] == (height, width):
        return volume
    # Averages when shrinking, so that fine texture does not alias.
    shrinks = height < volume.shape[0] and width < volume.shape[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    # OpenCV resizes at most four channels at a time.
    parts = [volume[..., first : first + 4] for first in range(0, volume.shape[2], 4)]
    resized = [cv2.resize(part, (width, height), interpolation=way) for part in parts]
    return np.dstack(resized)
