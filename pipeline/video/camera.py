"""Camera motion between consecutive frames, as a homography (TSN, section 3.2, "warped flow").

Point pairs come from matched key points and from corners moved by the flow; RANSAC finds the
homography that most agree with, as in improved trajectories (Wang & Schmid 2013). Two defects of
the TSN authors' tool are not repeated: there the previous frame's key points stay those of the
clip's first frame, and corners are detected on the current frame although the flow starts at the
previous one. SURF, which is not in pip's OpenCV, is replaced by ``detector``. There is no mask for
people: RANSAC takes them for outliers while they cover less than the background.
"""

from dataclasses import dataclass

import cv2
import numpy as np

# Changes when the same frames give another homography or another warped frame.
METHOD_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Constants of the estimate; the same names as ``warped_flow`` in params.yaml.

    Attributes
    ----------
    detector : {"sift", "orb"}
    features : int
        At most so many key points a frame, the strongest.
    search_radius : float
        Matches lie within this many px in x and in y.
    corners : int
        At most so many corners are moved by the flow.
    ransac_threshold : float
        px of reprojection error within which a pair agrees.
    min_inliers : int
        Fewer agreeing pairs give the identity.
    border : int
        Pixels that come from this close to the frame's border are not trusted.
    """

    detector: str
    features: int
    search_radius: float
    corners: int
    ransac_threshold: float
    min_inliers: int
    border: int


@dataclass(frozen=True)
class Features:
    """Key points (N, 2) float32 px, x first, and their descriptors (N, D)."""

    points: np.ndarray
    descriptors: np.ndarray


@dataclass(frozen=True)
class Motion:
    """Camera motion from frame k to frame k+1.

    Attributes
    ----------
    homography : ndarray of shape (3, 3), float64
        Maps pixel coordinates (x, y, 1) of frame k to those of frame k+1.
    inliers, pairs : int
        Point pairs that agree with it, and all that there were.
    estimated : bool
        False where the identity stands in for an estimate that failed.
    """

    homography: np.ndarray
    inliers: int
    pairs: int
    estimated: bool


def detect(frame: np.ndarray, settings: Settings) -> Features:
    """Find key points in a grey frame (H, W) uint8, to be used for both of its pairs."""
    if settings.detector == "sift":
        detector = cv2.SIFT_create(nfeatures=settings.features)
    else:
        detector = cv2.ORB_create(nfeatures=settings.features, fastThreshold=7)
    points, descriptors = detector.detectAndCompute(frame, None)
    if descriptors is None:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 1), np.float32))
    strongest = np.argsort([-point.response for point in points], kind="stable")
    strongest = strongest[: settings.features]
    return Features(cv2.KeyPoint_convert(points)[strongest], descriptors[strongest])


def estimate(
    previous: Features,
    current: Features,
    previous_frame: np.ndarray,
    flow: np.ndarray,
    settings: Settings,
) -> Motion:
    """Estimate the camera's motion from frame k to frame k+1.

    Parameters
    ----------
    previous, current : Features
        Of frame k and of frame k+1.
    previous_frame : ndarray of shape (H, W), uint8
        Frame k, grey.
    flow : ndarray of shape (2, H, W), float32
        Displacement field from frame k to frame k+1 in px, x first.
    settings : Settings

    Returns
    -------
    Motion
        The identity where fewer than ``min_inliers`` pairs agree, or what they agree on is no
        motion of a camera within one frame.
    """
    matched = _match(previous, current, settings.search_radius)
    moved = _moved_corners(previous_frame, flow, settings.corners)
    sources, targets = (np.concatenate(pair) for pair in zip(matched, moved, strict=True))
    failed = Motion(np.eye(3), 0, len(sources), False)
    if len(sources) < max(settings.min_inliers, 4):
        return failed
    cv2.setRNGSeed(0)
    homography, agree = cv2.findHomography(
        sources, targets, cv2.RANSAC, settings.ransac_threshold, maxIters=2000, confidence=0.999
    )
    inliers = 0 if agree is None else int(agree.sum())
    if homography is None or inliers < settings.min_inliers:
        return failed
    if not _plausible(homography, *previous_frame.shape):
        return failed
    return Motion(homography, inliers, len(sources), True)


def _match(previous: Features, current: Features, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Pair key points that are each other's nearest descriptor within the search window."""
    if len(previous.points) < 1 or len(current.points) < 1:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    x, y = (np.abs(np.subtract.outer(previous.points[:, k], current.points[:, k])) for k in (0, 1))
    near = (np.maximum(x, y) <= radius).astype(np.uint8)
    there = _nearest(previous.descriptors, current.descriptors, near)
    back = _nearest(current.descriptors, previous.descriptors, np.ascontiguousarray(near.T))
    mutual = (there >= 0) & (back[there] == np.arange(len(there)))
    return previous.points[mutual], current.points[there[mutual]]


def _nearest(a: np.ndarray, b: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Find for each descriptor of ``a`` the nearest of ``b`` that is allowed: (N,), -1 for none."""
    binary = a.dtype == np.uint8
    kind, norm = (cv2.CV_32S, cv2.NORM_HAMMING) if binary else (cv2.CV_32F, cv2.NORM_L2)
    return cv2.batchDistance(a, b, kind, normType=norm, K=1, mask=allowed)[1][:, 0]


def _moved_corners(
    frame: np.ndarray, flow: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pair corners of the previous frame with where the flow takes them."""
    corners = None
    if count:
        corners = cv2.goodFeaturesToTrack(frame, count, qualityLevel=0.001, minDistance=3)
    if corners is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    corners = corners.reshape(-1, 2)
    x, y = corners.astype(np.int64).T
    return corners, corners + flow[:, y, x].T


def _plausible(homography: np.ndarray, height: int, width: int) -> bool:
    """Tell a camera's motion from nonsense: no mirror, no horizon, no corner far off."""
    if not np.isfinite(homography).all() or np.linalg.det(homography[:2, :2]) <= 0:
        return False
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float).T
    mapped = homography @ corners
    if (mapped[2] < 0.5).any():
        return False
    off = np.abs(mapped[:2] / mapped[2] - corners[:2]).max(1)
    return bool(off[0] <= width / 4 and off[1] <= height / 4)


def warp_to_previous(
    previous: np.ndarray, current: np.ndarray, homography: np.ndarray, border: int
) -> np.ndarray:
    """Show frame k+1 from where the camera stood at frame k.

    Parameters
    ----------
    previous, current : ndarray of shape (H, W), uint8
    homography : ndarray of shape (3, 3)
        From frame k to frame k+1.
    border : int
        Where the source lies within this many px of the border or outside, frame k's own pixel
        stands (dense_flow's rule), which gives no motion there.

    Returns
    -------
    ndarray of shape (H, W), uint8
    """
    height, width = previous.shape
    inner = np.zeros((height, width), np.uint8)
    inner[border : height - border, border : width - border] = 1
    flags = cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(
        current, homography, (width, height), flags=flags | cv2.INTER_LINEAR
    )
    trusted = cv2.warpPerspective(
        inner, homography, (width, height), flags=flags | cv2.INTER_NEAREST
    )
    return np.where(trusted, warped, previous)


def displacement(homography: np.ndarray, height: int, width: int) -> np.ndarray:
    """Give the camera's own displacement field: (2, H, W) float32 px, x first."""
    x, y = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None]
    a, b, c = (row[0] * x + (row[1] * y + row[2]) for row in homography)
    return np.stack([a / c - x, b / c - y]).astype(np.float32)
