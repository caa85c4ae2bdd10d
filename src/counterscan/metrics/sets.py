"""Two sets of images side by side, by every distance of sets at once, beside the same between real images alone."""

import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from counterscan.errors import CounterscanError
from counterscan.metrics.intervals import Estimate
from counterscan.metrics.kernel import BLOCK, KernelBlocks
from counterscan.metrics.neighbours import COVERAGE_K, RECALL_K, density_coverage, precision_recall
from counterscan.metrics.realism import FeatureStatistics, frechet_distance

MOST = 2000  # features a set that neighbours are looked for among, drawn evenly from all


@dataclass(frozen=True)
class Sample:
    """Features `(b, d)` of some images, and whose they are: `patients` `(b,)`, or none."""

    features: Tensor
    patients: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, part: slice) -> "Sample":
        return Sample(self.features[part], self.patients[part])


@dataclass(frozen=True)
class Realism:
    """Figures of made images against real ones, by name, and the `floor`: those of real images against the same.

    `extractor` names the features, `features` says how many; `n` made, `n_real` real and `n_floor` other real images
    were compared, `n_near` of each at most for what looks for neighbours. `short` says that there were no more images
    than features, so that the Frechet distance is mostly bias.
    """

    extractor: str
    figures: dict[str, Estimate]
    floor: dict[str, Estimate]
    n: int
    n_real: int
    n_floor: int
    features: int
    n_near: int
    short: bool

    def to_dict(self) -> dict[str, Any]:
        """The form of the results; each figure with its floor beside it."""
        counts = {key: getattr(self, key) for key in ("n", "n_real", "n_floor", "features", "n_near", "short")}
        pairs = {name: {**value.to_dict(), "floor": self._floor(name)} for name, value in self.figures.items()}
        return {"extractor": self.extractor, **counts, "metrics": pairs}

    def _floor(self, name: str) -> dict[str, float | int | None] | None:
        return self.floor[name].to_dict() if name in self.floor else None

    def __str__(self) -> str:
        lines = [
            f"{self.n} made images, and as a floor {self.n_floor} real ones, against {self.n_real} real ones",
            f"features: {self.features} of {self.extractor}",
            f"  {'':<24}{'made':<32}real",
        ]
        lines += [
            f"  {name:<24}{_shown(self.figures[name]):<32}{_shown(self.floor.get(name))}" for name in self.figures
        ]
        if self.short:
            lines.append("  no more images than features: the Frechet distances are mostly bias")
        return "\n".join(lines)


def compare(
    fake: Iterable[Sample],
    real: Iterable[Sample],
    floor: Iterable[Sample],
    extractor: str,
    *,
    most: int = MOST,
    block: int = BLOCK,
    seed: int = 0,
) -> Realism:
    """Compare `fake` with `real`, and `floor` (other real images, as many as there are made ones) with the same.

    Each set is read once, sample by sample, and all three side by side, so that memory does not grow with them: it
    holds `block` features of each, and `most` for precision, recall, density and coverage. Raises CounterscanError
    for a set of fewer than two images; what looks for neighbours is left out where there are no more than those. A
    floor of another size than `fake` is compared all the same, and counted.
    """
    sets = {"fake": _Set(most, seed), "real": _Set(most, seed), "floor": _Set(most, seed)}
    kernels = {"fake": KernelBlocks(), "floor": KernelBlocks()}
    streams = [blocks(samples, block) for samples in (fake, real, floor)]
    for parts in zip_longest(*streams):
        found = dict(zip(sets, parts, strict=True))
        for name, part in found.items():
            if part is not None:
                sets[name].add(part)
        for name, kernel in kernels.items():
            _pair(kernel, found["real"], found[name])
    figures, others = (_figures(sets["real"], sets[name], kernels[name]) for name in ("fake", "floor"))
    statistics = {name: one.statistics for name, one in sets.items()}
    return Realism(
        extractor,
        figures,
        others,
        n=statistics["fake"].n,
        n_real=statistics["real"].n,
        n_floor=statistics["floor"].n,
        features=len(statistics["real"].mean),
        n_near=min(most, max(len(one.kept) for one in sets.values())),
        short=any(one.short for one in statistics.values()),
    )


def blocks(samples: Iterable[Sample], size: int) -> Iterator[Sample]:
    """The same features in samples of `size`, the last one smaller."""
    held: list[Sample] = []
    for sample in samples:
        held.append(sample)
        while sum(map(len, held)) >= size:
            whole = _joined(held)
            yield whole[:size]
            held = [whole[size:]]
    rest = _joined(held)
    if len(rest):
        yield rest


@dataclass
class _Set:
    """What is kept of one set: its statistics, and an even draw of at most `most` features (Vitter, 1985)."""

    most: int
    seed: int
    statistics: FeatureStatistics = field(default_factory=FeatureStatistics)
    kept: list[tuple[Tensor, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def add(self, sample: Sample) -> None:
        seen = self.statistics.n
        self.statistics.add(sample.features)
        for index, (row, patient) in enumerate(zip(sample.features, _named(sample), strict=True), seen):
            if index < self.most:
                self.kept.append((row.clone(), patient))
            elif (place := self._random.randrange(index + 1)) < self.most:
                self.kept[place] = (row.clone(), patient)

    @property
    def near(self) -> tuple[Tensor, list[str]]:
        return torch.stack([row for row, _ in self.kept]), [patient for _, patient in self.kept]


def _figures(real: _Set, fake: _Set, kernel: KernelBlocks) -> dict[str, Estimate]:
    if not (real.kept and fake.kept):
        raise CounterscanError("there is no image on one side; a set is compared with a set")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Realism.short says it
        frechet = frechet_distance(real.statistics, fake.statistics)
    found = {
        "kernel_distance": kernel.result().estimate,
        "frechet_distance": Estimate(frechet, float("nan"), float("nan"), fake.statistics.n),
    }
    (first, own), (second, other) = real.near, fake.near
    for measure, k in ((precision_recall, RECALL_K), (density_coverage, COVERAGE_K)):
        if min(len(first), len(second)) > k:
            found |= measure(first, second, own, other)
    return found


def _pair(kernel: KernelBlocks, real: Sample | None, fake: Sample | None) -> None:
    if real is not None and fake is not None:
        kernel.add(real.features, fake.features, real.patients, fake.patients)


def _joined(held: Sequence[Sample]) -> Sample:
    if not held:
        return Sample(torch.zeros(0, 0))
    return Sample(torch.cat([one.features for one in held]), tuple(name for one in held for name in _named(one)))


def _named(sample: Sample) -> tuple[str, ...]:
    return sample.patients or ("",) * len(sample)


def _shown(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    interval = "" if estimate.low != estimate.low else f" ({estimate.low:.3g} to {estimate.high:.3g})"
    return f"{estimate.value:.4g}{interval}"
