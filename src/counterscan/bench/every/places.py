"""What every method is run on: a kind of phantoms or a manifest, in both directions, with its models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from counterscan.bench.parts import PHANTOMS, Models, Part, drawn_once, manifest_parts, thinned
from counterscan.bench.setting import Setting
from counterscan.bench.suite import SIZE, Asked
from counterscan.core import Target
from counterscan.data.manifest import Case, Manifest
from counterscan.data.phantoms.base import KINDS
from counterscan.errors import CounterscanError, UnknownName, did_you_mean
from counterscan.metrics.identity import Verifier, load_verifier

FOUR = ("chest", "abdomen", "fundus", "oct")
REMOVED, ADDED = "removed", "added"
COMES = {"chest": "effusion", "oct": "dme"}  # the disease that is to appear; elsewhere the first
IMAGES, REAL = 100, 600  # explained in each direction; drawn to stand for real ones
QUICK_IMAGES, QUICK_REAL = 2, 52
DRAWN = 3  # phantoms for each one that is explained, so that enough are ill and enough are not


@dataclass(frozen=True)
class Place:
    """One kind of phantoms, or a manifest: the setting of each direction, and a verifier where there is one."""

    name: str
    title: str
    settings: Mapping[str, Setting] = field(repr=False)
    verifier: Verifier | None = None
    quick: bool = False

    @classmethod
    def load(cls, asked: Asked, kind: str) -> "Place":
        """Draw or read the images and load the models of `kind`, or of the manifest that is asked for without one."""
        models = models_of(asked, kind)
        part, name = _phantoms(asked, kind) if kind else _manifest(asked)
        first = Setting.load(part, models, "", asked.out, asked.command, asked.seed)
        pool, card = part.test, first.classifier.card
        chosen = {REMOVED: (first.target, _ill(pool)), ADDED: (Target.parse(_coming(pool, kind), card), _well(pool))}
        n = asked.n or (QUICK_IMAGES if asked.quick else IMAGES)
        settings = {
            direction: replace(
                first,
                part=replace(part, test=thinned(replace(pool, cases=tuple(cases)), n)),
                target=target,
                out=asked.out / name / direction,
            )
            for direction, (target, cases) in chosen.items()
        }
        known = models.there("verifier", part.fold)
        verifier = load_verifier(models.place("verifier", part.fold)) if known else None
        title = f"{kind} phantoms at {asked.size or SIZE} px" if kind else name
        return cls(name, title, settings, verifier, asked.quick)


def kinds_of(asked: Asked, kinds: str | None) -> tuple[str, ...]:
    """The kinds of phantoms that are asked for, `""` alone for a manifest; an error for words that do not fit."""
    if asked.target:
        raise CounterscanError("the suite all asks for disease to go, and to come, by itself; leave --target out")
    if kinds and asked.data != "phantoms":
        raise CounterscanError(f"--kinds is for phantoms, and {asked.data} is named; leave one of them out")
    chosen = tuple(word.strip() for word in (kinds or ",".join(FOUR)).split(","))
    if asked.data != "phantoms":
        chosen = (PHANTOMS.get(asked.data, ""),)
    for kind in chosen:
        if kind not in ("", *KINDS):
            raise UnknownName(f"no phantoms are called {kind!r}{did_you_mean(kind, KINDS)}")
        replace(asked, data=kind or asked.data, models=_pattern(asked, kind), named=_words(asked.named, kind)).check()
    return chosen


def models_of(asked: Asked, kind: str) -> Models:
    """Where the models lie: `judge=PLACE` names that of every kind that is measured, `chest/judge=PLACE` of one."""
    return Models.parse(_pattern(asked, kind) or kind, _words(asked.named, kind))


def _pattern(asked: Asked, kind: str) -> str:
    return asked.models.replace("{kind}", kind)


def _words(named: Sequence[str], kind: str) -> list[str]:
    """The words that are meant for `kind`; those that name it come last, and win."""
    found: dict[bool, list[str]] = {False: [], True: []}
    for word in named:
        name, equals, place = word.partition("=")
        whose, _, short = name.rpartition("/")
        if whose not in ("", *KINDS):
            raise UnknownName(f"no phantoms are called {whose!r}, as in --model {word}{did_you_mean(whose, KINDS)}")
        if whose in ("", kind):
            found[bool(whose)].append(f"{short}{equals}{place}")
    return found[False] + found[True]


def _phantoms(asked: Asked, kind: str) -> tuple[Part, str]:
    """Phantoms to explain, and others that stand for real images; neither trained anything."""
    n = asked.n or (QUICK_IMAGES if asked.quick else IMAGES)
    folder, size = asked.out / "data" / kind, asked.size or SIZE
    real, pool = (
        drawn_once(kind, folder / name, f"{kind} {name}", n=count, size=size, seed=asked.seed + number)
        for number, (name, count) in enumerate(
            [("real", QUICK_REAL if asked.quick else REAL), ("asked", DRAWN * n + 2 * DRAWN)]
        )
    )
    return Part(real, pool), kind


def _manifest(asked: Asked) -> tuple[Part, str]:
    """The first part of a manifest that is asked for; its validation images are the real ones."""
    part = manifest_parts(Path(asked.data), asked.dataset, asked.folds)[0]
    return part, part.test.root.name


def _ill(manifest: Manifest) -> list[Case]:
    return [case for case in manifest.cases if manifest.diseased(case)]


def _well(manifest: Manifest) -> list[Case]:
    return [
        case
        for case in manifest.cases
        if not manifest.diseased(case) and any(value is not None for value in case.labels.values())
    ]


def _coming(manifest: Manifest, kind: str) -> str:
    diseases = [name for name in manifest.classes if name not in manifest.benign]
    return f"{COMES.get(kind) or diseases[0]}=1"
