"""Known camera motions are found, and what is no camera motion is not made up."""

import dataclasses

import cv2
import numpy as np
import pytest

from pipeline import params
from pipeline.rendering.textures import background
from pipeline.video import camera

SETTINGS = camera.Settings(
    detector="orb", features=500, search_radius=25, corners=500, ransac_threshold=1.0,
    min_inliers=25, border=5,
)  # fmt: skip
H, W = 120, 161


def about_centre(scale=1.0, turn=0.0, x=0.0, y=0.0):
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    centre = np.array([[1, 0, W / 2], [0, 1, H / 2], [0, 0, 1]])
    return centre @ [[cos, -sin, x], [sin, cos, y], [0, 0, 1]] @ np.linalg.inv(centre)


MOTIONS = {
    "still": np.eye(3),
    "pan": about_centre(x=7.3, y=-2.6),
    "zoom": about_centre(scale=1.04),
    "turn": about_centre(turn=0.03, x=1.5),
    "tilt": about_centre(x=2) + [[0, 0, 0], [0, 0, 0], [1e-4, -5e-5, 0]],
}


def scene(seed=0):
    big = background(np.random.default_rng(seed), 200, 260)[40 : 40 + H, 50 : 50 + W, :3]
    return cv2.cvtColor(big, cv2.COLOR_RGB2GRAY)


def moved(frame, homography):
    return cv2.warpPerspective(
        frame, homography, (W, H), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )


def estimate(first, second, flow, settings=SETTINGS):
    features = [camera.detect(frame, settings) for frame in (first, second)]
    return camera.estimate(*features, first, flow, settings)


def corner_error(found, true):
    corners = np.float64([[[0, 0], [W - 1, 0], [0, H - 1], [W - 1, H - 1]]])
    ours, theirs = (cv2.perspectiveTransform(corners, h) for h in (found, true))
    return np.linalg.norm(ours - theirs, axis=2).max()


def test_settings_are_those_of_params():
    names = [field.name for field in dataclasses.fields(camera.Settings)]
    assert ["compute", "mode", *names] == [
        field.name for field in dataclasses.fields(params.WarpedFlow)
    ]


@pytest.mark.parametrize("detector", ["orb", "sift"])
@pytest.mark.parametrize("name", MOTIONS)
def test_known_motions_behind_a_moving_actor(name, detector):
    true, first = MOTIONS[name], scene()
    second, flow = moved(first, true), camera.displacement(true, H, W)
    actor = scene(1)[:60, :60]
    first, second = first.copy(), second.copy()
    first[30:90, 50:110], second[36:96, 45:105] = actor, actor
    flow[:, 30:90, 50:110] = np.array([-5, 6])[:, None, None]
    settings = dataclasses.replace(SETTINGS, detector=detector)
    motion = estimate(first, second, flow, settings)
    assert motion.estimated
    assert motion.inliers >= 25
    assert corner_error(motion.homography, true) < 1


@pytest.mark.parametrize("kind", ["constant", "noise", "mirror"])
def test_what_is_no_motion_gives_the_identity(kind):
    rng = np.random.default_rng(0)
    flow = rng.uniform(-30, 30, (2, H, W)).astype(np.float32)
    if kind == "constant":
        first = second = np.full((H, W), 90, np.uint8)
    elif kind == "noise":
        first, second = rng.integers(0, 256, (2, H, W), np.uint8)
    else:
        first, second = scene(), scene()[:, ::-1].copy()
    motion = estimate(first, second, flow)
    np.testing.assert_array_equal(motion.homography, np.eye(3))
    assert not motion.estimated


def test_tiny_frames():
    tiny = np.zeros((16, 16), np.uint8)
    assert not estimate(tiny, tiny, np.zeros((2, 16, 16), np.float32)).estimated


