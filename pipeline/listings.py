"""Which videos a dataset has: four ways to say it, one answer.

Readers of a folder a class, a CSV, the official lists of UCF101 and those of HMDB51. They look at
names alone: whether a file is there and may be read is for :mod:`pipeline.index` to find out.

Labels count from 0 without gaps over the classes that have a row, so that a network has as many
outputs as there are classes: in the order of ``classInd.txt`` for UCF101 (a list filtered to five
classes gives labels 0-4), in the order of the classes' names otherwise. A class keeps its label
when its files are missing: a half-finished download doesn't renumber the others.
"""

import csv
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TextIO, TypeVar

from pipeline import SUBSETS

SUFFIXES = frozenset(
    ".3g2 .3gp .asf .avi .flv .gif .h5 .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogg .ogv "
    ".ts .vob .webm .wmv .y4m".split()
)
_SUBSET_FOLDERS = dict(train="train", val="val", valid="val", validation="val", test="test")
T = TypeVar("T")


class DatasetError(ValueError):
    """A dataset that can't be used: names file and line, what was found and what was expected."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One video that a folder or a list names.

    Attributes
    ----------
    path : str
        As listed, ``/`` between folders; below the dataset's folder unless the list is broken.
    class_name : str
    label : int
    subset : str
        ``train``, ``val``, ``test``, or empty for all videos where it isn't given.
    """

    path: str
    class_name: str
    label: int
    subset: str


@dataclass(frozen=True)
class Listing:
    """All videos of a dataset, sorted by path, and what else its folder has."""

    videos: tuple[Listed, ...]
    other_files: int = 0
    empty_folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Row:
    path: str
    class_name: str
    subset: str
    at: str


class _UcfLine(NamedTuple):
    path: str
    folder: str
    subset: str
    number: int | None
    at: str


def read_folders(root: Path) -> Listing:
    """Read ``<root>/<class>/**/<video>``, or ``<root>/{train,val,test}/<class>/**/<video>``.

    A video is a file with one of :data:`SUFFIXES`, whatever its case. Names that start with a dot
    are passed over. A linked folder is not entered; it counts as one video, for the index to
    exclude. So does a folder that is named like a video and has none in it.
    """
    folders = sorted(e.name for e in root.iterdir() if e.is_dir() and not e.name.startswith("."))
    split = [name for name in folders if name.lower() in _SUBSET_FOLDERS]
    if len(split) > 1 and split != folders:
        raise DatasetError(
            f"{root}: got the folders {', '.join(split)} beside {len(folders) - len(split)} "
            f"others, expected either a folder a class or train, val and test alone"
        )
    depth = 1 if split and split == folders else 0
    rows, others = [], 0
    for path in _walk(root, PurePosixPath()):
        parts, is_folder = PurePosixPath(path).parts, (root / path).is_dir()
        if not _named_like_a_video(path) and not is_folder:
            others += 1
            continue
        if len(parts) < depth + (1 if is_folder else 2):
            kind = "a linked folder" if is_folder else "a video of no class"
            wanted = "/".join([*split[:depth], "<class>", "<video>"])
            raise DatasetError(f"{printable(str(root / path))}: {kind}, expected {root}/{wanted}")
        subset = _SUBSET_FOLDERS[parts[0].lower()] if depth else ""
        rows.append(_Row(path, printable(parts[depth]), subset, str(root / path)))
    if not rows:
        raise DatasetError(
            f"{root}: no video in it ({others} other files), expected <class>/<video> with one of "
            f"the suffixes {' '.join(sorted(SUFFIXES))}"
        )
    empty = set(folders) - {PurePosixPath(row.path).parts[0] for row in rows}
    classes = sorted({row.class_name for row in rows})
    return Listing(_number(rows, classes), others, tuple(map(printable, sorted(empty))))


