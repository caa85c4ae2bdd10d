"""From what a person types to a Job: files, classifier, target, prior, window and mask rule, each by its name."""

import json
import os
from collections.abc import Sequence
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any

from counterscan.classifiers.companion import companion, steering
from counterscan.classifiers.load import load_classifier
from counterscan.core import Card, Target
from counterscan.data.manifest import Manifest, find_cases, read_manifest, scan_folder
from counterscan.data.window import Window
from counterscan.engine import Job
from counterscan.errors import CounterscanError, ScanError, UnknownName, WeightsError, did_you_mean
from counterscan.explainers.base import AttributionExplainer, Explainer
from counterscan.explainers.build import build_explainer, needs_prior, prior_name, recipe_name
from counterscan.metrics.masks import MaskRule
from counterscan.registry import EXPLAINERS, RECIPES, shipped_weights


def prepare(
    inputs: Sequence[Path],
    *,
    classifier: str,
    target: str,
    method: str,
    out: Path,
    prior: str = "",
    settings: Sequence[str] = (),
    window: str = "",
    folds: Sequence[int] = (),
    split: str = "",
    where: str = "",
    dataset: Path | None = None,
    card: Path | None = None,
    judge: str = "",
    threshold: float | None = None,
    rule: Path | None = None,
    masks_only: bool = False,
    manifest: Manifest | None = None,
    **rest: Any,
) -> Job:
    """The job that these words ask for; CounterscanError names the first word that is wrong, and the cure.

    A `manifest` stands for what was read of `inputs` before.
    """
    words = {name: word for name, word in locals().items() if name != "rest"} | rest
    asked = load_classifier(classifier, card)
    prior = prior or default_prior(method, classifier)
    given = default_settings(method, classifier) | read_settings(EXPLAINERS[method], settings)
    explainer = build_explainer(method, prior=prior or None, **given)
    wanted = Target.parse(target, asked.card)
    check_fit(explainer, asked.card, wanted)
    if manifest is None:
        manifest = open_inputs(inputs, dataset)
        manifest = manifest.select(split=split or None, folds=folds or None, where=where or None)
    chosen = choose_rule(explainer, threshold, rule)
    if masks_only and chosen is None and isinstance(explainer, AttributionExplainer):
        raise CounterscanError(
            f"{method} has no mask rule of its own; give --threshold, or --rule with a JSON file that "
            "`counterscan score --validation` wrote"
        )
    names = named(inputs, classifier, prior, dataset, folds, split, where) | {"judge": judge} | rest.pop("names", {})
    return Job(
        manifest=manifest,
        classifier=asked,
        explainer=explainer,
        target=wanted,
        out=out,
        judge=load_classifier(judge) if judge else None,
        window=parse_window(window) if window else None,
        rule=chosen,
        masks_only=masks_only,
        names=names,
        again=partial(prepare, **words | {"manifest": manifest}),
        **rest,
    )


def named(
    inputs: Sequence[Path],
    classifier: str,
    prior: str,
    dataset: Path | None = None,
    folds: Sequence[int] = (),
    split: str = "",
    where: str = "",
) -> dict[str, str]:
    """What a person called the models and the images, for the note of what was done; paths are absolute."""
    return {
        "classifier": classifier,
        "prior": prior,
        "manifest": " ".join(os.path.abspath(path) for path in inputs),
        "dataset": os.path.abspath(dataset) if dataset else "",
        "selection": " ".join(filter(None, [split, where, *(f"fold={fold}" for fold in folds)])),
    }


def prepare_recipe(name: str, *, classifier: str = "", settings: Sequence[str] = ()) -> Any:
    """The recipe `name` with its settings; a mistyped setting is answered with the nearest that exists."""
    recipe = RECIPES[name]
    given = read_settings(recipe, settings) | ({"classifier": classifier} if classifier else {})
    known = [item.name for item in fields(recipe)]
    for key in given:
        if key not in known:
            raise UnknownName(f"the recipe {name} has no setting {key!r}{did_you_mean(key, known)}")
    missing = [item.name for item in fields(recipe) if item.default is MISSING and item.default_factory is MISSING]
    if absent := [key for key in missing if key not in given]:
        option = "--classifier" if absent[0] == "classifier" else f"--set {absent[0]}=..."
        raise CounterscanError(f"the recipe {name} needs {option}")
    return recipe(**given)


def open_inputs(inputs: Sequence[Path], dataset: Path | None = None) -> Manifest:
    """The manifest that one path names (with its dataset.toml elsewhere), or one made of images and folders."""
    if dataset is not None:
        return read_manifest(inputs[0], dataset)
    if len(inputs) == 1:
        return find_cases(inputs[0])
    return scan_folder([case.path for path in inputs for case in find_cases(path).cases])


