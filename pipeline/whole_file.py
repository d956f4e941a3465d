"""A file is there whole or not at all, whenever its writer fails or is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of ``path`` once all is written.

    It lies beside ``path`` and ends in the same suffix, by which some writers choose a format.
    Whatever else the old file is linked to stays as it is.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    # A killed process of the same number may have left a link to another file there.
    scratch.unlink(missing_ok=True)
    try:
        yield scratch
        scratch.replace(path)
    finally:
        # It is still there after a failure, or where both were links to one file.
        scratch.unlink(missing_ok=True)


def remove_left(path: Path) -> None:
    """Remove what killed processes left when they wrote ``path``; its folder may be an input.

    Of this machine: what another one is writing there just now would be taken for such.
    """
    for left in path.parent.glob(f".{escape(path.name)}.*{escape(path.suffix)}"):
        number = left.name.removeprefix(f".{path.name}.").removesuffix(path.suffix)
        if number.isdecimal() and not _alive(int(number)):
            left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:  # another user's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