def printable(name: str) -> str:
    """Write out the bytes of a file's name that aren't UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _walk(root: Path, folder: PurePosixPath) -> Iterator[str]:
    """Yield the files below ``folder``, and the folders that stand for a video (see above)."""
    for entry in sorted(os.scandir(root / folder), key=lambda entry: entry.name):
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if not entry.is_dir(follow_symlinks=False):
            yield str(path)
            continue
        inner = list(_walk(root, path))
        yield from inner
        if folder.parts and _named_like_a_video(path) and not any(map(_named_like_a_video, inner)):
            yield str(path)


def _named_like_a_video(path: str | PurePosixPath) -> bool:
    return PurePosixPath(path).suffix.lower() in SUFFIXES


def read_csv(path: Path) -> Listing:
    """Read a CSV with the columns ``path,label`` and maybe ``subset``.

    Labels are class names, or whole numbers that are all renumbered from 0 in their order. Subsets
    are given in every row or in none.
    """
    rows, header = [], []
    for at, values in _lines(path, _csv_rows):
        if not header:
            header = [name.strip().lower() for name in values]
            if sorted(header) not in (["label", "path"], ["label", "path", "subset"]):
                raise DatasetError(
                    f"{at}: got the columns {', '.join(values)}, expected path, label and maybe "
                    f"subset"
                )
            continue
        if len(values) != len(header):
            raise DatasetError(f"{at}: got {len(values)} values, expected {len(header)}")
        row = dict(zip(header, values, strict=True))
        label, subset = row["label"].strip(), row.get("subset", "").strip()
        if not row["path"] or not label:
            raise DatasetError(f"{at}: got an empty value, expected a path and a label")
        if subset not in ("", *SUBSETS):
            raise DatasetError(f"{at}: got subset {subset!r}, expected {', '.join(SUBSETS)}")
        if rows and bool(subset) != bool(rows[0].subset):
            raise DatasetError(f"{at}: got subsets in some rows, expected them in all or in none")
        if re.fullmatch(r"[+-]\d+", label):
            raise DatasetError(f"{at}: got label {label}, expected a name or a number from 0")
        rows.append(_Row(row["path"], label, subset, at))
    if not rows:
        raise DatasetError(f"{path}: no video in it, expected the columns path,label and rows")
    names = {row.class_name for row in rows}
    if all(name.isascii() and name.isdigit() for name in names):
        rows = [_Row(row.path, str(int(row.class_name)), row.subset, row.at) for row in rows]
        return Listing(_number(rows, sorted({row.class_name for row in rows}, key=int)))
    return Listing(_number(rows, sorted(names)))


def read_ucf101(lists: Path, split: int) -> Listing:
    """Read ``trainlist0k.txt``, ``testlist0k.txt`` and ``classInd.txt``, if it is there.

    Lists may be filtered to some classes. Without ``classInd.txt`` the labels of the train list
    say the order of the classes. Folders may be spelt with other case than there, as in
    HandstandPushups.
    """
    names = {"train": f"trainlist{split:02}.txt", "test": f"testlist{split:02}.txt"}
    found = []
    for subset, name in names.items():
        for at, line in _lines(lists / name, _stripped):
            match = re.fullmatch(r"(.+?)(?:\s+(\d+))?", line)
            if subset == "train" and not match[2]:
                raise DatasetError(f"{at}: got {line!r}, expected <class>/<video> <label>")
            number = int(match[2]) if match[2] else None
            folder = PurePosixPath(match[1]).parent.name
            found.append(_UcfLine(match[1], folder, subset, number, at))
    order = _class_order(lists / "classInd.txt", found)
    rows = []
    for path, folder, subset, number, at in found:
        known = [i for i, name in order.items() if name.casefold() == folder.casefold()]
        if not known and path.startswith(("/", "../")) and number in order:
            known = [number]  # The index excludes it; the label says which class has one less.
        if not known:
            raise DatasetError(f"{at}: got the class {folder!r}, expected one of {_some(order)}")
        if number not in (None, known[0]):
            raise DatasetError(
                f"{at}: got label {number}, expected {known[0]} for {order[known[0]]}"
            )
        rows.append(_Row(path, order[known[0]], subset, at))
    if not rows:
        raise DatasetError(f"{lists}: no video in {' and '.join(names.values())}")
    return Listing(_number(rows, [order[i] for i in sorted(order)]))


def _class_order(path: Path, found: list[_UcfLine]) -> dict[int, str]:
    """Read the number and name of each class from ``classInd.txt``, or from the train list."""
    numbers: dict[int, str] = {}
    if path.exists():
        pairs = []
        for at, line in _lines(path, _stripped):
            match = re.fullmatch(r"(\d+)\s+(.+)", line)
            if not match:
                raise DatasetError(f"{at}: got {line!r}, expected <number> <class>")
            pairs.append((int(match[1]), match[2], at))
    else:
        pairs = [(line.number, line.folder, line.at) for line in found if line.number is not None]
    for number, name, at in pairs:
        if number < 1:
            raise DatasetError(f"{at}: got label {number}, expected one from 1")
        others = [i for i, known in numbers.items() if known.casefold() == name.casefold()]
        if numbers.setdefault(number, name) != name or others not in ([], [number]):
            raise DatasetError(
                f"{at}: got label {number} for {name}, expected one label for each class "
                f"({number} is {numbers[number]})"
            )
    return numbers


def read_hmdb51(lists: Path, split: int) -> Listing:
    """Read all ``<class>_test_split<k>.txt``: 1 is train, 2 is test, 0 isn't used."""
    ending = f"_test_split{split}.txt"
    files = sorted(lists.glob(f"*{ending}"))
    if not files:
        raise DatasetError(f"{lists}: no list in it, expected <class>{ending}")
    rows = []
    for file in files:
        class_name = file.name.removesuffix(ending)
        for at, line in _lines(file, _stripped):
            match = re.fullmatch(r"(.+?)\s+([012])", line)
            if not match:
                raise DatasetError(f"{at}: got {line!r}, expected <video> and 0, 1 or 2")
            if match[2] != "0":
                subset = {"1": "train", "2": "test"}[match[2]]
                path = str(PurePosixPath(class_name, match[1]))
                rows.append(_Row(path, class_name, subset, at))
    if not rows:
        raise DatasetError(f"{lists}: no video in its lists with 1 or 2, expected train and test")
    return Listing(_number(rows, sorted({row.class_name for row in rows})))


