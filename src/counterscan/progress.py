"""How far long work has come: a bar on a terminal, a line now and then elsewhere; both go to standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 10.0  # seconds between two plain lines


@contextmanager
def progress(label: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many of `total` are done."""
    shown = _bar if sys.stderr.isatty() else _lines
    with shown(label, total, unit) as done:
        yield done


@contextmanager
def _bar(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.update(task, completed=count)


@contextmanager
def _lines(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    start = last = time.monotonic()
    latest, shown = 0, -1

    def show() -> None:
        nonlocal last, shown
        last, shown = time.monotonic(), latest
        print(f"{label}: {latest} of {total} {unit}, {last - start:.0f} s", file=sys.stderr, flush=True)

    def done(count: int) -> None:
        nonlocal latest
        latest = count
        if time.monotonic() - last >= EVERY:
            show()

    yield done
    if shown != latest:
        show()
