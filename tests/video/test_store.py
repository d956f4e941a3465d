"""Quantisation by the rule, and stores that give back what went in."""

import hashlib
import shutil
from itertools import pairwise
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.video import store, stored_files

VALUES = hnp.arrays(
    np.float32, st.integers(1, 40), elements=st.floats(-60, 60, width=32, allow_nan=False)
)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.sampled_from([5.0, 15.0, 20.0, 32.0]))
def test_quantise_follows_the_rule(values, bound):
    codes = store.quantise(values, bound)
    for value, code in zip(values.tolist(), codes.tolist(), strict=True):
        # Python's round is half to even, as the rule is.
        want = 0 if value < -bound else 255 if value > bound else round(
            255 * (value + bound) / (2 * bound)
        )  # fmt: skip
        assert code == want


@settings(max_examples=60, deadline=None)
@given(VALUES, st.sampled_from([5.0, 20.0]))
def test_dequantise_is_within_half_a_code_and_odd(values, bound):
    inside = np.clip(values, -bound, bound)
    codes = store.quantise(inside, bound)
    assert np.abs(store.dequantise(codes, bound) - inside).max() <= bound / 255 * 1.001
    np.testing.assert_array_equal(
        store.dequantise(255 - codes, bound), -store.dequantise(codes, bound)
    )


def test_named_values():
    assert store.quantise(np.float32([0, -20, 20, -21, 21, np.nan]), 20).tolist() == [
        128, 0, 255, 0, 255, 128,
    ]  # fmt: skip


