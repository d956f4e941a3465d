"""``videos.csv``: one row a video, handed from stage to stage.

The stage ``index`` writes the first one; every stage after it writes its own copy beside what it
made, so that a stage that reads only that folder knows which videos are in it and why others
aren't.
"""

import csv
import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath

from pipeline import SUBSETS
from pipeline.whole_file import whole_file

STATUSES = ("ok", "missing", "excluded")
_ID_BYTES = 120


class VideosError(ValueError):
    """A ``videos.csv`` that can't be used: names the line, what was found and what was expected."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """One row.

    Attributes
    ----------
    video_id : str
        Unique, also where case doesn't count, and safe as a file name on every system.
    path : str
        The file, relative to the folder the stages run in unless the dataset's folder is absolute.
    dataset, class_name : str
    label : int
        Index of the class in its dataset, from 0, without gaps.
    subset : {"train", "val", "test"}
    sha256 : str
        Of the file's content, in hexadecimal; empty if the file wasn't read.
    status : {"ok", "missing", "excluded"}
    reason : str
        Why the status isn't ``ok``, in one line.
    frames : int
        How many the folder beside this file holds: 0 in the index, frames once decoded, fields
        where there is flow.
    """

    video_id: str
    path: str
    dataset: str
    class_name: str
    label: int
    subset: str
    sha256: str
    status: str
    reason: str
    frames: int = 0


COLUMNS = tuple(field.name for field in fields(Video))


def read_videos(path: Path) -> list[Video]:
    """Read a ``videos.csv`` strictly.

    Raises
    ------
    VideosError
        With file, line, what was got and what was expected, where a column is missing or unknown,
        a value isn't one of those allowed, or two rows have one ``video_id``.
    """
    if not path.is_file():
        raise VideosError(f"{path}: no such file, expected one written by the stage index")
    videos: list[Video] = []
    lines: dict[str, int] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            if sorted(header) != sorted(COLUMNS):
                raise VideosError(
                    f"{path}:1: got the columns {', '.join(header) or 'none'}, "
                    f"expected {', '.join(COLUMNS)}"
                )
            for values in reader:
                at = f"{path}:{reader.line_num}"
                video = _parse(header, values, at)
                if first := lines.get(video.video_id):
                    raise VideosError(
                        f"{at}: got video_id {video.video_id!r} a second time (first in line "
                        f"{first}), expected it once"
                    )
                lines[video.video_id] = reader.line_num
                videos.append(video)
        except (csv.Error, UnicodeDecodeError) as error:
            raise VideosError(
                f"{path}:{reader.line_num}: got {error}, expected CSV in UTF-8"
            ) from None
    return videos


def _parse(header: list[str], values: list[str], at: str) -> Video:
    if len(values) != len(header):
        raise VideosError(f"{at}: got {len(values)} values, expected {len(header)}")
    row = dict(zip(header, values, strict=True))
    for name, allowed in (("subset", SUBSETS), ("status", STATUSES)):
        if row[name] not in allowed:
            raise VideosError(f"{at}: got {name} {row[name]!r}, expected {', '.join(allowed)}")
    for name in ("label", "frames"):
        if not (row[name].isascii() and row[name].isdigit()):
            raise VideosError(f"{at}: got {name} {row[name]!r}, expected a whole number from 0")
    if not row["video_id"]:
        raise VideosError(f"{at}: got no video_id, expected a name")
    return Video(**(row | {"label": int(row["label"]), "frames": int(row["frames"])}))


def write_videos(path: Path, videos: Iterable[Video]) -> None:
    """Write a ``videos.csv`` whole or not at all: UTF-8, lines end in LF.

    The folder must be there. The same videos give the same bytes.
    """
    with whole_file(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        plain = csv.writer(file, lineterminator="\n")
        # It quotes what holds its own line end alone; a lone CR would come back as a new row.
        quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(COLUMNS)
        for video in videos:
            values = [str(getattr(video, name)) for name in COLUMNS]
            (quoting if any("\r" in value for value in values) else plain).writerow(values)


def video_ids(paths: Sequence[str], stems_alone: bool) -> list[str]:
    """Make a name for each path that is safe as a file name, and unique where case doesn't count.

    ``a/b c.mp4`` becomes ``a__b_c-<hash>``: the hash of the path stands where the name alone
    doesn't say it. Of two names that are the same, both keep their suffix.

    Parameters
    ----------
    paths : sequence of str
        Different from each other, with ``/`` between folders.
    stems_alone : bool
        Leave the folders out where the files' names are unique, as in UCF101.
    """
    ways: list[Callable[[PurePosixPath], PurePosixPath]] = [
        lambda path: path.parent / path.stem,
        lambda path: path,
    ]
    if stems_alone:
        ways.insert(0, lambda path: PurePosixPath(path.stem))
    ids = [""] * len(paths)
    for way in ways:
        for i, path in enumerate(paths):
            if not ids[i]:
                ids[i] = _safe(str(way(PurePosixPath(path))), path)
        doubles = _doubles(ids)
        ids = ["" if name in doubles else name for name in ids]
    return [name or _safe(path, path, hashed=True) for name, path in zip(ids, paths, strict=True)]


def _doubles(ids: Iterable[str]) -> set[str]:
    """Find the names that would meet on a file system that ignores case."""
    by_fold = defaultdict(list)
    for name in ids:
        by_fold[name.casefold()].append(name)
    return {name for names in by_fold.values() if len(names) > 1 for name in names}


def _safe(name: str, path: str, hashed: bool = False) -> str:
    plain = unicodedata.normalize("NFC", name.replace("/", "__"))
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in plain)
    safe = re.sub(r"^\.", "_", safe)
    if hashed or safe != plain or len(safe.encode()) > _ID_BYTES:
        digest = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        kept = safe.encode()[: _ID_BYTES - len(digest) - 1].decode("utf-8", "ignore")
        return f"{kept}-{digest}"
    return safe
