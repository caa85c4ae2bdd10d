"""Is it still the same eye? A verifier that knows anatomy, whatever the disease, compares image and counterfactual.

As in the study of identity in OCT by Posada et al. (2026): agreement at a small rate of false acceptance. Changes: the
verifier learned from phantoms with healthy twins, and the rate that true twins reach stands beside every figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from counterscan.core import Card, Explanation
from counterscan.data.fitting import fit_images
from counterscan.errors import WeightsError
from counterscan.metrics.intervals import DRAWS, Estimate, bootstrap, interval, patient_groups, resamples
from counterscan.metrics.truth import Truth, undefined, where
from counterscan.metrics.validity import attempted
from counterscan.nets.blocks import channels_last, fast_layout
from counterscan.weights.store import load_weights

BATCH = 32
FALSE = 0.001  # share of pairs of different patients that a card's threshold accepts
RATES = (0.01, FALSE)  # of false acceptance, at which a card says how many true pairs are accepted


@dataclass(frozen=True)
class Verifier:
    """Says how alike the anatomy of two images is: `module` maps images to rows of length one.

    Its card's settings hold the `threshold`. Images of other sizes are fitted to the card's shape.
    """

    module: nn.Module = field(repr=False)
    card: Card

    @property
    def threshold(self) -> float:
        """The cosine similarity from which two images count as of the same patient."""
        return float(self.card.settings["threshold"])

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Rows `(b, d)` of length one for `images` `(b, c, h, w)` in [-1, 1]."""
        module = fast_layout(self.module)
        parts = [channels_last(fit_images(part, self.card.shape)) for part in images.split(BATCH)]
        return torch.cat([module(part) for part in parts])

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        """Cosine similarity `(b,)` of images with images, in [-1, 1]."""
        return (self(first) * self(second)).sum(1)


def load_verifier(name: str | Path) -> Verifier:
    """The verifier of a shipped name (`fundus/verifier`) or of a folder that `counterscan train verifier` wrote.

    Raises WeightsError where there is none, or where its card names no threshold.
    """
    module, card = load_weights(name, kind="verifier")
    if "threshold" not in card.settings:
        raise WeightsError(f"the card of {name} names no threshold in its settings; train it to its end")
    return Verifier(module, card)


def identity(explanation: Explanation, verifier: Verifier, truth: Truth | None = None) -> dict[str, Tensor]:
    """Three figures of each image `(b,)`, nan for those already there and for explanations without counterfactuals.

    `identity_similarity` is the cosine similarity of image and counterfactual, `identity_kept` 1 where the verifier
    takes both for the same patient, `twin_identity_kept` 1 where it does so for the image and a true twin that differs.
    """
    names = ("identity_similarity", "identity_kept", "twin_identity_kept")
    if explanation.counterfactual is None:
        return dict.fromkeys(names, undefined(explanation))
    asked = attempted(explanation)
    alike = verifier.similarity(explanation.images, explanation.counterfactual)
    found = [where(asked, alike), where(asked, alike >= verifier.threshold), undefined(explanation)]
    if truth is not None and truth.twin is not None:
        differs = (truth.twin != explanation.images).flatten(1).any(1)
        found[2] = where(asked & differs, verifier.similarity(explanation.images, truth.twin) >= verifier.threshold)
    return dict(zip(names, found, strict=True))


def promise(card: Card) -> dict[str, Any]:
    """What a figure of identity is read beside: whose it is, the threshold, and the rate that true pairs reach."""
    known: dict[str, Any] = {
        key: card.metrics[key] for key in ("pairs", "accepted", "false_accepted") if key in card.metrics
    }
    return {"name": card.name, "sha256": card.sha256, "threshold": card.settings["threshold"], **known}


@dataclass(frozen=True)
class Pairs:
    """Similarities of `true` pairs `(n,)`, of the `patients` `(n,)`, and of `false` ones `(m,)`.

    Intervals are by the patients of the true pairs; the false ones, of which there are many more, are held fixed.
    """

    true: np.ndarray
    false: np.ndarray
    patients: Sequence[str] = ()

    @classmethod
    def of(cls, first: Tensor, second: Tensor, patients: Sequence[str], true: Tensor | None = None) -> "Pairs":
        """From rows `(n, d)` of length one: those of one index are true pairs (or the `true` of them `(n,)` bool).

        False pairs are all those of different patients.
        """
        alike = (first @ second.T).numpy()
        whose = patient_groups(patients, len(first))
        kept = np.ones(len(first), bool) if true is None else true.numpy()
        named = [name for name, one in zip(patients, kept, strict=True) if one]
        return cls(np.diagonal(alike)[kept], alike[whose[:, None] != whose], named)

    def threshold(self, rate: float = FALSE) -> float:
        """The similarity that the share `rate` of the false pairs reaches."""
        return float(np.quantile(self.false, 1 - rate))

    def figures(self) -> dict[str, Estimate]:
        """`eer` (equal error rate), `auc`, and the share of true pairs accepted at each of the `RATES`."""
        needed = self._needed()
        accepted = {f"accepted_at_{rate:g}": bootstrap(needed <= rate, self.patients) for rate in RATES}
        return {"eer": self._equal_error(needed), "auc": bootstrap(1 - needed, self.patients), **accepted}

    def _needed(self) -> np.ndarray:
        """The rate of false acceptance `(n,)` at which each true pair is just accepted; ties count half."""
        ordered = np.sort(self.false)
        below = np.searchsorted(ordered, self.true, "left") + np.searchsorted(ordered, self.true, "right")
        return np.asarray(1 - below / 2 / len(ordered))

    def _equal_error(self, needed: np.ndarray) -> Estimate:
        groups = np.unique(patient_groups(self.patients, len(needed)), return_inverse=True)[1]
        order = np.argsort(needed)
        drawn = [
            _crossing(weights[:, groups[order]], needed[order])
            for weights in resamples(int(groups.max()) + 1, DRAWS, seed=0)
        ]
        return interval(
            float(_crossing(np.ones((1, len(needed))), needed[order])[0]), np.concatenate(drawn), len(needed)
        )


def _crossing(weights: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Where the share of true pairs refused is that of false ones accepted; `needed` `(n,)` rises.

    Until a pair is accepted as many are refused as before it, however far off it is: they meet there or at its step.
    """
    accepted = weights.cumsum(1) / weights.sum(1, keepdims=True)
    first = (1 - accepted <= needed).argmax(1)
    rows = np.arange(len(accepted))
    before = 1 - accepted[rows, first] + weights[rows, first] / weights.sum(1)
    return np.minimum(np.clip(before, 0, 1), needed[first])


def beside(kept: Mapping[str, Any], verifier: Mapping[str, Any]) -> str:
    """The share of counterfactuals that kept their identity, beside what true pairs reach: a line for a person."""
    reached = verifier.get("accepted")
    told = f"{verifier['pairs']} reach {reached['value']:.1%}" if reached else "its card tells nothing of true pairs"
    return f"{kept['value']:.1%} keep their identity; on the test part of {verifier['name']} {told}"
