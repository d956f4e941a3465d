"""What a video file's headers promise, for the containers that ffmpeg lets end early.

What is said here is a reason why a video is excluded: when it changes,
:data:`pipeline.video.media.METHOD_VERSION` does.
"""

import math
import struct
from typing import BinaryIO


def lack(file: BinaryIO, count: int) -> str:
    """Say what the headers promise and isn't there, for containers that ffmpeg lets end early.

    The frames that an MP4 promises must not be held against it: an edit list may hide some on
    purpose.
    """
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(16)
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return _avi_lack(file, size, count)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _mp4_lack(file, size)
    if head.startswith(b"FLV"):
        return _flv_lack(file, size)
    if head.startswith(b"OggS"):
        return _ogg_lack(file, size)
    if head == bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"):
        return _asf_lack(file, size)
    return ""


def _mp4_lack(file: BinaryIO, size: int) -> str:
    """See that the media data of an MP4 or MOV ends before the file does."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        box = file.read(16)
        length = int.from_bytes(box[:4], "big")
        if length == 1:
            length = int.from_bytes(box[8:16], "big")
        if length < 8:  # 0: up to the end, wherever that is
            return ""
        at += length
        if box[4:8] == b"mdat" and at > size:
            return f"the header promises media data up to byte {at}, the file has {size}"
    return ""


def _avi_lack(file: BinaryIO, size: int, count: int) -> str:
    """Believe the frame count of an AVI whose chunks end after the file does.

    A whole one may count more than it has: pauses are written as frames without content.
    """
    at, length = 0, 0
    while at + length <= size:
        at += length
        file.seek(at)
        chunk = file.read(8)
        if len(chunk) < 8 or not chunk.startswith(b"RIFF"):
            return ""
        length = int.from_bytes(chunk[4:], "little")
        if length in (0, 2**32 - 1):  # written to a pipe
            return ""
        length += 8 + length % 2
    file.seek(0)
    headers = file.read(2**16)
    video = headers.find(b"vids")
    if video < 0 or len(headers) < video + 36:
        return ""
    promised = int.from_bytes(headers[video + 32 : video + 36], "little")
    return f"the header promises {promised} frames, {count} came" if count < promised else ""


def _flv_lack(file: BinaryIO, size: int) -> str:
    """Walk over an FLV's tags; see that the last one is whole and near the promised duration."""
    file.seek(5)
    at = int.from_bytes(file.read(4), "big") + 4
    duration = last = longest = 0.0
    while at < size:
        file.seek(at)
        tag = file.read(11)
        if len(tag) == 11 and tag[0] & 31 not in (8, 9, 18):  # sound, video, script
            return ""
        at += 11 + int.from_bytes(tag[1:4], "big")
        if len(tag) < 11 or at > size:
            return f"the last tag is cut (at {last:.2f} s)"
        if tag[0] & 31 == 18:
            script = file.read(2**16)
            key = script.find(b"\0\x08duration\0")
            if 0 <= key <= len(script) - 19:
                (duration,) = struct.unpack(">d", script[key + 11 : key + 19])
        else:
            time = int.from_bytes(tag[7:8] + tag[4:7], "big") / 1000
            longest, last = max(longest, time - last), max(last, time)
        at += 4
    # The last frame is shown for as long as another one, about.
    if math.isfinite(duration) and last + 1.5 * longest < 0.99 * duration:
        return f"the header promises {duration:.2f} s, the last frame is at {last:.2f} s"
    return ""


def _ogg_lack(file: BinaryIO, size: int) -> str:
    """See that an Ogg file's last page is whole and says that its stream ends."""
    file.seek(max(0, size - 2**17))  # a page has at most 65,307 bytes
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
    whole = len(page) >= 27 + len(lengths) + sum(lengths) and len(page) > 26
    return "" if whole and page[5] & 4 else "the last page is missing"


def _asf_lack(file: BinaryIO, size: int) -> str:
    """See that an ASF file (WMV) has as many packets of one size as its header promises."""
    file.seek(16)
    length = int.from_bytes(file.read(8), "little")
    file.seek(0)
    header = file.read(min(length, 2**20))
    at = header.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    if at < 0 or len(header) < at + 100:
        return ""
    packets, flags, least, most = struct.unpack("<56xQ24xIII", header[at : at + 100])
    is_live = flags & 1
    found = max(0, size - length - 50) // max(1, most)
    if is_live or least != most or found >= packets:
        return ""
    return f"the header promises {packets} packets, {found} are there"
