"""How often the intervals of a reader study hold the truth, and its tests err, on simulated studies.

    python bench/study_coverage.py [--studies 1000] [--seed 9] [--json FILE]

Studies are drawn from the model of Roe and Metz (Academic Radiology 4, 1997): a reader's score of a picture is
`mu * truth` + reader (of each truth) + case + reader with case, the last two of variance 1 together, so that the true
figures are known in closed form. Where two methods are compared, half of each variance is the method's own. Printed is
the share of 95 % intervals that hold the truth (`plain`: Obuchowski and Rockette with Hillis's degrees of freedom), and
the share of studies in which a test errs that should err in at most 5 %.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import norm

from counterscan.study.analysis.indices import Index, area, balanced, mean, sensitivity
from counterscan.study.analysis.mixed import Spread, hillis, over_both

AT_ONCE = 250  # studies held in memory
LEVELS = np.array([-1.8, -1.2, -0.7, -0.3, 0, 0.3, 0.7, 1.2, 1.8])  # a score as confidence from -5 to 5
MARGIN = 0.1


@dataclass(frozen=True)
class Setting:
    """So many readers and cases, the mean `mu` of a positive, and the variances of readers and of cases."""

    readers: int
    cases: int
    mu: float
    reader: float
    case: float


SIZES = ((3, 50), (3, 100), (5, 60), (5, 100), (8, 150), (10, 100), (10, 200))  # readers and cases
TRUTHS = ((0, 0.0, 0.3), (0, 0.03, 0.3), (0.75, 0.0055, 0.3), (0.75, 0.03, 0.1), (1.5, 0.03, 0.3), (1.5, 0.1, 0.3))
SETTINGS = [Setting(*size, *truth) for size in SIZES for truth in (*TRUTHS, (2.5, 0.056, 0.3))]
MARGINAL = [(8, 150), (10, 200), (12, 300)]  # readers and cases of the equivalence test


def drawn(rng: np.random.Generator, studies: int, one: Setting, methods: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Scores `(methods, studies, readers, cases)` and truth `(cases,)`."""
    truth = np.arange(one.cases) % 2

    def part(variance: float, readers: int, cases: int) -> np.ndarray:
        shape = (studies, readers, cases)
        own = rng.normal(size=(methods, *shape)) * np.sqrt(variance if methods == 1 else variance / 2)
        return own if methods == 1 else own + rng.normal(size=shape) * np.sqrt(variance / 2)

    reader = np.where(truth, part(one.reader, one.readers, 1), part(one.reader, one.readers, 1))
    scores = reader + part(one.case, 1, one.cases) + part(1 - one.case, one.readers, one.cases)
    return scores + one.mu * truth, truth


def figures(one: Setting, scores: np.ndarray, truth: np.ndarray) -> Iterator[tuple[str, Index, float, bool]]:
    """Each figure of a study with its true value, and whether it is a share."""
    spread = np.sqrt(1 + one.reader)
    yield "auc", area(scores, truth), norm.cdf(one.mu / spread / np.sqrt(2)), True
    middle = scores - one.mu / 2
    rated = np.searchsorted(LEVELS, middle)
    yield "auc of ratings", area(rated, truth), area_of_ratings(one.mu, spread), True
    right = ((middle > 0) == truth).astype(float)
    yield "accuracy", balanced(right, truth), norm.cdf(one.mu / 2 / spread), True
    pair = (np.where(truth, scores, -scores + one.mu) > 0).astype(float)  # as if each case were a pair
    yield "share of pairs", mean(pair), norm.cdf(one.mu / spread), True


def area_of_ratings(mu: float, spread: float) -> float:
    """The true area where scores are told on the steps of `LEVELS`."""
    ends = np.concatenate([[-np.inf], LEVELS, [np.inf]])
    high, low = (np.diff(norm.cdf((ends - side * mu / 2) / spread)) for side in (1, -1))
    return float(high @ (np.cumsum(low) - low / 2))


