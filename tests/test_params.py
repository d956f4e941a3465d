"""Params are refused before any work starts, with path, got and expected."""

import re
from pathlib import Path
from typing import get_args

import pytest
from ruamel.yaml import YAML

from models import NORMALISATION, build, pretrained
from pipeline import params, stream_params
from pipeline.params import ParamsError, load

ROOT = Path(__file__).parents[1]


@pytest.fixture
def changed(tmp_path):
    """Load the shipped params with one key changed, added or (by ...) removed."""

    def change(at: str, value: object):
        yaml = YAML(typ="safe", pure=True)
        tree = yaml.load((ROOT / "params.yaml").read_text())
        node = tree
        *way, last = at.split(".")
        for key in way:
            node = node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value
        path = tmp_path / "params.yaml"
        with path.open("w") as file:
            yaml.dump(tree, file)
        return load(path)

    return change


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *sorted(ROOT.glob("presets/*.yaml"))])
def test_shipped_files_load(path):
    loaded = load(path)
    assert set(loaded.fuse.streams) <= {*loaded.streams, *loaded.st_resnet}


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        ("flow.bund", 3, "flow.bund: unknown key, expected some of backend, tvl1, bound"),
        ("flow.bound", ..., "flow.bound: missing key, expected a number at least 0.5"),
        ("flow.bound", "20", "flow.bound: got '20', expected a number"),
        ("flow.bound", 0, "flow.bound: got 0.0, expected a number at least 0.5"),
        ("flow.bound", float("nan"), "flow.bound: got nan, expected a finite number"),
        (
            "flow.backend",
            "cuda9",
            "flow.backend: got 'cuda9', expected one of auto, cpu, cuda, opencv, opencv_cuda",
        ),
        (
            "flow.backend",
            "given",
            "warped_flow.mode: got recompute with flow.backend given, expected",
        ),
        ("flow.tvl1.median", 4, "flow.tvl1.median: got 4, expected one of 0, 3, 5"),
        ("seed", True, "seed: got True, expected a whole number"),
        ("seed", 1.0, "seed: got 1.0, expected a whole number"),
        ("seed", 2**32, "seed: got 4294967296, expected a number from 0 to 4294967295"),
        ("streams.spatial.training.segments", 10**8, "training.segments: got 100000000, expected"),
        ("lr", None, "lr: got None, expected a number"),
        ("streams", [], r"streams: got [], expected a map"),
        ("streams.spatial.testing", ..., "streams.spatial.testing: missing key, expected a map"),
        ("streams.spatial.testing.crops", 7, "streams.spatial.testing.crops: got 7, expected"),
        ("streams.spatial.training.flip", 1, "got 1, expected true or false"),
        ("streams.spatial.training.scale_jitter", [1, 2], "scale_jitter[1]: got 2.0, expected"),
        ("streams.spatial.input.length", 5, "streams.spatial.input: frames have length 1"),
        (
            "streams.spatial.input.kind",
            "trajectory",
            "streams.spatial.input.kind: got trajectory of the source frames, expected stack or d",
        ),
        (
            "streams.temporal.input.kind",
            "difference",
            "streams.temporal.input.kind: got difference of the source flow, expected stack or tr",
        ),
        ("streams.spatial.input.stride", 2, "got length 1, kind stack, stride 2 and subtract_mean"),
        ("streams.temporal.input.stride", 0, "input.stride: got 0, expected a number at least 1"),
        ("streams.temporal.input.kind", "sum", "got 'sum', expected one of stack, trajectory, bid"),
        (
            "streams.temporal.input.kind",
            "bidirectional",
            "streams.temporal.input.kind: got bidirectional of the source flow, expected stack",
        ),
        (
            "streams.temporal.source",
            "bidirectional_flow",
            "streams.temporal.source: got bidirectional_flow, expected bidirectional_flow.compute",
        ),
        ("warped_flow.compute", False, "streams.warped.source: got warped_flow, expected warped_"),
        ("fuse.streams", ["sound"], "fuse.streams: got 'sound', expected some of"),
        ("fuse.weights", {"spatial": 1}, "fuse.weights: got ['spatial'], expected one weight"),
        ("dataset.test_fraction", 1, "leave nothing to train on"),
        ("dataset.group_pattern", "(", "dataset.group_pattern: got '(' (missing ), unterm"),
        (
            "sample.actions.width",
            225,
            "width: got 225, expected a number at least 64 and divisible",
        ),
        (
            "sample.actions.height",
            99,
            "height: got 99, expected a number at least 64 and divisible",
        ),
        ("fuse.streams", [], "fuse.streams: got [], expected one or more, each once"),
        ("fuse.streams", ["spatial", "spatial"], "fuse.streams: got ['spatial', 'spatial'], exp"),
        (
            "fuse.weights",
            {"spatial": 0, "temporal": 0.0, "warped": 0},
            "fuse.weights: got {'spatial': 0.0, 'temporal': 0.0, 'warped': 0.0}, expected one or",
        ),
        ("streams.spatial.training.scale_jitter", [], "scale_jitter: got [], expected one or more"),
        ("streams.spatial.training.scale_jitter", [1, 0.5], "got [1.0, 0.5], expected one or more"),
        ("streams.spatial.training.scale_jitter", [1, 1], "got [1.0, 1.0], expected one or more"),
        (
            "streams.spatial.training.milestones",
            [5, 2],
            "got [5.0, 2.0], expected epochs in rising",
        ),
        ("streams.spatial.training.milestones", [10], "got [10.0], expected epochs in rising"),
        (
            "streams.spatial.training.consensus",
            "sum",
            "got 'sum', expected one of average, max, wei",
        ),
        ("streams.spatial.training.crop_places", 13, "got 13, expected one of anywhere, five, th"),
        ("streams.temporal.training.rgb_jitter", 0.1, "got 0.1, expected 0: flow has no colours"),
        (
            "streams.warped.network.name",
            "resnet50",
            "streams.warped.network.weights: got 'imagenet' for resnet50, expected none, a path",
        ),
    ],
)
def test_bad_values_are_refused(changed, at, value, said):
    with pytest.raises(ParamsError, match=re.escape(said)):
        changed(at, value)