def test_each_pair_has_its_own_motion():
    """In the TSN authors' tool the previous frame's key points stay the first frame's."""
    steps = [MOTIONS["pan"], about_centre(x=-6, y=3), MOTIONS["turn"]]
    frames = [scene()]
    for step in steps:
        frames.append(moved(frames[-1], step))
    settings = dataclasses.replace(SETTINGS, detector="sift", corners=0)
    features = [camera.detect(frame, settings) for frame in frames]
    for k, step in enumerate(steps):
        flow = np.zeros((2, H, W), np.float32)  # no help from the corners
        motion = camera.estimate(features[k], features[k + 1], frames[k], flow, settings)
        assert corner_error(motion.homography, step) < 1.5


def test_corners_start_on_the_previous_frame():
    """In the TSN authors' tool they are detected on the current one."""
    true, first = MOTIONS["pan"], scene()
    flow = camera.displacement(true, H, W)
    nothing = camera.detect(np.zeros((H, W), np.uint8), SETTINGS)
    motion = camera.estimate(nothing, nothing, first, flow, SETTINGS)
    assert corner_error(motion.homography, true) < 0.01


def test_warping_undoes_the_motion_and_leaves_the_border():
    true, first = MOTIONS["pan"], scene()
    second = moved(first, true)
    back = camera.warp_to_previous(first, second, true, 5)
    inner = np.s_[10:-10, 15:-15]
    before = np.abs(first[inner].astype(int) - second[inner]).mean()
    assert np.abs(first[inner].astype(int) - back[inner]).mean() < before / 5
    # Sources within 5 px of the border, or outside, are the previous frame's own pixels.
    np.testing.assert_array_equal(back[:, -12:], first[:, -12:])
    np.testing.assert_array_equal(back[:7], first[:7])


def test_displacement_is_the_homographys():
    true = MOTIONS["tilt"]
    points = np.float64([[[x, y] for y in range(H) for x in range(W)]])
    want = (cv2.perspectiveTransform(points, true) - points).reshape(H, W, 2).transpose(2, 0, 1)
    np.testing.assert_allclose(camera.displacement(true, H, W), want, atol=1e-4)


def test_twice_the_same():
    first, second = scene(), moved(scene(), MOTIONS["turn"])
    flow = camera.displacement(MOTIONS["turn"], H, W)
    one, two = estimate(first, second, flow), estimate(first, second, flow)
    np.testing.assert_array_equal(one.homography, two.homography)


# By METHOD_VERSION: where the frame's corners go, in px, and pixels of a warped frame.
STORED = {1: {
    "orb": [[3.325, -2.38], [163.256, 2.405], [-0.235, 116.56], [159.71, 121.345]],
    "sift": [[3.334, -2.403], [163.256, 2.413], [-0.24, 116.561], [159.694, 121.352]],
    "warped": [
        [187, 147, 53, 212], [144, 146, 99, 233], [133, 194, 75, 248],
        [133, 156, 75, 240], [103, 119, 208, 194], [63, 185, 215, 183],
    ],
}}  # fmt: skip


def test_results_change_only_with_the_method_version():
    """Within what another CPU's or OpenCV's last bits may do."""
    true, first = MOTIONS["turn"], scene()
    second, flow = moved(first, true), camera.displacement(true, H, W)
    corners = np.float64([[[0, 0], [W - 1, 0], [0, H - 1], [W - 1, H - 1]]])
    expected = STORED.get(camera.METHOD_VERSION, {"orb": 0, "sift": 0, "warped": 0})
    for detector in ("orb", "sift"):
        settings = dataclasses.replace(SETTINGS, detector=detector)
        found = cv2.perspectiveTransform(
            corners, estimate(first, second, flow, settings).homography
        )
        assert np.abs(found - expected[detector]).max() < 0.02, (
            "raise METHOD_VERSION and store the new corners"
        )
    half = np.array([[1, 0, 1.5], [0, 1, -2.5], [0, 0, 1]])
    warped = camera.warp_to_previous(first, second, half, 5)[2::20, 3::40].astype(int)
    assert np.abs(warped - expected["warped"]).max() <= 1, (
        "raise METHOD_VERSION and store the new pixels"
    )
