"""How other tools lay out a video's frames and flow, and how that is aligned to ours.

Ours: N frames, N-1 fields, field k goes from frame k to frame k+1. The tools differ in where they
count from, in whether the first frame is kept, and in how many fields they leave out by mistake.
"""

import os
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath


class LayoutError(ValueError):
    """A folder that isn't laid out as said, or lacks pictures; says why in one line."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where one tool puts what it makes.

    Attributes
    ----------
    folders : three tuples of str
        Below the source: where the folders of frames, x and y are; the first one that is there.
    names : three str
        Regular expressions of the files in a video's folder; the group is the number.
    first : int
        The number of the first picture and of the first field.
    before : int
        Fields that come before the first picture: 1 where the first frame isn't kept.
    """

    folders: tuple[tuple[str, ...], ...] = (("",), ("",), ("",))
    names: tuple[str, str, str] = (
        r"img_(\d+)\.jpg", r"(?:flow_)?x_(\d+)\.jpg", r"(?:flow_)?y_(\d+)\.jpg",
    )  # fmt: skip
    first: int = 1
    before: int = 0


LAYOUTS = {
    "denseflow": Layout(first=0),
    "dense_flow": Layout(before=1),
    "mmaction2": Layout(),
    "gpu_flow": Layout(
        folders=(("frames", "jpegs_256"), ("x", "u"), ("y", "v")),
        names=(r"frame(\d+)\.jpg",) * 3,
    ),
}
_KINDS = ("pictures", "x fields", "y fields")


def find_videos(source: Path, layout: Layout) -> list[str]:
    """List the folders that hold pictures or fields, relative to ``source``, sorted."""
    found = set()
    for root, name in zip(_roots(source, layout), layout.names, strict=True):
        for folder, _, files in os.walk(root):
            if any(re.fullmatch(name, file) for file in files):
                found.add(PurePosixPath(Path(folder).relative_to(root)).as_posix())
    if not found:
        raise LayoutError(f"{source}: no folder of pictures in it, expected {layout.names[0]}")
    if "." in found:
        raise LayoutError(f"{source}: pictures right in it, expected a folder a video")
    return sorted(found)


def _roots(source: Path, layout: Layout) -> list[Path]:
    """Choose the folders of frames, x and y below the source."""
    chosen = []
    for options in layout.folders:
        there = [source / name for name in options if (source / name).is_dir()]
        chosen.append(there[0] if there else source / options[0])
    return chosen


def aligned(source: Path, video: str, layout: Layout) -> tuple[list[Path], list[tuple[Path, Path]]]:
    """List one video's pictures, and its fields (x, y), as our convention pairs them.

    Raises
    ------
    LayoutError
        If a picture or a field is lacking, or numbers don't start where the layout says.
    """
    files = [
        _numbered(root / video, name, kind, layout.first)
        for root, name, kind in zip(_roots(source, layout), layout.names, _KINDS, strict=True)
    ]
    pictures, x, y = files
    if not pictures:
        raise LayoutError("no pictures in it, fields alone")
    expected = len(pictures) - 1 + layout.before
    if (x or y) and not len(x) == len(y) == expected:
        raise LayoutError(
            f"got {len(pictures)} pictures, {len(x)} x and {len(y)} y fields, expected {expected} "
            f"of each in this layout"
        )
    return pictures, list(zip(x, y, strict=True))[layout.before :]


def _numbered(folder: Path, name: str, kind: str, first: int) -> list[Path]:
    """List the files of one kind by their numbers, which must have no gap."""
    by_number: dict[int, Path] = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        if match := re.fullmatch(name, file.name):
            other = by_number.setdefault(int(match[1]), file)
            if other != file:
                raise LayoutError(f"{min(other.name, file.name)} is there under a second name")
    numbers = sorted(by_number)
    if numbers and numbers[0] != first:
        raise LayoutError(f"{kind} count from {numbers[0]}, expected from {first} in this layout")
    if gap := _gap(numbers):
        raise LayoutError(f"{kind}: number {gap} is missing, {numbers[-1]} is there")
    return [by_number[number] for number in numbers]


def _gap(numbers: list[int]) -> int | None:
    return next((a + 1 for a, b in pairwise(numbers) if b != a + 1), None)
