import dataclasses
import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline import params
from pipeline.video.tvl1 import (
    METHOD_VERSION,
    Settings,
    Unavailable,
    cpu,
    kernels,
    median,
    tvl1,
    tvl1_pairs,
)
from tests.video import tvl1_reference

ROOT = Path(__file__).parents[2]
# What the papers' tools leave at OpenCV's defaults, without the median.
PRODUCTION = Settings(
    tau=0.25, lambda_=0.15, theta=0.3, scales=5, scale_step=0.8,
    warps=5, iterations=300, epsilon=0.01, warp_epsilon=0.0, median=0,
)  # fmt: skip
FIXED = dataclasses.replace(PRODUCTION, scales=3, warps=2, iterations=10, epsilon=0.0)


def texture(height, width, seed, smooth=2.0):
    """Smooth noise over the whole range of grey."""
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), smooth)
    return cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)


def moved(height, width, shift, seed=0):
    """Two frames whose content moves by ``shift`` px (x, y), new content entering at borders."""
    margin = 24
    scene = texture(height + 2 * margin, width + 2 * margin, seed)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    frames = [
        cv2.remap(scene, x + margin - dx, y + margin - dy, cv2.INTER_CUBIC)
        for dx, dy in ((0, 0), shift)
    ]
    return np.clip(np.stack(frames).round(), 0, 255).astype(np.uint8)


def codes(flow, bound=20):
    return np.clip(np.rint(255 * (flow + bound) / (2 * bound)), 0, 255).astype(int)


def test_settings_are_the_params():
    names = [field.name for field in dataclasses.fields(Settings)]
    assert names == [field.name for field in dataclasses.fields(params.Tvl1)]
    assert all(f.default is dataclasses.MISSING for f in dataclasses.fields(Settings))


@pytest.mark.parametrize("shape", [(48, 64), (41, 53), (16, 16), (17, 90)])
@pytest.mark.parametrize("median", [0, 3, 5])
def test_fixed_work_equals_the_float64_formula(shape, median):
    frames = moved(*shape, (1.3, -0.7), seed=shape[1])
    settings = dataclasses.replace(FIXED, median=median)
    expected = tvl1_reference.reference(*frames, settings)
    assert np.abs(expected).max() > 0.5  # there is something to get wrong
    np.testing.assert_allclose(tvl1(frames, settings, "cpu")[0], expected, atol=0.01)


def test_opencv_equals_the_float64_formula():
    """So the reference and OpenCV's class, which we did not write, are the same method."""
    frames = moved(48, 64, (1.3, -0.7))
    expected = tvl1_reference.reference(*frames, FIXED)
    difference = np.abs(tvl1(frames, FIXED, "opencv")[0] - expected)
    assert np.median(difference) < 0.01 and difference.max() < 0.1  # OpenCV rounds to 1/32 px


@pytest.mark.parametrize("shift", [(0.5, 0.25), (-2.5, 1.0), (4.0, 3.0), (0.0, -6.0)])
def test_production_agrees_with_opencv_and_with_the_truth(shift):
    frames = moved(96, 128, shift, seed=3)
    ours = tvl1(frames, PRODUCTION, "cpu")[0]
    theirs = tvl1(frames, PRODUCTION, "opencv")[0]
    assert (np.abs(ours - theirs).max(axis=0) <= 0.1).mean() >= 0.99
    assert (np.abs(codes(ours) - codes(theirs)) <= 1).mean() >= 0.995
    truth = np.array(shift).reshape(2, 1, 1)
    assert np.median(np.hypot(*(ours - truth))) <= 0.1


@examples(max_examples=30, deadline=None)
@given(
    st.integers(16, 45), st.integers(16, 45), st.integers(0, 9), st.sampled_from([0, 3, 5]),
    st.integers(1, 12),
)  # fmt: skip
def test_any_noise_equals_the_formula(height, width, seed, median, iterations):
    frames = np.random.default_rng(seed).integers(0, 256, (2, height, width)).astype(np.uint8)
    settings = dataclasses.replace(
        FIXED, scales=2, warps=1, iterations=iterations, median=median, scale_step=0.7
    )
    expected = tvl1_reference.reference(*frames, settings)
    np.testing.assert_allclose(tvl1(frames, settings, "cpu")[0], expected, atol=0.01)