def test_a_classifier_that_learns_alone_leaves_no_part_to_freeze(changed):
    tree = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    training = tree["streams"]["spatial"]["training"] | {"trained": "classifier"}
    assert changed("streams.spatial.training", training | {"frozen_up_to": ""})
    with pytest.raises(ParamsError, match=r"training.frozen_up_to: got 'layer1' with trained: cl"):
        changed("streams.spatial.training", training | {"frozen_up_to": "layer1"})


def temporal(**changes):
    """Give the shipped temporal stream with some of its input changed."""
    yaml = YAML(typ="safe", pure=True)
    stream = yaml.load((ROOT / "params.yaml").read_text())["streams"]["temporal"]
    stream["source"] = changes.pop("source", "flow")
    stream["input"] |= changes
    return stream


@pytest.mark.parametrize("source", ["flow", "warped_flow"])
def test_trajectories_go_from_field_to_field(changed, source):
    path = "streams.temporal"
    assert (
        changed(path, temporal(source=source, kind="trajectory")).streams["temporal"].input.stride
    )
    with pytest.raises(
        ParamsError, match=r"temporal\.input\.stride: got 2, expected 1 for traject"
    ):
        changed(path, temporal(source=source, kind="trajectory", stride=2))
    assert changed(path, temporal(source=source, stride=2)).streams["temporal"].input.stride == 2


def test_bidirectional_streams_and_their_flow_go_together(tmp_path):
    yaml = YAML(typ="safe", pure=True)

    def loaded(backend="cpu", compute=True, **changes):
        tree = yaml.load((ROOT / "params.yaml").read_text())
        tree["bidirectional_flow"]["compute"] = compute
        tree["warped_flow"]["mode"] = "subtract"
        tree["flow"]["backend"] = backend
        tree["streams"]["temporal"] = temporal(**changes)
        with (tmp_path / "params.yaml").open("w") as file:
            yaml.dump(tree, file)
        return load(tmp_path / "params.yaml")

    right = {"source": "bidirectional_flow", "kind": "bidirectional", "length": 10}
    assert loaded(**right, stride=2).streams["temporal"].input.kind == "bidirectional"
    for said, wrong in {
        "input.kind: got stack of the source bidirectional_flow": right | {"kind": "stack"},
        "input.kind: got trajectory of the source bidirectional_flow": right
        | {"kind": "trajectory"},
        "input.kind: got bidirectional of the source warped_flow": right
        | {"source": "warped_flow"},
        "input.length: got 5, expected an even number for bidirectional": right | {"length": 5},
        "source: got bidirectional_flow, expected bidirectional_flow.compute to be true": right
        | {"compute": False},
    }.items():
        with pytest.raises(ParamsError, match=re.escape(f"streams.temporal.{said}")):
            loaded(**wrong)
    with pytest.raises(ParamsError, match=r"bidirectional_flow\.compute: got true with flow\.back"):
        loaded(backend="given")
    assert loaded(backend="given", compute=False).flow.backend == "given"


