"""The sample is what it says: exact truth, the same bytes each time, real video files."""

import cv2
import h5py
import numpy as np
import pytest

from pipeline import sample
from pipeline.params import Sample
from pipeline.rendering.actions import CLASSES
from pipeline.rendering.scene import render
from pipeline.video.media import read_frames

PARAMS = Sample(clips_per_class=3, frames=16, width=96, height=72, fps=25, truth_clips=2, seed=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("sample")
    sample.run(out, PARAMS)
    return out


def test_every_class_has_its_clips_in_two_formats(made):
    for name in CLASSES:
        files = sorted(path.name for path in (made / "videos" / name).iterdir())
        assert files == [f"{name}_g01.avi", f"{name}_g02.mp4", f"{name}_g03.avi"]
        for file in files:
            frames = list(read_frames(made / "videos" / name / file, 72))
            assert len(frames) == 16
            assert frames[0].shape == (72, 96, 3)
    assert cv2.imread(str(made / "contact_sheet.png")) is not None


def test_the_same_params_give_the_same_bytes(made, tmp_path):
    sample.make_clip(tmp_path, CLASSES[0], 1, PARAMS)
    again = tmp_path / "videos" / CLASSES[0] / f"{CLASSES[0]}_g01.avi"
    first = made / "videos" / CLASSES[0] / f"{CLASSES[0]}_g01.avi"
    assert again.read_bytes() == first.read_bytes()
    truth = f"truth/{CLASSES[0]}_g01.h5"
    assert (tmp_path / truth).read_bytes() == (made / truth).read_bytes()


def test_truth_files_hold_what_they_say(made):
    files = sorted((made / "truth").iterdir())
    assert len(files) == 2
    with h5py.File(files[0]) as file:
        assert file["frames"].shape == (16, 72, 96, 3)
        assert file["flow"].shape == (15, 2, 72, 96)
        assert file["homography"].shape == (15, 3, 3)
        assert file["foreground"].shape == (16, 72, 96)
        assert "px" in file.attrs["flow"]


@pytest.mark.parametrize("action", ["jumping_jack", "spin_basketball", "squat_barbell"])
def test_the_next_frame_warped_back_by_the_true_flow_is_this_frame(action):
    clip = render(action, frames=8, fps=25, height=168, width=224, recording=3, seed=1)
    flow, y, x = clip.flow(), *np.mgrid[:168, :224].astype(np.float32)
    for k in (0, 4):
        grey = [cv2.cvtColor(clip.frames[i], cv2.COLOR_RGB2GRAY) for i in (k, k + 1)]
        back = cv2.remap(grey[1], x + flow[k, 0], y + flow[k, 1], cv2.INTER_CUBIC)
        inner = np.s_[8:-8, 8:-8]
        with_flow = np.abs(grey[0][inner].astype(float) - back[inner])
        without = np.abs(grey[0][inner].astype(float) - grey[1][inner])
        for shown in (clip.layers[k][inner] > 0, clip.layers[k][inner] == 0):
            # Median: at the edges of a limb the next frame shows what this one hides.
            assert np.median(with_flow[shown]) < 6
            assert np.median(with_flow[shown]) < 0.6 * np.median(without[shown]) + 0.5


def test_the_wall_moves_by_the_homography():
    clip = render("stretching", frames=6, fps=25, height=90, width=120, recording=2, seed=0)
    points = np.float64([[[x, y] for y in range(90) for x in range(120)]])
    for k, homography in enumerate(clip.homographies()):
        move = (cv2.perspectiveTransform(points, homography) - points).reshape(90, 120, 2)
        wall = clip.layers[k] == 0
        off = np.abs(clip.flow()[k].transpose(1, 2, 0) - move)[wall]
        assert off.max() < 0.01
        assert wall.mean() > 0.3


def test_the_recording_decides_about_the_wall_and_nothing_else_does():
    sizes = {"frames": 4, "fps": 25, "height": 72, "width": 96, "seed": 0}
    one, two = (render(a, recording=1, **sizes) for a in ("squat", "bounce_beachball"))
    other = render("squat", recording=2, **sizes)
    both = (one.layers[0] == 0) & (two.layers[0] == 0)
    # Equal but for the soft edges of the actors.
    assert (one.frames[0][both] == two.frames[0][both]).mean() > 0.9
    assert np.abs(one.frames[0][both].astype(int) - other.frames[0][both]).mean() > 10
