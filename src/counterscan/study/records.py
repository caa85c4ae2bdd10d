"""The records of a reader study: what is shown (frozen before anybody reads), what readers say, a row of analysis."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from counterscan.data.files import write_whole
from counterscan.errors import CounterscanError

TASKS = ("real-or-synthetic", "forced-choice", "odd-one-out", "realism", "side-by-side", "lesion")
YES_NO = {"real-or-synthetic": ("real", "synthetic"), "lesion": ("absent", "present")}  # truth 0 comes first
CHOICES = ("forced-choice", "odd-one-out", "side-by-side")  # answered with a picture
LEVELS = 5  # of confidence and of realism
BROKEN = 2  # the highest rating that a broken picture may get: attention checks of the realism task
FILE, VERSION = "study.json", "1"

Task = Literal["real-or-synthetic", "forced-choice", "odd-one-out", "realism", "side-by-side", "lesion"]
Role = Literal["training", "test", "repeat", "check"]


class Record(BaseModel):
    """What all records share: they do not change, and know no other names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Picture(Record):
    """A re-encoded picture. `method` is "" for real ones; `case` and `source` say where it came from."""

    id: str
    kind: Literal["real", "synthetic"]
    method: str = ""
    case: str = ""
    source: str = ""
    facts: dict[str, Any] = {}

    @property
    def file(self) -> str:
        """Where it lies within the study's folder."""
        return f"pictures/{self.id}.png"


class Trial(Record):
    """One question. `answer` is the truth: a word of `YES_NO`, the id of the right picture, or None.

    Attention checks have the id of the intact picture (side by side), or None where a rating above `BROKEN` fails
    (realism). `pictures[0]` of a lesion trial is the one to judge, the others are the explanation beside it. `arm` is
    the method that is tried ("a|b" for side by side), or "with" or "without" an explanation.
    """

    id: str
    part: int
    task: Task
    role: Role
    pictures: tuple[str, ...]
    answer: str | None = None
    case: str = ""
    arm: str = ""
    repeat_of: str = ""


class Part(Record):
    """What is asked in one sitting. `shortest` and `longest` are seconds; parts with one `pair` show the same cases.

    `washout_days` must pass since the part that the reader had before (`design.washout_for` says when that holds).
    `anchors` name the levels of a rating from 1; `reasons` are the boxes that may be ticked.
    """

    number: int
    task: Task
    title: str
    instructions: str = ""
    question: str = ""
    shortest: float = 0.0
    longest: float | None = None
    feedback: bool = False
    washout_days: int = 0
    anchors: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    pair: str = ""


class ReaderCard(Record):
    """Who reads: `token_hash` is the sha256 (hex) of the token in the personal link."""

    name: str
    token_hash: str


