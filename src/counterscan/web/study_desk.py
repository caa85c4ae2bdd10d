"""What a reader is shown and what becomes of the answers: the only place where names, order and truth meet."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from counterscan.study.order import order_for, parts_for, washout_for
from counterscan.study.records import CHOICES, LEVELS, YES_NO, Answer, Study
from counterscan.study.store import Said, Store, now
from counterscan.web.study_keys import Keys, Session
from counterscan.web.study_pictures import Plain
from counterscan.web.study_place import DONE, TRIAL, Step, place_of, reach, steps_of

GRACE = 5.0  # seconds that a picture with a limit may be on its way
LETTERS = "ABCDEFGHIJ"
CAPTIONS = {"counterfactual": "counterfactual", "difference": "what changed", "heat": "evidence"}
Word = Annotated[str, Field(max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")]
Prose = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]
Name = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0, le=10**9)]


class Given(BaseModel):
    """An answer as a browser sends it; `nonce` is the same each time that it is sent again."""

    model_config = ConfigDict(extra="forbid")
    trial: Name
    nonce: Annotated[str, Field(pattern=r"^[0-9a-zA-Z-]{16,64}$")]
    choice: Annotated[str, Field(max_length=16, pattern=r"^[a-z0-9]*$")] | None = None
    confidence: Annotated[int, Field(ge=1, le=LEVELS)] | None = None
    rating: Annotated[int, Field(ge=1, le=LEVELS)] | None = None
    reasons: Annotated[list[Word], Field(max_length=12)] = []
    text: Prose = ""
    rt_ms: Annotated[int, Field(ge=0, le=7 * 24 * 3_600_000)]
    tools: Annotated[dict[Word, Count], Field(max_length=16)] = {}


class Remark(BaseModel):
    """What a reader's page says beside the answers, once each: facts of a part's beginning, the reader, a comment."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["about", "begin", "comment"]
    item: Annotated[str, Field(pattern=r"^[0-9]{0,3}$")] = ""
    facts: Annotated[dict[Word, Prose | Count], Field(max_length=16)]


class Refused(Exception):
    """Why something asked is not done, with the HTTP status that says so."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Book:
    """The steps of one reader under the names that this reader alone sees."""

    reader: str
    steps: tuple[Step, ...]
    keys: Keys

    def name(self, step: Step) -> str:
        """What the reader's browser calls the trial."""
        return self.keys.mark("trial", self.reader, step.trial.id)

    def pictures(self, step: Step) -> dict[str, str]:
        """The picture ids of a step by the names that the browser asks for; a repeat has new names."""
        marks = [self.keys.mark("picture", self.reader, step.trial.id, str(at)) for at in range(len(step.pictures))]
        return dict(zip(marks, step.pictures, strict=True))

    @cached_property
    def by_name(self) -> dict[str, Step]:
        """Every step by its name."""
        return {self.name(step): step for step in self.steps}


