"""One part of a suite with its models loaded: what every method of the table is run and measured with."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterscan.bench.methods import Method
from counterscan.bench.parts import Models, Part
from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.wrappers import Fitted
from counterscan.core import Classifier, Target
from counterscan.data.files import write_whole
from counterscan.data.manifest import Manifest
from counterscan.data.window import Window
from counterscan.engine import Job, run
from counterscan.explainers.base import Explainer
from counterscan.explainers.build import build_explainer
from counterscan.jobs import check_fit
from counterscan.metrics.masks import MaskRule

BATCH = 8


@dataclass(frozen=True)
class Setting:
    """Where one part is measured: its images, its classifier and judge, the target, and the folder `out`."""

    part: Part
    models: Models
    classifier: Classifier
    judge: Classifier | None
    target: Target
    out: Path
    command: str = ""
    seed: int = 0

    @classmethod
    def load(cls, part: Part, models: Models, target: str, out: Path, command: str = "", seed: int = 0) -> "Setting":
        """Load the part's classifier and, where there is one, its judge; without `target` disease is to go."""
        classifier = load_classifier(models.place("classifier", part.fold))
        judge = load_classifier(models.place("judge", part.fold)) if models.there("judge", part.fold) else None
        wanted = Target.parse(target or healthy(part.test), classifier.card)
        return cls(part, models, classifier, judge, wanted, out / part.name, command, seed)

    def key(self, explainer: Explainer) -> list[Any]:
        """What decides a result: weights, explainer, target, seed and how many images."""
        weights = [value.card.sha256 for value in vars(explainer).values() if hasattr(value, "card")]
        counts = [len(self.part.validation), len(self.part.test)]
        return [self.classifier.card.sha256, *weights, repr(explainer), self.target.wanted, self.seed, counts]

    def explainer(self, method: Method, **settings: Any) -> Explainer:
        """The method's explainer with its prior and its settings; WeightsError for a prior that does not fit."""
        prior = self.models.place(method.prior, self.part.fold) if method.prior else None
        explainer = build_explainer(method.explainer, prior=prior, **method.settings, **settings)
        check_fit(explainer, self.classifier.card, self.target)
        return explainer

    @property
    def window(self) -> Window | None:
        """What the classifier's card asks images to be shown in."""
        return Window(*self.classifier.card.window) if self.classifier.card.window else None

    def shape(self, explainer: Explainer) -> tuple[int, ...]:
        """Where the explainer works."""
        return self.job(explainer, self.part.test, self.out).shape

    def explain(self, explainer: Explainer, manifest: Manifest, out: Path, rule: MaskRule | None = None) -> Path:
        """Explain the images of `manifest` into `out`, or go on there; the folder. A finished one is left alone."""
        key = [self.key(explainer), [case.name for case in manifest.cases], rule.to_dict() if rule else None]
        mark = out.with_name(f"{out.name}-done.json")
        if not out.exists():
            mark.unlink(missing_ok=True)
        kept(mark, key, lambda: len(run(self.job(explainer, manifest, out, rule)).failed))
        return out

    def job(self, explainer: Explainer, manifest: Manifest, out: Path, rule: MaskRule | None = None) -> Job:
        """What is run; a prior that was trained anew under the same name is another job."""
        weights = [f"{it.card.name} {it.card.sha256[:12]}" for it in vars(explainer).values() if hasattr(it, "card")]
        names = {
            "classifier": self.models.place("classifier", self.part.fold),
            "prior": " ".join(weights),
            "manifest": str(manifest.root),
            "command": self.command,
        }
        return Job(
            manifest, self.classifier, explainer, self.target, out, rule=rule, seed=self.seed, batch=BATCH, names=names
        )


def healthy(manifest: Manifest) -> str:
    """The target that asks for every disease of a manifest to go."""
    if manifest.exclusive:
        return "normal"
    return ",".join(f"{name}=0" for name in manifest.classes if name not in manifest.benign)


def fitted(classifier: Classifier, shape: tuple[int, ...]) -> Classifier:
    """The classifier for images of another shape than its own."""
    return classifier if tuple(classifier.card.shape) == tuple(shape) else Fitted(classifier, shape)


def kept(path: Path, key: Any, make: Callable[[], Any]) -> Any:
    """What `make()` answers, from the JSON file `path` if that was made for the same `key`, else written there."""
    key = json.loads(json.dumps(key))
    if path.exists():
        found = json.loads(path.read_text())
        if found["key"] == key:
            return found["value"]
    value = make()
    write_whole(path, (json.dumps({"key": key, "value": value}) + "\n").encode())
    return value
