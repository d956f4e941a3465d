"""Video files to frames, through ffmpeg.

ffmpeg ends with status 0 on a truncated file and OpenCV stops silently, so a file counts as whole
only if ffmpeg has nothing to complain about, no fewer frames came than an AVI or FLV header
promises, and an Ogg file has its last page. What can't be known: a transport stream or a fragmented
MP4 that was cut between frames promises nothing and looks whole.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

import cv2
import ffmpeg
import imageio_ffmpeg
import numpy as np

# Changes when the same file gives other frames.
METHOD_VERSION = 1


class MediaError(ValueError):
    """A file whose frames can't all be had; the message says why in one line."""


@cache
def ffmpeg_binary() -> str:
    """Find ffmpeg: the one that ``imageio-ffmpeg`` brings, else the one on PATH.

    The variable ``IMAGEIO_FFMPEG_EXE`` names another.
    """
    return imageio_ffmpeg.get_ffmpeg_exe()


@cache
def ffmpeg_version() -> str:
    """Ask ffmpeg for its version, such as ``7.0.2-static``."""
    told = subprocess.run([ffmpeg_binary(), "-version"], capture_output=True, text=True, check=True)
    return told.stdout.split()[2]


def read_frames(path: Path, short_side: int) -> Iterator[np.ndarray]:
    """Decode every frame of the first video stream.

    Rotation by metadata and non-square pixels are honoured; cover pictures are no video. Frames
    come one at a time, so memory does not grow with the length of the video.

    Parameters
    ----------
    path : Path
        A video file in any format that ffmpeg reads. Only this one file is opened: a playlist that
        names other addresses is refused.
    short_side : int
        Height or width of the result in pixels, whichever is smaller; the aspect is kept.

    Yields
    ------
    ndarray of shape (H, W, 3), uint8
        RGB in 0-255, all of one size.

    Raises
    ------
    MediaError
        If the file is empty, has no video, is truncated or damaged. Raised after the frames that
        could be read, so a caller keeps nothing before the last one came.
    RuntimeError
        If ffmpeg was killed or doesn't know our options: that says nothing about the file.
    """
    if path.stat().st_size == 0:
        raise MediaError("the file is empty (0 bytes)")
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            _command(path, short_side),
            stdout=subprocess.PIPE,
            stderr=said,
            stdin=subprocess.DEVNULL,
        )
        try:
            count, size = 0, None
            while (frame := _next_ppm(process.stdout)) is not None:
                size = size or frame.shape
                if frame.shape != size:
                    raise MediaError(
                        f"the picture's size changes at frame {count + 1}: "
                        f"{size[1]}x{size[0]} to {frame.shape[1]}x{frame.shape[0]} after scaling"
                    )
                count += 1
                yield frame
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        said.seek(0)
        _check(path, count, status, said.read(65536).decode("utf-8", "replace"))


def _command(path: Path, short_side: int) -> list[str]:
    # Display size from the storage size and the pixel's aspect (sar), then the short side.
    wide = f"round({short_side}*iw*sar/ih)"
    high = f"round({short_side}*ih/(iw*sar))"
    portrait = "lte(iw*sar,ih)"
    # "file:" and the whitelist keep ffmpeg from reading a name or a playlist as an address.
    stream = ffmpeg.input(f"file:{path.resolve()}", protocol_whitelist="file", threads=1)["V:0"]
    stream = stream.filter(
        "scale",
        w=f"if({portrait},{short_side},{wide})",
        h=f"if({portrait},{high},{short_side})",
        flags="bicubic+accurate_rnd+full_chroma_int+bitexact",
    ).filter("setsar", "1")
    stream = stream.output(
        "pipe:",
        format="image2pipe",
        vcodec="ppm",
        pix_fmt="rgb24",
        fps_mode="passthrough",
        threads=1,
    )
    stream = stream.global_args("-nostdin", "-hide_banner", "-loglevel", "error")
    return stream.compile(cmd=ffmpeg_binary())


def _next_ppm(pipe: BinaryIO) -> np.ndarray | None:
    """Read one binary PPM picture, which carries its own size; None at the end."""
    if pipe.readline() != b"P6\n":
        return None
    width, height = map(int, pipe.readline().split())
    pipe.readline()  # 255
    data = pipe.read(width * height * 3)
    if len(data) < width * height * 3:
        return None
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


def _check(path: Path, count: int, status: int, said: str) -> None:
    """Raise unless all frames came."""
    if status < 0:
        raise RuntimeError(f"{path}: ffmpeg was ended by signal {-status} (out of memory?)")
    if "Unrecognized option" in said or "Option not found" in said:
        raise RuntimeError(
            f"{ffmpeg_binary()}: {said.strip().splitlines()[0]} Expected ffmpeg 5.1 or later"
        )
    if "matches no streams" in said:
        raise MediaError("the file has no video stream")
    complaints = [line.split("] ", 1)[-1] for line in said.splitlines() if line.strip()]
    if complaints:
        raise MediaError(f"damaged or truncated: {complaints[0]} ({count} frames could be read)")
    if status != 0:
        raise MediaError(f"ffmpeg ended with status {status} after {count} frames")
    promised = _promised_frames(path)
    # Headers round, and some count one that isn't there; a real cut loses more.
    if count < promised - max(2, promised // 100):
        raise MediaError(f"truncated: the header promises {promised} frames, {count} came")
    if _ogg_without_end(path):
        raise MediaError(f"truncated: the last page is missing ({count} frames could be read)")


def _ogg_without_end(path: Path) -> bool:
    """Tell whether this is an Ogg file whose last page doesn't say that its stream ends."""
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return False
        file.seek(max(0, path.stat().st_size - 2**17))  # a page has at most 65,307 bytes
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
    whole = len(page) >= 27 + len(lengths) + sum(lengths) and len(page) > 26
    return not (whole and page[5] & 4)


def _promised_frames(path: Path) -> int:
    """Read the frame count from an AVI or FLV header; 0 for other containers.

    Those two are the ones that ffmpeg lets end early without a word. The count of an MP4 must not
    be held against it: an edit list may hide frames on purpose.
    """
    with path.open("rb") as file:
        head = file.read(12)
    if not (head.startswith(b"FLV") or (head.startswith(b"RIFF") and head.endswith(b"AVI "))):
        return 0
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    promised = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    return max(0, int(promised)) if np.isfinite(promised) else 0