def test_a_level_ends_after_a_warp_that_moved_little():
    frames = moved(48, 64, (0.4, -0.3))
    settings = dataclasses.replace(FIXED, warps=4, median=5, warp_epsilon=0.2)
    expected = tvl1_reference.reference(*frames, settings)
    found = tvl1(frames, settings, "cpu")[0]
    np.testing.assert_allclose(found, expected, atol=0.01)
    every_warp = dataclasses.replace(settings, warp_epsilon=0.0)
    assert np.abs(found - tvl1(frames, every_warp, "cpu")[0]).max() > 0.02


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(37, 53), (16, 90), (80, 16)])
def test_median_equals_opencvs(size, shape):
    plane = np.random.default_rng(size).normal(size=shape).astype(np.float32)
    plane[:9] = plane[:9].round()  # equal values
    level = cpu._Level(*shape)
    level.pixels(level.flow[0])[:] = plane
    start = level.stride + kernels.MARGIN
    median.filter_plane(level.flow[0], start, *shape, level.stride, size)
    expected = cv2.medianBlur(plane, size)
    np.testing.assert_array_equal(level.pixels(level.flow[0]), expected)


def test_clip_equals_pairs_and_run_equals_run():
    frames = np.concatenate([moved(40, 50, (1, 0)), moved(40, 50, (0, -2), seed=5)])
    clip = tvl1(frames, PRODUCTION, "cpu")
    assert clip.shape == (3, 2, 40, 50) and clip.dtype == np.float32
    for k in range(3):
        pair = tvl1(frames[k : k + 2], PRODUCTION, "cpu")
        np.testing.assert_array_equal(clip[k], pair[0])
    np.testing.assert_array_equal(clip, tvl1(frames, PRODUCTION, "cpu"))


def test_threads_change_nothing():
    frames = np.concatenate([moved(40, 50, (1, k), seed=k) for k in range(3)])
    found = []
    for threads in (1, 2, 3):
        cv2.setNumThreads(threads)
        found.append(tvl1(frames, PRODUCTION, "cpu"))
    cv2.setNumThreads(1)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_views_equal_copies():
    frames = moved(40, 50, (1, 0))
    np.testing.assert_array_equal(
        tvl1(frames[:, ::-1, ::2], PRODUCTION, "cpu"),
        tvl1(frames[:, ::-1, ::2].copy(), PRODUCTION, "cpu"),
    )


@pytest.mark.parametrize("backend", ["cpu", "opencv"])
def test_nothing_moves_where_nothing_changes(backend):
    constant = np.full((3, 20, 30), 77, np.uint8)
    assert not tvl1(constant, PRODUCTION, backend).any()
    still = np.stack([texture(20, 30, 1).astype(np.uint8)] * 2)
    assert not tvl1(still, PRODUCTION, backend).any()


def test_a_brightness_step_follows_the_formula():
    """Such flow is ill-posed: OpenCV's rounding to 1/32 px alone leads elsewhere in 300 steps."""
    frames = moved(48, 60, (1, 0))
    frames[1] = np.minimum(frames[1].astype(int) + 30, 255)
    frames[1, 20:30, 20:30] = 255
    expected = tvl1_reference.reference(*frames, FIXED)
    np.testing.assert_allclose(tvl1(frames, FIXED, "cpu")[0], expected, atol=0.01)
    assert np.isfinite(tvl1(frames, PRODUCTION, "cpu")[0]).all()


def test_opencv_keeps_its_scales_between_sizes():
    large, small = moved(96, 128, (4, 3)), moved(16, 16, (1, 0))
    before = tvl1(large, PRODUCTION, "opencv")
    tvl1(small, PRODUCTION, "opencv")
    np.testing.assert_array_equal(tvl1(large, PRODUCTION, "opencv"), before)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((2, 20, 20), np.float32), r"float32, expected \(T, H, W\) uint8"),
        (np.zeros((20, 20), np.uint8), r"expected \(T, H, W\) uint8"),
        (np.zeros((2, 20, 20, 3), np.uint8), r"expected \(T, H, W\) uint8"),
        (np.zeros((1, 20, 20), np.uint8), "at least 2"),
        (np.zeros((2, 15, 20), np.uint8), "at least 16"),
        ([[1]], "list"),
    ],
)
def test_bad_frames_are_refused(frames, message):
    with pytest.raises(ValueError, match=message):
        tvl1(frames, PRODUCTION, "cpu")


def test_bad_pairs_backends_and_settings_are_refused(monkeypatch):
    frames = np.zeros((2, 20, 20), np.uint8)
    with pytest.raises(ValueError, match=r"expected \(2, 20, 20\) like first"):
        tvl1_pairs(frames, np.zeros((2, 20, 21), np.uint8), PRODUCTION, "cpu")
    with pytest.raises(ValueError, match="backend is 'gpu', expected one of auto, cpu, cuda"):
        tvl1(frames, PRODUCTION, "gpu")
    for name, value in {"tau": 0.3, "scale_step": 1.0, "warps": 0, "median": 4}.items():
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            dataclasses.replace(PRODUCTION, **{name: value})
    monkeypatch.delattr(cv2, "optflow")
    with pytest.raises(Unavailable, match="opencv-contrib-python-headless"):
        tvl1(frames, PRODUCTION, "opencv")
    with pytest.raises(Unavailable, match="'opencv_cuda': this OpenCV was built without CUDA"):
        tvl1(frames, PRODUCTION, "opencv_cuda")


