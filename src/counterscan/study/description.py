"""What a person asks a study to be: options or a small TOML or JSON file, checked before any picture is read."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from counterscan.errors import CounterscanError, did_you_mean
from counterscan.study.records import LEVELS, TASKS, Task

DEFAULT_CASES, WASHOUT, MOST = 40, 28, 100_000
Text = Annotated[str, Field(max_length=4000)]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class Asked(BaseModel):
    """Words that do not change, and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PartAsked(Asked):
    """One part: `cases` test trials (None: about 40), of which a share is repeated; training and checks come on top.

    `methods` are the synthetic sets to show (all by default); `k` pictures for the odd one out; `lesion` is the class
    to look for. `shortest` and `longest` are seconds, `washout_days` since the part before.
    """

    task: Task
    cases: int | None = Field(None, ge=1, le=MOST)
    methods: tuple[Name, ...] = ()
    k: int = Field(3, ge=3, le=9)
    lesion: str = ""
    repeats: float = Field(0.1, ge=0, le=0.25)
    training: int = Field(4, ge=0, le=MOST)
    checks: int = Field(2, ge=0, le=MOST)
    feedback: bool = False
    tell_prevalence: bool = False
    shortest: float = Field(0, ge=0, le=600)
    longest: float | None = Field(None, gt=0, le=3600)
    washout_days: int | None = Field(None, ge=0, le=3650)
    title: Text = ""
    instructions: Text = ""
    question: Text = ""
    anchors: tuple[Text, ...] = ()
    reasons: tuple[Text, ...] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.anchors and len(self.anchors) != LEVELS:
            raise ValueError(f"anchors name {len(self.anchors)} levels; give {LEVELS}, from not real to real")
        if self.longest is not None and self.longest <= self.shortest:
            raise ValueError(f"longest ({self.longest:g} s) is not more than shortest ({self.shortest:g} s)")
        return self


class StudyAsked(Asked):
    """A whole study. `real` are manifests or folders of images, `synthetic` the folders of each method by its name.

    `match` are columns of the manifests in which real pictures are to be distributed as the synthetic ones are;
    `one_per_patient` lets no patient appear twice; `reuse` lets several parts show the same pictures.
    """

    title: Name = "Reader study"
    readers: tuple[Name, ...] = Field(min_length=1, max_length=1000)
    real: tuple[Path, ...] = ()
    synthetic: dict[Name, Path] = {}
    parts: tuple[PartAsked, ...] = Field(min_length=1, max_length=50)
    seed: int = Field(ge=0, lt=2**63)
    split: str = ""
    where: str = ""
    match: tuple[Name, ...] = ()
    one_per_patient: bool = True
    reuse: bool = False
    size: int | None = Field(None, ge=16, le=4096)

    @field_validator("readers")
    @classmethod
    def _different(cls, readers: tuple[str, ...]) -> tuple[str, ...]:
        readers = tuple(name.strip() for name in readers)
        twice = sorted({name for name in readers if readers.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice; give each reader a name of their own")
        if bad := [name for name in readers if not name or any(not one.isprintable() for one in name)]:
            raise ValueError(f"{bad[0]!r} is no name; give printable characters")
        return readers

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for number, part in enumerate(self.parts, 1):
            where = f"part {number} ({part.task})"
            if unknown := [name for name in part.methods if name not in self.synthetic]:
                raise ValueError(f"{where} names the method {unknown[0]!r}{did_you_mean(unknown[0], self.synthetic)}")
            if not self.synthetic:
                what = "explanation folder" if part.task == "lesion" else "synthetic folder"
                raise ValueError(f"{where} needs a {what}; give --synthetic NAME=DIR, as counterscan explain wrote it")
            if part.task not in ("side-by-side", "lesion") and not self.real:
                raise ValueError(f"{where} needs real pictures; give --real MANIFEST (a CSV, or a folder of images)")
            if part.task == "side-by-side" and len(part.methods or self.synthetic) < 2:
                raise ValueError(f"{where} compares two methods; give --synthetic NAME=DIR twice or more")
            if part.task == "lesion" and len(part.methods or self.synthetic) > 1:
                raise ValueError(f"{where} shows the explanations of one method; name it: methods = [NAME]")
        return self


def read_description(path: Path, *, drawn: int = 0, **options: Any) -> StudyAsked:
    """The study that a TOML or JSON file describes; `options` that are given replace what it says.

    Paths are relative to the file; `drawn` is the seed where it names none. Raises CounterscanError, which names the
    first key that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        told = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise CounterscanError(f"{path} cannot be read ({error}); docs/study.md shows one to copy") from None
    if not isinstance(told, dict):
        raise CounterscanError(f"{path} holds no table; docs/study.md shows one to copy")
    if "real" in told:
        told["real"] = [_beside(path, one) for one in _several(told["real"])]
    if isinstance(told.get("synthetic"), dict):
        told["synthetic"] = {name: _beside(path, one) for name, one in told["synthetic"].items()}
    return described({"seed": drawn, **told, **options}, str(path))


def described(told: dict[str, Any], where: str = "") -> StudyAsked:
    """The study that a table describes; CounterscanError with one line where it does not."""
    try:
        return StudyAsked.model_validate(told)
    except ValidationError as error:
        raise CounterscanError(_complaint(error, where)) from None


def method_folder(text: str) -> tuple[str, Path]:
    """Read `NAME=DIR`, or `DIR` alone, whose last folder is then the name."""
    name, equals, folder = text.partition("=")
    if not equals:
        return Path(text).resolve().name, Path(text)
    return name.strip(), Path(folder)


def _complaint(error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    place = [str(one + 1) if isinstance(one, int) else str(one) for one in first["loc"]]
    said = first["msg"].removeprefix("Value error, ")
    lead = f"{where}: " if where else ""
    if first["type"] == "extra_forbidden":
        known = PartAsked.model_fields if place[0] == "parts" else StudyAsked.model_fields
        return f"{lead}unknown key {place[-1]!r}{did_you_mean(place[-1], known)}"
    if place and place[-1] == "task":
        return f"{lead}a task is one of {', '.join(TASKS)}, not {first['input']!r}{_near(first['input'])}"
    return f"{lead}{' '.join(place)}{': ' if place else ''}{said}"


def _near(given: object) -> str:
    near = did_you_mean(str(given), TASKS)
    return near if near.startswith("; did") else ""


def _several(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _beside(path: Path, text: Any) -> Any:
    return path.parent / text if isinstance(text, str) else text
