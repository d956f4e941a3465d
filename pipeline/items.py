"""The item store: work on one video is done once.

An item is a folder ``.items/<method>/<key>/`` under the project's root, outside every stage's outs,
because DVC deletes outs before it runs a stage. Its key is a hash of the content of the input, the
settings that bear on it and the version of the method, so that adding one video to ten thousand
computes one, a killed stage goes on where it stopped, and going back to old settings computes none.
Items are made (by :mod:`pipeline.jobs`, those of trainings by :mod:`pipeline.learning.checkpoints`)
in a temporary folder and renamed when whole, then hard-linked into the out folder (copied where the
file system has no links): item, out and DVC's cache are one file on disk.

``python -m pipeline.items --prune`` removes the items that the last run of each stage didn't use.
"""

import argparse
import fcntl
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline import project
from pipeline.whole_file import whole_file


def root() -> Path:
    """Give the folder of all items, one for the project and its queued experiments."""
    return project.root() / ".items"


def hash_of(path: Path) -> str:
    """Hash a file's content, or a folder's names and contents, as SHA-256 in hexadecimal."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for file in sorted(path.iterdir()):
        total.update(f"{file.name}\0{hash_of(file)}\n".encode())
    return total.hexdigest()


def digest(key: dict) -> str:
    """Hash all that bears on a result: the name of an item."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:40]


def store_of(method: str) -> Path:
    """Make one method's part of the store."""
    store = root() / method
    store.mkdir(parents=True, exist_ok=True)
    (root() / ".gitignore").write_text("*\n", encoding="utf-8")
    return store


@contextmanager
def waiting(path: Path, who: str, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock; say so if another run has it."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{who}: waiting for another run of this stage to end", flush=True)
            fcntl.flock(lock, kind)
        try:
            yield
        finally:
            # A process that was forked meanwhile has the file open, too, and would hold on.
            fcntl.flock(lock, fcntl.LOCK_UN)


@contextmanager
def locked(method: str) -> Iterator[Path]:
    """Hold one method's part of the store: a stage left running by a killed ``dvc`` goes first."""
    store = store_of(method)
    with waiting(store.with_suffix(".lock"), method):
        _remove_half_made(store)
        try:
            yield store
        finally:
            _remove_half_made(store)


def _remove_half_made(store: Path) -> None:
    """Remove what killed workers left. One that still lives loses its folder in one step."""
    for left in store.glob("making-*"):
        # File by file, it could be renamed to an item with half of them gone.
        with suppress(FileNotFoundError):  # it was renamed to an item just now
            remove(left)
    for doomed in store.glob("removing-*"):
        shutil.rmtree(doomed, ignore_errors=True)


def remove(item: Path) -> None:
    """Remove an item whole or not at all, whenever this process is killed."""
    doomed = item.with_name(f"removing-{uuid.uuid4().hex}")
    item.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def note_used(store: Path, used: Iterable[Path]) -> None:
    """Put down which items the last run used: those that :func:`prune` leaves."""
    names = sorted({item.name for item in used})
    with whole_file(store / "used.txt") as scratch:
        scratch.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def prune() -> None:
    """Remove the items that the last run of their stage didn't use; print what that freed."""
    for store in sorted(path for path in root().glob("*") if path.is_dir()):
        with locked(store.name):
            noted = store / "used.txt"
            used = set(noted.read_text("utf-8").split()) if noted.exists() else set()
            count = freed = shared = 0
            for item in [path for path in store.iterdir() if path.is_dir()]:
                if item.name in used:
                    continue
                for file in [path for path in item.rglob("*") if path.is_file()]:
                    # A file that DVC's cache holds too stays on disk until `dvc gc`.
                    size, links = file.stat().st_size, file.stat().st_nlink
                    freed, shared = freed + size * (links == 1), shared + size * (links > 1)
                remove(item)
                count += 1
            for file in [*store.glob("*.pt"), *store.glob("*.lock")]:  # of trainings
                if file.stem not in used:
                    freed += file.stat().st_size
                    file.unlink()
            print(
                f"{store.name}: removed {count} items, kept {len(used)}; freed {freed / 1e6:.1f} "
                f"MB" + (f", {shared / 1e6:.1f} MB more with `dvc gc`" if shared else "")
            )


def main() -> None:
    """Look after the item store from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--prune", action="store_true", required=True,
        help="remove the items that the last run of each stage didn't use",
    )  # fmt: skip
    parser.parse_args()
    prune()


if __name__ == "__main__":
    main()
