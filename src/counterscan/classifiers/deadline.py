"""A limit on how long something may take, whatever it waits for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def deadline(seconds: float, stop: Callable[[], None]) -> Iterator[threading.Event]:
    """Call `stop` if the block still runs after `seconds`; the event that is yielded says afterwards whether it was.

    Timeouts of a socket or pipe begin anew with every byte; this one does not.
    """
    late = threading.Event()

    def ring() -> None:
        late.set()
        stop()

    timer = threading.Timer(seconds, ring)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
