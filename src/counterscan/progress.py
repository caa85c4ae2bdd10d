"""How far long work has come: a bar on a terminal, a line now and then elsewhere; both go to standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

EVERY = 10.0  # seconds between two plain lines

_open: ContextVar[Callable[[str], None] | None] = ContextVar("open progress", default=None)


@contextmanager
def progress(label: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many of `total` are done."""
    finished = 0

    def done(count: int) -> None:
        nonlocal finished
        finished = count
        tell(count, "")

    shown = _bar if sys.stderr.isatty() else _lines
    with shown(label, total, unit) as tell:
        before = _open.set(lambda note: tell(finished, note))
        try:
            yield done
        finally:
            _open.reset(before)


def within(count: int, total: int, unit: str) -> None:
    """Say how far the present one of the things in progress is; silent where nobody opened a `progress` around it.

    So work that is long in itself can be followed without knowing who calls it: a library call shows nothing.
    """
    tell = _open.get()
    if tell is not None:
        tell(f"{count} of {total} {unit}")


@contextmanager
def _bar(label: str, total: int, unit: str) -> Iterator[Callable[[int, str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    note = TextColumn("{task.fields[note]}")
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn(), note)
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, note="")
        yield lambda count, note: bar.update(task, completed=count, note=note)


@contextmanager
def _lines(label: str, total: int, unit: str) -> Iterator[Callable[[int, str], None]]:
    start = last = time.monotonic()
    latest, shown = (0, ""), (-1, "")

    def show() -> None:
        nonlocal last, shown
        last, shown = time.monotonic(), latest
        count, note = latest
        within = f" ({note} of the next)" if note else ""
        print(f"{label}: {count} of {total} {unit}{within}, {last - start:.0f} s", file=sys.stderr, flush=True)

    def done(count: int, note: str) -> None:
        nonlocal latest
        latest = (count, note)
        if time.monotonic() - last >= EVERY:
            show()

    yield done
    if shown[0] != latest[0]:
        show()
