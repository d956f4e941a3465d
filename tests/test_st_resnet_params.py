"""ST-ResNet's section is refused with path, got and expected, too."""

import re

import pytest
from ruamel.yaml import YAML
from st_resnet_clips import ROOT

from pipeline.params import RESERVED, ParamsError, load

YAML_ = YAML(typ="safe", pure=True)


@pytest.fixture
def changed(tmp_path):
    """Load the sample's preset with some keys changed."""

    def change(**changes):
        tree = YAML_.load((ROOT / "presets/st_resnet_sample.yaml").read_text())
        for at, value in changes.items():
            node, (*way, last) = tree, at.split("__")
            for key in way:
                node = node[key]
            node[last] = value
        with (tmp_path / "params.yaml").open("w") as file:
            YAML_.dump(tree, file)
        return load(tmp_path / "params.yaml")

    return change


AT = "st_resnet__joint__"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({f"{AT}spatial": "rgb"}, "joint.spatial: got 'rgb', expected some of ['spatial', 'tempo"),
        ({f"{AT}spatial": "temporal"}, "joint.spatial: got 'temporal', which sees stack of flow"),
        ({f"{AT}temporal": "spatial"}, "joint.temporal: got 'spatial', which sees stack of frames"),
        (
            {f"{AT}source": "warped_flow"},
            "expected stack of warped_flow, as st_resnet.joint.source",
        ),
        (
            {"streams__temporal__input__kind": "trajectory"},
            "which sees trajectory of flow with str",
        ),
        ({"streams__temporal__input__stride": 2}, "with stride 2, expected stack of flow"),
        ({"streams__temporal__network__name": "resnet34"}, "got streams of resnet18 and resnet34"),
        (
            {f"streams__{s}__network__name": "vgg16" for s in ("spatial", "temporal")},
            "st_resnet.joint: got streams of vgg16 and vgg16, expected both to be the same one of",
        ),
        (
            {f"{AT}connections": "sum"},
            "connections: got 'sum', expected one of add, multiply, none",
        ),
        ({f"{AT}stage1__stride": [5]}, "stage1.stride: got [5], expected the lowest and the highe"),
        ({f"{AT}stage2__stride": [9, 1]}, "stage2.stride: got [9, 1], expected the lowest and"),
        ({f"{AT}stage2__stride": [0, 1]}, "stage2.stride[0]: got 0, expected a number at least 1"),
        ({f"{AT}stage2__frames": 4}, "stage2.frames: got 4, expected at least 5 with time_pool"),
        (
            {f"{AT}testing__frames": 4},
            "testing.frames: got 4, expected at least 5 with stage2.time",
        ),
        (
            {f"{AT}testing__views": "one"},
            "testing.views: got 'one', expected one of full, ten_crop",
        ),
        (
            {f"{AT}stage1__milestones": [9]},
            "joint.stage1.milestones: got [9.0], expected epochs in",
        ),
        (
            {f"{AT}checkpointing": True, "engine__compile": True},
            "st_resnet.joint.checkpointing: got true with engine.compile, expected one of them",
        ),
        ({f"{AT}stage1__passes": 99}, "joint.stage1.passes: got 99, expected at most the clips of"),
        (
            {f"{AT}stage2__patience": 2},
            "joint.stage2: needs validation clips for patience and keep best",
        ),
        ({f"{AT}stage1__speed": 2}, "st_resnet.joint.stage1.speed: unknown key, expected some of"),
        (
            {"fuse__streams": ["joined"]},
            "got 'joined', expected some of ['joint', 'spatial', 'temp",
        ),
    ],
)
def test_bad_values_are_refused(changed, changes, said):
    with pytest.raises(ParamsError, match=re.escape(said)):
        changed(**changes)


def test_its_name_is_no_streams_and_no_column_of_the_results(changed):
    section = YAML_.load((ROOT / "presets/st_resnet_sample.yaml").read_text())["st_resnet"]["joint"]
    with pytest.raises(ParamsError, match=r"st_resnet\.spatial: got the name of a stream"):
        changed(st_resnet__spatial=section)
    for name in RESERVED:
        with pytest.raises(ParamsError, match=rf"st_resnet\.{name}: got a name that the results"):
            changed(**{f"st_resnet__{name}": section})
    assert set(changed(st_resnet__second=section).st_resnet) == {"joint", "second"}
