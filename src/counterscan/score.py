"""Measure a folder of explanations: every metric with its interval, case by case, in the form of `results/`."""

import csv
import json
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from counterscan.classifiers.features import Extractor
from counterscan.core import Classifier
from counterscan.data.files import write_whole
from counterscan.data.manifest import Manifest, find_cases, read_manifest
from counterscan.data.table import text_of
from counterscan.engine.local import HERE
from counterscan.engine.sharding import WHOLE, Notes, Shard, what_is_left
from counterscan.engine.work import Engine
from counterscan.errors import CounterscanError, ManifestError
from counterscan.metrics.calibration import HEALTHY_LIMIT, Calibration, search
from counterscan.metrics.identity import Verifier, beside, load_verifier, promise
from counterscan.metrics.intervals import Estimate, paired
from counterscan.metrics.masks import MaskRule
from counterscan.metrics.populations import realism
from counterscan.metrics.validity import attempted
from counterscan.scores import Measuring, Models, Scores, case_folders, forget_parts, measured, stranger, with_truth

ENOUGH = 2000  # images that a mask rule is chosen on; of more, every so manieth is taken


def score(
    folder: str | Path,
    truth: Manifest | None = None,
    judge: Classifier | None = None,
    validation: str | Path | None = None,
    rule: MaskRule | None = None,
    classifier: Classifier | None = None,
    verifier: Verifier | None = None,
    real: Manifest | None = None,
    command: str = "",
    engine: Engine = HERE,
    shard: Shard = WHOLE,
    again: Callable[[], Models] | None = None,
    page: bool = False,
) -> dict[str, Any]:
    """Score what `explain` wrote into `folder`, reading one case at a time; write score.json and scores.csv there.

    `truth` says where lesions are; without it the manifest that was explained is asked. Masks are made by `rule`, else
    by one chosen on the explanations in `validation` (their own manifest's masks), else by the rule they carry. A
    `verifier` says whether counterfactuals keep the anatomy, beside the rate that its card says true pairs reach. With
    `real` images the counterfactuals are compared with those that show what was asked for, as sets, in the features of
    the judge (`metrics/populations.py`). `engine` says where cases are measured; `again` makes the models in another
    process, and without it they are pickled. One part (`shard`) of the job keeps what it measured for the part that
    finishes last, or for a run of the whole; until then the answer holds which parts are `missing`. A `page` is
    written anew, if asked for.
    Raises CounterscanError for a folder without explanations, ManifestError where `truth` knows none of the cases.
    """
    folder = Path(folder)
    run = read_run(folder)
    calibration = None
    if rule is None and validation is not None:
        calibration = choose_rule(validation)
        rule = calibration.rule
    truth = truth or own_manifest(run)
    if real is not None and judge is None:
        raise CounterscanError("images are compared with real ones in the features of a judge; give --judge, too")
    models, names = Models(classifier, judge, verifier), tuple(path.name for path in case_folders(folder))
    measuring = Measuring(folder, names, truth, rule, models)
    scores, missing = measured(measuring, again, engine, shard)
    if truth is not None and not scores.matched and not missing:
        raise stranger(truth, folder, len(names))
    with Notes(folder).alone(shard) as mine:
        if missing or not mine:
            return {"shard": str(shard), "missing": [str(one) for one in missing]}
        result = {
            "command": command,
            "version": metadata.version("counterscan"),
            **{fact: run.get(fact, "") for fact in ("explainer", "classifier", "target")},
            "n": len(scores.names),
            "metrics": {name: estimate.to_dict() for name, estimate in sorted(scores.estimates().items())},
            "mask_rule": scores.rule.to_dict() if scores.rule else {},
            "calibration": _facts(calibration, validation),
            **({"verifier": promise(verifier.card)} if verifier else {}),
            **({"realism": realism(folder, real, Extractor.of(judge)).to_dict()} if real and judge else {}),
        }
        _write(folder, scores, result, page)
    if shard.whole:
        forget_parts(folder)
    return result


def _write(folder: Path, scores: Scores, result: dict[str, Any], page: bool) -> None:
    write_whole(folder / "scores.csv", text_of(list(scores.rows()), () if scores.names else ["name"]).encode())
    write_whole(folder / "score.json", (json.dumps(result, indent=1) + "\n").encode())
    if page:
        from counterscan.report import write_page

        write_page(folder)


def score_folder(
    folder: Path,
    truth: Path | None = None,
    judge: str = "",
    validation: Path | None = None,
    json_file: Path | None = None,
    classifier: str = "",
    verifier: str = "",
    real: Path | None = None,
    command: str = "",
    engine: Engine = HERE,
    shard: Shard = WHOLE,
) -> str:
    """What `counterscan score` does: names become things, the page is written anew, the answer is a table to print."""
    manifest = find_cases(truth) if truth else None
    run = read_run(folder)
    again = partial(load_models, classifier, judge or run.get("judge", ""), verifier)
    models = again()
    result = score(
        folder,
        manifest,
        models.judge,
        validation,
        classifier=models.classifier,
        verifier=models.verifier,
        real=find_cases(real) if real else None,
        command=command,
        engine=engine,
        shard=shard,
        again=again,
        page=True,
    )
    if json_file is not None and "metrics" in result:
        write_whole(json_file, (json.dumps(result, indent=1) + "\n").encode())
    return printable(result)


