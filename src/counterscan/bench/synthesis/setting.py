"""What every part of the evaluation works with: both archives, the judge's features, the size, and the folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterscan.bench.suite import Asked
from counterscan.bench.synthesis.archives import Archive, both
from counterscan.classifiers.features import Extractor
from counterscan.classifiers.load import load_classifier
from counterscan.core import Classifier
from counterscan.data.batches import load_batch
from counterscan.data.files import written_whole
from counterscan.data.fitting import fit_images
from counterscan.data.manifest import Case
from counterscan.data.window import Window
from counterscan.errors import CounterscanError, WeightsError
from counterscan.progress import progress
from counterscan.train.parts import parts

BATCH = 32  # images that are loaded and shown to the judge at once
COARSEST = 16  # pixels: what is coarser holds nothing of a lesion
QUICK_IMAGES = 200  # of each archive


@dataclass(frozen=True)
class Setting:
    """The `made` and the `real` archive, the `judge` in whose features they are compared, `side` in pixels, `out`."""

    made: Archive
    real: Archive
    judge: Classifier | None
    side: int
    out: Path
    fold: int = 0
    seed: int = 0
    command: str = ""
    quick: bool = False
    _kept: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, asked: Asked, real: Path, *, judged: bool) -> "Setting":
        """Open both archives and, where features are needed (`judged`), the judge; an error before anything is made."""
        _refuse(asked)
        made, true = both(Path(asked.data), real, asked.dataset, asked.n or (QUICK_IMAGES if asked.quick else 0))
        place = asked.places
        if judged and not place.there("judge"):
            raise WeightsError(
                "name the network in whose features the sets are compared, best one that neither the generator nor the "
                "labels come from: --model judge=chest/judge"
            )
        judge = load_classifier(place.place("judge")) if place.there("judge") else None
        side = asked.size or min(archive.cases[0].read().pixels.shape[-1] for archive in (made, true))
        fold = int(asked.folds) if asked.folds else 0
        return cls(made, true, judge, side, asked.out, fold, asked.seed, asked.command, asked.quick)

    @property
    def key(self) -> list[Any]:
        """What decides a result."""
        weights = self.judge.card.sha256 if self.judge else ""
        return [self.made.key, self.real.key, weights, self.side, self.fold, self.seed]

    @property
    def extractor(self) -> Extractor:
        """The judge's features."""
        assert self.judge is not None
        return Extractor.of(self.judge)

    @cached_property
    def parts(self) -> dict[str, list[int]]:
        """The real images that train, select and measure, by index."""
        place = {case.path: index for index, case in enumerate(self.real.cases)}
        found = parts(self.real.manifest, fold=self.fold)
        return {name: [place[case.path] for case in part.cases] for name, part in found.items()}

    @property
    def sides(self) -> list[int]:
        """The resolutions that are compared: the images' own, its half, and so on."""
        found = [self.side]
        while found[-1] // 2 >= COARSEST:
            found.append(found[-1] // 2)
        return found

    def images(self, cases: Sequence[Case]) -> Tensor:
        """Images `(b, c, side, side)` in [-1, 1], with the judge's channels where there is one."""
        card = self.judge.card if self.judge else None
        window = Window(*card.window) if card and card.window else None
        channels = card.shape[0] if card else cases[0].read().pixels.shape[1]
        return load_batch(cases, (channels, self.side, self.side), window)

    def features(self, archive: Archive, side: int) -> Tensor:
        """The judge's features `(n, d)` of all images when they are brought to `side` pixels, mapped from a file.

        They are taken once for all resolutions, a batch at a time, and kept while the archive and the judge are the
        same.
        """
        file = self.out / "features" / f"{archive.name}-{archive.key}-{self.extractor_key}-{side}.npy"
        if str(file) not in self._kept:
            if not file.exists():
                self._extract(archive)
            self._kept[str(file)] = torch.from_numpy(np.load(file, mmap_mode="c"))
        return self._kept[str(file)]

    @property
    def extractor_key(self) -> str:
        """Which judge at which size, in a file's name."""
        assert self.judge is not None
        return f"{(self.judge.card.sha256 or self.judge.card.name.replace('/', '-'))[:12]}-{self.side}"

    def _extract(self, archive: Archive) -> None:
        store: dict[int, np.memmap] = {}
        extractor, folder = self.extractor, self.out / "features"
        folder.mkdir(parents=True, exist_ok=True)
        with progress(f"features, {archive.name}", len(archive)) as done:
            for start in range(0, len(archive), BATCH):
                images = self.images(archive.cases[start : start + BATCH])
                for side in self.sides:
                    rows = extractor(fit_images(images, (images.shape[1], side, side))).numpy()
                    if side not in store:
                        shape = (len(archive), rows.shape[1])
                        store[side] = np.lib.format.open_memmap(folder / f"{side}.part", "w+", np.float32, shape)
                    store[side][start : start + len(rows)] = rows
                done(start + len(images))
        for side, rows in store.items():
            rows.flush()
            with written_whole(folder / f"{archive.name}-{archive.key}-{self.extractor_key}-{side}.npy") as part:
                (folder / f"{side}.part").rename(part)


def _refuse(asked: Asked) -> None:
    """Words that other suites have and this one does not."""
    if not Path(asked.data).exists():
        raise CounterscanError(f"{asked.data!r} is no manifest; name the made archive's folder, or its labels.csv")
    if asked.target:
        raise CounterscanError("the suite synthesis asks for no target; leave --target out")
    if asked.folds and not asked.folds.isdigit():
        raise CounterscanError(f"cannot read --folds {asked.folds!r}; name the one real fold that is measured on")
