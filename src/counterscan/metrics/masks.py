"""How a heat map becomes a mask: a rule that is chosen once, written down, and the same for every image."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from scipy import ndimage
from scipy.special import expit
from torch import Tensor

from counterscan.core import Explanation

REFERENCE_SIDE = 128  # pixels: at this side `blur`, `opening` and `smallest` mean what they say, else they scale


@dataclass(frozen=True)
class MaskRule:
    """Blur, threshold, open, fill, and keep the objects that are large and strong enough.

    threshold: a level of the map; for a counterfactual a share of the window. With `relative` a share of the way from
        the map's own minimum to its maximum (a flat map then has no mask).
    minimum: an object counts only if the blurred map, in its own units, reaches this somewhere inside it. It is what
        lets a relative rule stay silent on a healthy image.
    blur, opening: standard deviation and radius in pixels, `smallest` an area in pixels, all at a side of 128.
    fill: whether holes are filled.
    confidence_intercept, confidence_slope: how likely an object is a true lesion, see `confidence`; both 0: not known.
    volume_intercept, volume_slope: the same for a lesion of a volume, see `lesions.VolumeRule.confidence`.
    """

    threshold: float
    relative: bool = False
    minimum: float = 0.0
    blur: float = 0.0
    opening: float = 0.0
    smallest: float = 0.0
    fill: bool = False
    confidence_intercept: float = 0.0
    confidence_slope: float = 0.0
    volume_intercept: float = 0.0
    volume_slope: float = 0.0

    @classmethod
    def published_difference(cls) -> Self:
        """COIN's rule for differences: more than a quarter of the window."""
        return cls(0.25)

    @classmethod
    def published_saliency(cls) -> Self:
        """COIN's rule for the attributions that it was compared with: above 0.975 after min-max scaling."""
        return cls(0.975, relative=True)

    @classmethod
    def of(cls, explanation: Explanation) -> Self:
        """The rule in the explanation's `meta["mask_rule"]`, else the published one for its kind of map."""
        if rule := explanation.meta.get("mask_rule"):
            return cls.from_dict(rule)
        return cls.published_saliency() if explanation.counterfactual is None else cls.published_difference()

    @classmethod
    def from_dict(cls, values: dict[str, float]) -> Self:
        """Read what `to_dict` wrote; a key that is not known is an error."""
        flags = {key: bool(value) for key, value in values.items() if key in ("relative", "fill")}
        return cls(**{**values, **flags})  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, float]:
        """Plain numbers, for a card or a JSON file; a confidence that is not known is left out."""
        known = {"confidence": self.confident, "volume": bool(self.volume_intercept or self.volume_slope)}
        values = {key: float(value) for key, value in asdict(self).items()}
        return {key: value for key, value in values.items() if known.get(key.split("_")[0], True)}

    def describe(self) -> str:
        """One line: the threshold and whatever is not at its default."""
        defaults = {item.name: item.default for item in fields(self)}
        settings = [f"{key}={value:.4g}" for key, value in asdict(self).items() if value != defaults[key]]
        return ", ".join(settings)

    def __call__(self, heatmap: Tensor) -> Tensor:
        """The mask `(b, 1, *spatial)` bool of a map `(b, 1, *spatial)` that is not negative."""
        maps = heatmap.detach().float().cpu().numpy()
        masks = [self.objects(single)[0] > 0 for single in maps[:, 0]]
        return torch.from_numpy(np.stack(masks)[:, None]).to(heatmap.device)

    def objects(self, heat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The objects of the mask of one map `(*spatial)`, numbered from 1; then the pixels and the peak of each."""
        heat = smooth(heat, self.blur)
        labels, count = objects(levels(heat, self.relative) > self.threshold, self.opening, self.fill)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        peaks = object_peaks(heat, labels, count)
        keep = (sizes >= self.smallest * scale(heat.shape) ** heat.ndim) & (peaks >= self.minimum)
        keep[0] = False
        return (keep.cumsum() * keep)[labels], sizes[keep], peaks[keep]

    @property
    def confident(self) -> bool:
        """Was a confidence ever fitted?"""
        return bool(self.confidence_intercept or self.confidence_slope)

    def strengths(self, peaks: Any) -> np.ndarray:
        """The log of `peaks` over the least that counts: `minimum`, else an absolute threshold, else 1."""
        least = self.minimum or (1.0 if self.relative else self.threshold)
        return np.log(np.maximum(np.asarray(peaks, float), 1e-12) / least)

    def confidence(self, peaks: Any) -> np.ndarray:
        """The probability that objects with these `peaks` meet a true lesion; nan where it was never fitted.

        The logistic function of the intercept and the slope times `strengths`, as it was on validation images.
        """
        if not self.confident:
            return np.full(np.shape(peaks), np.nan)
        return expit(self.confidence_intercept + self.confidence_slope * self.strengths(peaks))


def mask_of(explanation: Explanation) -> Tensor:
    """The mask `(b, 1, *spatial)` that a user gets: the rule's, and none where the answer was as asked before.

    The slices of a volume, which `meta["volume"]` describes, have the mask that the volume has.
    """
    if is_volume(explanation):
        from counterscan.metrics.lesions import volume_mask

        return volume_mask(explanation)
    attempted = ~explanation.target.reached(explanation.before)
    mask = MaskRule.of(explanation)(explanation.heatmap)
    return mask & attempted.to(mask.device).view(-1, *[1] * (mask.ndim - 1))


def is_volume(explanation: Explanation) -> bool:
    """Does it hold all the slices of a volume, and where they lie? Some of them are images by themselves."""
    return len(explanation.meta.get("volume", {}).get("places", ())) == len(explanation)


def scale(spatial: tuple[int, ...]) -> float:
    """How much larger than the reference an image of these sides is."""
    return float(np.prod(spatial)) ** (1 / len(spatial)) / REFERENCE_SIDE


def smooth(heat: np.ndarray, blur: float) -> np.ndarray:
    """`heat` `(*spatial)` after a Gaussian of `blur` pixels at the reference side."""
    return ndimage.gaussian_filter(heat, blur * scale(heat.shape), mode="nearest") if blur else heat


def levels(heat: np.ndarray, relative: bool) -> np.ndarray:
    """What is compared with the threshold: the map itself, or where it stands between its minimum and maximum."""
    if not relative:
        return heat
    low, high = float(heat.min()), float(heat.max())
    return (heat - low) / (high - low) if high > low else np.zeros_like(heat)


def objects(above: np.ndarray, opening: float, fill: bool) -> tuple[np.ndarray, int]:
    """Number the connected objects (corners touch) of `above` after opening and filling; 0 is the background."""
    if opening and (steps := round(opening * scale(above.shape))):
        above = ndimage.binary_opening(above, iterations=steps)
    if fill and above.any():
        above = _filled(above)
    return ndimage.label(above, ndimage.generate_binary_structure(above.ndim, above.ndim))


def object_peaks(heat: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The largest value of `heat` in each object, `(count + 1,)`; the background has none."""
    peaks = np.full(count + 1, -np.inf, dtype=np.float64)
    covered = labels > 0
    np.maximum.at(peaks, labels[covered], heat[covered])  # ndimage.maximum sorts the whole image
    return peaks


def _filled(above: np.ndarray) -> np.ndarray:
    # the background parts that no border reaches; several times faster than ndimage.binary_fill_holes
    parts, count = ndimage.label(~above)
    open_air = np.zeros(count + 1, dtype=bool)
    for axis in range(above.ndim):
        open_air[np.take(parts, 0, axis)] = True
        open_air[np.take(parts, -1, axis)] = True
    return ~open_air[parts] | above
