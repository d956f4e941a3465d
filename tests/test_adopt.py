"""Folders of other tools, made up as each lays them out, through adopt, index, decode and flow."""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import adopt, decode, flow, index, warped_flow
from pipeline.params import load
from pipeline.video import store
from pipeline.videos import read_videos

PARAMS = load(Path(__file__).parents[1] / "params.yaml")
LIMITS = replace(PARAMS.limits, max_excluded=1.0)
DATASET = replace(PARAMS.dataset, group_pattern="", format="folders", test_fraction=0.5)
SIZE = (32, 40)
NAMES = {
    "denseflow": ("img_%05d.jpg", "flow_x_%05d.jpg", "flow_y_%05d.jpg"),
    "gpu_flow": ("frame%06d.jpg",) * 3,
}
NAMES["dense_flow"] = NAMES["mmaction2"] = NAMES["denseflow"]


def picture(path, value, size=SIZE, mark=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.full(size, value, np.uint8)
    grey[:8, :8] = mark
    cv2.imwrite(str(path), grey)


def extract(source, video, layout, frames):
    """Lay out a clip of ``frames`` frames as a tool does.

    Frame k's grey is 10 k, from 0; the field from k to k+1 is 10 k + 5 in x and 10 k + 105 in y. A
    corner tells videos apart.
    """
    mark = sum(video.encode()) % 256
    roots = ("jpegs_256", "u", "v") if layout == "gpu_flow" else ("", "", "")
    first = 0 if layout == "denseflow" else 1
    kept = range(1, frames) if layout == "dense_flow" else range(frames)
    for number, k in enumerate(kept, first):
        picture(source / roots[0] / video / (NAMES[layout][0] % number), 10 * k, mark=mark)
    for number, k in enumerate(range(frames - 1), first):
        picture(source / roots[1] / video / (NAMES[layout][1] % number), 10 * k + 5, mark=mark)
        picture(source / roots[2] / video / (NAMES[layout][2] % number), 10 * k + 105, mark=mark)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_WORKERS", "1")


def packed(layout, bound=20.0, lists=None):
    adopt.run(Path("source"), Path("out"), layout=layout, bound=bound, lists=lists or {})


def staged(*, videos="out", dataset=DATASET, lists="out", bound=20.0, side=32, kind="hdf5"):
    """Run the stages on packed videos; give the last rows by path inside the data set."""
    index.run(Path(videos), Path(lists), Path("index"), dataset)
    decode.run(Path("index"), Path("frames"), replace(PARAMS.decode, short_side=side, store=kind),
               LIMITS)  # fmt: skip
    flow.run(Path("frames"), Path("flow"),
             replace(PARAMS.flow, backend="given", bound=bound, store=kind), LIMITS)  # fmt: skip
    rows = read_videos(Path("flow/videos.csv"))
    return {str(Path(row.path).relative_to(videos)): row for row in rows}


def greys(folder, names, video_id):
    with store.StoredVideo(Path(folder), video_id, names) as video:
        return [np.atleast_1d(np.median(video.read(k, grey=True), (-2, -1))).tolist()
                for k in range(len(video))]  # fmt: skip


@pytest.mark.parametrize("kind", ["hdf5", "jpeg"])
@pytest.mark.parametrize("layout", adopt.LAYOUTS)
def test_field_k_goes_from_frame_k_to_the_next_whatever_the_tool(layout, kind):
    for video in ("run/a", "run/b", "sit/a", "sit/b"):
        extract(Path("source"), video, layout, 6 if video == "run/a" else 4)
    packed(layout)
    rows = staged(kind=kind)
    assert {(row.status, row.reason) for row in rows.values()} == {("ok", "")}
    first = 1 if layout == "dense_flow" else 0  # it does not keep the first frame
    assert rows["run/a.h5"].frames == 5 - first
    assert greys("frames", store.FRAMES, "run__a") == [[10 * k] for k in range(first, 6)]
    assert greys("flow", store.FLOW, "run__a") == [[10 * k + 5, 10 * k + 105]
                                                   for k in range(first, 5)]  # fmt: skip


def test_the_jpeg_bytes_are_the_tools_own():
    extract(Path("source"), "run/a", "denseflow", 4)
    packed("denseflow")
    with store.open_packed(Path("out/run/a.h5"), store.FLOW) as video:
        assert video.jpegs(2) == (Path("source/run/a/flow_x_00002.jpg").read_bytes(),
                                  Path("source/run/a/flow_y_00002.jpg").read_bytes())  # fmt: skip
        assert video.made_by == {"layout": "denseflow", "bound": 20.0}
    first = Path("out/run/a.h5").read_bytes()
    packed("denseflow")
    assert Path("out/run/a.h5").read_bytes() == first
    assert [path.name for path in Path("out").iterdir()] == ["run"]


def test_fields_may_be_called_without_flow():
    """As some of mmaction2's lists and configurations have them."""
    four("mmaction2")
    for file in Path("source").rglob("flow_*.jpg"):
        file.rename(file.with_name(file.name.removeprefix("flow_")))
    packed("mmaction2")
    assert {(row.status, row.frames) for row in staged().values()} == {("ok", 3)}


def drop(name):
    return lambda folder: (folder / name).unlink()


def cut(folder):
    data = (folder / "img_00003.jpg").read_bytes()
    (folder / "img_00003.jpg").write_bytes(data[:-20])


def cut_short(folder):
    for axis in "xy":
        for number in (3, 4):
            (folder / f"flow_{axis}_0000{number}.jpg").unlink()


@pytest.mark.parametrize(
    ("layout", "spoil", "reason"),
    [
        ("denseflow", drop("img_00005.jpg"), "got 5 pictures, 5 x and 5 y fields, expected 4 of"),
        ("denseflow", drop("img_00002.jpg"), "pictures: number 2 is missing, 5 is there"),
        ("denseflow", drop("flow_x_00004.jpg"), "got 6 pictures, 4 x and 5 y fields, expected 5"),
        ("denseflow", drop("flow_y_00001.jpg"), "y fields: number 1 is missing, 4 is there"),
        ("denseflow", cut_short, "got 6 pictures, 3 x and 3 y fields, expected 5 of each"),
        ("denseflow", drop("img_00000.jpg"), "pictures count from 1, expected from 0 in this"),
        ("mmaction2", cut, "img_00003.jpg is no whole JPEG picture ("),
        ("mmaction2", lambda f: (f / "img_00003.jpg").write_bytes(b""), "no whole JPEG picture (0"),
        ("mmaction2", lambda f: picture(f / "img_00003.jpg", 0, (32, 41)),
         "img_00003.jpg is 41x32, the first picture 40x32"),
        ("mmaction2", lambda f: picture(f / "img_3.jpg", 0), "img_00003.jpg is there under a sec"),
        ("dense_flow", drop("img_00005.jpg"), "got 4 pictures, 5 x and 5 y fields, expected 4 of"),
    ],
)  # fmt: skip
def test_what_lacks_a_picture_is_a_row_with_a_reason(layout, spoil, reason):
    for video in ("run/a", "run/b", "run/c", "sit/a", "sit/b"):
        extract(Path("source"), video, layout, 6)
    spoil(Path("source/run/c"))
    packed(layout)
    rows = staged()
    bad = rows.pop("run/c.h5")
    assert bad.status == "excluded" and reason in bad.reason
    assert {row.status for row in rows.values()} == {"ok"}


@pytest.mark.parametrize(
    ("made", "said", "reason"),
    [
        ("denseflow", "mmaction2", "pictures count from 0, expected from 1 in this layout"),
        ("mmaction2", "denseflow", "pictures count from 1, expected from 0 in this layout"),
        ("dense_flow", "mmaction2", "got 5 pictures, 5 x and 5 y fields, expected 4 of each"),
        ("mmaction2", "dense_flow", "got 6 pictures, 5 x and 5 y fields, expected 6 of each"),
    ],
)
def test_a_layout_that_is_not_the_tools_is_noticed(capsys, made, said, reason):
    extract(Path("source"), "run/a", made, 6)
    packed(said)
    assert f"adopt: run/a: {reason}" in capsys.readouterr().out


def four(layout="denseflow"):
    for video in ("run/a", "run/b", "sit/a", "sit/b"):
        extract(Path("source"), video, layout, 4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bound": 15.0}, "the given flow's bound is 20 px, flow.bound says 15"),
        ({"side": 64}, "packed pictures are 40x32 and not scaled again, decode.short_side says 64"),
    ],
)
def test_settings_that_are_not_the_tools_are_named(changes, reason):
    four()
    packed("denseflow")
    assert {row.reason for row in staged(**changes).values()} == {reason}


