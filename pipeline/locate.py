"""Find a dataset's listed files on disk, none of them outside its folder.

A path that leads out of the folder, by itself or through a symbolic link, is excluded. Links into
DVC's cache are followed, because DVC makes them where a file system has no others.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline.listings import printable
from pipeline.video import store

_DVC_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


def locate(root: Path, path: str, any_case: bool) -> tuple[str, str, str]:
    """Find one listed file without reading it.

    Parameters
    ----------
    root : Path
        The dataset's folder; may itself be a symbolic link.
    path : str
        As listed.
    any_case : bool
        Take a file whose path differs in case alone where the path isn't there.

    Where the listed file isn't there, a packed video of its name stands in for it.

    Returns
    -------
    path, status, reason : str
        The path as found below ``root`` (as listed unless found), and the columns of
        ``videos.csv``.
    """
    if path != printable(path):
        return path, "excluded", "name is not UTF-8"
    if path.startswith("/"):
        return path, "excluded", "absolute path, expected one relative to the dataset's folder"
    parts = PurePosixPath(path).parts
    if ".." in parts:
        return path, "excluded", "path leads out of the dataset's folder"
    names = [path, *_packed(path)]
    found = next((name for name in names if os.path.lexists(root / name)), None)
    if not found and any_case:
        tried = (_any_case(root, PurePosixPath(name).parts) for name in names)
        found = next(filter(None, tried), None)
    if not found:
        return path, "missing", "no such file"
    target = os.path.realpath(root / found)
    inside = Path(target).is_relative_to(os.path.realpath(root))
    if not inside and not _DVC_CACHE.search(target):
        return found, "excluded", "symbolic link out of the dataset's folder"
    if not os.path.lexists(target):
        return found, "missing", "no such file"
    if not Path(target).is_file():
        return found, "excluded", "not a regular file"
    return found, "ok", ""


def _packed(path: str) -> list[str]:
    """Name the packed videos that may stand for a listed one: in its folder, or in none."""
    name = PurePosixPath(path)
    if not name.name or name.suffix.lower() == store.PACKED:
        return []
    return [str(name.with_suffix(store.PACKED)), name.stem + store.PACKED]


def _any_case(folder: Path, parts: Sequence[str]) -> str | None:
    """Find ``parts`` below ``folder`` whatever their case; the first in order if several are."""
    if not parts:
        return ""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return None
    for name in names:
        if name.casefold() == parts[0].casefold():
            rest = _any_case(folder / name, parts[1:])
            if rest is not None:
                return str(PurePosixPath(name, rest))
    return None
