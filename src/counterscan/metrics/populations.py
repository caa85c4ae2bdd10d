"""Where the two sets of a comparison come from: a manifest's images, or the counterfactuals that `explain` wrote."""

import random
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from counterscan.classifiers.features import Extractor
from counterscan.core import Explanation, Target
from counterscan.data.batches import load_batch
from counterscan.data.manifest import Case, Manifest, find_cases
from counterscan.data.window import Window
from counterscan.errors import CounterscanError
from counterscan.kept import finished_cases
from counterscan.metrics.intervals import Estimate
from counterscan.metrics.realism import SplitStatistics
from counterscan.metrics.sets import MOST, Realism, Sample, compare
from counterscan.metrics.validity import attempted

SMALLEST = 4  # real images: two to compare with, and two as a floor
BATCH = 16  # images that are loaded and shown to the extractor at once


def realism(
    made: str | Path | Manifest,
    real: Manifest,
    extractor: Extractor,
    *,
    shape: tuple[int, ...] = (),
    window: Window | None = None,
    labels: Mapping[str, int] | None = None,
    most: int = MOST,
    seed: int = 0,
) -> Realism:
    """How real the images of `made` look beside those of `real`, in the features of `extractor`, with the floor.

    `made` is a folder that `explain` wrote (its counterfactuals of images that did not answer as asked before, found
    or not), or a manifest, or a folder of images. Real images count where their `labels` are as given, by default as
    the explanations' target asks; those of patients of whom there is a made image are left out. The rest is dealt out
    by patient: as many as were made, but half at most, are the floor, and the others are what both are compared with;
    of more made images as many as that are drawn. Images are compared at `shape` `(c, h, w)` in `window`, both by
    default as explained; a manifest needs a `shape`. Raises CounterscanError where one of the three sets is too small.
    """
    explained = _explained(made)
    if explained is None:
        cases = (made if isinstance(made, Manifest) else find_cases(Path(str(made)))).cases
        if not shape:
            raise CounterscanError("images of a manifest need a shape to be compared at, such as the judge's own")
        counted, patients = len(cases), {_patient(case) for case in cases}
    else:
        counted, patients = explained.n, set(explained.patients)
        shape, window = shape or explained.shape, window or explained.window
        labels = explained.labels if labels is None else labels
    kept = [case for case in at_labels(real, labels or {}) if _patient(case) not in patients]
    if len(kept) < SMALLEST:
        raise CounterscanError(
            f"{len(kept)} images of {real.root} show what was asked for and are of nobody in {_place(made)}; "
            f"{SMALLEST} are needed, so give others"
        )
    reference, floor = dealt(kept, counted, seed)
    n = min(counted, len(floor))
    split = SplitStatistics()
    if explained is None:
        fakes = case_samples(random.Random(seed).sample(cases, n), extractor, shape, window)
    else:
        fakes = drawn(explained.samples(extractor, split), n, counted, seed)
    result = compare(
        fakes,
        case_samples(reference, extractor, shape, window),
        case_samples(floor[:n], extractor, shape, window),
        extractor.name,
        most=most,
        seed=seed,
    )
    return result if explained is None else with_split(result, split)


