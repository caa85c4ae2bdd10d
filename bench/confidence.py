"""Is the confidence that `explain` and `segment` tell of an object what it says? Fitted on validation, measured fresh.

    python bench/confidence.py abdomen chest [--n 300] [--seed 9] [--json FILE]
    python bench/confidence.py abdomen --fit runs/abdomen-7 [--write]

Explains fresh phantoms by the shipped inpainting, makes masks by the rule of its card, and prints how many objects of
each bin of confidence meet a true lesion, with 95 % intervals by patient. `--fit` first fits the rule's confidence anew
on the validation images of an archive (of the seed that the editor was trained on), all else of the rule as it is;
`--write` puts it into the card.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from counterscan.classifiers.load import load_classifier
from counterscan.core import Explanation, Target
from counterscan.data.batches import open_images
from counterscan.data.manifest import read_manifest
from counterscan.data.phantoms.base import module, stream
from counterscan.data.window import Window
from counterscan.explainers.inpainting import Inpainting
from counterscan.metrics.calibration import with_confidence
from counterscan.metrics.confidence import Objects
from counterscan.metrics.masks import MaskRule
from counterscan.metrics.truth import Truth
from counterscan.metrics.validity import attempted
from counterscan.priors.editor import load_editor
from counterscan.registry import SHIPPED

TARGETS = {"abdomen": "tumour=0", "chest": "normal"}
BATCH = 16


class Method:
    """The shipped classifier and editor of a kind of phantom."""

    def __init__(self, kind: str):
        self.kind, self.classifier = kind, load_classifier(f"{kind}/classifier")
        self.editor = load_editor(f"{kind}/inpainting")
        self.target = Target.parse(TARGETS[kind], self.classifier.card)
        self.rule = MaskRule.from_dict(self.editor.card.mask_rule)

    def explained(self, images: Tensor) -> Explanation:
        return Inpainting(self.editor)(self.classifier, images, self.target)


def fitted(method: Method, archive: Path) -> MaskRule:
    """The rule with its confidence as the validation images of `archive` have it."""
    manifest, card = read_manifest(archive).select(split="validation"), method.editor.card
    window = Window(*card.window) if card.window else None
    images, maps = open_images(manifest, card.shape, window), []
    for chosen in torch.arange(len(manifest)).split(BATCH):
        found = method.explained(images.batch(chosen))
        maps.append(found.heatmap * attempted(found).view(-1, 1, 1, 1))
    return with_confidence(method.rule, torch.cat(maps), images.masks(torch.arange(len(manifest))))


def fresh(method: Method, rule: MaskRule, n: int, seed: int) -> Objects:
    """The objects that the rule makes of `n` phantoms."""
    window, objects = Window(*module(method.kind).WINDOW), Objects()
    for start, drawn in enumerate(_batches(stream(method.kind, n, seed=seed))):
        images = torch.from_numpy(window.to_unit(np.stack([one.image for one in drawn]))).float()[:, None]
        found = method.explained(images)
        found = replace(found, meta={**found.meta, "mask_rule": rule.to_dict()})
        masks = torch.from_numpy(np.stack([one.mask for one in drawn]))[:, None]
        objects.add(found, Truth(masks, patients=[str(start * BATCH + index) for index in range(len(drawn))]))
    return objects


def _batches(drawn) -> Iterator[list]:
    held = []
    for one in drawn:
        held.append(one)
        if len(held) == BATCH:
            yield held
            held = []
    if held:
        yield held


def told(kind: str, rule: MaskRule, objects: Objects) -> dict:
    """Print the table of a kind, and answer it for JSON."""
    error = objects.error()
    print(f"{kind}: {rule.describe()}")
    print(f"  {len(objects.hits)} objects, {np.mean(objects.hits):.3f} meet a lesion, confidence off by {error}")
    rows = []
    for low, high, confidence, share in objects.table():
        print(f"  {low:.2f} to {high:.2f}   mean confidence {confidence:.3f}   meet a lesion {share}")
        rows.append({"low": low, "high": high, "confidence": round(confidence, 4), "hits": share.to_dict()})
    return {"mask_rule": rule.to_dict(), "confidence_error": error.to_dict(), "bins": rows}


def put(kind: str, rule: MaskRule) -> None:
    """Write the rule into the shipped card of a kind's editor."""
    card = SHIPPED / kind / "inpainting" / "card.json"
    facts = json.loads(card.read_text()) | {"mask_rule": rule.to_dict()}
    card.write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", choices=TARGETS)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--fit", type=Path, help="an archive of phantoms; only for one kind")
    parser.add_argument("--write", action="store_true", help="put the confidence fitted into the shipped card")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    for kind in arguments.kinds:
        method = Method(kind)
        rule = fitted(method, arguments.fit) if arguments.fit else method.rule
        if arguments.write:
            put(kind, rule)
        results[kind] = told(kind, rule, fresh(method, rule, arguments.n, arguments.seed))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