def test_results_change_only_with_the_method_version():
    """Codes are stored, none within 0.001 of a rounding edge: another CPU's rounding passes."""
    x, y = np.meshgrid(np.arange(28), np.arange(24))
    scene = [128 + 60 * np.sin((x - k) / 3.15) + 50 * np.cos((y + k) / 4) for k in (0, 1)]
    flow = tvl1(np.rint(scene).astype(np.uint8), FIXED, "cpu")[0]
    digest = hashlib.sha256(codes(flow).astype(np.uint8).tobytes()).hexdigest()[:16]
    assert {METHOD_VERSION: digest} == {1: "15721e91ad5d3fc5"}, (
        "raise METHOD_VERSION and store the new digest"
    )


def test_importing_settings_imports_no_backend():
    code = (
        "import sys; from pipeline.video.tvl1 import Settings; "
        "print(sorted({'numba', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


MIDDLEBURY = os.environ.get("MIDDLEBURY", "")


def endpoint_error(flow, truth):
    """Mean over the pixels whose truth is known."""
    known = (np.abs(truth) < 1e8).all(axis=0)
    return float(np.hypot(*(flow - truth))[known].mean())


@pytest.mark.data
@pytest.mark.skipif(not MIDDLEBURY, reason="MIDDLEBURY names no folder of Middlebury pairs")
@pytest.mark.parametrize("name", ["Dimetrodon", "Grove2", "RubberWhale", "Venus"])
def test_middlebury_is_no_worse_than_opencv(name):
    folder = Path(MIDDLEBURY) / name
    frames = np.stack([cv2.imread(str(folder / f"frame{k}.png"), 0) for k in (10, 11)])
    truth = cv2.readOpticalFlow(str(folder / "flow10.flo")).transpose(2, 0, 1)
    shipped = Settings(**dataclasses.asdict(params.load(ROOT / "params.yaml").flow.tvl1))
    defaults = dataclasses.replace(PRODUCTION, median=5)
    ours, theirs = (
        endpoint_error(tvl1(frames, settings, backend)[0], truth)
        for settings, backend in ((shipped, "cpu"), (defaults, "opencv"))
    )
    print(name, ours, theirs)
    assert ours <= 1.02 * theirs


VIDEOS = os.environ.get("VIDEOS", "")


@pytest.mark.data
@pytest.mark.skipif(not VIDEOS, reason="VIDEOS names no folder of real videos")
def test_real_frames_agree_with_opencv():
    """The median over clips: where much moves, 1 to 5 % of pixels settle elsewhere (README)."""
    near, codes_near = [], []
    for path in sorted(Path(VIDEOS).rglob("*.avi"))[::25]:
        video = cv2.VideoCapture(str(path))
        frames = [cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2GRAY) for _ in range(3)]
        ours, theirs = (tvl1(np.stack(frames), PRODUCTION, name) for name in ("cpu", "opencv"))
        near.append((np.abs(ours - theirs).max(axis=1) <= 0.1).mean())
        codes_near.append((np.abs(codes(ours) - codes(theirs)) <= 1).mean())
        print(path.name, near[-1], codes_near[-1])
    assert np.median(near) >= 0.99
    assert np.median(codes_near) >= 0.995


# One without AVX-512, and this one.
@pytest.mark.parametrize("processor", ["x86-64-v3", pytest.param("", marks=pytest.mark.slow)])
def test_freshly_compiled_and_loaded_code_give_the_same_bytes(tmp_path, processor):
    """Code that numba compiles and code that it loads from disk once rounded differently."""
    if processor and platform.machine() != "x86_64":
        pytest.skip("another kind of processor")
    code = (
        "import hashlib, numpy as np\n"
        "from pipeline.video import tvl1\n"
        "rng = np.random.default_rng(0)\n"
        "frames = np.kron(rng.integers(0, 255, (3, 16, 20)), np.ones((3, 3))).astype(np.uint8)\n"
        "settings = tvl1.Settings(tau=0.25, lambda_=0.15, theta=0.3, scales=3, scale_step=0.8,\n"
        "                         warps=2, iterations=100, epsilon=0.001,\n"
        "                         warp_epsilon=0.0, median=0)\n"
        "field = tvl1.tvl1(frames, settings, 'cpu')\n"
        "print(hashlib.sha256(field.tobytes()).hexdigest())\n"
    )
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    if processor:
        env |= {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
    run = [subprocess.check_output([sys.executable, "-c", code], env=env) for _ in range(2)]
    assert len(run[0]) > 60
    assert run[0] == run[1]
