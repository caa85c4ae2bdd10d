"""Does the explanation change when the classifier knows nothing? Random weights, and labels that were shuffled.

Adebayo et al., Sanity Checks for Saliency Maps, 2018, arXiv 1810.03292: cascading and independent randomisation of the
weights, and the classifier that learnt from shuffled labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from counterscan.classifiers.randomised import randomised, weight_groups
from counterscan.core import Classifier, Explanation
from counterscan.errors import NeedsGradients
from counterscan.metrics.agreement import likeness, map_similarity, mask_overlap, rank_correlation
from counterscan.metrics.intervals import Estimate, bootstrap
from counterscan.metrics.masks import MaskRule
from counterscan.sanity.checks import FAILS, PASSES, Check, decide, unmeasured

SAME = 0.5  # correlation above which two maps count as the same
WEIGHTS = "Does the explanation change when the classifier's weights are random?"
LABELS = "Does the explanation change when the classifier was trained on shuffled labels?"
DRAWS = 5  # of random weights, at most, until most maps show something
REPEATS = 3  # of the last stage: one draw of weights may see by chance what the true ones see
LEARNT = 0.8  # AUC above which, or below 1 minus which, a classifier tells apart what it was meant not to know

Explain = Callable[[Classifier], Explanation]


@dataclass(frozen=True)
class Stage:
    """The maps of the same images by a classifier of which some was randomised, and how alike they are to the true."""

    title: str
    heatmap: Tensor
    figures: dict[str, Estimate]


@dataclass(frozen=True)
class Randomisation:
    """The check on random weights: from the answer back to the image (`cascading`), and one group at a time."""

    check: Check
    cascading: tuple[Stage, ...] = ()
    independent: tuple[Stage, ...] = ()


def compare(
    title: str, true: Explanation, others: Sequence[Explanation], rule: MaskRule, patients: Sequence[str]
) -> Stage:
    """How alike the explanation of some images is to `others` of the same, on average over these."""
    measured = [_alike(true, other, rule) for other in others]
    means = {name: torch.stack([one[name] for one in measured]).nanmean(0) for name in measured[0]}
    figures = {name: bootstrap(values.numpy(), patients) for name, values in means.items()}
    return Stage(title, others[0].heatmap, figures)


def _alike(true: Explanation, other: Explanation, rule: MaskRule) -> dict[str, Tensor]:
    measured = {
        "correlation": likeness(true.heatmap, other.heatmap),
        "rank_correlation": rank_correlation(true.heatmap, other.heatmap),
        "map_ssim": map_similarity(true.heatmap, other.heatmap),
        "mask_iou": mask_overlap(rule(true.heatmap), rule(other.heatmap)),
    }
    return measured if true.counterfactual is None else measured | {"found": other.found.float()}


def random_weights(
    classifier: Classifier,
    explain: Explain,
    true: Explanation,
    rule: MaskRule,
    patients: Sequence[str],
    done: Callable[[], None],
    seed: int = 0,
) -> Randomisation:
    """Randomise `classifier` in groups of layers, explain anew, and compare with the `true` explanation.

    `done` is told after each of the stages, of which there are up to seven.
    """
    try:
        groups = weight_groups(classifier)
    except NeedsGradients:
        words = (
            f"{classifier.card.name} gives answers but not its weights, so they cannot be made random. "
            "Give --shuffled with a classifier that was trained on shuffled labels instead."
        )
        return Randomisation(unmeasured("random_weights", WEIGHTS, words))
    sets = {_title(part, len(groups)): sum(groups[: part + 1], ()) for part in range(len(groups))}
    alone = {f"only group {part + 1}": group for part, group in enumerate(groups) if part}
    stages: list[Stage] = []
    for title, names in [*sets.items(), *alone.items()]:
        repeats = REPEATS if len(stages) == len(sets) - 1 else 1  # the verdict is on the last
        others = _repeated(classifier, names, explain, seed, repeats)
        stages.append(compare(title, true, others, rule, patients))
        done()
    cascading = tuple(stages[: len(sets)])
    return Randomisation(_weights_check(true, cascading[-1], patients), cascading, tuple(stages[len(sets) :]))


def all_random(
    classifier: Classifier,
    explain: Explain,
    true: Explanation,
    rule: MaskRule,
    patients: Sequence[str],
    seed: int = 0,
    repeats: int = REPEATS,
) -> Check:
    """The check of `random_weights` alone: every weight drawn anew, `repeats` times. NeedsGradients for a black box."""
    names = sum(weight_groups(classifier), ())
    others = _repeated(classifier, names, explain, seed, repeats)
    return _weights_check(true, compare("all random", true, others, rule, patients), patients)


def _repeated(
    classifier: Classifier, names: Sequence[str], explain: Explain, seed: int, repeats: int
) -> list[Explanation]:
    return [_explained_anew(classifier, names, explain, seed + DRAWS * draw) for draw in range(repeats)]


def _explained_anew(classifier: Classifier, names: Sequence[str], explain: Explain, seed: int) -> Explanation:
    """The explanation under random weights; others are drawn while most maps are empty, as that says little.

    A map shows what speaks for one answer only, and random weights may happen to speak for the other.
    """
    for draw in range(DRAWS):
        with randomised(classifier, names, seed + draw) as other:
            explanation = explain(other)
        if (explanation.heatmap.flatten(1).amax(1) > 0).float().mean() >= 0.5:
            break
    return explanation


def _title(part: int, groups: int) -> str:
    return "head random" if part == 0 else "all random" if part == groups - 1 else f"{part + 1} of {groups} random"


def _weights_check(true: Explanation, last: Stage, patients: Sequence[str]) -> Check:
    value = last.figures["correlation"]
    verdict = decide(value, SAME)
    changes = {
        PASSES: "With random weights the explanation becomes another one: it depends on what the classifier learnt.",
        FAILS: "With random weights the explanation stays much the same: it does not show what this classifier learnt.",
    }.get(verdict, "With random weights the explanation changes, but not clearly enough for a verdict.")
    if true.counterfactual is not None and verdict != PASSES:
        changes += _about_priors(true, last, patients)
    return Check("random_weights", WEIGHTS, verdict, changes, "correlation", value, SAME, last.figures)


def _about_priors(true: Explanation, last: Stage, patients: Sequence[str]) -> str:
    """What it means that a counterfactual hardly asks the classifier, in a user's words."""
    reached = bootstrap(true.found.float().numpy(), patients).value
    return (
        " It is drawn by a prior, which met a classifier when it was trained and now only asks whether the answer has "
        "changed. So the picture shows what the prior learnt to change, and it explains this classifier only if the "
        "prior was trained with it: train the prior anew whenever the classifier changes. What does depend on the "
        f"classifier is whether the counterfactual counts as found: {reached:.0%} of the images with the true "
        f"weights, {last.figures['found'].value:.0%} with random ones."
    )


def shuffled_labels(stage: Stage | None, learnt: Estimate | None) -> Check:
    """The check on shuffled labels: `stage` compares with that classifier, `learnt` is its AUC for the true labels."""
    if stage is None:
        words = (
            "No classifier trained on shuffled labels was given. Train one with the same data by `counterscan train "
            "classifier --set shuffled=true` and give it as --shuffled."
        )
        return unmeasured("shuffled_labels", LABELS, words)
    if learnt is not None and (learnt.low > LEARNT or learnt.high < 1 - LEARNT):
        words = (
            f"The classifier given as --shuffled tells the true labels apart (AUC {learnt.value:.2f}), "
            "so it should be explained alike; train one anew, with another --set seed."
        )
        return unmeasured("shuffled_labels", LABELS, words)
    value = stage.figures["correlation"]
    verdict = decide(value, SAME)
    words = {
        PASSES: "A classifier that learnt nothing true is explained otherwise: the map depends on what was learnt.",
        FAILS: "A classifier that learnt nothing true is explained in the same way: the map shows the image or the "
        "prior, not what was learnt.",
    }.get(verdict, "The explanation changes, but not clearly enough for a verdict.")
    return Check("shuffled_labels", LABELS, verdict, words, "correlation", value, SAME, stage.figures)
