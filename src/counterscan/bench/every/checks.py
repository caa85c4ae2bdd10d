"""What a few images tell of a method: its cost, and whether it is steady, works on a black box and asks the classifier.

A batch is explained once more in memory, measured; then with other noise, by a black box, and with random weights.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from counterscan.bench.setting import Setting, fitted
from counterscan.bench.suite import one_line
from counterscan.classifiers.wrappers import BlackBox
from counterscan.core import Classifier, Explanation
from counterscan.data.batches import load_batch
from counterscan.data.manifest import Case
from counterscan.errors import NeedsGradients
from counterscan.explainers.base import Explainer
from counterscan.memory import peak_memory
from counterscan.metrics.intervals import Estimate, bootstrap
from counterscan.metrics.masks import MaskRule
from counterscan.metrics.stability import sensitivity
from counterscan.metrics.validity import flip_rate
from counterscan.sanity.randomisation import REPEATS, all_random

DRAWS = 4  # noisy copies of each image
NEEDS_GRADIENTS, WORKS, FAILS = "needs gradients", "works", "fails"  # as a black box
NAN = float("nan")

Found = dict[str, Any]  # figures by name, words by what they are of


def checked(setting: Setting, explainer: Explainer, cases: Sequence[Case], quick: bool) -> Found:
    """`metrics` of some `cases` by name, what the method is as a `black_box`, its `sanity` verdict, and `notes`.

    The notes say which check raised, and what.
    """
    shape = setting.shape(explainer)
    images, patients = load_batch(cases, shape, setting.window), [case.patient or case.name for case in cases]
    classifier = fitted(setting.classifier, shape)

    def explain(asked: Classifier) -> Explanation:
        return explainer(asked, images, setting.target, seed=setting.seed)

    true, metrics = _costs(lambda: explain(classifier), len(images))
    found: Found = {"metrics": metrics, "black_box": "", "sanity": "", "notes": []}

    def stable() -> None:
        draws = 1 if quick else DRAWS
        values = sensitivity(explainer, classifier, true, draws=draws, seed=setting.seed)
        metrics["sensitivity"] = bootstrap(values, patients).to_dict()

    def black_box() -> None:
        found["black_box"] = FAILS
        try:
            answer = explain(BlackBox(classifier))
        except NeedsGradients:
            found["black_box"] = NEEDS_GRADIENTS
            return
        found["black_box"] = WORKS
        metrics["black_box_flip_rate"] = bootstrap(flip_rate(answer), patients).to_dict()

    def sane() -> None:
        repeats = 1 if quick else REPEATS
        check = all_random(classifier, explain, true, MaskRule.of(true), patients, setting.seed, repeats)
        assert check.value is not None
        metrics["sanity_correlation"], found["sanity"] = check.value.to_dict(), check.verdict

    for name, check in {"stability": stable, "as a black box": black_box, "random weights": sane}.items():
        _tried(name, check, found)
    found["metrics"] = {name: figure for name, figure in metrics.items() if figure["n"]}
    return found


def _costs(explain: Callable[[], Explanation], count: int) -> tuple[Explanation, dict[str, Any]]:
    """An explanation, with the processor time of an image and the peak memory of the process."""
    answers: list[Explanation] = []
    spent = [0.0]

    def work() -> None:
        began = time.process_time()
        answers.append(explain())
        spent[0] = time.process_time() - began

    memory = peak_memory(work)
    figures = {"cpu_seconds": spent[0] / count, "memory_mb": memory}
    known = {name: value for name, value in figures.items() if value == value}
    return answers[0], {name: Estimate(value, NAN, NAN, count).to_dict() for name, value in known.items()}


def _tried(name: str, check: Callable[[], None], found: Found) -> None:
    """Make a check; one that raises is a note, for the method itself has done its work."""
    try:
        check()
    except Exception as error:  # whatever a method raises, the others are still to be measured
        found["notes"].append(f"{name}: {one_line(error)}")