def _stripped(file: TextIO) -> Iterator[str]:
    return (line.strip() for line in file)


def _csv_rows(file: TextIO) -> Iterator[list[str]]:
    return csv.reader(file, strict=True)


def _lines(path: Path, split: Callable[[TextIO], Iterator[T]]) -> Iterator[tuple[str, T]]:
    """Yield what ``split`` makes of a text file with ``file:line``; empty lines are left out."""
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise DatasetError(f"{path}: {got}, expected a list of videos")
    number = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = split(file)
        try:
            for number, line in enumerate(reader, 1):
                if line:
                    # A CSV's row may span lines.
                    yield f"{path}:{getattr(reader, 'line_num', number)}", line
        except (csv.Error, UnicodeDecodeError) as error:
            raise DatasetError(f"{path}:{number + 1}: got {error}, expected UTF-8") from None


def _number(rows: list[_Row], classes: list[str]) -> tuple[Listed, ...]:
    """Give labels in the order of ``classes``, leave out doubles, and sort by path."""
    present = {row.class_name for row in rows}
    labels = {name: i for i, name in enumerate(name for name in classes if name in present)}
    first: dict[str, _Row] = {}
    for row in rows:
        # "a/./b" and "a//b" are the file "a/b"
        known = first.setdefault(str(PurePosixPath(row.path)), row)
        if (known.class_name, known.subset) != (row.class_name, row.subset):
            raise DatasetError(
                f"{row.at}: got {row.path} as {row.class_name} {row.subset}, expected "
                f"{known.class_name} {known.subset} as in {known.at}"
            )
    return tuple(
        Listed(
            path=path, class_name=row.class_name, label=labels[row.class_name], subset=row.subset
        )
        for path, row in sorted(first.items())
    )


def _some(order: dict[int, str]) -> str:
    names = [order[i] for i in sorted(order)]
    return ", ".join(names[:5]) + (f", … ({len(names)})" if len(names) > 5 else "")