def coverage(one: Setting, studies: int, seed: int) -> dict[str, float]:
    """The share of intervals that hold the truth, by figure."""
    found: dict[str, list[np.ndarray]] = {}
    for rng, some in batches(studies, seed):
        (scores,), truth = drawn(rng, some, one)
        for name, index, true, share in figures(one, scores, truth):
            found.setdefault(name, []).append(holds(over_both(index), true, share))
            found.setdefault(f"{name}, plain", []).append(holds(hillis(index), true, False))
        both, truth = drawn(rng, some, one, methods=2)
        between = area(both[0], truth) - area(both[1], truth)
        found.setdefault("difference of areas", []).append(holds(over_both(between), 0, False))
        found.setdefault("difference of areas, plain", []).append(holds(hillis(between), 0, False))
        d = sensitivity(scores > one.mu / 2, truth)[0]
        if one.mu == 0:
            found.setdefault("d' of 0", []).append(holds(over_both(d), 0, False))
    return {name: float(np.concatenate(parts).mean()) for name, parts in found.items()}


def holds(spread: Spread, true: float, share: bool) -> np.ndarray:
    low, high = spread.interval(share=share)
    return (low <= true) & (true <= high)


def equivalence_errors(readers: int, cases: int, studies: int, seed: int) -> dict[str, float]:
    """How often an area at the margin, and one at chance, is called equivalent: an error, and the power."""
    found: dict[str, list[np.ndarray]] = {"at the margin": [], "at chance": []}
    base = Setting(readers, cases, 0.0, 0.0055, 0.3)
    edge = np.sqrt(2 + 2 * base.reader) * norm.ppf(0.5 + MARGIN)
    for rng, some in batches(studies, seed):
        for name, mu in (("at the margin", edge), ("at chance", 0.0)):
            (scores,), truth = drawn(rng, some, replace(base, mu=float(mu)))
            spread = over_both(area(scores, truth))
            below, above = spread.above(0.5 - MARGIN, True), 1 - spread.above(0.5 + MARGIN, True)
            found[name].append(np.maximum(below, above) < 0.05)
    return {name: float(np.concatenate(parts).mean()) for name, parts in found.items()}


def batches(studies: int, seed: int) -> Iterator[tuple[np.random.Generator, int]]:
    rng = np.random.default_rng(seed)
    for start in range(0, studies, AT_ONCE):
        yield rng, min(AT_ONCE, studies - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    for number, one in enumerate(SETTINGS):
        rows.append({**asdict(one), "coverage": coverage(one, asked.studies, asked.seed + number)})
        print(one, {name: f"{share:.1%}" for name, share in rows[-1]["coverage"].items()}, flush=True)
    tests = []
    for readers, cases in MARGINAL:
        errors = equivalence_errors(readers, cases, asked.studies, asked.seed)
        tests.append({"readers": readers, "cases": cases, "margin": MARGIN, "called_equivalent": errors})
        print(tests[-1], flush=True)
    names = sorted({name for row in rows for name in row["coverage"]})
    summary = {name: summarised([row["coverage"][name] for row in rows if name in row["coverage"]]) for name in names}
    for name, told in summary.items():
        print(
            f"{name:<32}{told['mean']:.1%} ({told['least']:.1%} to {told['most']:.1%}), {told['within']:.0%} in 93-97"
        )
    if asked.json:
        told = {"command": f"python bench/study_coverage.py --studies {asked.studies} --seed {asked.seed}"}
        told |= {"what": "share of 95 % intervals that hold the truth, over simulated studies (Roe and Metz)"}
        told |= {"studies": asked.studies, "summary": summary, "settings": rows, "equivalence": tests}
        asked.json.write_text(json.dumps(told, indent=1) + "\n")


def summarised(shares: list[float]) -> dict[str, float]:
    within = np.mean([0.93 <= share <= 0.97 for share in shares])
    return {"mean": float(np.mean(shares)), "least": min(shares), "most": max(shares), "within": float(within)}


if __name__ == "__main__":
    main()