def load_models(classifier: str, judge: str, verifier: str) -> Models:
    """Who is asked, by what a person types."""
    from counterscan.classifiers.load import load_classifier

    return Models(
        load_classifier(classifier) if classifier else None,
        load_classifier(judge) if judge else None,
        load_verifier(verifier) if verifier else None,
    )


def choose_rule(
    validation: str | Path, healthy_limit: float = HEALTHY_LIMIT, truth: Manifest | None = None
) -> Calibration:
    """The best mask rule on the explanations of validation images; see `calibration.search`.

    Where an image already answered as asked its map counts as empty, as it does when masks are made.
    """
    validation = Path(validation)
    truth = truth or own_manifest(read_run(validation))
    if truth is None:
        raise ManifestError(f"the images explained in {validation} have no manifest, so no masks to choose a rule on")
    heatmaps, truths = [], []
    every = -(-len(case_folders(validation)) // ENOUGH)
    for _, explanation, known in with_truth(validation, truth, None, every):
        if known.mask is not None:
            heatmaps += list(explanation.heatmap * attempted(explanation).view(-1, 1, 1, 1))
            truths += list(known.mask)
    return search(heatmaps, truths, healthy_limit)


def compare(first: str | Path, second: str | Path) -> dict[str, Estimate]:
    """The mean of first minus second for every metric, with a paired interval by patient, from two scores.csv.

    Images are matched by name and slice; only those defined in both count.
    """
    left, right = read_scores(first), read_scores(second)
    shared = [key for key in left if key in right]
    if not shared:
        raise CounterscanError(f"{first} and {second} share no image; score two explanations of the same images")
    patients = [left[key]["patient"] for key in shared]
    metrics = [name for name in left[shared[0]] if name not in ("name", "slice", "patient")]
    sides = [{m: [float(side[k].get(m) or "nan") for k in shared] for m in metrics} for side in (left, right)]
    found = {name: paired(sides[0][name], sides[1][name], patients) for name in metrics}
    return {name: estimate for name, estimate in found.items() if estimate.n}


def printable(result: dict[str, Any]) -> str:
    """The figures as a table for a person, with the mask rule they were taken with."""
    if "metrics" not in result:
        return f"part {result['shard']} is measured; {what_is_left(result['missing'], 'the figures')}"
    lines = [f"{result['explainer']}, {result['n']} images"]
    for name, figure in result["metrics"].items():
        interval = f"{figure['low']:.3g} to {figure['high']:.3g}"
        lines.append(f"  {name:<26}{figure['value']:>9.3g}   {interval:<20} n={figure['n']}")
    if "identity_kept" in result["metrics"] and "verifier" in result:
        lines.append(f"  {beside(result['metrics']['identity_kept'], result['verifier'])}")
    lines += _beside_real(result["realism"]) if "realism" in result else []
    if result["mask_rule"]:
        lines.append(f"  mask rule: {MaskRule.from_dict(result['mask_rule']).describe()}")
    if (calibration := result["calibration"]) and not calibration["feasible"]:
        lines.append(f"  no rule kept healthy images silent; this one masks {calibration['healthy_mask_share']:.0%}")
    return "\n".join(lines)


def _beside_real(realism: dict[str, Any]) -> list[str]:
    """Each figure of the set beside its floor, that of other real images."""
    lines = [f"  {realism['n']} counterfactuals against {realism['n_real']} real images, in {realism['extractor']}"]
    for name, figure in realism["metrics"].items():
        floor = figure["floor"]["value"] if figure["floor"] else float("nan")
        lines.append(f"  {name:<26}{figure['value']:>9.3g}   real ones {floor:.3g}")
    return lines


def read_run(folder: str | Path) -> dict[str, Any]:
    """The facts in run.json; CounterscanError for a folder that `explain` did not write."""
    path = Path(folder) / "run.json"
    if not path.exists():
        raise CounterscanError(f"{folder} holds no run.json; name the --out of `counterscan explain`")
    return json.loads(path.read_text())


def read_scores(folder: str | Path) -> dict[tuple[str, str], dict[str, str]]:
    """Rows of scores.csv by name and slice."""
    path = Path(folder) / "scores.csv"
    if not path.exists():
        raise CounterscanError(f"{folder} is not scored; run counterscan score {folder}")
    with path.open(newline="") as file:
        return {(row["name"], row["slice"]): row for row in csv.DictReader(file)}


def own_manifest(run: dict[str, Any]) -> Manifest | None:
    """The manifest that a run explained, where it still lies there and has labels."""
    path = Path(run.get("manifest") or "")
    if not run.get("manifest") or not path.exists():
        return None
    manifest = read_manifest(path, run["dataset"]) if run.get("dataset") else find_cases(path)
    return manifest if manifest.classes else None


def _facts(calibration: Calibration | None, validation: str | Path | None) -> dict[str, Any] | None:
    if calibration is None:
        return None
    share = None if np.isnan(calibration.healthy_mask_share) else round(calibration.healthy_mask_share, 4)
    facts = {key: getattr(calibration, key) for key in ("feasible", "n_lesion", "n_healthy")}
    return {"validation": str(validation), "iou": round(calibration.iou, 4), "healthy_mask_share": share, **facts}