def default_prior(method: str, classifier: str) -> str:
    """The shipped prior beside a shipped classifier (`chest/inpainting` for `chest/classifier`), or none.

    Raises WeightsError where the explainer needs one and it cannot be guessed.
    """
    if not needs_prior(method):
        return ""
    kind = prior_name(method)
    near = f"{classifier.partition('/')[0]}/{kind}"
    if classifier in shipped_weights() and near in shipped_weights():
        return near
    known = [name for name in shipped_weights() if name.endswith(f"/{kind}")]
    raise WeightsError(
        f"{method} needs a prior that was trained for {classifier}: give --prior with a folder that "
        f"`counterscan train {recipe_name(kind)}` wrote" + (f", or one of {', '.join(known)}" if known else "")
    )


def default_settings(method: str, classifier: str) -> dict[str, Any]:
    """What steers beside a shipped classifier: `fundus/robust` for `fundus/classifier`, where the explainer asks."""
    near = f"{classifier.partition('/')[0]}/robust"
    wanted = any(item.name == "robust" for item in fields(EXPLAINERS[method]))
    return {"robust": near} if wanted and classifier in shipped_weights() and near in shipped_weights() else {}


def check_fit(explainer: Explainer, card: Card, target: Target) -> None:
    """Refuse a prior that does not know a class asked for, or that sees another window than the classifier.

    So too a robust classifier that answers something else.
    """
    for robust in steering(getattr(explainer, "robust", "")):
        companion(robust, card)
    asked = [card.classes[index] for index, _ in target.wanted]
    for prior in (value.card for value in vars(explainer).values() if hasattr(value, "card")):
        if prior.classes and (unknown := [name for name in asked if name not in prior.classes]):
            raise WeightsError(
                f"{prior.name} was trained for the classes {', '.join(prior.classes)}, which have no {unknown[0]!r}; "
                "give a --prior that was trained with this classifier"
            )
        if prior.window and card.window and prior.window != card.window:
            raise WeightsError(
                f"{prior.name} was trained in the window {prior.window}, {card.name} in {card.window}; "
                "give a --prior that was trained with this classifier"
            )


def choose_rule(explainer: Explainer, threshold: float | None, rule: Path | None) -> MaskRule | None:
    """How maps become masks: the threshold or the file asked for, else what the prior's card was calibrated to."""
    if threshold is not None:
        return MaskRule(threshold)
    if rule is not None:
        return read_rule(rule)
    for value in vars(explainer).values():
        if getattr(value, "card", None) is not None and value.card.mask_rule:
            return MaskRule.from_dict(value.card.mask_rule)
    return None


def read_rule(path: Path) -> MaskRule:
    """The `mask_rule` of a JSON file (a score, or a card)."""
    try:
        return MaskRule.from_dict(json.loads(path.read_text())["mask_rule"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CounterscanError(
            f"{path} holds no mask rule ({type(error).__name__}); write one with `counterscan score --validation`"
        ) from None


def parse_window(text: str) -> Window:
    """Read `low:high`, for example `-160:240`."""
    low, _, high = text.partition(":")
    try:
        return Window(float(low), float(high))
    except ValueError:
        raise ScanError(f"cannot read the window {text!r}; write low:high, for example --window=-160:240") from None


def read_settings(kind: type, texts: Sequence[str]) -> dict[str, Any]:
    """The settings that `texts` ask of `kind`, a dataclass; a word where its default is a number is refused."""
    given = dict(parse_setting(text) for text in texts)
    for item in fields(kind):
        if item.name in given and not _alike(given[item.name], item.default):
            default = f"--set {item.name}={json.dumps(item.default)}"
            raise CounterscanError(f"{item.name} cannot be {given[item.name]!r}; its default is {default}")
    return given


def _alike(value: Any, default: Any) -> bool:
    """Whether a value can stand where `default` does: one number or several for numbers, true or false for those."""
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int | float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, tuple) and default and isinstance(default[0], int | float):
        several = value if isinstance(value, list) else [value]
        return all(_alike(one, default[0]) for one in several)
    return True


def parse_setting(text: str) -> tuple[str, Any]:
    """Read `key=value`; the value is a number, true, false or none where it looks like one, else text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise CounterscanError(f"cannot read --set {text!r}; write key=value, for example --set masks=2000")
    try:
        return name.strip().replace("-", "_"), json.loads(value.replace("none", "null"))
    except ValueError:
        return name.strip().replace("-", "_"), value