def test_the_cameras_motion_can_be_taken_off_the_given_flow():
    four()
    packed("denseflow")
    staged()
    warped = replace(PARAMS.warped_flow, mode="subtract")
    settings = replace(PARAMS.flow, backend="given")
    warped_flow.run(Path("frames"), Path("flow"), Path("warped"), settings, warped, LIMITS)
    # Plain grey pictures show no camera, so the flow stands unchanged.
    assert greys("warped", store.FLOW, "run__a") == greys("flow", store.FLOW, "run__a")


def test_frames_alone_can_be_packed_and_have_no_given_flow():
    for video in ("run/a", "run/b", "sit/a", "sit/b"):
        for k in range(3):
            picture(Path(f"source/{video}/img_{k:05d}.jpg"), 10 * k, mark=sum(video.encode()) % 256)
    packed("denseflow", bound=None)
    assert {row.reason for row in staged().values()} == {
        "no flow came with the video, flow.backend says given"
    }
    settings = replace(PARAMS.flow, backend="cpu")
    flow.run(Path("frames"), Path("computed"), settings, LIMITS)
    assert {row.frames for row in read_videos(Path("computed/videos.csv"))} == {2}


def test_official_lists_find_packed_videos_with_and_without_class_folders():
    extract(Path("source"), "Run/v_Run_g01_c01", "mmaction2", 4)
    extract(Path("source"), "v_Sit_g01_c01", "mmaction2", 4)
    extract(Path("source"), "run/v_Run_g02_c01", "mmaction2", 4)  # of other case
    packed("mmaction2")
    Path("lists").mkdir()
    Path("lists/trainlist01.txt").write_text("Run/v_Run_g01_c01.avi 1\nSit/v_Sit_g01_c01.avi 2\n")
    Path("lists/testlist01.txt").write_text("Run/v_Run_g02_c01.avi\nRun/v_Run_g03_c01.avi\n")
    index.run(Path("out"), Path("lists"), Path("index"), replace(DATASET, format="ucf101"))
    rows = {row.video_id: row for row in read_videos(Path("index/videos.csv"))}
    assert {name: (row.status, row.path) for name, row in rows.items()} == {
        "v_Run_g01_c01": ("ok", "out/Run/v_Run_g01_c01.h5"),
        "v_Run_g02_c01": ("ok", "out/run/v_Run_g02_c01.h5"),
        "v_Run_g03_c01": ("missing", "out/Run/v_Run_g03_c01.avi"),
        "v_Sit_g01_c01": ("ok", "out/v_Sit_g01_c01.h5"),
    }


