"""What every engine shares: the work it is given, and how results, errors and warnings come back from elsewhere."""

import pickle
import traceback
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from counterscan import errors
from counterscan.errors import CounterscanError

T = TypeVar("T")
R = TypeVar("R")
X = TypeVar("X")
TRIES = 3  # processes that may be lost at one task before it is given up


@dataclass(frozen=True)
class Work(Generic[T, R]):
    """What is done with a task: `here` in this process, in another one what `again` answers, called there once.

    `again` survives pickling. A task may be done twice, by a process that was lost and by another one, so whatever it
    writes must be whole or not there. `told` says which task it is, for a person.
    """

    here: Callable[[T], R]
    again: Callable[[], Callable[[T], R]]
    told: Callable[[T], str] = str

    def packed(self) -> bytes:
        """`again` for another process; CounterscanError where something in it belongs to this process alone."""
        try:
            return pickle.dumps(self.again)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise CounterscanError(
                f"this job cannot go to another process ({one_line(error)}); leave --workers and --engine out, or "
                "name the models as on the command line, with counterscan.jobs.prepare"
            ) from None

    def lost(self, task: T, how: str) -> CounterscanError:
        """What is raised when a task was the end of `TRIES` processes."""
        return CounterscanError(
            f"{self.told(task)}: {TRIES} workers died there, the last {how}; if memory ran out, ask for fewer "
            "--workers or a smaller --batch; what is finished is kept"
        )


def elsewhere(do: Callable[[X], Callable[[T], R]], again: Callable[[], X] | None, thing: X) -> Callable[[], Callable]:
    """What makes `do(thing)` in another process: of what `again` makes there or, without it, of `thing` pickled."""
    return partial(_made, do, again or partial(_itself, thing))


def _made(do: Callable[[X], Callable], again: Callable[[], X]) -> Callable:
    return do(again())


def _itself(thing: X) -> X:
    return thing


class Engine(Protocol):
    """Somewhere that tasks are worked on.

    `take` answers the next task, or None where there is none at present; it is asked whenever somebody is free, and
    again after each result. Each task that was taken comes back once, with its result, in whatever order. What a task
    raises is raised here.
    """

    def __call__(self, work: Work[T, R], take: Callable[[], T | None], /) -> Generator[tuple[T, R], None, None]: ...


@dataclass(frozen=True)
class Trouble:
    """An error as it goes from one process to another: its kind, where it is one of ours, and its text."""

    kind: type[CounterscanError] | None
    text: str

    @classmethod
    def of(cls, error: Exception) -> "Trouble":
        """A user's error as its line, any other with its traceback."""
        ours = [kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__]
        return cls(ours[0], str(error)) if ours else cls(None, traceback.format_exc())

    def error(self) -> Exception:
        """The error again; one that is not ours as a RuntimeError."""
        kind = self.kind or RuntimeError
        return kind.__new__(kind, self.text)  # not by kind(...): some kinds make their text themselves


@dataclass(frozen=True)
class Answer(Generic[R]):
    """What comes back from another process for a task."""

    result: R | None
    trouble: Trouble | None
    warned: tuple[tuple[str, type[Warning]], ...]

    def opened(self) -> R:
        """The result; warnings are given here, and an error is raised."""
        for text, kind in self.warned:
            warnings.warn(text, kind, stacklevel=2)
        if self.trouble is not None:
            raise self.trouble.error()
        return self.result  # type: ignore[return-value]


class Hands:
    """The work in another process: it is made ready for the first task, and kept for the others."""

    def __init__(self, packed: bytes):
        self.packed = packed
        self.work: Callable[[Any], Any] | None = None

    def __call__(self, task: Any) -> Answer:
        result, trouble = None, None
        with warnings.catch_warnings(record=True) as warned:
            try:
                self.work = self.work or pickle.loads(self.packed)()
                result = self.work(task)
            except Exception as error:
                trouble = Trouble.of(error)
        return Answer(result, trouble, tuple((str(one.message), _plain(one.category)) for one in warned))


def one_line(error: BaseException) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _plain(kind: type[Warning]) -> type[Warning]:
    """A kind of warning that every process knows."""
    return kind if kind.__module__ == "builtins" else UserWarning
