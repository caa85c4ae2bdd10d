"""Choose the mask rule on validation images: the best mean IoU on lesions that leaves healthy images silent.

There, too, is learned how often an object of a mask is a true lesion, from the level that it reaches.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from counterscan.errors import ManifestError
from counterscan.metrics.masks import MaskRule, levels, object_peaks, objects, scale, smooth

LEVELS = np.geomspace(1e-6, 1e2, 400, dtype=np.float32)  # absolute thresholds tried: steps of 4.7 %
SHARES = np.linspace(0, 1, 201, dtype=np.float32)[:-1]  # relative thresholds tried
BLURS = (0.0, 1.0, 2.0, 4.0)
SMALLEST = (0, 4, 8, 16, 32, 64, 128)
# Share of the healthy validation images that may get a mask. Users expect at most 5 %; what is chosen at the border of
# a limit exceeds it half of the time on other images, so the choice is made with room.
HEALTHY_LIMIT = 0.03
AROUND = (-12, -7, -3, 0, 3, 7, 12)  # steps around the best plain threshold that are looked at closely
CLOSELY = 3  # how many pairs of blur and policy are looked at closely
RIDGE = 1e-3  # on the slope of the confidence, which objects of one and the same level leave open
FEWEST = 20  # objects; of fewer nothing is learned of how often they are lesions


Maps = Sequence[Tensor] | Tensor  # (n, 1, *spatial), or n of (1, *spatial)


@dataclass(frozen=True)
class Calibration:
    """A rule, what it does on the images that it was chosen on, and whether it keeps the limit on healthy images."""

    rule: MaskRule
    iou: float
    healthy_mask_share: float
    feasible: bool
    n_lesion: int
    n_healthy: int


def calibrate(heatmaps: Maps, truths: Maps, healthy_limit: float = HEALTHY_LIMIT, **grid) -> MaskRule:
    """The rule of `search`; warns when none keeps the limit, so that nobody takes it for silent."""
    found = search(heatmaps, truths, healthy_limit, **grid)
    if not found.feasible:
        warnings.warn(
            f"no mask rule keeps healthy images with a mask at or below {healthy_limit:.0%}; "
            f"took the quietest, which masks {found.healthy_mask_share:.0%} of {found.n_healthy}",
            stacklevel=2,
        )
    return found.rule


def search(
    heatmaps: Maps,
    truths: Maps,
    healthy_limit: float = HEALTHY_LIMIT,
    *,
    relative: bool | None = None,
    blurs: Sequence[float] = BLURS,
    smallest: Sequence[float] = SMALLEST,
    fill: bool = True,
) -> Calibration:
    """Maximise mean per-image IoU over lesion images, with at most `healthy_limit` of the healthy ones masked.

    `heatmaps[i]` `(1, *spatial)` and `truths[i]` `(1, *spatial)` bool are read one by one, several times, so a
    sequence that loads from disk will do. `relative` fixes the policy; None tries both. Where nothing keeps the limit,
    the lowest healthy share wins, then IoU, and `feasible` is False. Without healthy images there is no limit to keep.
    The rule's confidence is that of `with_confidence` on the same images.
    Raises ManifestError when no image has a lesion.
    """
    lesions = [bool(truths[index].any()) for index in range(len(truths))]
    if not any(lesions):
        raise ManifestError("no image with a lesion mask to calibrate on; give a validation set that has masks")
    plain = []
    for blur, share in product(blurs, (False, True) if relative is None else (relative,)):
        curve = _mean_curve(heatmaps, truths, blur, share)
        plain.append((float(curve.max()), int(curve.argmax()), blur, share))
    candidates = []
    for _, best, blur, share in sorted(plain, reverse=True)[:CLOSELY]:
        grid = SHARES if share else LEVELS
        near = sorted({min(max(best + step, 0), len(grid) - 1) for step in AROUND})
        rules = [MaskRule(float(grid[index]), relative=share, blur=blur, fill=fill) for index in near]
        candidates += _with_objects(rules, heatmaps, truths, np.array(lesions), smallest)
    chosen = _choose(candidates, healthy_limit, lesions)
    return replace(chosen, rule=with_confidence(chosen.rule, heatmaps, truths))


def with_confidence(rule: MaskRule, heatmaps: Maps, truths: Maps) -> MaskRule:
    """The same rule, its confidence fitted on the objects that it makes of these maps; not known with `FEWEST` or less.

    An object is a true lesion if it has a pixel of one. Logistic regression on `MaskRule.strengths`.
    """
    strengths, hits = [np.zeros(0)], [np.zeros(0, bool)]
    for _, heat, mask in _pairs(heatmaps, truths, 0.0):
        labels, sizes, peaks = rule.objects(heat)
        strengths.append(rule.strengths(peaks))
        hits.append(np.bincount(labels[mask], minlength=len(sizes) + 1)[1:] > 0)
    intercept, slope = _logistic(np.concatenate(strengths), np.concatenate(hits))
    return replace(rule, confidence_intercept=intercept, confidence_slope=slope)


def with_volume_confidence(rule: MaskRule, peaks: Sequence[float], hits: Sequence[float]) -> MaskRule:
    """The same rule, its confidence in the lesions of volumes fitted on lesions that it found in such.

    `peaks` as in `lesions.Lesion`, `hits` 1 where a lesion meets a true one, else 0; see `with_confidence`.
    """
    intercept, slope = _logistic(rule.strengths(peaks), np.asarray(hits, bool))
    return replace(rule, volume_intercept=intercept, volume_slope=slope)


def _logistic(x: np.ndarray, hits: np.ndarray) -> tuple[float, float]:
    """Intercept and slope of a logistic regression of `hits` on `x`, or zeros where there is too little to learn from.

    As if one more object of each kind had been seen (Platt, 1999), so that objects that part perfectly, or are all of
    one kind, have a finite fit.
    """
    if len(x) < FEWEST:
        return 0.0, 0.0
    wanted = np.where(hits, (hits.sum() + 1) / (hits.sum() + 2), 1 / ((~hits).sum() + 2))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        answer = line[0] + line[1] * x
        error = expit(answer) - wanted
        value = float(np.sum(np.logaddexp(0, answer) - wanted * answer) + RIDGE * line[1] ** 2 / 2)
        return value, np.array([error.sum(), error @ x + RIDGE * line[1]])

    intercept, slope = minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    return float(intercept), float(slope)


def iou_curve(heat: np.ndarray, mask: np.ndarray, relative: bool) -> np.ndarray:
    """IoU of one image at every threshold of `SHARES` or `LEVELS` (plain thresholds, no objects), by histograms."""
    grid = SHARES if relative else LEVELS
    above = np.searchsorted(grid, levels(heat, relative).ravel(), side="left")  # how many thresholds lie below
    every = np.bincount(above, minlength=len(grid) + 1)
    inside = np.bincount(above[mask.ravel()], minlength=len(grid) + 1)
    predicted = every[::-1].cumsum()[::-1][1:]
    hits = inside[::-1].cumsum()[::-1][1:]
    return hits / (predicted + mask.sum() - hits)


def _pairs(heatmaps: Maps, truths: Maps, blur: float) -> Iterator[tuple]:
    for index in range(len(heatmaps)):
        heat = heatmaps[index].detach().float().cpu().numpy()[0]
        yield index, smooth(heat, blur), truths[index].cpu().numpy()[0].astype(bool)


def _mean_curve(heatmaps: Maps, truths: Maps, blur: float, relative: bool) -> np.ndarray:
    total, count = np.zeros(len(SHARES if relative else LEVELS)), 0
    for _, heat, mask in _pairs(heatmaps, truths, blur):
        if mask.any():
            total, count = total + iou_curve(heat, mask, relative), count + 1
    return total / count


def _with_objects(
    rules: list[MaskRule], heatmaps: Maps, truths: Maps, lesions: np.ndarray, smallest: Sequence[float]
) -> list:
    """(iou, healthy share, rule) for every smallest size and least peak that each rule could be completed with.

    The rules differ in nothing but their threshold, so that each map is read and blurred once.
    """
    areas, tables = np.zeros(len(lesions)), [list[np.ndarray]() for _ in rules]
    for index, heat, mask in _pairs(heatmaps, truths, rules[0].blur):
        areas[index] = mask.sum()
        for rule, table in zip(rules, tables, strict=True):
            table.append(_object_table(index, heat, mask, rule))
    completed = [
        _completed(rule, np.concatenate(table, axis=1), areas, lesions, smallest)
        for rule, table in zip(rules, tables, strict=True)
    ]
    return [candidate for several in completed for candidate in several]


def _completed(rule: MaskRule, table: np.ndarray, areas: np.ndarray, lesions: np.ndarray, smallest) -> list[tuple]:
    owner, size, hits, peak, scaled = table
    owner = owner.astype(int)
    found = []
    for least, minimum in product(smallest, _peaks(owner, peak, lesions)):
        keep = (scaled >= least) & (peak >= minimum)
        predicted = np.bincount(owner[keep], size[keep], len(lesions))
        overlap = np.bincount(owner[keep], hits[keep], len(lesions))
        iou = (overlap / np.maximum(predicted + areas - overlap, 1))[lesions].mean()
        share = (predicted > 0)[~lesions].mean() if not lesions.all() else 0.0
        found.append((float(iou), float(share), replace(rule, smallest=float(least), minimum=minimum)))
    return found


def _object_table(index: int, heat: np.ndarray, mask: np.ndarray, rule: MaskRule) -> np.ndarray:
    """`(5, objects)`: whose object, its pixels, those that hit the lesion, its peak, its area at the reference side."""
    labels, count = objects(levels(heat, rule.relative) > rule.threshold, rule.opening, rule.fill)
    if not count:
        return np.zeros((5, 0))
    size = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    hits = np.bincount(labels[mask], minlength=count + 1)[1:]
    peak = object_peaks(heat, labels, count)[1:]
    return np.stack([np.full(count, index), size, hits, peak, size / scale(heat.shape) ** heat.ndim])


def _peaks(owner: np.ndarray, peak: np.ndarray, lesions: np.ndarray) -> list[float]:
    """The least peaks worth trying: spread over what objects reach, and densely where few healthy images stay."""
    best = np.zeros(len(lesions))
    np.maximum.at(best, owner, peak)
    tried = np.quantile(peak, np.linspace(0, 1, 25)) if peak.size else np.zeros(1)
    if not lesions.all():
        tried = np.append(tried, np.quantile(best[~lesions], np.linspace(0.8, 1, 21)))
    return [0.0, *np.unique(tried).tolist()]


def _choose(candidates: list[tuple], limit: float, lesions: list[bool]) -> Calibration:
    """The best IoU among those within the limit, else the quietest."""
    feasible = [candidate for candidate in candidates if candidate[1] <= limit]
    iou, share, rule = max(feasible or candidates, key=lambda c: (c[0] if feasible else -c[1], c[0]))
    n_lesion = sum(lesions)
    share = share if n_lesion < len(lesions) else float("nan")
    return Calibration(rule, iou, share, bool(feasible), n_lesion, len(lesions) - n_lesion)
