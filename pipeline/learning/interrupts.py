"""Ctrl-C ends a training between two iterations, with its state kept."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(Exception):
    """Raised when the user has stopped the training; its checkpoint is written."""


@contextmanager
def stop_when_asked(gently: bool) -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that an iteration ends before the training does."""
    asked = threading.Event()
    if not gently or threading.current_thread() is not threading.main_thread():
        yield asked
        return

    before = signal.getsignal(signal.SIGINT)

    def ask(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)  # the next one ends it at once

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