def test_their_lists_become_a_csv():
    for video in ("a", "b", "deep/c d"):
        extract(Path("source"), video, "mmaction2", 4)
    Path("train.txt").write_text("/data/rawframes/a 4 0\nb 4 1\n\n")
    Path("test.txt").write_text("deep/c d 3 1\n")
    packed("mmaction2", lists={"train": Path("train.txt"), "test": Path("test.txt")})
    assert Path("out/list.csv").read_text() == (
        "path,label,subset\na.h5,0,train\nb.h5,1,train\ndeep/c d.h5,1,test\n"
    )
    rows = staged(lists="out/list.csv", dataset=replace(DATASET, format="csv"))
    assert {name: (row.label, row.subset, row.status) for name, row in rows.items()} == {
        "a.h5": (0, "train", "ok"), "b.h5": (1, "train", "ok"), "deep/c d.h5": (1, "test", "ok"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("gone out --layout denseflow", "gone: no folder of pictures in it"),
        (
            "source/run/a out --layout denseflow",
            "source/run/a: pictures right in it, expected a fo",
        ),
        ("source out --layout denseflow", "--bound: got none and there is flow, expected the px"),
        ("source out --layout denseflow --bound 20 --list train=l.txt", "l.txt:1: got 'x 4', exp"),
        (
            "source out --layout denseflow --bound 20 --list test=m.txt",
            "m.txt:1: got 'x', expected",
        ),
    ],
)
def test_bad_requests_are_one_line(monkeypatch, arguments, said):
    four()
    Path("l.txt").write_text("x 4\n")
    Path("m.txt").write_text("x 4 1\n")
    monkeypatch.setattr(sys, "argv", ["adopt", *arguments.split()])
    with pytest.raises(SystemExit) as caught:
        adopt.main()
    assert str(caught.value).startswith(f"adopt: {said}") and "\n" not in str(caught.value)


def test_another_h5_file_is_excluded():
    four()
    packed("denseflow")
    Path("out/sit/notes.h5").write_text("no HDF5")
    store.write_video(Path("out/sit"), "other", [], ("sound",), store="hdf5", quality=90,
                      made_by={})  # fmt: skip
    rows = staged()
    reason = (
        "no packed video, expected a .h5 file that this version's python -m pipeline.adopt wrote"
    )
    assert {name: row.reason for name, row in rows.items() if row.reason} == {
        "sit/notes.h5": reason, "sit/other.h5": reason,
    }  # fmt: skip
