"""The Triton kernels; on a machine without a GPU in Triton's interpreter, on small frames."""

import dataclasses
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from pipeline.video import store
from pipeline.video import tvl1 as package
from pipeline.video.tvl1 import Settings, choose, cuda, tvl1, tvl1_pairs
from tests.video import tvl1_reference

kernels = pytest.importorskip("pipeline.video.tvl1.cuda_kernels", reason="needs Triton")
cuda_median = pytest.importorskip("pipeline.video.tvl1.cuda_median", reason="needs Triton")

FIXED = Settings(
    tau=0.25, lambda_=0.15, theta=0.3, scales=2, scale_step=0.8,
    warps=2, iterations=5, epsilon=0.0, warp_epsilon=0.0, median=0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_tile(monkeypatch):
    """Let a tile hold a whole small frame: the interpreter's time goes by the tile."""
    monkeypatch.setattr(kernels, "HIGH", 32)
    monkeypatch.setattr(kernels, "WIDE", 64)


def moved(height, width, shift, seed=0):
    noise = np.random.default_rng(seed).random((height + 20, width + 20)).astype(np.float32)
    scene = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    frames = [cv2.remap(scene, x + 10 - k * shift[0], y + 10 - k * shift[1], cv2.INTER_CUBIC)
              for k in range(3)]  # fmt: skip
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(24, 40), (31, 33), (16, 16), (19, 70)])
@pytest.mark.parametrize("median", [0, 3, 5])
def test_fixed_work_equals_the_float64_formula(shape, median):
    frames = moved(*shape, (1.3, -0.7), seed=shape[1])[:2]
    settings = dataclasses.replace(FIXED, median=median)
    expected = tvl1_reference.reference(*frames, settings)
    assert np.abs(expected).max() > 0.3
    np.testing.assert_allclose(tvl1(frames, settings, "cuda")[0], expected, atol=0.01)


def test_tiles_of_any_size_give_the_same(monkeypatch):
    frames = moved(20, 40, (1, -1))[:2]
    settings = dataclasses.replace(FIXED, median=5, iterations=4)
    whole = tvl1(frames, settings, "cuda")
    monkeypatch.setattr(kernels, "HIGH", 8)
    monkeypatch.setattr(kernels, "WIDE", 16)
    np.testing.assert_allclose(tvl1(frames, settings, "cuda"), whole, atol=1e-6)


def test_pairs_settle_one_by_one_and_each_as_if_alone(monkeypatch):
    """A still pair ends after one iteration, one that moves after one warp, one of noise never."""
    monkeypatch.setattr(cuda, "_ASK_EVERY", 3)
    moving = moved(18, 24, (1, 0.5))
    noise = np.random.default_rng(0).integers(0, 256, (18, 24)).astype(np.uint8)
    first = np.stack([moving[0], moving[0], noise])
    second = np.stack([moving[1], moving[0], moving[2]])
    settings = dataclasses.replace(FIXED, iterations=25, epsilon=0.05, warp_epsilon=1.5, median=3)
    found = tvl1_pairs(first, second, settings, "cuda")
    assert not found[1].any()
    np.testing.assert_allclose(found, tvl1_pairs(first, second, settings, "cpu"), atol=1e-3)
    for k in range(3):
        alone = tvl1_pairs(first[k : k + 1], second[k : k + 1], settings, "cuda")
        np.testing.assert_array_equal(found[k], alone[0])
    every_warp = dataclasses.replace(settings, warp_epsilon=0.0)
    beyond = np.abs(tvl1_pairs(first, second, every_warp, "cpu") - found).max(axis=(1, 2, 3))
    assert beyond[0] > 0.1 and beyond[2] < 1e-3
    unending = dataclasses.replace(settings, epsilon=0.0)
    assert np.abs(tvl1_pairs(first, second, unending, "cuda") - found).max() > 0.01


def test_batches_equal_one_batch(monkeypatch):
    frames = np.concatenate([moved(16, 20, (1, 0)), moved(16, 20, (0, -1), seed=4)])
    settings = dataclasses.replace(FIXED, scales=1, iterations=3)
    whole = tvl1(frames, settings, "cuda")
    monkeypatch.setattr(package, "_PIXELS", 2 * 16 * 20)
    np.testing.assert_array_equal(tvl1(frames, settings, "cuda"), whole)


