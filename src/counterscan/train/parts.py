"""Which cases train, which select and which measure; no patient is in two parts."""

from dataclasses import replace

from counterscan.data.draws import draw, drawn_split
from counterscan.data.manifest import Case, Manifest
from counterscan.errors import ManifestError, check_one_of

PARTS = ("train", "validation", "test")
ALIASES = {"training": "train", "val": "validation", "valid": "validation", "testing": "test"}
SHARES = ("all", "first", "second")


def parts(manifest: Manifest, *, fold: int = 0, share: str = "all", flip: bool = False) -> dict[str, Manifest]:
    """The manifest's `train`, `validation` and `test` parts.

    Its column `split` decides where it names these parts; else its folds do (`fold` is measured on, the next one
    selects); else patients are drawn 70 : 15 : 15. `share` keeps the `first` or `second` half of the
    training patients, so that a judge need not have seen what the classifier saw. Who wants to `flip` images is refused
    where the manifest says that left and right differ.
    """
    if flip and not manifest.mirror:
        raise ManifestError(f"{manifest.root} says mirror = false in its dataset.toml; leave out --set flip=true")
    check_one_of("share", share, SHARES, ManifestError)
    decided = any(ALIASES.get(case.split, case.split) == "train" for case in manifest.cases)
    folds = sorted({case.fold for case in manifest.cases if case.fold is not None})
    chosen: dict[str, list[Case]] = {name: [] for name in PARTS}
    for case in manifest.cases:
        part = ALIASES.get(case.split, case.split) if decided else _drawn(case, fold, folds)
        if part in chosen:
            chosen[part].append(case)
    if share != "all":
        wanted = SHARES.index(share) - 1
        chosen["train"] = [case for case in chosen["train"] if int(draw(_patient(case), "share") * 2) == wanted]
    empty = [name for name in PARTS if not chosen[name]]
    if empty:
        raise ManifestError(f"{manifest.root} leaves nobody for the part {empty[0]!r}; check its split or fold column")
    return {name: replace(manifest, cases=tuple(cases)) for name, cases in chosen.items()}


def _drawn(case: Case, fold: int, folds: list[int]) -> str:
    if folds:
        following = folds[(folds.index(fold) + 1) % len(folds)] if fold in folds else None
        return "test" if case.fold == fold else "validation" if case.fold == following else "train"
    return drawn_split(_patient(case))


def _patient(case: Case) -> str:
    return case.patient or case.name
