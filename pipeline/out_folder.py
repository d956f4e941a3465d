"""A stage's out folder: nothing that a run which was overtaken still writes ends in another's.

DVC removes the folder before it runs a stage, while an earlier run, or a worker of one, may still
be at work on it.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.whole_file import whole_file


@contextmanager
def out_folder(out: Path) -> Iterator[Path]:
    """Make a stage's out folder; give a path that leads to it and to no later folder of that name.

    A later ``dvc repro`` removes the folder and lets another run make it anew, perhaps with other
    params, while this run still goes on. By the path given here nothing can be written into a
    folder that was removed, nor into the one in its place.

    Raises
    ------
    OSError
        If something can't be written.
    RuntimeError
        If the folder was removed or replaced.
    """
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    folder = Path(f"/proc/self/fd/{handle}")
    try:
        yield folder
    except OSError as error:
        if not _stands(out, handle):
            raise RuntimeError(
                f"{out} was removed while this run wrote to it, by a later one; so this one ends. "
                "What it has made is kept."
            ) from None
        for name in ("filename", "filename2"):
            if given := getattr(error, name):
                setattr(error, name, str(given).replace(str(folder), str(out)))
        raise plainly(error, out) from None
    finally:
        os.close(handle)


def _stands(out: Path, handle: int) -> bool:
    """Say whether ``out`` still is the folder that was opened (its inode can't be used again)."""
    try:
        return os.path.samestat(out.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def link(source: Path, target: Path) -> None:
    """Link a file, or each file of a folder, or copy it where the file system has no links."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for inner in source.iterdir():
            link(inner, target / inner.name)
        return
    with whole_file(target) as scratch:  # what stands there is replaced, never written into
        try:
            scratch.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, scratch)


def plainly(error: OSError | RuntimeError, where: Path) -> OSError | RuntimeError:
    """Give what went wrong with a file in one line that names it.

    HDF5 tells of a full disk in many lines, and not always as an OSError; a plain write names no
    file.
    """
    if found := re.search(r"\bfilename = '(.*?)'.*?\berrno = (\d+)", str(error), re.DOTALL):
        return OSError(int(found[2]), os.strerror(int(found[2])), found[1])
    if isinstance(error, OSError) and error.errno and error.filename is None:
        return OSError(error.errno, error.strerror, str(where))
    return error
