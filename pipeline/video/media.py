"""Video files to frames, through ffmpeg.

ffmpeg ends with status 0 on a truncated file and OpenCV stops silently, so a file counts as whole
only if ffmpeg has nothing to complain about and what the headers of an MP4, AVI, FLV, Ogg or ASF
file promise is there. What can't be known: a program or transport stream, a fragmented MP4, a GIF
or a Y4M that was cut between frames promises nothing and looks whole.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

import ffmpeg
import imageio_ffmpeg
import numpy as np

from pipeline.video import containers

# Changes when the same file gives other frames, or other reasons why there are none.
METHOD_VERSION = 2

_LINE = re.compile(r"((?:\[[^]]*\] )*)\[(panic|fatal|error|warning|verbose)\] (.+)")
_SCALED = re.compile(r"w:.* -> w:(\d+) h:(\d+) ")


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
        A video file in any format that ffmpeg reads, whatever its name. Only this one file is
        opened: a playlist or script that names other files or addresses is refused.
    short_side : int
        Height or width of the result in pixels, whichever is smaller; the aspect is kept.

    Yields
    ------
    ndarray of shape (H, W, 3), uint8
        RGB in 0-255, all of one size.

    Raises
    ------
    MediaError
        If the file is empty, has no video, is truncated or damaged, or its picture changes shape.
        Raised after the frames that could be read, so a caller keeps nothing before the last one
        came.
    RuntimeError
        If the file can't be opened, or ffmpeg was killed or doesn't know our options: that says
        nothing about the content.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise RuntimeError(f"{path}: can't be read: {error.strerror}") from None
    with file, tempfile.TemporaryFile() as said:
        if not file.seek(0, 2):
            raise MediaError("the file is empty (0 bytes)")
        file.seek(0)
        process = subprocess.Popen(
            _command(short_side), stdout=subprocess.PIPE, stderr=said, stdin=file
        )
        try:
            count = 0
            while (frame := _next_ppm(process.stdout)) is not None:
                count += 1
                yield frame
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        said.seek(0)
        _check(path, count, status, (line.decode("utf-8", "replace") for line in said))
        if lack := containers.lack(file, count):
            raise MediaError(f"truncated: {lack}")


def _command(short_side: int) -> list[str]:
    # Display size from the storage size and the pixel's aspect (sar), then the short side.
    wide = f"round({short_side}*iw*sar/ih)"
    high = f"round({short_side}*ih/(iw*sar))"
    portrait = "lte(iw*sar,ih)"
    # An open file has no name that could be taken for a pattern or an address, and the whitelist
    # keeps what is written in it from opening others.
    stream = ffmpeg.input("fd:", fd=0, protocol_whitelist="fd", threads=1)["V:0"]
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
    stream = stream.global_args(
        "-nostdin", "-nostats", "-hide_banner", "-loglevel", "level+verbose"
    )
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


def _check(path: Path, count: int, status: int, said: Iterable[str]) -> None:
    """Raise unless ffmpeg ended well and has said of no frame that it isn't whole."""
    complaints, sizes = _heard(said)
    if status < 0:
        raise RuntimeError(f"{path}: ffmpeg was ended by signal {-status} (out of memory?)")
    for complaint in complaints:
        if "Unrecognized option" in complaint or "Option not found" in complaint:
            raise RuntimeError(f"{ffmpeg_binary()}: {complaint} Expected ffmpeg 6.0 or later")
        if "matches no streams" in complaint:
            raise MediaError("the file has no video stream")
        if "not on whitelist" in complaint or "file descriptor via URL" in complaint:
            raise MediaError("the file names other files or addresses, expected the video itself")
    if complaints:
        raise MediaError(f"damaged or truncated: {complaints[0]} ({count} frames could be read)")
    if status != 0:
        raise MediaError(f"ffmpeg ended with status {status} after {count} frames")
    for width, height in sizes[1:]:
        # ffmpeg brings them all to the first one's size; a rounded pixel more or less is no harm.
        if max(abs(width - sizes[0][0]), abs(height - sizes[0][1])) > 1:
            raise MediaError(
                f"the picture's shape changes in mid-video: {sizes[0][0]}x{sizes[0][1]} to "
                f"{width}x{height} after scaling, expected one shape"
            )


def _heard(said: Iterable[str]) -> tuple[list[str], list[tuple[int, int]]]:
    """Pick the complaints, and the sizes (width, height) that pictures were scaled to in turn."""
    complaints, sizes = [], []
    for line in said:
        if not (match := _LINE.match(line)):
            continue
        who, level, text = match.groups()
        scaled = _SCALED.match(text)
        if level == "verbose":
            if scaled and who.startswith("[Parsed_scale_"):
                sizes.append((int(scaled[1]), int(scaled[2])))
        elif len(complaints) < 99 and (level != "warning" or _is_loss(who, text)):
            complaints.append(text)
    return complaints, sizes


def _is_loss(who: str, warning: str) -> bool:
    """Tell the warnings that mean a frame with holes or a packet without its end."""
    # A transport stream's packets count as corrupt wherever two recordings were joined.
    joined = "/mpegts" in who
    return warning.startswith("corrupt decoded frame") or (
        warning.startswith("corrupt input packet") and not joined
    )
