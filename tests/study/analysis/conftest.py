"""A study of all six tasks, and readers who answer it by a normal model of known sensitivity."""

from itertools import combinations

import numpy as np
import pytest

from counterscan.study.records import Answer, Part, Picture, ReaderCard, Study, Trial

METHODS = ("gan", "inpainting", "latent")
READERS = ("ada", "ben", "cleo", "dan", "eva")
STRENGTH = {"": 0.0, "broken": 6.0, "gan": 1.5, "inpainting": 0.2, "latent": 0.8}  # how synthetic each looks


class Maker:
    """Puts a study together, trial by trial."""

    def __init__(self, cases):
        self.cases, self.pictures, self.trials, self.parts = cases, [], [], []

    def picture(self, case, method=""):
        name = f"pic{len(self.pictures)}"
        kind = "synthetic" if method else "real"
        self.pictures.append(Picture(id=name, kind=kind, method=method, case=case))
        return name

    def part(self, task, **words):
        self.parts.append(
            Part(number=len(self.parts) + 1, task=task, title=task.replace("-", " ").capitalize(), **words)
        )

    def trial(self, pictures, case, answer=None, arm="", role="test", repeat_of=""):
        number, name = self.parts[-1].number, f"trial{len(self.trials)}"
        task = self.parts[-1].task
        found = Trial(
            id=name,
            part=number,
            task=task,
            role=role,
            pictures=pictures,
            answer=answer,
            case=case,
            arm=arm,
            repeat_of=repeat_of,
        )
        self.trials.append(found)
        return found

    def yes_no(self):
        self.part("real-or-synthetic")
        for n in range(self.cases):
            for method in ("", METHODS[n % 3]):
                word = "synthetic" if method else "real"
                made = self.trial((self.picture(f"c{n}", method),), f"c{n}", word, method)
                if n < 5:
                    self.trial(made.pictures, f"c{n}", word, method, "repeat", made.id)
        self.trial((self.picture("t", "gan"),), "t", "synthetic", "gan", "training")
        for n in range(2):
            self.trial((self.picture(f"k{n}", "broken"),), f"k{n}", "synthetic", "", "check")

    def choices(self, task, pictures):
        self.part(task)
        for n in range(self.cases):
            method = METHODS[n % 3]
            shown = [self.picture(f"c{n}") for _ in range(pictures - 1)] + [self.picture(f"c{n}", method)]
            self.trial(tuple(shown), f"c{n}", shown[-1], method)

    def realism(self):
        self.part("realism")
        for n in range(self.cases):
            for method in ("", METHODS[n % 3]):
                self.trial((self.picture(f"c{n}", method),), f"c{n}", None, method)

    def pairs(self):
        self.part("side-by-side")
        for n in range(self.cases):
            pair = list(combinations(METHODS, 2))[n % 3]
            self.trial(tuple(self.picture(f"c{n}", one) for one in pair), f"c{n}", None, "|".join(pair))

    def lesion(self):
        for arm in ("without", "with"):
            self.part("lesion", pair="lesion")
            for n in range(self.cases):
                self.trial((self.picture(f"c{n}"),), f"c{n}", ("absent", "present")[n % 2], arm)


def make_study(
    cases=36, tasks=("yes_no", "realism", "pairs", "lesion"), choices=(("forced-choice", 2), ("odd-one-out", 3))
):
    """A study of `cases` cases a part."""
    maker = Maker(cases)
    for task in tasks:
        getattr(maker, task)()
    for task, pictures in choices:
        maker.choices(task, pictures)
    return Study(
        id="0123456789abcdef",
        title="Can radiologists tell?",
        seed=7,
        created="2026-01-01T00:00:00Z",
        parts=tuple(maker.parts),
        trials=tuple(maker.trials),
        pictures=tuple(maker.pictures),
        readers=tuple(ReaderCard(name=name, token_hash="0" * 64) for name in READERS),
    )


def answers_to(study, readers=READERS, seed=0, strength=STRENGTH):
    """What each reader says of each trial."""
    rng = np.random.default_rng(seed)
    skill = {name: 0.2 * rng.normal() for name in readers}
    looks = {one.id: strength[one.method] + 0.5 * rng.normal() * (one.method != "broken") for one in study.pictures}

    def seen(picture):
        return looks[picture] + (0.8 if picture else 0) * rng.normal()

    def answer(trial, reader):
        values = [seen(picture) for picture in trial.pictures]
        found = {"rt_ms": int(1000 * np.exp(rng.normal(1.5, 0.4)))}
        if trial.task == "real-or-synthetic":
            x = values[0] - 0.5 + skill[reader]
            found |= {"choice": "synthetic" if x > 0 else "real", "confidence": int(np.clip(1 + 2.5 * abs(x), 1, 5))}
            found["reasons"] = ("texture",) * (x > 0.5) + ("anatomy",) * (x > 1)
        elif trial.task == "realism":
            found["rating"] = int(np.clip(round(4.2 - 1.2 * values[0] + skill[reader]), 1, 5))
        elif trial.task == "lesion":
            x = (
                (1.2 if trial.arm == "with" else 0.7) * (1 if trial.answer == "present" else -1)
                + values[0]
                + skill[reader]
            )
            found |= {"choice": "present" if x > 0 else "absent", "confidence": int(np.clip(1 + 2 * abs(x), 1, 5))}
        else:
            place = np.argmin(values) if trial.task == "side-by-side" else np.argmax(values)
            found["choice"] = trial.pictures[place]
        return Answer(reader=reader, trial=trial.id, nonce=f"{reader}-{trial.id}", **found)

    return [answer(trial, reader) for reader in readers for trial in study.trials]


@pytest.fixture(scope="session")
def study():
    return make_study()


@pytest.fixture(scope="session")
def answered(study):
    return answers_to(study)
