"""What is asked of a batch job, and what became of it."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from counterscan.classifiers.wrappers import Fitted
from counterscan.core import Classifier, Target
from counterscan.data.manifest import Manifest
from counterscan.data.window import Window
from counterscan.engine.sharding import Shard
from counterscan.explainers.base import Explainer
from counterscan.metrics.masks import MaskRule


@dataclass(frozen=True)
class Job:
    """What is asked for: every case of `manifest` explained into the folder `out`.

    `rule` makes masks of maps (None: the explainer's own, see `MaskRule.of`); `window` overrides what the cards and the
    scans say; `batch` slices go through the explainer at once; `masks_only` writes masks and nothing else. `names` adds
    what a person called things (classifier, prior, manifest, command) to run.json. `again` makes the same job in
    another process, which has models of its own; without it the job itself is pickled.
    """

    manifest: Manifest
    classifier: Classifier
    explainer: Explainer
    target: Target
    out: Path
    judge: Classifier | None = None
    window: Window | None = None
    rule: MaskRule | None = None
    seed: int = 0
    batch: int = 8
    masks_only: bool = False
    names: dict[str, str] = field(default_factory=dict)
    again: Callable[[], "Job"] | None = field(default=None, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Where the work is done: the prior's shape where the explainer has a prior, else the classifier's."""
        priors = [getattr(self.explainer, item.name) for item in fields(self.explainer)]  # type: ignore[arg-type]
        shapes = [prior.card.shape for prior in priors if hasattr(prior, "card") and prior.card.kind != "classifier"]
        return tuple(shapes[0] if shapes else self.classifier.card.shape)

    @property
    def asked(self) -> Classifier:
        """The classifier for images of the working shape."""
        same = tuple(self.classifier.card.shape) == self.shape
        return self.classifier if same else Fitted(self.classifier, self.shape)

    @property
    def wanted(self) -> Window | None:
        """The window that the cards ask for, where they ask for one."""
        return Window(*self.classifier.card.window) if self.classifier.card.window else None

    def describe(self) -> dict[str, Any]:
        """The facts that run.json holds."""
        card = self.classifier.card
        return {
            "command": self.names.get("command", ""),
            "kind": "segment" if self.masks_only else "explain",
            "explainer": repr(self.explainer),
            "classifier": self.names.get("classifier", card.name),
            "classifier_sha256": card.sha256,
            "classes": list(card.classes),
            "prior": self.names.get("prior", ""),
            "target": self.target.describe(card),
            "judge": self.names.get("judge", ""),
            "manifest": self.names.get("manifest", str(self.manifest.root)),
            "dataset": self.names.get("dataset", ""),
            "selection": self.names.get("selection", ""),
            "cases": len(self.manifest.cases),
            "window": None if self.window is None else [self.window.low, self.window.high, self.window.unit],
            "mask_rule": None if self.rule is None else self.rule.to_dict(),
            "working_shape": list(self.shape),
            "seed": self.seed,
            "batch": self.batch,
            "version": metadata.version("counterscan"),
        }


@dataclass(frozen=True)
class Outcome:
    """What became of a job: a row per finished case (see `outputs.row`), and (path, name, error) per failed one.

    Of a part of a job they are those of that part (`partly`) while others are `missing`, or while another one writes
    the tables; who finishes last gets all.
    """

    rows: list[dict[str, Any]]
    failed: list[tuple[str, str, str]]
    missing: tuple[Shard, ...] = ()
    partly: bool = False

    @property
    def already(self) -> list[str]:
        """Names of the cases whose answer was the target before anything was done."""
        return [row["name"] for row in self.rows if row["already"]]

    @property
    def found(self) -> int:
        """How many of the others reached it."""
        return sum(bool(row["found"]) and not row["already"] for row in self.rows)
