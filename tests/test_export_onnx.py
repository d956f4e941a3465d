"""ONNX files against torch, and what the command refuses."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from models import build
from models.from_streams import from_streams
from pipeline.export_onnx import run
from pipeline.learning.weights import write_weights

CLASSES = ["run", "jump", "räd"]


def write_stream(path, name, crop, channels, others=0):
    torch.manual_seed(0)
    network = build(name, classes=3 + others, channels=channels, crop=crop, dropout=0.5,
                    weights="none")  # fmt: skip
    with torch.no_grad():  # statistics that folding has to respect
        network.train()(torch.randn(4, channels, crop, crop))
    heads = {"own": CLASSES} | ({"other": [str(i) for i in range(others)]} if others else {})
    about = {"network": {"name": name}, "input": {"crop": crop}, "channels": channels,
             "std": (50.0,) * channels}  # fmt: skip
    write_weights(path, network, heads, about)
    return network.eval()


def answers(path, **inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {name: x.numpy() for name, x in inputs.items()})[0]


@pytest.mark.parametrize(
    ("name", "crop"),
    [("cnn_m_2048", 48), *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ("efficientnet_lite0", 64), ("bn_inception", 64), ("resnet50", 64), ("vgg16", 32)))],
)  # fmt: skip
def test_a_stream_of_two_datasets_answers_for_its_own(tmp_path, name, crop):
    network = write_stream(tmp_path / "w.pt", name, crop, 10, others=2)
    assert run(tmp_path / "w.pt", tmp_path / "out/w.onnx") < 1e-4
    volume = torch.randn(5, 10, crop, crop)
    with torch.inference_mode():
        expected = network(volume)[:, :3].numpy()
    found = answers(tmp_path / "out/w.onnx", volume=volume)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    told = {prop.key: prop.value for prop in onnx.load(tmp_path / "out/w.onnx").metadata_props}
    assert json.loads(told["classes"]) == CLASSES
    assert json.loads(told["about"])["std"] == [50.0] * 10
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["w.onnx"]


@pytest.mark.slow
def test_an_st_resnet(tmp_path):
    states = [write_stream(tmp_path / "s.pt", "resnet18", 64, channels).state_dict()
              for channels in (3, 4)]  # fmt: skip
    shape = {"connections": "add", "temporal_filters": True}
    network = from_streams("resnet18", *states, dropout=0.5, time_pool=True, checkpointing=False,
                           **shape).eval()  # fmt: skip
    about = {"network": "resnet18", "source": "flow", "crop": 64, "seen": {"length": 2},
             "time_pool": True, **shape}  # fmt: skip
    write_weights(tmp_path / "w.pt", network, {"own": CLASSES}, about)
    run(tmp_path / "w.pt", tmp_path / "w.onnx", frames=7)
    rgb, flow = torch.randn(1, 7, 3, 64, 64), torch.randn(1, 7, 4, 64, 64)
    with torch.inference_mode():
        expected = network.predict(rgb, flow).numpy()
    found = answers(tmp_path / "w.onnx", rgb=rgb, flow=flow)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_another_kind_of_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"no weights")
    command = [sys.executable, "-m", "pipeline.export_onnx", tmp_path / "w.pt", tmp_path / "w.onnx"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and not (tmp_path / "w.onnx").exists()
    assert done.stderr.startswith(f"export_onnx: {tmp_path / 'w.pt'}: not a file of tensors")
    assert len(done.stderr.splitlines()) == 1