class Desk:
    """One study on one server: gives out trials, takes in answers."""

    def __init__(self, folder: Path, store: Store, keys: Keys):
        self.study, self.store, self.keys = Study.load(folder), store, keys
        self.picture_of = Plain(self.study, folder)
        store.claim(self.study.id)
        self._books: dict[str, Book] = {}
        self._opening = threading.Lock()

    def book(self, reader: str) -> Book:
        """The book of a reader; raises Refused where the study has none of this name."""
        with self._opening:
            if reader not in self._books:
                if reader not in {card.name for card in self.study.readers}:
                    raise Refused(401, "this study has no such reader; ask the owner for a new link")
                self._books[reader] = Book(reader, self._steps(reader), self.keys)
            return self._books[reader]

    def _steps(self, reader: str) -> tuple[Step, ...]:
        days = {part.number: washout_for(self.study, reader, part.number) for part in parts_for(self.study, reader)}
        return steps_of(self.study, order_for(self.study, reader), days)

    def state(self, session: Session, said: Sequence[Said] | None = None) -> dict[str, Any]:
        """All that the browser of a session needs to go on from where the reader is, who has `said` this much."""
        book = self.book(session.name)
        said = self.store.progress(session.name) if said is None else said
        place = place_of(book.steps, said, datetime.now(UTC))
        notes = {(note.kind, note.item) for note in self.store.notes(session.name)}
        state: dict[str, Any] = {
            "study": self.study.title,
            "reader": session.name,
            "mark": self.keys.mark("store", self.study.id, session.name),
            "csrf": self.keys.csrf(session),
            "phase": place.phase,
            "done": len(said),
            "total": len(book.steps),
            "asked": ("about", "") in notes,
            "commented": ("comment", "") in notes,
        }
        if place.phase == DONE:
            return state
        step = book.steps[place.index]
        state |= {"until": place.until, "part": _part(step, book.steps[-1].sitting)}
        state["begun"] = ("begin", str(step.part.number)) in notes
        if place.phase == TRIAL:
            state["trials"] = [self._shown(book, step) for step in reach(book.steps, place.index)]
            state["left"] = self._left(session.name, step)
        return state

    def picture(self, session: Session, name: str) -> bytes:
        """A picture of the trial that a session is at, or of one shortly after it; raises Refused for any other."""
        book = self.book(session.name)
        place = place_of(book.steps, self.store.progress(session.name), datetime.now(UTC))
        for step in reach(book.steps, place.index) if place.phase == TRIAL else ():
            if name in (pictures := book.pictures(step)):
                self._watch(session.name, step)
                return self.picture_of(pictures[name])
        raise Refused(404, "there is no such picture now")

    def take(self, session: Session, given: Given) -> dict[str, Any]:
        """Keep an answer, and say what the browser may know of it; raises Refused for one that cannot be kept."""
        book = self.book(session.name)
        step = book.by_name.get(given.trial)
        if step is None:
            raise Refused(404, "there is no such trial")
        said = self.store.progress(session.name)
        if not _known(said, step, given.nonce):
            self._check_turn(book, step, said)
            kept = self.store.add(self._answer(session, step, given))
            said = self.store.progress(session.name)
            if not kept and not _known(said, step, given.nonce):  # two devices at once, and the other was first
                raise Refused(409, "this nonce was used for another trial")
        return {
            "stored": True,
            "feedback": self._feedback(session.name, step, given),
            "state": self.state(session, said),
        }

    def remark(self, session: Session, remark: Remark) -> bool:
        """Keep a remark; False where there is one of its kind already."""
        self.book(session.name)
        return self.store.note(session.name, remark.kind, remark.item, remark.facts)

    def _check_turn(self, book: Book, step: Step, said: Sequence[Said]) -> None:
        place = place_of(book.steps, said, datetime.now(UTC))
        if place.phase != TRIAL or book.steps[place.index] is not step:
            raise Refused(409, "this picture is not the next one to answer")

    def _answer(self, session: Session, step: Step, given: Given) -> Answer:
        if given.rt_ms < 1000 * (step.part.shortest or 0):
            raise Refused(422, f"pictures of this part are looked at for {step.part.shortest:g} seconds at least")
        return Answer(
            reader=session.name,
            trial=step.trial.id,
            nonce=given.nonce,
            choice=_choice(step, given),
            confidence=given.confidence,
            rating=given.rating,
            reasons=tuple(given.reasons),
            text=given.text,
            rt_ms=given.rt_ms,
            tools=given.tools,
            session=session.key,
            received=now(),
        )

    def _feedback(self, reader: str, step: Step, given: Given) -> dict[str, Any] | None:
        """What was right, in practice that tells it; that it was told is noted, because it teaches."""
        truth = step.trial.answer
        if not step.told or truth is None:
            return None
        right = _choice(step, given) == truth
        self.store.note(reader, "feedback", step.trial.id, {"right": right})
        return {"right": right, "truth": str(step.pictures.index(truth)) if truth in step.pictures else truth}

    def _shown(self, book: Book, step: Step) -> dict[str, Any]:
        """A trial as the browser gets it: nothing here depends on what is right."""
        return {
            "id": book.name(step),
            "pictures": list(book.pictures(step)),
            "captions": [self._caption(step, at) for at in range(len(step.pictures))],
            "practice": step.practice,
            "number": step.number,
            "of": step.of,
            "waits": step.alone,
        }

    def _caption(self, step: Step, at: int) -> str:
        """What stands under a picture: a letter where one is chosen, else what it is to the first."""
        if step.trial.task in CHOICES:
            return LETTERS[at]
        return CAPTIONS.get(self.study.picture[step.pictures[at]].facts.get("shown", ""), "") if at else ""

    def _watch(self, reader: str, step: Step) -> None:
        """Start the clock of a picture with a limit; raises Refused where it has run out."""
        if step.part.longest is not None:
            self.store.note(reader, "shown", step.trial.id)
            left = self._left(reader, step)
            if left is not None and left < -GRACE:
                raise Refused(410, "the time for this picture is over")

    def _left(self, reader: str, step: Step) -> float | None:
        if step.part.longest is None:
            return None
        shown = [note.received for note in self.store.notes(reader, "shown") if note.item == step.trial.id]
        since = datetime.now(UTC) - datetime.fromisoformat(shown[0]) if shown else timedelta()
        return round(step.part.longest - since.total_seconds(), 2)


def _known(said: Sequence[Said], step: Step, nonce: str) -> bool:
    """Whether this very answer is kept already; raises Refused where another one is."""
    for one in said:
        if one.trial == step.trial.id:
            if one.nonce == nonce:
                return True
            raise Refused(409, "this picture was answered before, perhaps on another device; that answer stands")
    return False


def _part(step: Step, sittings: int) -> dict[str, Any]:
    """What a part asks, with its place among the parts of this reader."""
    names = ("number", "task", "title", "instructions", "question", "shortest", "longest", "feedback")
    lists = {name: list(getattr(step.part, name)) for name in ("anchors", "reasons")}
    return {name: getattr(step.part, name) for name in names} | lists | {"sitting": step.sitting, "of": sittings}


def _choice(step: Step, given: Given) -> str | None:
    """The answer in the study's words; raises Refused where it does not answer the question."""
    task = step.part.task
    if task == "realism":
        _require(given.rating is not None and given.choice is None, "a rating from 1 to 5, and no choice")
        return None
    if task in YES_NO:
        sure = given.confidence is not None
        _require(given.choice in YES_NO[task] and sure, f"{' or '.join(YES_NO[task])}, and how sure")
        return given.choice
    positions = [str(at) for at in range(len(step.pictures))]
    _require(given.choice in positions, f"one of the pictures {', '.join(positions)}")
    return step.pictures[positions.index(given.choice or "")]


def _require(met: bool, wanted: str) -> None:
    if not met:
        raise Refused(422, f"this part asks for {wanted}")
