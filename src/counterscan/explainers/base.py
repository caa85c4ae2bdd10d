"""The one door to every explainer: checks, seed, counted queries, measured answers; `run` is the paper and no more."""

import time
from abc import ABC, abstractmethod
from importlib import metadata
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from counterscan.classifiers.wrappers import Counting
from counterscan.core import Classifier, Explanation, Finding, Target
from counterscan.errors import NeedsGradients, ScanError


class Explainer(ABC):
    """A frozen dataclass of settings and priors. `run` gets checked images and a counted classifier."""

    needs_gradients: ClassVar[bool] = False

    @final
    def __call__(self, classifier: Classifier, images: Tensor, target: Target, *, seed: int = 0) -> Explanation:
        """Explain `images` `(b, c, *spatial)` in [-1, 1]; the same seed gives the same answer.

        Raises ScanError for images that are not such a batch, NeedsGradients for a black box where gradients are
        needed. Global random state is left as it was.
        """
        check_images(images)
        if self.needs_gradients and not classifier.differentiable:
            raise NeedsGradients(
                f"{type(self).__name__} needs gradients, which {classifier.card.name} does not give; "
                "use one that works on black boxes: rise, inpainting"
            )
        counted = Counting(classifier)
        start = time.perf_counter()
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            answer = self.explain(counted, images, target)
        meta = self._meta(counted, seed, time.perf_counter() - start)
        if cases := answer.pop("cases", ()):
            meta["cases"] = [dict(case) for case in cases]
        return Explanation(**answer, images=images, target=target, meta=meta)

    @abstractmethod
    def explain(self, classifier: Classifier, images: Tensor, target: Target) -> dict[str, Any]:
        """The family's own fields of the Explanation; final in the two families below."""

    @abstractmethod
    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Any:
        """The paper, and nothing else."""

    def _meta(self, counted: Counting, seed: int, seconds: float) -> dict[str, Any]:
        return {
            "explainer": repr(self),
            "classifier": counted.card.name,
            "classes": list(counted.card.classes),
            "seed": seed,
            "queries": counted.queries,
            "seconds": seconds,
            "version": metadata.version("counterscan"),
        }


class CounterfactualExplainer(Explainer):
    """Finds images that the classifier answers as asked; `run` returns them, or a Finding."""

    @final
    def explain(self, classifier: Classifier, images: Tensor, target: Target) -> dict[str, Any]:
        """Measure the answers before and after, and take the map from the change."""
        before = _answers(classifier, images)
        found = self.run(classifier, images, target)
        found = found if isinstance(found, Finding) else Finding(found)
        counterfactual = found.images.detach().clamp(-1, 1).to(images.dtype)
        after = _answers(classifier, counterfactual)
        reference = images if found.reconstruction is None else found.reconstruction
        changed = (counterfactual - reference).abs().mean(1, keepdim=True) / 2
        return {
            "counterfactual": counterfactual,
            "reconstruction": found.reconstruction,
            "path": found.path,
            "deviation": found.deviation,
            "heatmap": changed if found.heatmap is None else found.heatmap.detach().float(),
            "before": before,
            "after": after,
            "found": target.reached(after),
            "cases": found.cases,
        }


class AttributionExplainer(Explainer):
    """Says where the evidence against the target lies; `run` returns a map `(b, 1, *spatial)`, negative parts cut."""

    @final
    def explain(self, classifier: Classifier, images: Tensor, target: Target) -> dict[str, Any]:
        """Measure the answer; an attribution has no counterfactual, so it finds none."""
        asked = _Asked(classifier, images)
        heatmap = self.run(asked, images, target).detach().clamp_min(0)
        before = _answers(classifier, images) if asked.answer is None else asked.answer
        return {"heatmap": heatmap, "before": before, "found": torch.zeros(len(images), dtype=torch.bool)}


class _Asked:
    """Keeps what a classifier answered first for `images` themselves, so that it need not be asked that again."""

    def __init__(self, classifier: Classifier, images: Tensor):
        self.classifier = classifier
        self.card = classifier.card
        self.differentiable = classifier.differentiable
        self.answer: Tensor | None = None
        self._images = images

    def __call__(self, images: Tensor) -> Tensor:
        same = images.data_ptr() == self._images.data_ptr() and images.shape == self._images.shape
        answer = self.classifier(images)
        if same and self.answer is None:
            self.answer = answer.detach().float()
        return answer


def check_images(images: Tensor) -> None:
    """Refuse what is not a finite float32 batch `(b, c, *spatial)` in [-1, 1]."""
    if images.ndim < 4 or images.dtype != torch.float32:
        raise ScanError(f"expected float32 images (b, c, *spatial), got {images.dtype} of shape {tuple(images.shape)}")
    low, high = float(images.min()), float(images.max())
    if not (low >= -1.0001 and high <= 1.0001):  # written so that NaN is refused too
        raise ScanError(f"expected images in [-1, 1], got [{low:g}, {high:g}]; see counterscan.data.window")


@torch.no_grad()
def _answers(classifier: Classifier, images: Tensor) -> Tensor:
    return classifier(images).detach().float()
