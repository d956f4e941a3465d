"""Every frame of a whole file, or one clear reason; files are made here with ffmpeg."""

import subprocess

import cv2
import numpy as np
import pytest

from pipeline.video import media

SOURCE = ["-f", "lavfi", "-i", "testsrc2=size=192x108:rate=12:duration=2"]


def make(path, *options, source=SOURCE, before=()):
    command = [media.ffmpeg_binary(), "-y", "-v", "error", *before, *source, *options]
    subprocess.run([*command, f"file:{path}"], check=True)
    return path


def frames_of(path, short_side=54):
    return list(media.read_frames(path, short_side))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", ["-c:v", "libx264"]),
        ("a.avi", ["-c:v", "mpeg4"]),
        ("a.mkv", ["-c:v", "libx264"]),
        ("a.webm", ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"]),
        ("deep.mp4", ["-c:v", "libx264", "-pix_fmt", "yuv420p10le"]),
        ("b frames.mp4", ["-c:v", "libx264", "-bf", "3"]),
        ("gaps.mp4", ["-c:v", "libx264", "-vf", "setpts='(N+0.7*mod(N,3))/12/TB'", "-fps_mode",
                      "vfr"]),
        ("it's “ä” #1%.mp4", ["-c:v", "libx264"]),
        ("-dash:colon.mp4", ["-c:v", "libx264"]),
    ],
)  # fmt: skip
def test_all_frames_of_all_kinds_of_files(tmp_path, name, options):
    frames = frames_of(make(tmp_path / name, *options))
    assert len(frames) == 24
    assert {frame.shape for frame in frames} == {(54, 96, 3)}


def test_contents_and_order_are_opencvs(tmp_path):
    path = make(tmp_path / "a.mp4", "-c:v", "libx264", "-qp", "10")
    capture, ours = cv2.VideoCapture(str(path)), frames_of(path, 108)
    theirs = np.array([capture.read()[1][..., ::-1] for _ in ours]).astype(int)
    for number, frame in enumerate(ours):
        off = np.abs(theirs - frame).mean((1, 2, 3))
        assert off.argmin() == number
        assert off[number] < 6


def test_the_short_side_is_scaled_and_the_aspect_kept(tmp_path):
    tall = make(tmp_path / "t.mp4", "-vf", "transpose=1")
    assert frames_of(tall, 64)[0].shape == (round(64 * 192 / 108), 64, 3)
    odd = make(tmp_path / "o.mkv", "-vf", "scale=101:75,setsar=1", "-pix_fmt", "yuv444p")
    assert frames_of(odd, 256)[0].shape == (256, round(256 * 101 / 75), 3)


def test_pixels_that_are_not_square(tmp_path):
    wide = make(tmp_path / "w.mp4", "-vf", "setsar=2")
    assert frames_of(wide, 54)[0].shape == (54, 192, 3)


def test_rotation_by_metadata(tmp_path):
    plain = make(tmp_path / "p.mp4", "-c:v", "libx264", "-qp", "10")
    turned = make(
        tmp_path / "r.mp4", "-c", "copy", before=["-display_rotation", "90"],
        source=["-i", str(plain)],
    )  # fmt: skip
    upright, lying = frames_of(turned, 108)[0], frames_of(plain, 108)[0]
    assert upright.shape == (192, 108, 3)
    assert np.abs(upright.astype(int) - np.rot90(lying)).mean() < 3


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("end.mp4", ["-c:v", "libx264"], "damaged or truncated"),
        ("start.mp4", ["-c:v", "libx264", "-movflags", "+faststart"], "damaged or truncated"),
        ("a.mkv", ["-c:v", "libx264"], "damaged or truncated"),
    ],
)
def test_truncated_files(tmp_path, name, options, said):
    with pytest.raises(media.MediaError, match=said):
        frames_of(cut(make(tmp_path / name, *options), 0.7))


def test_an_avi_cut_between_frames_says_nothing_but_its_header_does(tmp_path):
    path = make(tmp_path / "a.avi", "-c:v", "mjpeg")
    data = path.read_bytes()
    chunks = [at for at in range(len(data)) if data.startswith(b"00dc", at)]
    path.write_bytes(data[: chunks[15]])
    with pytest.raises(media.MediaError, match=r"the header promises 24 frames, 1[45] came"):
        frames_of(path)


def test_damage_in_the_middle(tmp_path):
    path = make(tmp_path / "a.mp4", "-c:v", "libx264")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(data)
    with pytest.raises(media.MediaError, match="damaged"):
        frames_of(path)


def test_files_that_hold_no_video(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(media.MediaError, match="empty"):
        frames_of(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("not a video\n" * 99)
    with pytest.raises(media.MediaError):
        frames_of(tmp_path / "text.mp4")
    sound = make(tmp_path / "s.mp4", source=["-f", "lavfi", "-i", "sine=duration=1"])
    with pytest.raises(media.MediaError, match="no video stream"):
        frames_of(sound)


def test_a_playlist_reaches_no_other_file(tmp_path):
    path = make(tmp_path / "a.ts", "-c:v", "libx264")
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:2,\nhttp://localhost/{path.name}\n#EXT-X-ENDLIST\n")
    with pytest.raises(media.MediaError):
        frames_of(playlist)
    playlist.write_text(f"ffconcat version 1.0\nfile {path.name}\n")
    with pytest.raises(media.MediaError, match="the file names other files or addresses, expected"):
        frames_of(playlist)


def test_a_file_that_cannot_be_opened_says_nothing_about_its_content(tmp_path):
    """The item store would keep a MediaError for good."""
    with pytest.raises(RuntimeError, match=r"gone\.mp4: can't be read: No such file"):
        frames_of(tmp_path / "gone.mp4")


# RGB by METHOD_VERSION: decode a noisy file of pixels that are half as wide again as high.
STORED = {2: [
    [255, 117, 255], [111, 70, 0], [138, 255, 255], [58, 199, 0], [85, 255, 63], [1, 34, 210],
    [255, 124, 186], [102, 135, 187], [0, 238, 0], [31, 147, 90], [0, 135, 0], [0, 231, 72],
]}  # fmt: skip


def test_results_change_only_with_the_method_version(tmp_path):
    """Some pixels of an uncompressed file, within what another ffmpeg's rounding may do."""
    rng = np.random.default_rng(0)
    planes = rng.integers(16, 236, (2, 3, 16, 24), np.uint8)
    path = tmp_path / "a.y4m"
    path.write_bytes(b"YUV4MPEG2 W24 H16 F25:1 Ip A3:2 C444\n" + b"".join(
        b"FRAME\n" + frame.tobytes() for frame in planes
    ))  # fmt: skip
    frames = np.array(frames_of(path, 24)).astype(int)
    assert frames.shape == (2, 24, 54, 3)
    found = frames[:, 4::14, 8::20].reshape(-1, 3)
    expected = STORED.get(media.METHOD_VERSION, 0)
    assert np.abs(found - expected).max() <= 2, "raise METHOD_VERSION and store the new pixels"
