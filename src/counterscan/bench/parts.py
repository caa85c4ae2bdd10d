"""What a suite is measured on: images for choosing (validation) and images for measuring (test), and the models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from counterscan.data.archive import write_phantoms
from counterscan.data.manifest import Manifest, read_manifest
from counterscan.data.phantoms.base import KINDS
from counterscan.errors import CounterscanError, ManifestError, did_you_mean
from counterscan.explainers.build import needs_prior, prior_name
from counterscan.progress import progress
from counterscan.registry import EXPLAINERS, shipped_weights
from counterscan.train.parts import ALIASES

PHANTOMS = {"phantoms": "abdomen"} | {kind: kind for kind in KINDS}  # what DATA may say instead of a manifest
SEED = 20261  # of the validation phantoms; the next one draws the test phantoms, and neither trains anything


@dataclass(frozen=True)
class Part:
    """Images to choose rules and layers on, and images to measure on; `fold` of the manifest, None without folds."""

    validation: Manifest
    test: Manifest
    fold: int | None = None

    @property
    def name(self) -> str:
        """The folder that its results go to."""
        return "all" if self.fold is None else f"fold-{self.fold}"


@dataclass(frozen=True)
class Models:
    """Where the models of each part lie: in `pattern`/NAME, or where `named` says; `{fold}` stands for the number."""

    pattern: str = ""
    named: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, pattern: str, named: Sequence[str]) -> "Models":
        """From `runs/ct/{fold}` and words such as `inpainting=runs/new`."""
        pairs, known = [word.partition("=") for word in named], names()
        for name, equals, place in pairs:
            if not equals or name not in known:
                hint = did_you_mean(name, known)
                raise CounterscanError(f"cannot read --model {name + equals + place!r} as NAME=PLACE{hint}")
        return cls(pattern.rstrip("/"), {name: place for name, _, place in pairs})

    def place(self, name: str, fold: int | None = None) -> str:
        """The shipped name or the folder of the model `name` for one fold, whether it is there or not."""
        place = self.named.get(name) or f"{self.pattern}/{name}"
        return place.replace("{fold}", "" if fold is None else str(fold))

    def there(self, name: str, fold: int | None = None) -> bool:
        """Can the model be loaded? One that was named is taken for it, so that a mistyped place is an error."""
        place = self.place(name, fold)
        return name in self.named or place in shipped_weights() or (Path(place) / "card.json").exists()


ROLES = ("classifier", "judge", "robust", "verifier", "supervised")


def names() -> set[str]:
    """What models are called: by their role, or as the prior of an explainer."""
    return {*ROLES, *(prior_name(name) for name in EXPLAINERS if needs_prior(name))}


def phantom_part(kind: str, out: Path, *, n: int, size: int, seed: int) -> Part:
    """Fresh phantoms, `n` to choose on and `n` to measure on; drawn once."""
    drawn = {}
    for number, name in enumerate(("validation", "test")):
        drawn[name] = drawn_once(kind, out / name, name, n=n, size=size, seed=seed + number)
    return Part(drawn["validation"], drawn["test"])


def drawn_once(kind: str, out: Path, name: str, *, n: int, size: int, seed: int) -> Manifest:
    """`n` phantoms of `kind` in the folder `out`, drawn if they are not there yet; progress calls them `name`."""
    with progress(f"{name} phantoms", n, "phantoms") as done:
        return read_manifest(write_phantoms(kind, n, out, size=size, seed=seed, progress=done))


def manifest_parts(path: Path, dataset: Path | None = None, folds: str = "", most: int = 0) -> list[Part]:
    """Parts of a manifest: each fold measured with rules chosen on the next one, or its own validation and test splits.

    `folds` is `all`, or numbers with commas; without it splits decide where the manifest has those, as in training.
    With `most` only so many images of each part are kept, spread over it. Raises ManifestError where it has neither.
    """
    manifest = read_manifest(path, dataset)
    known = sorted({case.fold for case in manifest.cases if case.fold is not None})
    splits = {ALIASES.get(case.split, case.split): case.split for case in manifest.cases}
    if not folds and {"validation", "test"} <= splits.keys():
        validation, test = (manifest.select(split=splits[name]) for name in ("validation", "test"))
        return [Part(thinned(validation, most), thinned(test, most))]
    if len(known) < 2:
        raise ManifestError(f"{path} has neither two folds nor the splits validation and test; add a column fold")
    parts = []
    for fold in _asked(folds, known, path):
        following = known[(known.index(fold) + 1) % len(known)]
        validation, test = (manifest.select(folds=[one]) for one in (following, fold))
        parts.append(Part(thinned(validation, most), thinned(test, most), fold))
    return parts


def _asked(folds: str, known: list[int], path: Path) -> list[int]:
    if folds in ("", "all"):
        return known
    try:
        asked = [int(word) for word in folds.split(",")]
    except ValueError:
        raise ManifestError(f"cannot read --folds {folds!r}; write all, or numbers such as 0,1") from None
    if unknown := [fold for fold in asked if fold not in known]:
        raise ManifestError(f"{path} has no fold {unknown[0]}; it has {', '.join(map(str, known))}")
    return asked


def thinned(manifest: Manifest, most: int) -> Manifest:
    """At most `most` of the cases, spread over the manifest; all of them for 0."""
    if not most or len(manifest) <= most:
        return manifest
    places = np.linspace(0, len(manifest) - 1, most).round().astype(int)
    return replace(manifest, cases=tuple(manifest.cases[place] for place in places))
