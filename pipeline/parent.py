"""A process that ends when the one that started it does, also when that one is killed."""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path


def end_with_dvc() -> None:
    """End this stage when the ``dvc`` or ``torchrun`` that started it is killed.

    Started by hand, it goes on. Else it would write into the out while the next ``dvc repro``
    removes it, or after that one has made it anew with other params.
    """
    if not {"DVC_STAGE", "TORCHELASTIC_RUN_ID"} & os.environ.keys():
        return
    parent = os.getppid()
    try:
        by_shell = Path(f"/proc/{parent}/comm").read_text().strip().endswith("sh")
        dvc = _parent_of(parent)
    except OSError:  # it is dead already
        os._exit(1)
    # Some shells take the command's place, others stay between it and dvc, and outlive dvc.
    end_with(parent, of=dvc if by_shell else None)


def _parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def end_with(parent: int, of: int | None = None) -> None:
    """End this process when its parent is killed, or when that loses its own parent ``of``."""

    def watch() -> None:
        with suppress(OSError):
            while os.getppid() == parent and (of is None or _parent_of(parent) == of):
                time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
