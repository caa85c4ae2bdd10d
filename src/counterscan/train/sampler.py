"""Draws pairs of batches for editors: images that show a finding, and images that are known not to."""

from collections.abc import Sequence

import torch
from torch import Tensor

from counterscan.data.batches import Images
from counterscan.errors import ManifestError
from counterscan.train.augment import augment

ALL_AT_ONCE = 0.6  # share of the batches that ask for every finding to be removed


class Sampler:
    """Answers `b` abnormal and `n` healthy images, and the condition `(b, k)`: 1 for each class to be removed.

    Abnormal images show at least one class of the condition, healthy ones are known to show none of them. Draws come
    from the `generator` of torch, so that they replay.
    """

    def __init__(self, images: Images, findings: Sequence[int], *, augmented: bool = False, flip: bool = False):
        self.images, self.findings = images, list(findings)
        self.augmented, self.flip = augmented, flip
        self._indices: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._split(tuple(self.findings))

    def __call__(self, b: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
        asked = self._asked()
        abnormal, healthy = self._split(asked)
        # one finding first, then an image with it: rare findings are seen as often as common ones
        wanted = [asked[int(i)] for i in torch.randint(len(asked), (b,))]
        shown = torch.cat([pick(abnormal[self.images.labels[abnormal, k] == 1], 1) for k in wanted])
        clear = pick(healthy, n)
        condition = torch.zeros(b, self.images.labels.shape[1])
        condition[:, list(asked)] = 1
        return self._load(shown), self._load(clear), condition

    def _asked(self) -> tuple[int, ...]:
        if len(self.findings) == 1 or float(torch.rand(())) < ALL_AT_ONCE:
            return tuple(self.findings)
        keep = torch.rand(len(self.findings)) < 0.4
        keep[int(torch.randint(len(self.findings), ()))] = True
        return tuple(k for k, kept in zip(self.findings, keep.tolist(), strict=True) if kept)

    def _split(self, asked: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        if asked not in self._indices:
            labels = self.images.labels[:, list(asked)]
            abnormal, healthy = torch.nonzero((labels == 1).any(1))[:, 0], torch.nonzero((labels == 0).all(1))[:, 0]
            missing = [k for k in asked if not (self.images.labels[abnormal, k] == 1).any()]
            if missing or not len(healthy):
                what = f"no image shows class number {missing[0]}" if missing else "no image is known to be healthy"
                raise ManifestError(f"{what} in the training part; an editor needs images with and without a finding")
            self._indices[asked] = abnormal, healthy
        return self._indices[asked]

    def _load(self, chosen: Tensor) -> Tensor:
        images = self.images.batch(chosen)
        return augment(images, flip=self.flip) if self.augmented else images


def pick(indices: Tensor, count: int) -> Tensor:
    """`count` of the `indices`, drawn with replacement."""
    return indices[torch.randint(len(indices), (count,))]