def test_codes_come_batch_by_batch_and_launched_ahead(monkeypatch):
    frames = moved(16, 20, (1, 0))
    settings = dataclasses.replace(FIXED, scales=1, iterations=3)
    events, launch = [], cuda._launch
    monkeypatch.setattr(cuda, "_launch", lambda *a: (events.append("launch"), launch(*a))[1])
    batches = ((frames[k : k + 1], frames[k + 1 : k + 2]) for k in range(2))
    found = []
    for codes in package.tvl1_codes(batches, settings, "cuda", 5.0):
        events.append("use")
        found.append(codes)
    assert events == ["launch", "launch", "use", "use"]
    expected = store.quantise(tvl1(frames, settings, "cuda"), 5.0)
    np.testing.assert_array_equal(np.stack(found), expected)


@pytest.mark.parametrize("bound", [20.0, 2.5, 0.7])
def test_codes_of_the_device_equal_those_of_the_store(bound):
    halves = (np.arange(-3, 259, dtype=np.float64) + 0.5) * (2 * bound / 255) - bound
    near = [np.nextafter(halves.astype(np.float32), np.float32(to)) for to in (-99, 99)]
    noise = np.random.default_rng(0).normal(0, bound, 5000)
    odd = [0.0, -0.0, bound, -bound, np.inf, -np.inf, np.nan]
    field = np.concatenate([halves, *near, noise, odd]).astype(np.float32)
    found = cuda.quantise(torch.from_numpy(field), bound).numpy()
    np.testing.assert_array_equal(found, store.quantise(field, bound))


@pytest.mark.parametrize("size", [3, 5])
def test_median_equals_opencvs(size):
    planes = np.random.default_rng(size).normal(size=(2, 21, 37)).astype(np.float32)
    planes[1] = planes[1].round()  # equal values
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out = torch.empty(2, 21, 37, device=device)
    cuda_median.median[kernels.grid(2, 21, 37)](
        torch.from_numpy(planes).to(device),
        out,
        torch.zeros(1, dtype=torch.int32, device=device),
        21,
        37,
        SIZE=size,
        HIGH=kernels.HIGH,
        WIDE=kernels.WIDE,
    )
    expected = np.stack([cv2.medianBlur(plane, size) for plane in planes])
    np.testing.assert_array_equal(out.cpu().numpy(), expected)


@pytest.mark.parametrize(("size", "scale"), [((19, 26), 1.25), ((30, 41), 24 / 30)])
def test_resizing_equals_opencvs(size, scale):
    image = np.random.default_rng(0).random((24, 33)).astype(np.float32)
    if scale == 1.25:
        expected = cv2.resize(image, None, fx=0.8, fy=0.8)
        found = cuda._resize(torch.from_numpy(image)[None], size, scale, scale)
    else:
        expected = cv2.resize(image, size[::-1])
        found = cuda._resize(torch.from_numpy(image)[None], size, 24 / 30, 33 / 41)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_asking_for_it_is_an_error_and_auto_takes_the_cpu(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    assert choose("auto") == "cpu"
    with pytest.raises(package.Unavailable, match="'cuda': torch finds no CUDA device"):
        tvl1(np.zeros((2, 20, 20), np.uint8), FIXED, "cuda")


@pytest.mark.gpu
def test_on_a_gpu_production_settings_agree_with_the_cpu():
    code = (
        "import numpy as np\n"
        "from pipeline.video import store\n"
        "from pipeline.video.tvl1 import Settings, tvl1, tvl1_codes, choose\n"
        "from tests.video.test_tvl1_cuda import moved\n"
        "settings = Settings(tau=0.25, lambda_=0.15, theta=0.3, scales=5, scale_step=0.8,\n"
        "                    warps=5, iterations=300, epsilon=0.01,\n"
        "                    warp_epsilon=0.05, median=5)\n"
        "frames = moved(128, 170, (2.5, -1))\n"
        "assert choose('auto') == 'cuda'\n"
        "cuda, cpu = (tvl1(frames, settings, name) for name in ('cuda', 'cpu'))\n"
        "assert (np.abs(cuda - cpu).max(1) <= 0.1).mean() >= 0.99\n"
        "assert (cuda == tvl1(frames, settings, 'cuda')).all()\n"
        "batches = [(frames[k : k + 1], frames[k + 1 : k + 2]) for k in range(2)]\n"
        "codes = list(tvl1_codes(batches, settings, 'cuda', 20.0))\n"
        "assert (codes == store.quantise(cuda, 20.0)).all()\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
