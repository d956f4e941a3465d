"""Other tools' loaders, written anew after their code, read our folders by our lists."""

import cv2
import numpy as np
import pytest

from pipeline.export_lists import ListsError, run
from pipeline.video import store
from pipeline.videos import Video, write_videos

CLIPS = {"a": ("train", 0, 9), "b": ("test", 1, 6), "c": ("train", 1, 2)}  # subset, label, frames


def grey(value, *size):
    return np.full(size or (24, 32), value, np.uint8)


@pytest.fixture
def data(tmp_path):
    """Stored frames and flow; each picture's grey is its number from 0, y is 100 above x."""
    for folder, names, fewer in (("frames", store.FRAMES, 0), ("flow", store.FLOW, 1)):
        (tmp_path / folder).mkdir()
        rows = [
            Video(video_id=name, path=name, dataset="d", class_name=f"class {label}", label=label,
                  subset=subset, sha256="0", status="ok", reason="", frames=count - fewer)
            for name, (subset, label, count) in CLIPS.items()
        ]  # fmt: skip
        gone = Video(video_id="gone", path="gone", dataset="d", class_name="class 2", label=2,
                     subset="test", sha256="", status="missing", reason="no such file")  # fmt: skip
        write_videos(tmp_path / folder / "videos.csv", [*rows, gone])
        for row in rows:
            pictures = (
                (grey(10 * k, 24, 32, 3),) if names == store.FRAMES
                else (grey(10 * k), grey(10 * k + 100))
                for k in range(row.frames)
            )  # fmt: skip
            store.write_video(tmp_path / folder, row.video_id, pictures, names, store="jpeg",
                              quality=95, made_by={})  # fmt: skip
        run(tmp_path / folder, tmp_path / "lists", "")
    return tmp_path


def mmaction2(ann_file, data_prefix, filename_tmpl, modality, start_index=1):
    """Read all pictures of all videos as RawframeDataset and RawFrameDecode do."""
    for text in ann_file.read_text().splitlines():
        frame_dir, total_frames, label = text.strip().split()
        directory, pictures = data_prefix / frame_dir, []
        for index in np.arange(int(total_frames)) + start_index:
            if modality == "RGB":
                pictures.append(cv2.imread(str(directory / filename_tmpl.format(index))))
            else:
                for axis in ("x", "y"):
                    name = filename_tmpl.format(axis, index)
                    pictures.append(cv2.imread(str(directory / name), cv2.IMREAD_GRAYSCALE))
        yield frame_dir, int(label), pictures


def tsn_pytorch(list_file, image_tmpl, modality, new_length, num_segments=3):
    """Read the test pictures of all videos as TSNDataSet does."""
    for text in list_file.read_text().splitlines():
        path, frames, label = text.strip().split(" ")
        tick = (int(frames) - new_length + 1) / num_segments
        for x in range(num_segments):
            p, values = int(tick / 2.0 + tick * x) + 1, []
            for _ in range(new_length):
                names = [image_tmpl.format(p)] if modality == "RGB" else [
                    image_tmpl.format(axis, p) for axis in ("x", "y")
                ]  # fmt: skip
                read = [cv2.imread(f"{path}/{name}", cv2.IMREAD_GRAYSCALE) for name in names]
                values += [round(float(picture.mean())) for picture in read]
                p += p < int(frames)
            yield path, int(label), values


def test_mmaction2_reads_every_picture_and_no_other(data):
    read = {name: (label, pictures) for name, label, pictures in mmaction2(
        data / "lists/frames_train.txt", data / "frames", "img_{:05}.jpg", "RGB")}  # fmt: skip
    assert {name: (label, len(found)) for name, (label, found) in read.items()} == {
        "a": (0, 9), "c": (1, 2),
    }  # fmt: skip
    assert [round(p.mean()) for p in read["a"][1]] == [10 * k for k in range(9)]
    assert not (data / "frames/a/img_00010.jpg").exists()
    ((name, label, fields),) = mmaction2(
        data / "lists/flow_test.txt", data / "flow", "flow_{}_{:05d}.jpg", "Flow"
    )
    assert (name, label) == ("b", 1)
    assert [round(p.mean()) for p in fields] == [
        v for k in range(5) for v in (10 * k, 10 * k + 100)
    ]
    assert not (data / "flow/b/flow_x_00006.jpg").exists()


def test_tsn_pytorch_reads_paths_as_they_stand(data, monkeypatch):
    monkeypatch.chdir(data)
    for folder in ("frames", "flow"):
        run(data / folder, data / "lists", f"{folder}/")
    rgb = list(tsn_pytorch(data / "lists/frames_test.txt", "img_{:05d}.jpg", "RGB", 1))
    assert rgb == [("frames/b", 1, [10]), ("frames/b", 1, [30]), ("frames/b", 1, [50])]
    flow = list(tsn_pytorch(data / "lists/flow_test.txt", "flow_{}_{:05d}.jpg", "Flow", 5))
    assert flow == [("flow/b", 1, [v for k in range(5) for v in (10 * k, 10 * k + 100)])] * 3


def test_classes_and_lists_that_are_no_longer_so(data):
    assert (data / "lists/classes.txt").read_text() == "class 0\nclass 1\nclass 2\n"
    assert not (data / "lists/flow_val.txt").exists()
    (data / "lists/flow_val.txt").write_text("old 1 0\n")
    run(data / "flow", data / "lists", "")
    assert not (data / "lists/flow_val.txt").exists()


def test_a_lost_picture_and_hdf5_are_refused(data):
    (data / "flow/a/flow_x_00008.jpg").unlink()
    with pytest.raises(ListsError, match=r"flow/a: got 7 pictures, expected 8"):
        run(data / "flow", data / "lists", "")
    (data / "frames/a.h5").write_bytes(b"")
    with pytest.raises(ListsError, match=r"a\.h5: stored as HDF5, expected .* to be jpeg"):
        run(data / "frames", data / "lists", "")