def smooth(seed, *shape):
    """Make pictures that JPEG keeps well."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 200, (*shape[:-2], 4, 5)).astype(np.float32)
    flat = small.reshape(-1, 4, 5)
    big = [cv2.resize(one, shape[:-3:-1], interpolation=cv2.INTER_CUBIC) for one in flat]
    return np.clip(np.array(big), 0, 255).astype(np.uint8).reshape(shape)


@pytest.mark.parametrize("kind", ["hdf5", "jpeg"])
def test_what_goes_in_comes_out(tmp_path, kind):
    fields = smooth(0, 7, 2, 33, 47)
    made_by = {"source": "ü", "bound": 20.0}
    count = store.write_video(tmp_path, "v", fields, store.FLOW, store=kind, quality=95,
                              made_by=made_by)  # fmt: skip
    assert count == 7
    with store.StoredVideo(tmp_path, "v", store.FLOW) as video:
        assert len(video) == 7
        assert video.made_by == made_by
        for index in (0, 6, 3):
            got = video.read(index)
            assert got.shape == (2, 33, 47)
            assert np.abs(got.astype(int) - fields[index]).mean() < 1
        with pytest.raises(IndexError, match="got index 7, expected 0 to 6"):
            video.read(7)


@pytest.mark.parametrize("kind", ["hdf5", "jpeg"])
def test_colours_are_rgb(tmp_path, kind):
    red = np.zeros((16, 24, 3), np.uint8)
    red[..., 0] = 200
    store.write_video(tmp_path, "v", [(red,)], store.FRAMES, store=kind, quality=95, made_by={})
    with store.StoredVideo(tmp_path, "v", store.FRAMES) as video:
        assert np.abs(video.read(0).astype(int).mean((0, 1)) - [200, 0, 0]).max() < 3
        assert abs(video.read(0, grey=True).mean() - 0.299 * 200) < 2


def test_jpeg_names_are_those_that_other_tools_read(tmp_path):
    fields = smooth(1, 2, 2, 16, 16)
    store.write_video(tmp_path, "v", fields, store.FLOW, store="jpeg", quality=90, made_by={})
    assert sorted(path.name for path in (tmp_path / "v").iterdir()) == [
        "flow_x_00001.jpg", "flow_x_00002.jpg", "flow_y_00001.jpg", "flow_y_00002.jpg",
        "made_by.json",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["hdf5", "jpeg"])
def test_bidirectional_flow_is_read_as_a_whole_or_one_way(tmp_path, kind):
    fields = smooth(4, 3, 4, 20, 24)
    store.write_video(tmp_path, "v", fields[:, :2], store.FLOW, store="hdf5", quality=95,
                      made_by={})  # fmt: skip
    with store.StoredVideo(tmp_path, "v", store.FLOW) as plain:
        forward = [plain.jpegs(index) for index in range(3)]
    (tmp_path / "both").mkdir()
    rows = [(*jpegs, *field[2:]) for jpegs, field in zip(forward, fields, strict=True)]
    store.write_video(tmp_path / "both", "v", rows, store.BIDIRECTIONAL, store=kind, quality=95,
                      made_by={})  # fmt: skip
    with store.StoredVideo(tmp_path / "both", "v", store.BIDIRECTIONAL) as video:
        assert len(video) == 3 and video.read(1).shape == (4, 20, 24)
        assert np.abs(video.read(1).astype(int) - fields[1]).mean() < 1
        np.testing.assert_array_equal(video.read(2, names=store.FLOW), video.read(2)[:2])
        np.testing.assert_array_equal(video.read(2, names=store.BACKWARD), video.read(2)[2:])
        assert video.jpegs(0)[:2] == forward[0]
    with store.StoredVideo(tmp_path / "both", "v", store.FLOW) as video:  # as plain flow
        assert [video.jpegs(index) for index in range(3)] == forward
    if kind == "jpeg":
        assert {path.name[:6] for path in (tmp_path / "both/v").glob("*.jpg")} == {
            "flow_x", "flow_y", "back_x", "back_y",
        }  # fmt: skip


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    fields = smooth(2, 70, 2, 20, 20)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        store.write_video(tmp_path / name, "v", fields, store.FLOW, store="hdf5", quality=95,
                          made_by={"z": 1, "a": 2})  # fmt: skip
    assert (tmp_path / "a/v.h5").read_bytes() == (tmp_path / "b/v.h5").read_bytes()


def test_pictures_lie_end_to_end_as_plain_jpeg(tmp_path):
    frames = smooth(3, 3, 20, 30)
    rgb = np.stack([frames] * 3, axis=-1)
    store.write_video(tmp_path, "v", [(f,) for f in rgb], store.FRAMES, store="hdf5", quality=95,
                      made_by={})  # fmt: skip
    with h5py.File(tmp_path / "v.h5") as file:
        at = file["frames_at"][:]
        assert at.dtype == np.int64 and len(at) == 4
        jpegs = [file["frames"][start:end] for start, end in pairwise(at)]
    for jpeg, frame in zip(jpegs, rgb, strict=True):
        assert np.abs(cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB).astype(int) - frame).mean() < 2
    with store.StoredVideo(tmp_path, "v", store.FRAMES) as video:
        assert [video.jpegs(k)[0] for k in range(3)] == [jpeg.tobytes() for jpeg in jpegs]


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nobody"):
        store.StoredVideo(tmp_path, "nobody", store.FRAMES)
    (tmp_path / "v").mkdir()
    (tmp_path / "v/img_00001.jpg").write_bytes(b"no picture")
    (tmp_path / "v/made_by.json").write_text("{}")
    with pytest.raises(ValueError, match=r"v: frames 0 is no JPEG"):
        store.StoredVideo(tmp_path, "v", store.FRAMES).read(0)


def virtual(file):
    """Have frames be those of another file."""
    layout = h5py.VirtualLayout((10,), np.uint8)
    layout[:] = h5py.VirtualSource("w.h5", "frames", (10,))
    file.create_virtual_dataset("frames", layout)


def linked(file):
    """Have frames be those of another file that is laid out alike."""
    with h5py.File(Path(file.filename).with_name("w.h5"), "w") as other:
        other["frames"] = np.zeros(10, np.uint8)
    file["frames"] = h5py.ExternalLink("w.h5", "/frames")


PLAIN, LAID_OUT = np.zeros(10, np.uint8), "frames and frames_at aren't pictures end to end"
BROKEN = {
    "no table": (PLAIN, None, "it has no frames_at"),
    "no pictures": (None, [0], "it has no frames"),
    "a group": (PLAIN, lambda file: file.create_group("frames_at"), "frames_at is no dataset"),
    "a table too short": (PLAIN, [0, 5, 9], "doesn't fit"),
    "a table from elsewhere": (PLAIN, [5, 10], "doesn't fit"),
    "a table that goes back": (PLAIN, [0, 12, 10], "doesn't fit"),
    "one that goes back, unsigned": (PLAIN, np.array([0, 12, 10], np.uint64), "doesn't fit"),
    "a picture of no bytes": (PLAIN, [0, 5, 5, 10], "doesn't fit"),
    "no places": (PLAIN, np.zeros(0, np.int64), LAID_OUT),
    "a number": (PLAIN, 7, LAID_OUT),
    "text": (PLAIN, ["a", "b"], LAID_OUT),
    "fractions": (PLAIN, [0.0, 10.0], LAID_OUT),
    "columns": (PLAIN, [[0], [10]], LAID_OUT),
    "more pictures than bytes": (
        PLAIN, lambda file: file.create_dataset("frames_at", (1 << 40,), np.int64), LAID_OUT,
    ),
    "no bytes": (np.zeros(10, np.float32), [0, 10], LAID_OUT),
    "chunks": (
        lambda file: file.create_dataset("frames", data=PLAIN, chunks=(4,)), [0, 10], LAID_OUT,
    ),
    "rows of variable length": (
        lambda file: file.create_dataset("frames", (3,), h5py.vlen_dtype(np.uint8)),
        [0, 3], LAID_OUT,
    ),
    "another file's": (virtual, [0, 10], LAID_OUT),
    "a link": (linked, [0, 10], "its frames is a link"),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_a_file_that_is_not_pictures_and_their_places_is_refused(tmp_path, broken):
    pictures, at, said = BROKEN[broken]
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.attrs["made_by"] = "{}"
        for name, made in (("frames", pictures), ("frames_at", at)):
            if callable(made):
                made(file)
            elif made is not None:
                file[name] = made
    with pytest.raises(OSError, match=rf"v\.h5: can't be read: .*{said}"):
        store.StoredVideo(tmp_path, "v", store.FRAMES)


def test_fields_of_one_direction_are_refused(tmp_path):
    store.write_video(tmp_path, "v", smooth(3, 2, 2, 16, 16), store.FLOW, store="hdf5", quality=90,
                      made_by={})  # fmt: skip
    with pytest.raises(OSError, match=r"v\.h5: can't be read: it has no back_x"):
        store.StoredVideo(tmp_path, "v", store.BIDIRECTIONAL)
    with h5py.File(tmp_path / "v.h5", "a") as file:
        end = file["flow_y_at"][1]
        pictures = file["flow_y"][:end]
        del file["flow_y"], file["flow_y_at"]
        file["flow_y"], file["flow_y_at"] = pictures, [0, end]
    with pytest.raises(OSError, match="can't be read: flow_x, flow_y aren't equally many"):
        store.StoredVideo(tmp_path, "v", store.FLOW)


def test_a_file_that_is_replaced_while_it_is_opened_is_not_mixed_with_it(tmp_path, monkeypatch):
    for folder, count in ((tmp_path, 3), (tmp_path / "new", 5)):
        folder.mkdir(exist_ok=True)
        store.write_video(folder, "v", smooth(3, count, 2, 16, 16), store.FLOW, store="hdf5",
                          quality=90, made_by={})  # fmt: skip
    plain = h5py.File

    def slowly(path):
        (tmp_path / "new/v.h5").replace(tmp_path / "v.h5")
        return plain(path)

    monkeypatch.setattr(h5py, "File", slowly)
    with pytest.raises(OSError, match="it was replaced meanwhile"):
        store.StoredVideo(tmp_path, "v", store.FLOW)
    monkeypatch.undo()
    with store.StoredVideo(tmp_path, "v", store.FLOW) as video:
        assert len(video) == 5


@pytest.mark.parametrize("kind", ["hdf5", "jpeg"])
def test_a_video_that_is_stored_anew_is_read_anew(tmp_path, kind):
    for count in (3, 5, 4):
        write = {"store": kind, "quality": 95, "made_by": {"count": count}}
        shutil.rmtree(tmp_path / "v", ignore_errors=True)
        (tmp_path / "v.h5").unlink(missing_ok=True)
        fields = smooth(count, count, 2, 16, 24)
        store.write_video(tmp_path, "v", fields, store.FLOW, **write)
        with store.StoredVideo(tmp_path, "v", store.FLOW) as video:
            assert (len(video), video.made_by) == (count, {"count": count})
            assert np.abs(video.read(count - 1).astype(int) - fields[-1]).mean() < 1


def test_more_pictures_than_are_kept_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_files, "_SPOOLED", 1000)
    fields = smooth(6, 9, 2, 40, 40)
    store.write_video(tmp_path, "v", fields, store.FLOW, store="hdf5", quality=95, made_by={})
    assert [path.name for path in tmp_path.iterdir()] == ["v.h5"]
    with store.StoredVideo(tmp_path, "v", store.FLOW) as video:
        for index in range(9):
            assert np.abs(video.read(index).astype(int) - fields[index]).mean() < 1


# By METHOD_VERSION: hash of all codes; R, G, B and grey of nine pixels.
STORED = {2: ("5938d76337aacf7f", [
    [52, 47, 147, 60], [137, 57, 144, 91], [189, 31, 106, 87],
    [45, 124, 181, 107], [131, 130, 172, 135], [202, 122, 51, 138],
    [47, 210, 153, 155], [131, 212, 136, 179], [197, 191, 79, 180],
])}  # fmt: skip


def test_results_change_only_with_the_method_version(tmp_path):
    """Codes to the bit; of JPEG some pixels, within what another libjpeg's rounding may do."""
    values = np.linspace(-25, 25, 4001)
    codes = b"".join(store.quantise(values, bound).tobytes() for bound in (5.0, 20.0))
    y, x = np.mgrid[:24, :32]
    frame = np.stack([x * 8, y * 10, np.where((x // 3 + y // 5) % 2, 230, 20)], -1).astype(np.uint8)
    store.write_video(tmp_path, "v", [(frame,)], store.FRAMES, store="hdf5", quality=90, made_by={})
    with store.StoredVideo(tmp_path, "v", store.FRAMES) as video:
        pixels, grey = video.read(0)[4::8, 5::10], video.read(0, grey=True)[4::8, 5::10]
    found = np.dstack([pixels, grey]).reshape(-1, 4).astype(int)
    digest, expected = STORED.get(store.METHOD_VERSION, ("", 0))
    assert hashlib.sha256(codes).hexdigest()[:16] == digest, (
        "raise METHOD_VERSION, store the new hash"
    )
    assert np.abs(found - expected).max() <= 2, "raise METHOD_VERSION, store the new pixels"
