"""Progress of long work: a bar on a terminal, a line now and then in a log file."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

_LOG_EVERY = 30  # seconds


class _Lines:
    """A file that turns tqdm's redrawn bar into lines."""

    def write(self, text: str) -> None:
        """Write what is worth a line."""
        if line := text.strip("\r\n "):
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        """Pass on what was written."""
        sys.stderr.flush()


def progress(iterable=None, **options) -> tqdm:
    """Make a tqdm bar with tqdm's options; where no one watches, a line every half a minute."""
    if sys.stderr.isatty():
        return tqdm(iterable, mininterval=0.5, **options)
    quiet = {"mininterval": _LOG_EVERY, "maxinterval": _LOG_EVERY, "miniters": 1}
    return tqdm(iterable, file=_Lines(), ncols=110, ascii=True, **quiet, **options)


@contextmanager
def ticking(bar: tqdm, told: Callable[[], str]) -> Iterator[None]:
    """Show what ``told`` says beside a bar now and then, also while no step of it ends."""
    over = threading.Event()

    def tick() -> None:
        while not over.wait(0.5):
            if time.time() - bar.last_print_t >= bar.mininterval:
                bar.set_postfix_str(told())
                bar.last_print_t = time.time()  # so that the bar itself does not do so as well

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
