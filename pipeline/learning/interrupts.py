"""Ctrl-C ends a training between two iterations, with its state kept."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(Exception):
    """Raised when the user has stopped the training; its checkpoint is written."""


@contextmanager
def stop_when_asked(alone: bool) -> Iterator[threading.Event]:
    """Turn Ctrl-C into an event, so that an iteration ends before the training does.

    The second one ends a process that trains ``alone`` at once. Those that train together are told
    by what launched them, perhaps twice, and are killed by it if they take longer than it waits.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    before = signal.getsignal(signal.SIGINT)

    def ask(*_: object) -> None:
        asked.set()
        if alone:
            signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