@dataclass(frozen=True)
class Explained:
    """What a folder of explanations holds, by a first look at each: how many counterfactuals, of whom, of what kind."""

    cases: tuple[Path, ...]
    n: int
    patients: tuple[str, ...]
    shape: tuple[int, ...]
    window: Window | None
    labels: Mapping[str, int]

    @classmethod
    def of(cls, folder: Path) -> "Explained":
        """Look into every finished case; CounterscanError for a folder without a counterfactual."""
        cases = tuple(finished_cases(folder))
        n, patients, one = 0, [], None
        for case in cases:
            found = Explanation.load(case)
            if found.counterfactual is not None and attempted(found).any():
                n, one = n + int(attempted(found).sum()), found
                patients.append(_explained_patient(found, case))
        if one is None:
            raise CounterscanError(f"{folder} holds no counterfactuals of images that did not answer as asked before")
        window = Window(*one.meta["window"]) if one.meta.get("window") else None
        asked = wanted_labels(one.target, one.meta["classes"])
        return cls(cases, n, tuple(patients), tuple(one.images.shape[1:]), window, asked)

    def samples(self, extractor: Extractor, split: SplitStatistics | None = None) -> Iterator[Sample]:
        """The features of the counterfactuals, case by case; `split` gets them with those of their own images."""
        for case in self.cases:
            found = Explanation.load(case)
            chosen = attempted(found)
            if found.counterfactual is None or not chosen.any():
                continue
            patients = (_explained_patient(found, case),) * int(chosen.sum())
            features = extractor(found.counterfactual[chosen])
            if split is not None:
                split.add(extractor(found.images[chosen]), features, patients)
            yield Sample(features, patients)


def case_samples(
    cases: Sequence[Case], extractor: Extractor, shape: tuple[int, ...], window: Window | None
) -> Iterator[Sample]:
    """The features of a manifest's images, a few at a time."""
    for start in range(0, len(cases), BATCH):
        part = cases[start : start + BATCH]
        yield Sample(extractor(load_batch(part, shape, window)), tuple(_patient(case) for case in part))


def drawn(samples: Iterable[Sample], n: int, of: int, seed: int = 0) -> Iterator[Sample]:
    """An even draw of `n` among the `of` features that come."""
    chosen, seen = set(random.Random(seed).sample(range(of), n)), 0
    for sample in samples:
        keep = [index for index in range(len(sample)) if seen + index in chosen]
        seen += len(sample)
        if keep:
            yield Sample(sample.features[keep], tuple(sample.patients[index] for index in keep))


def at_labels(manifest: Manifest, labels: Mapping[str, int]) -> list[Case]:
    """The cases whose labels are as given."""
    return [case for case in manifest.cases if all(case.labels.get(name) == value for name, value in labels.items())]


def wanted_labels(target: Target, classes: Sequence[str]) -> dict[str, int]:
    """What labels an image has that shows what the target asks for."""
    return {classes[index]: round(p) for index, p in target.wanted}


def with_split(result: Realism, split: SplitStatistics) -> Realism:
    """The figures with the split Frechet distance, whose floor is of real halves, where both halves have two images."""
    if min(one.n for one in (*split.real, *split.fake)) < 2:
        return result
    n, nan = sum(one.n for one in split.fake), float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Realism.short says it
        added = {name: Estimate(getattr(split, name), nan, nan, n) for name in ("distance", "floor")}
    key = "split_frechet_distance"
    return replace(
        result,
        figures={**result.figures, key: added["distance"]},
        floor={**result.floor, key: added["floor"]},
    )


def _explained(made: str | Path | Manifest) -> Explained | None:
    if isinstance(made, Manifest) or not (Path(made) / "run.json").exists():
        return None
    return Explained.of(Path(made))


def _place(made: str | Path | Manifest) -> Path:
    return made.root if isinstance(made, Manifest) else Path(made)


def _explained_patient(explanation: Explanation, folder: Path) -> str:
    case = explanation.meta.get("case", {})
    return case.get("patient") or case.get("name") or folder.name


def _patient(case: Case) -> str:
    return case.patient or case.name


def dealt(cases: Sequence[Case], count: int, seed: int) -> tuple[list[Case], list[Case]]:
    """Reference and floor, without a patient in common, both in an order drawn by `seed`."""
    by_patient: dict[str, list[Case]] = {}
    for case in cases:
        by_patient.setdefault(_patient(case), []).append(case)
    patients = sorted(by_patient)
    random.Random(seed).shuffle(patients)
    reference: list[Case] = []
    floor: list[Case] = []
    wanted = min(count, len(cases) // 2)
    for patient in patients:
        (floor if len(floor) < wanted else reference).extend(by_patient[patient])
    return reference, floor
