"""Odd and broken files: each gives all its frames, in order, or one row that says why not.

All of them go through the stages index and decode at once, so that one bad file would stop, stall
or shift the others. Each frame carries its number as brightness.
"""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipeline import decode, index
from pipeline.params import Dataset, Decode, Limits
from pipeline.video import media, store
from pipeline.videos import read_videos

FRAMES, HEIGHT, WIDTH = 12, 48, 64
H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "6", "-pix_fmt", "yuv420p"]
MPEG4 = ["-c:v", "mpeg4", "-q:v", "2"]
MPEG2 = ["-c:v", "mpeg2video", "-r", "12", "-strict", "unofficial", "-q:v", "2"]
THEORA = ["-c:v", "libtheora", "-q:v", "10"]
VP9 = [
    "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-crf", "10", "-b:v", "0",
]  # fmt: skip
AV1 = ["-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-crf", "10"]
HEVC = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "qp=6:log-level=none"]
SOUND = ["-f", "lavfi", "-i", "sine=duration=1"]
PAUSES = ["-vf", "setpts='(N+5*floor(N/3))/12/TB'", "-fps_mode", "passthrough"]
PALETTE = ["-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none"]
INTERLACED = ["-vf", "setfield=tff", "-flags", "+ildct+ilme"]


def pictures(width=WIDTH, height=HEIGHT, count=FRAMES):
    y, x = np.mgrid[:height, :width]
    tint = [np.cos(3 * x / width), np.cos(3 * y / height), np.sin(2 * x / width + 2 * y / height)]
    return np.uint8([40 + 14 * k + 25 * np.stack(tint, -1) for k in range(count)])


def flat(*colours):
    return np.uint8([np.full((HEIGHT, WIDTH, 3), colour) for colour in colours for _ in "ab"])


PICTURES = pictures()
GREY = np.repeat(np.uint8(PICTURES @ [0.299, 0.587, 0.114])[..., None], 3, axis=3)
COLOURS = flat((200, 60, 40), (40, 180, 70), (60, 50, 190))
BLACK_AND_WHITE = flat((0, 0, 0), (255, 255, 255))


def ffmpeg(*arguments, given=None):
    command = [media.ffmpeg_binary(), "-y", "-v", "error", *map(str, arguments)]
    return subprocess.run(command, check=True, input=given, stdout=subprocess.PIPE).stdout


def encode(path, shown, *options, beside=()):
    height, width = shown.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "12", "-i", "-"]
    target = [f"file:{path}"] if options[-1] != "-" else ["-"]
    options = options if options[-1] != "-" else options[:-1]
    written = ffmpeg(*raw, *beside, *options, *target, given=shown.tobytes())
    if target == ["-"]:
        path.write_bytes(written)


def full_range(pixel_format):
    return ["-vf", f"scale=out_range=full,format={pixel_format}", "-color_range", "pc"]


def in_matrix(name):
    tags = (value for key in ("colorspace", "color_primaries", "color_trc") for value in
            (f"-{key}", name))  # fmt: skip
    return ["-vf", f"scale=out_color_matrix={name}", *tags, *H264]


