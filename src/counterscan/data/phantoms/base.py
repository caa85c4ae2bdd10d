"""What a phantom is, and how many of them are drawn: each one replays from `(kind, seed, index, size)`."""

import importlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from counterscan.errors import CounterscanError, did_you_mean

# new ones at the end: the place in this list is part of every seed
KINDS = ("chest", "abdomen", "fundus", "oct", "gaussian")


@dataclass(frozen=True)
class Phantom:
    """A procedural scan whose healthy twin is known.

    `image` and `twin` are float32 in the units of the kind's `WINDOW`, `(size, size)` or in colour `(3, size, size)`;
    they are equal outside the lesions' influence, noise included. `masks` holds one boolean array `(size, size)` per
    finding that is present, benign confounders too, and may hold the parts of a finding; `disease` names the findings
    that the twin lacks.
    """

    image: np.ndarray
    twin: np.ndarray
    masks: dict[str, np.ndarray]
    labels: dict[str, int]
    facts: dict[str, str | float]
    report: str
    disease: tuple[str, ...]

    @property
    def mask(self) -> np.ndarray:
        """The union `(size, size)` of the lesions that the twin lacks."""
        union = np.zeros(self.image.shape[-2:], bool)
        for name in self.disease:
            if name in self.masks:
                union |= self.masks[name]
        return union


def module(kind: str):
    """The module that draws `kind`, with `CLASSES`, `CONFOUNDERS`, `WINDOW`, `COLOUR`, `MODALITY`, `MIRROR` and `draw`.

    Where it has `NORMAL`, each phantom shows one of the classes, and that one means healthy. Where it has `DISEASED`,
    that share of a series carries disease, not half of it. Where it has `OUTCOMES`, some facts can be learned as
    labels, too, and where it has `GRADED`, a fact that has one of these values can be learned instead of the labels;
    an archive has a dataset file of that name for it.
    """
    if kind not in KINDS:
        raise CounterscanError(f"no phantom is called {kind!r}{did_you_mean(kind, KINDS)}")
    return importlib.import_module(f"counterscan.data.phantoms.{kind}")


def draw(kind: str, index: int, *, seed: int = 0, size: int = 128, findings: Sequence[str] | None = None) -> Phantom:
    """Draw phantom number `index` of the series `seed`; half of a series carries disease.

    `findings` limits the disease to those named: an image then carries one of them or none.
    """
    drawer = module(kind)
    if not 64 <= size <= 512:
        raise CounterscanError(f"phantoms are drawn at 64 to 512 px, not {size}")
    unknown = [name for name in findings or () if name not in drawer.CLASSES]
    if unknown:
        raise CounterscanError(
            f"{kind} phantoms have no finding {unknown[0]!r}{did_you_mean(unknown[0], drawer.CLASSES)}"
        )
    rng = np.random.default_rng([seed, index, KINDS.index(kind)])
    return drawer.draw(rng, size, _present(rng, drawer, findings))


def _present(rng: np.random.Generator, drawer, findings: Sequence[str] | None) -> tuple[str, ...]:
    """Choose what the next phantom shows: disease in half of most kinds, confounders in half of all, independently."""
    benign = (*drawer.CONFOUNDERS, normal_of(drawer))
    disease = [name for name in findings or drawer.CLASSES if name not in benign]
    several = 1 if findings or normal_of(drawer) else int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
    diseased = getattr(drawer, "DISEASED", 0.5)
    chosen = list(rng.permutation(disease)[:several]) if disease and rng.random() < diseased else []
    chosen += [name for name in drawer.CONFOUNDERS if rng.random() < 0.5]
    return tuple(str(name) for name in chosen)


def normal_of(drawer) -> str:
    """The class that means healthy of a kind whose phantoms show one class each; nothing of other kinds."""
    return getattr(drawer, "NORMAL", "")


def stream(
    kind: str,
    n: int,
    *,
    seed: int = 0,
    size: int = 128,
    findings: Sequence[str] | None = None,
    start: int = 0,
    workers: int = 1,
) -> Iterator[Phantom]:
    """Yield phantoms `start` to `n - 1` of a series in order, drawn by `workers` processes; memory does not grow."""
    if workers <= 1:
        yield from (draw(kind, index, seed=seed, size=size, findings=findings) for index in range(start, n))
        return
    with ProcessPoolExecutor(workers) as pool:
        for low in range(start, n, 512):
            indices = range(low, min(low + 512, n))
            yield from pool.map(_draw, indices, repeat((kind, seed, size, findings)), chunksize=16)


def _draw(index: int, series: tuple) -> Phantom:
    kind, seed, size, findings = series
    return draw(kind, index, seed=seed, size=size, findings=findings)
