"""One image a case for the checks: of a volume the slice that is furthest from the target."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from counterscan.core import Classifier, Target
from counterscan.data.batches import Images, labels_of, open_images
from counterscan.data.files import format_of_content
from counterscan.data.manifest import Case, Manifest
from counterscan.data.window import Window

FLAT = ("png", "jpeg")  # formats of a single slice
BATCH = 16

Shown = dict[str, tuple[int, int]]  # by the name of a volume: the number of its slice, counted from 1, and of how many


def images_of(
    manifest: Manifest, classifier: Classifier, target: Target, window: Window | None, done: Callable[[int], None]
) -> tuple[Images, Shown]:
    """The images of a manifest at the classifier's shape, and which slice stands for each volume.

    A volume is shown by what `explain` shows of it: the slice whose answer is furthest from `target`. Raises ScanError
    for the first case that cannot be read.
    """
    shape = tuple(classifier.card.shape)
    if not any(_may_be_volume(case) for case in manifest.cases):
        return open_images(manifest, shape, window, progress=done), {}
    store, shown = torch.empty(len(manifest), *shape, dtype=torch.float16), Shown()
    for index, case in enumerate(manifest.cases):
        slices = case.read().images(shape, window)
        place = _furthest(slices, classifier, target) if len(slices) > 1 else 0
        store[index] = slices[place]
        if len(slices) > 1:
            shown[case.name] = (place + 1, len(slices))
        done(index + 1)
    return Images(manifest, shape, window, store, labels_of(manifest), Path()), shown


def told_of(shown: Shown, names: tuple[str, ...]) -> str:
    """In one line which slices stand for the volumes called `names`; empty where there are no volumes."""
    if not shown:
        return ""
    each = ", ".join(f"{name} {shown[name][0]} of {shown[name][1]}" for name in names if name in shown)
    return f"Of {len(shown)} volumes the slice furthest from the target was taken. Those explained: {each or 'none'}."


def _may_be_volume(case: Case) -> bool:
    return bool(case.files) or case.path.is_dir() or format_of_content(case.path) not in FLAT


@torch.no_grad()
def _furthest(slices: Tensor, classifier: Classifier, target: Target) -> int:
    scores = [target.score(classifier(chunk).float()) for chunk in slices.split(BATCH)]
    return int(torch.cat(scores).argmin())