# name: what it shows, then ffmpeg's options; "-" writes to a pipe, which leaves durations out.
ENCODED = {
    "mpeg4.avi": (PICTURES, *MPEG4, "-bf", "2"),
    "mjpeg.avi": (PICTURES, "-c:v", "mjpeg", "-q:v", "2"),
    "mpeg2.mpg": (PICTURES, *MPEG2),
    "theora.ogv": (PICTURES, *THEORA),
    "flv1.flv": (PICTURES, "-c:v", "flv", "-q:v", "2"),
    "wmv2.wmv": (PICTURES, "-c:v", "wmv2", "-q:v", "2"),
    "h264.ts": (PICTURES, *H264),
    "b frames.mkv": (PICTURES, "-c:v", "libx264", "-qp", "6", "-bf", "3", "-b_strategy", "0"),
    "vp9.mkv": (PICTURES, *VP9),
    "hevc.mkv": (PICTURES, *HEVC),
    "av1.mkv": (PICTURES, *AV1),
    "10 bit.mp4": (PICTURES, "-c:v", "libx264", "-qp", "6", "-pix_fmt", "yuv420p10le"),
    "main10.mp4": (PICTURES, *HEVC, "-pix_fmt", "yuv420p10le"),
    "alpha.mov": (PICTURES, "-c:v", "qtrle", "-pix_fmt", "argb"),
    "alpha.webm": (PICTURES, *VP9, "-pix_fmt", "yuva420p"),
    "palette.gif": (PICTURES, *PALETTE),
    "grey.mp4": (GREY, "-c:v", "libx264", "-qp", "6", "-pix_fmt", "gray"),
    "grey.mkv": (GREY, "-c:v", "ffv1", "-pix_fmt", "gray16le"),
    "interlaced.mpg": (PICTURES, *INTERLACED, *MPEG2),
    "interlaced.mp4": (PICTURES, "-c:v", "libx264", "-x264-params", "tff=1", "-qp", "6"),
    "pipe.mkv": (PICTURES, *H264, "-f", "matroska", "-"),
    "pipe.webm": (PICTURES, *VP9, "-f", "webm", "-live", "1", "-"),
    "pipe.avi": (PICTURES, *MPEG4, "-f", "avi", "-"),
    "pipe.flv": (PICTURES, *H264, "-f", "flv", "-flvflags", "no_duration_filesize", "-"),
    "fragments.mp4": (PICTURES, *H264, "-f", "mp4", "-movflags", "frag_keyframe+empty_moov", "-"),
    "raw h264.mp4": (PICTURES, "-c:v", "libx264", "-qp", "6", "-bf", "2", "-f", "h264"),
    "pauses.mp4": (PICTURES, *PAUSES, *H264),
    "pauses.mkv": (PICTURES, *PAUSES, *H264),
    "pauses.avi": (PICTURES, *PAUSES, *MPEG4),
    "pauses.flv": (PICTURES, *PAUSES, *H264),
    "bt601.mp4": (COLOURS, *in_matrix("smpte170m")),
    "bt709.mp4": (COLOURS, *in_matrix("bt709")),
    "untagged.mp4": (COLOURS, *H264),
    "limited.mp4": (BLACK_AND_WHITE, *H264),
    "limited 10 bit.mp4": (BLACK_AND_WHITE, *HEVC, "-pix_fmt", "yuv420p10le"),
    "limited grey.mp4": (BLACK_AND_WHITE, "-c:v", "libx264", "-pix_fmt", "gray"),
    "full.mp4": (BLACK_AND_WHITE, *full_range("yuv420p"), "-c:v", "libx264", "-qp", "6"),
    "full 10 bit.mp4": (BLACK_AND_WHITE, *full_range("yuv420p10le"), *HEVC),
    "full.avi": (BLACK_AND_WHITE, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-q:v", "2"),
}
NAMES = [
    "a b.mp4", "it's \"quoted\".mp4", "new\nline.mp4", "return\r.mp4", "-dash.mp4", "%d 100%.mp4",
    "%05d.mp4", "naïve 日本.mp4", "a:b.mp4", "http:a.mp4", "[a]*?{b}.mp4", "pipe:0.mp4", "-.mp4",
    "x" * 251 + ".mp4", "A B.mp4", "a_b.mp4",
]  # fmt: skip
TRUNCATED = {  # ffmpeg's options, and the share of the file that is left
    "end.mp4": (H264, 0.6),
    "start.mp4": ([*H264, "-movflags", "+faststart"], 0.6),
    "cut.avi": (MPEG4, 0.6),
    "cut.mkv": (H264, 0.6),
    "cut.webm": (VP9, 0.6),
    "cut.mpg": (MPEG2, 0.4),
    "cut.ogv": (THEORA, 0.6),
    "cut.flv": (["-c:v", "flv"], 0.6),
    "cut.wmv": (["-c:v", "wmv2"], 0.6),
    "cut.gif": (["-c:v", "gif"], 0.6),
}


def plain(root):
    """Make the file that others are made from: ``plain.mp4``."""
    path = root / "whole/plain.mp4"
    encode(path, PICTURES, *H264)
    return path


def derive(root):
    """Make the files that ffmpeg doesn't write in one go, and return what they show."""
    whole, basis = root / "whole", plain(root)
    shown = {"plain.mp4": PICTURES}
    for name in NAMES:
        # Content of its own, or the item store would decode one of them for all.
        box = name.encode()
        box = (8 + len(box)).to_bytes(4, "big") + b"free" + box
        (whole / name).write_bytes(basis.read_bytes() + box)
        shown[name] = PICTURES
    for turn in (90, 180, 270):
        for suffix in (".mp4", ".mkv"):
            path = whole / f"turned {turn}{suffix}"
            ffmpeg("-display_rotation", turn, "-i", basis, "-c", "copy", path)
            shown[path.name] = np.rot90(PICTURES, turn // 90, axes=(1, 2))
    small = root.parent / "small.mkv"
    encode(small, pictures(32, 24)[::-1], *H264)
    both = ["-map", "0:v", "-map", "1:v", "-c", "copy"]
    ffmpeg("-i", basis, "-i", small, *both, whole / "two videos.mkv")
    cover = root.parent / "cover.png"
    encode(cover, PICTURES[-1:], "-frames:v", "1")
    is_cover = ["-disposition:v:1", "attached_pic"]
    ffmpeg("-i", basis, "-i", cover, *both, *is_cover, whole / "cover.mp4")
    as_png = ["-metadata:s:t", "mimetype=image/png", "-metadata:s:t", "filename=cover.png"]
    ffmpeg("-i", basis, "-attach", cover, *as_png, "-c", "copy", whole / "cover.mkv")
    ffmpeg(*SOUND, "-i", cover, "-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v:0",
           "attached_pic", root / "bad/sound and cover.mp4")  # fmt: skip
    for name in ("two videos.mkv", "cover.mp4", "cover.mkv"):
        shown[name] = PICTURES
    for width, height, wide in ((65, 47, 66), (17, 15, 54), (64, 48, 128), (47, 65, 48)):
        name = f"{width}x{height}.mkv"
        square = "1" if width != 64 else "2"
        encode(whole / name, pictures(width, height), "-vf", f"setsar={square}", *H264[:-1],
               "yuv444p")  # fmt: skip
        shown[name] = pictures(wide, round(48 * 65 / 47) if width == 47 else 48)
    return shown


def break_(root):
    """Make the files that can't be used."""
    bad = root / "bad"
    for name, (options, share) in TRUNCATED.items():
        encode(bad / name, PICTURES, *options)
        data = (bad / name).read_bytes()
        (bad / name).write_bytes(data[: int(share * len(data))])
    encode(bad / "between.flv", PICTURES, "-c:v", "flv", "-flvflags", "no_sequence_end")
    data, at = (bad / "between.flv").read_bytes(), 13
    for _ in range(9):  # the script and eight frames
        at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")
    (bad / "between.flv").write_bytes(data[:at])
    encode(bad / "between.mp4", PICTURES, "-c:v", "rawvideo", "-pix_fmt", "rgb24", "-f", "mov",
           "-movflags", "+faststart")  # fmt: skip
    data = (bad / "between.mp4").read_bytes()
    (bad / "between.mp4").write_bytes(data[: -3 * PICTURES[0].size])
    (bad / "empty.mp4").touch()
    (bad / "text.mp4").write_text("no video\n" * 99)
    ffmpeg(*SOUND, bad / "sound.mp4")
    encode(bad / "one frame.mp4", PICTURES[:1], *H264)
    for suffix, options in ((".mp4", [*H264, "-f", "h264"]), (".ts", H264)):
        parts = [root.parent / f"part{i}{suffix}" for i in range(2)]
        for part, width in zip(parts, (64, 48), strict=True):
            encode(part, pictures(width), *options)
        (bad / f"changes{suffix}").write_bytes(b"".join(part.read_bytes() for part in parts))
    (bad / "script.mp4").write_text("ffconcat version 1.0\nfile one frame.mp4\n")
    (bad / "playlist.mp4").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nchanges.ts\n#EXT-X-ENDLIST\n"
    )
    os.mkfifo(bad / "fifo.mp4")
    (bad / "folder.mp4").mkdir()
    (bad / "folder.mp4/notes.txt").touch()
    (bad / "out.mp4").symlink_to("/etc/passwd")
    (bad / "loop.mp4").symlink_to("loop.mp4")
    (bad / "gone.mp4").symlink_to("nothing.mp4")
    Path(os.fsdecode(os.fsencode(bad) + b"/caf\xe9.mp4")).write_bytes(b"x")
    if os.geteuid():
        (bad / "locked.mp4").write_bytes(b"x")
        (bad / "locked.mp4").chmod(0)


BAD = dict.fromkeys(TRUNCATED, "truncated") | {
    "between.flv": r"truncated: the header promises 1\.00 s, the last frame is at 0\.58 s",
    "between.mp4": r"truncated: the header promises media data up to byte \d+, the file has \d+",
    "empty.mp4": r"the file is empty \(0 bytes\)",
    "text.mp4": "damaged or truncated: .*Invalid data found",
    "sound.mp4": "the file has no video stream",
    "sound and cover.mp4": "the file has no video stream",
    "one frame.mp4": "1 frame, at least 2 are needed",
    "changes.mp4": "shape changes in mid-video: 64x48 to 48x48 after scaling, expected one",
    "changes.ts": "shape changes in mid-video: 64x48 to 48x48 after scaling, expected one",
    "script.mp4": "names other files or addresses",
    "playlist.mp4": "damaged or truncated: Not detecting m3u8",
    "fifo.mp4": "not a regular file",
    "folder.mp4": "not a regular file",
    "out.mp4": "symbolic link out of the dataset's folder",
    "loop.mp4": "not a regular file",
    "gone.mp4": "no such file",
    "caf\\udce9.mp4": "name is not UTF-8",
    "locked.mp4": "can't be read: Permission denied",
}
DERIVED = [
    "plain.mp4", *NAMES, *(f"turned {a}{b}" for a in (90, 180, 270) for b in (".mp4", ".mkv")),
    "two videos.mkv", "cover.mp4", "cover.mkv", "65x47.mkv", "17x15.mkv", "64x48.mkv", "47x65.mkv",
]  # fmt: skip


def run_stages(root, lists=None):
    """Run index and decode in this folder with two workers; return rows by path below ``root``."""
    dataset = Dataset(
        name="odd", format="csv" if lists else "folders", videos="", lists="", split=1,
        group_pattern="", test_fraction=0.3, val_fraction=0.0, seed=0,
    )  # fmt: skip
    index.run(root, lists or root, Path("index"), dataset)
    settings = Decode(short_side=48, store="hdf5", jpeg_quality=95)
    limits = Limits(stalled_seconds=120, max_excluded=1.0, max_untaught=0.0)
    decode.run(Path("index"), Path("frames"), settings, limits)
    rows = read_videos(Path("frames/videos.csv"))
    assert len({row.video_id.casefold() for row in rows}) == len(rows)
    return {row.path.removeprefix(f"{root}/"): row for row in rows}


@pytest.fixture
def two_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_WORKERS", "2")


@pytest.fixture(scope="module")
def decoded(tmp_path_factory):
    """Decode all files in one go; give the rows, the folder of frames and what each file shows."""
    root = tmp_path_factory.mktemp("odd")
    for folder in ("videos/whole", "videos/bad"):
        (root / folder).mkdir(parents=True)
    with ThreadPoolExecutor(2) as pool:
        derived = pool.submit(derive, root / "videos")
        made = [
            pool.submit(encode, root / "videos/whole" / name, *how) for name, how in ENCODED.items()
        ]
        break_(root / "videos")
        for job in made:
            job.result()
        shown = derived.result() | {name: one for name, (one, *_) in ENCODED.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("PIPELINE_WORKERS", "2")
        return run_stages(Path("videos")), root / "frames", shown


@pytest.mark.parametrize("name", [*ENCODED, *DERIVED])
def test_every_frame_once_and_in_order(decoded, name):
    rows, folder, shown = decoded
    row, want = rows[f"whole/{name}"], shown[name].astype(int)
    assert (row.status, row.reason) == ("ok", "")
    with store.StoredVideo(folder, row.video_id, store.FRAMES) as video:
        found = np.array([video.read(k) for k in range(len(video))])
    assert row.frames == len(found) == len(want)
    assert found.shape == want.shape
    for number, frame in enumerate(found):
        off = np.abs(want - frame).mean((1, 2, 3))
        assert off[number] == off.min() < 3


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_a_row_that_says_why(decoded, name):
    if name == "locked.mp4" and not os.geteuid():
        pytest.skip("root may read everything")
    row = decoded[0][f"bad/{name}"]
    assert row.status == ("missing" if name == "gone.mp4" else "excluded")
    assert row.frames == 0
    assert "\n" not in row.reason
    assert re.search(BAD[name], row.reason)


def test_nothing_else_is_there(decoded):
    rows, folder, shown = decoded
    assert {path for path, row in rows.items() if row.status == "ok"} == {
        f"whole/{n}" for n in shown
    }
    assert len(rows) == len(shown) + len(BAD) - (not os.geteuid())
    assert len(list(folder.glob("*.h5"))) == len(shown)


def test_a_list_that_names_what_it_should_not(tmp_path, two_workers):
    root = tmp_path / "videos"
    root.mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (root / "folder").mkdir()
    for k, name in enumerate(("a b.mp4", "a_b.mp4", "A_B.mp4", "c.mp4")):
        encode(root / name, PICTURES[k : k + 2], *H264)
    listed = {
        "../secret.mp4": "path leads out of the dataset's folder",
        "../../etc/passwd": "path leads out of the dataset's folder",
        "a/../../secret.mp4": "path leads out of the dataset's folder",
        f"{tmp_path}/secret.mp4": "absolute path, expected one relative to the dataset's folder",
        f"{root}/absolute.mp4": "absolute path, expected one relative to the dataset's folder",
        "folder": "not a regular file",
        "c.mp4/d.mp4": "no such file",
        "nul\0.mp4": "no such file",
        "x" * 300: "no such file",
        "x/" * 3000 + "y.mp4": "no such file",
        **dict.fromkeys(["a b.mp4", "a_b.mp4", "A_B.mp4", "c.mp4"], ""),
    }
    lines = [f"{path},{k % 2 * 10**30}" for k, path in enumerate(listed)]
    lines += ["./c.mp4" + lines[-1][5:], lines[-2]]  # doubles
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    rows = run_stages(root, tmp_path / "list.csv")
    assert {path: row.reason for path, row in rows.items()} == {
        path.removeprefix(f"{root}/"): reason for path, reason in listed.items()
    }
    assert {row.label for row in rows.values()} == {0, 1}  # not what the list says
    assert {row.frames for row in rows.values() if row.status == "ok"} == {2}
