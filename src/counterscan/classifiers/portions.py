"""Many images asked in portions, several at once where that is wanted, none of whose answers is lost to a failure."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def in_portions(ask: Callable[[slice], T], count: int, size: int, parallel: int = 1) -> Iterator[tuple[slice, T]]:
    """Yield what `ask` answers for each `size` of `count` images, as the answers come: at most `parallel` at once.

    When one raises, no further one is begun, those under way are yielded, and then the first error is raised.
    """
    parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    if parallel == 1 or len(parts) == 1:
        yield from ((part, ask(part)) for part in parts)
        return
    with ThreadPoolExecutor(parallel) as pool:
        yield from _several(ask, iter(parts), parallel, pool)


def _several(
    ask: Callable[[slice], T], parts: Iterator[slice], parallel: int, pool: ThreadPoolExecutor
) -> Iterator[tuple[slice, T]]:
    running = dict[Future[T], slice]()
    failed: BaseException | None = None
    while True:
        if not failed:
            running |= {pool.submit(ask, part): part for part in islice(parts, parallel - len(running))}
        if not running:
            break
        done = {future: running.pop(future) for future in wait(running, return_when=FIRST_COMPLETED).done}
        failed = failed or next((error for future in done if (error := future.exception())), None)
        yield from ((part, future.result()) for future, part in done.items() if not future.exception())
    if failed:
        raise failed
