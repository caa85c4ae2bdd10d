"""The owner's page: how far each reader is, and whether they look with care; not what the study finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from statistics import median

from counterscan.study.records import Answer, readings
from counterscan.study.store import Note
from counterscan.web.study_desk import Desk
from counterscan.web.study_place import DONE, WAIT, place_of


@dataclass(frozen=True)
class Progress:
    """One reader's line: `checks` counts the attention checks that were answered rightly, of those answered."""

    reader: str
    done: int
    total: int
    part: str
    last: str
    seconds: float | None
    checks: str
    visits: int

    @property
    def share(self) -> int:
        """Percent of the study."""
        return round(100 * self.done / max(self.total, 1))


def owner_page(desk: Desk) -> str:
    """The page as HTML. What readers answered is left out: a look at results midway would end the blinding."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = (files("counterscan") / "templates" / "study_owner.html").read_text("utf-8")
    rows = [progress_of(desk, card.name) for card in desk.study.readers]
    done, total = sum(row.done for row in rows), sum(row.total for row in rows)
    shown = {"study": desk.study, "rows": rows, "done": done, "total": total}
    return environment.from_string(text).render(now=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", **shown)


def progress_of(desk: Desk, reader: str) -> Progress:
    """How far `reader` is."""
    answers, notes = desk.store.answers(reader), desk.store.notes(reader)
    book = desk.book(reader)
    times = [answer.rt_ms / 1000 for answer in answers]
    return Progress(
        reader=reader,
        done=len(answers),
        total=len(book.steps),
        part=_where(desk, reader),
        last=_last(answers, notes),
        seconds=round(median(times), 1) if times else None,
        checks=_checks(desk, answers),
        visits=sum(note.kind == "entered" for note in notes),
    )


def _where(desk: Desk, reader: str) -> str:
    steps = desk.book(reader).steps
    place = place_of(steps, desk.store.progress(reader), datetime.now(UTC))
    if place.phase == DONE:
        return "finished"
    title = f"part {steps[place.index].part.number}: {steps[place.index].part.title}"
    return f"{title}, from {place.until[:16].replace('T', ' ')} UTC" if place.phase == WAIT else title


def _last(answers: Sequence[Answer], notes: Sequence[Note]) -> str:
    times = [*(answer.received for answer in answers), *(note.received for note in notes)]
    return max(times)[:16].replace("T", " ") if times else ""


def _checks(desk: Desk, answers: Sequence[Answer]) -> str:
    right = [bool(row.correct) for row in readings(desk.study, answers) if row.role == "check"]
    return f"{sum(right)} of {len(right)}" if right else ""
