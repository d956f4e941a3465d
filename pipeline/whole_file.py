"""A file is there whole or not at all, whenever its writer fails or is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
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