class Study(Record):
    """All that is fixed before the first answer. Its file holds the truth, and stays with its owner."""

    id: str
    title: str
    seed: int
    created: str
    version: str = VERSION
    parts: tuple[Part, ...]
    trials: tuple[Trial, ...]
    pictures: tuple[Picture, ...]
    readers: tuple[ReaderCard, ...] = ()
    settings: dict[str, Any] = {}

    @cached_property
    def trial(self) -> dict[str, Trial]:
        """Trials by id."""
        return {trial.id: trial for trial in self.trials}

    @cached_property
    def picture(self) -> dict[str, Picture]:
        """Pictures by id."""
        return {picture.id: picture for picture in self.pictures}

    @property
    def names(self) -> tuple[str, ...]:
        """The readers' names."""
        return tuple(reader.name for reader in self.readers)

    def save(self, folder: str | Path) -> Path:
        """Write FOLDER/study.json, whole or not at all, with the sha256 of what it holds."""
        content = self.model_dump(mode="json")
        text = json.dumps({"sha256": _digest(content), **content}, indent=1)
        return write_whole(Path(folder) / FILE, (text + "\n").encode())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; CounterscanError where there is none, or it was changed since."""
        path = Path(folder) / FILE
        if not path.is_file():
            raise CounterscanError(f"{folder} holds no study; make one with counterscan study new")
        cure = "a study is frozen once it is made: restore the file from a copy"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            told = content.pop("sha256")
            study = cls.model_validate(content)
        except ValidationError as error:
            where = ".".join(str(one) for one in error.errors()[0]["loc"])
            raise CounterscanError(f"{path} is not as it was written ({where}); {cure}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CounterscanError(f"{path} cannot be read ({type(error).__name__}); {cure}") from None
        if told != _digest(content):
            raise CounterscanError(f"{path} was changed after it was written; {cure}")
        return study


class Answer(Record):
    """What a reader said of a trial. One `nonce` is one answer, however often it is sent.

    `choice` is a word of `YES_NO`, or the id of the picture that was chosen; `confidence` and `rating` are 1 to
    `LEVELS`; `rt_ms` is the time since the pictures were there.
    """

    reader: str
    trial: str
    nonce: str
    choice: str | None = None
    confidence: int | None = Field(None, ge=1, le=LEVELS)
    rating: int | None = Field(None, ge=1, le=LEVELS)
    reasons: tuple[str, ...] = ()
    text: str = ""
    rt_ms: int = Field(0, ge=0)
    tools: dict[str, int] = {}
    session: str = ""
    received: str = ""


class Reading(Record):
    """One row of analysis: an answer beside the truth.

    `truth` is 0 (real, absent) or 1 (synthetic, present), None where the question has no such truth; `score` is the
    confidence with the sign of the answer, so that a higher one says synthetic or present. `method` is that of the
    synthetic picture shown ("" for a real one alone), of two side by side the one chosen. `chance` is the share that
    guessing gets right.
    """

    reader: str
    case: str
    part: int
    task: Task
    role: Role
    arm: str
    method: str
    truth: int | None
    score: float | None
    correct: bool | None
    chance: float | None
    choice: str | None
    rating: int | None
    rt_ms: int
    trial: str
    repeat_of: str = ""


def read_answers(path: str | Path) -> list[Answer]:
    """Answers from a file with one JSON object a line, as the server's owner page saves them."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CounterscanError(f"{path} cannot be read ({type(error).__name__}); check the name") from None
    answers = []
    for number, line in enumerate(lines, 1):
        try:
            answers += [Answer.model_validate_json(line)] if line.strip() else []
        except ValidationError:
            cure = "save the answers again from the owner's page (answers.jsonl)"
            raise CounterscanError(f"{path} line {number} is no answer; {cure}") from None
    return answers


def readings(study: Study, answers: Iterable[Answer]) -> list[Reading]:
    """Answers as rows, in their order; those to trials that the study does not have are refused."""
    return [_reading(study, _known(study, answer), answer) for answer in answers]


def _known(study: Study, answer: Answer) -> Trial:
    trial = study.trial.get(answer.trial)
    if trial is None:
        raise CounterscanError(
            f"an answer of {answer.reader} is about a trial {answer.trial!r} that {study.title!r} does not have; "
            "give the answers of this study"
        )
    return trial


def _reading(study: Study, trial: Trial, answer: Answer) -> Reading:
    return Reading(
        reader=answer.reader,
        case=trial.case,
        part=trial.part,
        task=trial.task,
        role=trial.role,
        arm=trial.arm,
        method=_method(study, trial, answer),
        truth=_truth(study, trial),
        score=_score(trial, answer),
        correct=_correct(trial, answer),
        chance=_chance(trial),
        choice=answer.choice,
        rating=answer.rating,
        rt_ms=answer.rt_ms,
        trial=trial.id,
        repeat_of=trial.repeat_of,
    )


def _method(study: Study, trial: Trial, answer: Answer) -> str:
    if trial.task == "side-by-side":
        chosen = study.picture.get(answer.choice or "")
        return chosen.method if chosen else ""
    return next((study.picture[one].method for one in trial.pictures if study.picture[one].method), "")


def _truth(study: Study, trial: Trial) -> int | None:
    if trial.task in YES_NO and trial.answer is not None:
        return YES_NO[trial.task].index(trial.answer)
    if trial.task == "realism":
        return int(study.picture[trial.pictures[0]].kind == "synthetic")
    return None


def _score(trial: Trial, answer: Answer) -> float | None:
    if trial.task not in YES_NO or answer.choice not in YES_NO[trial.task]:
        return None
    sign = 1 if answer.choice == YES_NO[trial.task][1] else -1
    return float(sign * (answer.confidence or 1))


def _correct(trial: Trial, answer: Answer) -> bool | None:
    if trial.task == "realism":
        return answer.rating is not None and answer.rating <= BROKEN if trial.role == "check" else None
    return None if trial.answer is None or answer.choice is None else answer.choice == trial.answer


def _chance(trial: Trial) -> float | None:
    if trial.task in YES_NO:
        return 0.5
    return 1 / len(trial.pictures) if trial.task in CHOICES else None


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def trials_of(trials: Sequence[Trial], part: int, *roles: Role) -> list[Trial]:
    """Those of a part that have one of some roles."""
    return [trial for trial in trials if trial.part == part and trial.role in roles]