def test_differences_of_frames(changed):
    stream, path = shipped_stream(), "streams.spatial"
    stream["input"] |= {"kind": "difference", "length": 5}
    assert changed(path, stream).streams["spatial"].input.length == 5
    for key, value in {"stride": 2, "subtract_mean": True}.items():
        wrong = stream | {"input": stream["input"] | {key: value}}
        with pytest.raises(ParamsError, match=r"spatial\.input: frames .* any length\), stride 1"):
            changed(path, wrong)
    wrong = stream | {"input": stream["input"] | {"length": 1}}
    with pytest.raises(ParamsError, match=r"length: got 1 of kind difference, expected 2 or more"):
        changed(path, wrong)
    from_scratch = wrong | {"network": stream["network"] | {"weights": "none"}}
    assert changed(path, from_scratch).streams["spatial"].input.length == 1
    wrong = stream | {"training": stream["training"] | {"rgb_jitter": 0.1}}
    with pytest.raises(ParamsError, match=r"rgb_jitter: got 0\.1, expected 0: difference has no"):
        changed(path, wrong)


def test_top_k_takes_no_more_than_there_are(changed):
    training = shipped_stream()["training"] | {"consensus": "top_k", "top_k": 3}
    assert changed("streams.spatial.training", training).streams["spatial"].training.top_k == 3
    with pytest.raises(ParamsError, match=r"training\.top_k: got 4, expected at most .*, 3"):
        changed("streams.spatial.training", training | {"top_k": 4})
    # It means nothing to the others.
    changed("streams.spatial.training", training | {"consensus": "max", "top_k": 4})


def test_whole_numbers_are_numbers_and_exponents_too(changed):
    assert changed("flow.bound", 15).flow.bound == 15.0
    assert changed("lr", 1e-3).lr == 0.001


def test_a_missing_and_a_broken_file_are_named(tmp_path):
    with pytest.raises(ParamsError, match=r"none\.yaml: no such file"):
        load(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(ParamsError, match=r"broken\.yaml: not YAML") as caught:
        load(broken)
    assert "\n" not in str(caught.value)
    broken.write_bytes(b"name: caf\xe9")
    with pytest.raises(ParamsError, match=r"broken\.yaml: got .*, expected UTF-8"):
        load(broken)


@pytest.mark.parametrize("name", params.RESERVED)
def test_a_stream_is_not_called_as_a_column_of_the_results(changed, name):
    with pytest.raises(ParamsError, match=rf"streams\.{name}: got a name that the results use"):
        changed(f"streams.{name}", shipped_stream())


def shipped_stream():
    return YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())["streams"][
        "spatial"
    ]


def test_the_networks_smallest_crop(changed):
    stream = shipped_stream()
    stream["network"] = {"name": "cnn_m_2048", "weights": "none", "dropout": 0.5}
    stream["input"]["crop"] = 41
    changed("streams.spatial", stream)
    stream["input"]["crop"] = 40
    with pytest.raises(ParamsError, match=r"spatial\.input\.crop: got 40, expected at least 41"):
        changed("streams.spatial", stream)


def test_what_params_say_of_the_networks_is_so():
    assert stream_params.PIP_WEIGHTS == tuple(pretrained._PIP_WEIGHTS)
    assert set(get_args(stream_params.Network.__annotations__["name"])) == set(NORMALISATION)
    options = {"classes": 2, "channels": 3, "dropout": 0.0, "weights": "none"}
    build("cnn_m_2048", crop=stream_params.CNN_M_2048_CROP, **options)
    with pytest.raises(RuntimeError, match="too small"):
        build("cnn_m_2048", crop=stream_params.CNN_M_2048_CROP - 1, **options)
