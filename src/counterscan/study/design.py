"""From a description to a study folder: study.json, which holds the truth, and pictures that tell nothing of it."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from counterscan.errors import CounterscanError
from counterscan.study import explanations
from counterscan.study.description import WASHOUT, PartAsked
from counterscan.study.draft import Draft, Filled
from counterscan.study.draws import identifier, number, shuffled
from counterscan.study.links import cards, write_links
from counterscan.study.pictures import Form, broken, encoded, form_for, has_colour, instructed, write_picture
from counterscan.study.plans import RIGHT
from counterscan.study.records import FILE, Part, Picture, Role, Study, Trial
from counterscan.study.sources import Source
from counterscan.study.wording import (
    ANCHORS,
    EXPLAINS,
    FEEDBACK,
    INSTRUCTIONS,
    PRACTICE,
    PREVALENCE,
    QUESTIONS,
    REASONS,
    TITLES,
    WITH,
)

ARMS = ("without", "with")
OURS = {"pictures", "links.csv", "links.csv.part", f"{FILE}.part"}  # what a run that was killed may leave


def make(draft: Draft, folder: Path, done: Callable[[int], None] = lambda count: None) -> Study:
    """Write the study into `folder`, its personal links into links.csv, and study.json last.

    `done` is told how many pictures are written. Raises CounterscanError where the folder holds anything else: what a
    reader may have answered is never touched.
    """
    _clear(folder)
    desk = _Desk(draft, folder, done)
    parts, trials = desk.parts(), desk.trials()
    tokens = write_links(folder, draft.asked.readers)
    pictures = tuple(shuffled(desk.pictures, draft.asked.seed, "pictures"))
    study = Study(
        id=identifier(draft.asked.seed, "study", draft.asked.title, *(picture.source for picture in pictures)),
        title=draft.asked.title,
        seed=draft.asked.seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        parts=tuple(parts),
        trials=tuple(shuffled(trials, draft.asked.seed, "trials")),
        pictures=pictures,
        readers=cards(tokens),
        settings=_settings(draft, desk.form),
    )
    study.save(folder)
    return study


def _clear(folder: Path) -> None:
    """Make room for a study, or refuse: only what a run that never finished left behind may go."""
    if (folder / FILE).exists():
        raise CounterscanError(f"{folder} holds a study already, and perhaps answers; give another folder")
    if folder.exists() and (not folder.is_dir() or any(path.name not in OURS for path in folder.iterdir())):
        raise CounterscanError(f"{folder} holds other files and no study; give a folder that is new or empty")
    shutil.rmtree(folder / "pictures", ignore_errors=True)


class _Desk:
    """Where pictures are made, each once however often it is shown."""

    def __init__(self, draft: Draft, folder: Path, done: Callable[[int], None]):
        self.draft, self.folder, self.done = draft, folder, done
        self.seed = draft.asked.seed
        self.pictures: list[Picture] = []
        self._known: dict[tuple, str] = {}
        self._at = _heights(draft)
        self.form = _form(draft, [self._placed(source) for one in draft.trials for source in one.sources])
        judged = [s for one in draft.trials if _task(draft, one) == "lesion" for s in one.sources]
        self._limit = explanations.limit_for(judged, self.form)

    def parts(self) -> list[Part]:
        """The parts, of a lesion task one without and one with the explanation."""
        found: list[Part] = []
        for asked_as, part in enumerate(self.draft.asked.parts, 1):
            trials = self.draft.of(asked_as)
            for arm in ARMS if part.task == "lesion" else ("",):
                found.append(_part(part, len(found) + 1, arm, f"pair {asked_as}" if arm else "", trials))
        return found

    def trials(self) -> list[Trial]:
        """The trials of all parts, repeats among them."""
        found: list[Trial] = []
        place = 0
        for asked_as, part in enumerate(self.draft.asked.parts, 1):
            for arm in ARMS if part.task == "lesion" else ("",):
                place += 1
                made = [self._trial(place, arm, turn, one) for turn, one in enumerate(self.draft.of(asked_as))]
                found += made + _repeats(self.seed, place, asked_as, part.repeats, made)
        return found

    def _trial(self, part: int, arm: str, turn: int, filled: Filled) -> Trial:
        kind, task = filled.plan.kind, _task(self.draft, filled)
        sources = [self._placed(source) for source in filled.sources]
        shown = [
            self._spoilt(source, filled) if place == kind.spoilt else self._image(source)
            for place, source in enumerate(sources)
        ]
        if arm == "with":
            shown += self._beside(sources[0], filled, shown[0])
        return Trial(
            id=identifier(self.seed, "trial", part, turn),
            part=part,
            task=task,
            role=filled.plan.role,
            pictures=tuple(shown),
            answer=shown[0] if kind.answer == RIGHT else kind.answer,
            case=_case(task, sources[0]),
            arm=arm or kind.arm,
        )

    def _image(self, source: Source) -> str:
        return self._kept(source, "image", source.plane)

    def _spoilt(self, source: Source, filled: Filled) -> str:
        if _task(self.draft, filled) == "lesion":
            lines = ("ATTENTION CHECK", "Please answer", str(filled.plan.kind.answer).upper())
            return self._kept(
                source, f"says {lines[-1]}", lambda: instructed(source.plane(), self.form, lines), "check"
            )
        made = len(self.pictures)
        return self._kept(
            source, "broken", lambda: broken(source.plane(), self.form, self.seed, made), "broken", kind="synthetic"
        )

    def _beside(self, source: Source, filled: Filled, image: str) -> list[str]:
        """The explanation beside an image; beside a check stands the check itself."""
        asked = self.draft.asked.parts[filled.plan.number - 1]
        method = (asked.methods or tuple(self.draft.asked.synthetic))[0]
        made = explanations.panels(source, self.form, self._limit)
        if filled.plan.kind.spoilt is not None:
            return [image] * len(made)
        return [self._kept(source, shown, pixels.copy, method, kind="synthetic") for shown, pixels in made]

    def _kept(
        self, source: Source, shown: str, pixels: Callable[[], np.ndarray], method: str = "", kind: Any = ""
    ) -> str:
        """The id of a picture, which is written when it is first asked for."""
        key = (source.kind, source.method, str(source.case.path), source.height, shown, method)
        if key not in self._known:
            one = Picture(
                id=identifier(self.seed, "picture", len(self.pictures)),
                kind=kind or source.kind,
                method=method or source.method,
                case=source.name,
                source=str(source.case.path),
                facts={"shown": shown, "patient": source.patient, **source.facts},
            )
            write_picture(self.folder / one.file, encoded(pixels(), self.form))
            self.pictures.append(one)
            self._known[key] = one.id
            self.done(len(self.pictures))
        return self._known[key]

    def _placed(self, source: Source) -> Source:
        """A source with the slice to be shown: a real volume is cut where some synthetic one is."""
        if source.kind == "synthetic" or source.folder is not None or not self._at:
            return source
        return replace(source, height=self._at[number(len(self._at), self.seed, "height", source.key)])


def _repeats(seed: int, part: int, asked_as: int, share: float, made: Sequence[Trial]) -> list[Trial]:
    """Some of the test trials again, of each kind as many; the same cases in both parts of a pair."""
    tests = [trial for trial in made if trial.role == "test"]
    kinds: dict[tuple, list[int]] = {}
    for place, trial in enumerate(tests):
        truth = "" if trial.answer in trial.pictures else trial.answer
        kinds.setdefault(("" if trial.task == "lesion" else trial.arm, truth), []).append(place)
    queues = [shuffled(places, seed, "repeated", asked_as, *kind) for kind, places in sorted(kinds.items(), key=str)]
    order = [
        place for turn in range(max(map(len, queues), default=0)) for queue in queues for place in queue[turn:][:1]
    ]
    chosen = [tests[place] for place in order[: round(share * len(tests))]]
    return [
        trial.model_copy(
            update={"id": identifier(seed, "repeat", part, trial.id), "role": "repeat", "repeat_of": trial.id}
        )
        for trial in chosen
    ]


def _part(part: PartAsked, number: int, arm: str, pair: str, trials: Sequence[Filled]) -> Part:
    words = {"lesion": part.lesion, "k": part.k}
    text = (part.instructions or INSTRUCTIONS[part.task].format(**words)) + (WITH if arm == "with" else "")
    training = _count(trials, "training")
    if training:
        text += (FEEDBACK if part.feedback else PRACTICE).format(n=training)
    if part.tell_prevalence:
        text += _prevalence(part, trials)
    told = " (with explanation)" if arm == "with" else ""
    return Part(
        number=number,
        task=part.task,
        title=(part.title or TITLES[part.task]) + told,
        instructions=text,
        question=part.question or QUESTIONS[part.task].format(**words),
        shortest=part.shortest,
        longest=part.longest,
        feedback=part.feedback,
        washout_days=part.washout_days if part.washout_days is not None else WASHOUT if arm else 0,
        anchors=part.anchors or (ANCHORS if part.task == "realism" else ()),
        reasons=part.reasons if part.reasons is not None else REASONS if part.task in EXPLAINS else (),
        pair=pair,
    )


def _prevalence(part: PartAsked, trials: Sequence[Filled]) -> str:
    tests = [one for one in trials if one.plan.role == "test"]
    if part.task == "lesion":
        shares, what = [one.plan.kind.answer == "present" for one in tests], f"with {part.lesion}"
    else:
        shares, what = [source.kind == "synthetic" for one in tests for source in one.sources], "synthetic"
    return PREVALENCE.format(share=f"{sum(shares) / len(shares):.0%}", what=what)


def _count(trials: Iterable[Filled], role: Role) -> int:
    return sum(one.plan.role == role for one in trials)


def _task(draft: Draft, filled: Filled) -> Any:
    return draft.asked.parts[filled.plan.number - 1].task


def _case(task: str, source: Source) -> str:
    """What analysis calls a case: of two sets that number theirs alike both are kept apart."""
    return source.name if task in ("side-by-side", "lesion") else f"{source.method or 'real'}/{source.name}"


def _heights(draft: Draft) -> list[float]:
    """Where the synthetic slices lie in their volumes."""
    return [one.height for filled in draft.trials for one in filled.sources if one.kind == "synthetic"]


def _form(draft: Draft, sources: Sequence[Source]) -> Form:
    shapes, colour = [], any(part.task == "lesion" for part in draft.asked.parts)
    for source in sources:
        plane = source.plane()
        shapes.append((len(plane), *plane.shape[1:]))
        colour = colour or has_colour(plane)
    return form_for(shapes, draft.asked.size, colour)


def _settings(draft: Draft, form: Form) -> dict[str, Any]:
    """What the methods section of a paper needs."""
    asked = draft.asked.model_dump(mode="json", exclude={"readers", "title", "seed"})
    return {"asked": asked, "height": form.height, "width": form.width, "mode": form.mode, "left_out": draft.left_out}
