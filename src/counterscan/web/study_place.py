"""Where a reader is in a study: at a trial, waiting out a washout, or done."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from counterscan.study.records import Part, Study, Trial
from counterscan.study.store import Said

TRIAL, WAIT, DONE = "trial", "wait", "done"
AHEAD = 2  # trials a browser may hold beyond the one it shows, so that a lost connection stops nobody at once


@dataclass(frozen=True)
class Step:
    """One trial as one reader meets it: its pictures in the order shown, and its number among its like.

    `sitting` is the place of its part among the parts of this reader, `washout` the days before that part.
    """

    trial: Trial
    part: Part
    pictures: tuple[str, ...]
    number: int
    of: int
    sitting: int
    washout: int

    @property
    def practice(self) -> bool:
        """Whether this one only trains."""
        return self.trial.role == "training"

    @property
    def told(self) -> bool:
        """Whether the reader hears afterwards what was right."""
        return self.practice and self.part.feedback

    @property
    def alone(self) -> bool:
        """Whether nothing may be sent before it is answered: what is told or timed needs the server at each step."""
        return self.told or self.part.longest is not None


@dataclass(frozen=True)
class Place:
    """`phase` trial, wait or done; `index` into the steps; `until` (ISO, UTC) where the reader has to wait."""

    phase: str
    index: int
    until: str = ""


def steps_of(study: Study, order: Sequence[tuple[str, Sequence[str]]], washouts: Mapping[int, int]) -> tuple[Step, ...]:
    """The steps of one reader, numbered within their part, practice apart; `washouts` are days before each part."""
    parts, sittings = {part.number: part for part in study.parts}, list(washouts)
    counted, all_of, steps = Counter[tuple[int, bool]](), Counter(_kind(study.trial[name]) for name, _ in order), []
    for name, pictures in order:
        trial = study.trial[name]
        counted[kind := _kind(trial)] += 1
        sitting = sittings.index(trial.part) + 1
        steps.append(
            Step(trial, parts[trial.part], tuple(pictures), counted[kind], all_of[kind], sitting, washouts[trial.part])
        )
    return tuple(steps)


def place_of(steps: Sequence[Step], said: Sequence[Said], now: datetime) -> Place:
    """Where a reader is who has `said` this much by `now`; a washout runs from the last answer before its part."""
    received = {one.trial: one.received for one in said}
    for index, step in enumerate(steps):
        if step.trial.id not in received:
            until = _washed(steps, index, received)
            return Place(WAIT, index, until.isoformat()) if until and until > now else Place(TRIAL, index)
    return Place(DONE, len(steps))


def reach(steps: Sequence[Step], index: int) -> Sequence[Step]:
    """The steps whose pictures may be fetched at `index`: the one to answer, and those after it that need no wait."""
    first, last = steps[index], index + 1
    while last < len(steps) and last <= index + AHEAD and not steps[last - 1].alone and steps[last].part == first.part:
        last += 1
    return steps[index:last]


def _kind(trial: Trial) -> tuple[int, bool]:
    return trial.part, trial.role == "training"


def _washed(steps: Sequence[Step], index: int, received: Mapping[str, str]) -> datetime | None:
    """When the part of `steps[index]` may begin, where a washout comes before it; None within a part."""
    step = steps[index]
    if not index or steps[index - 1].part == step.part or not step.washout:
        return None
    last = max(received[other.trial.id] for other in steps[:index])
    return datetime.fromisoformat(last) + timedelta(days=step.washout)
