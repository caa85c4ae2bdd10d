"""Measure a folder of explanations: every metric with its interval, case by case, in the form of `results/`."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from counterscan.classifiers.features import Extractor
from counterscan.core import Classifier, Explanation
from counterscan.data.files import write_whole
from counterscan.data.manifest import Case, Manifest, find_cases, read_manifest
from counterscan.errors import CounterscanError, ManifestError
from counterscan.metrics.calibration import HEALTHY_LIMIT, LEVELS, SHARES, Calibration, iou_curve, search
from counterscan.metrics.confidence import Objects
from counterscan.metrics.identity import Verifier, beside, identity, load_verifier, promise
from counterscan.metrics.intervals import Estimate, bootstrap, paired
from counterscan.metrics.masks import MaskRule
from counterscan.metrics.populations import realism
from counterscan.metrics.truth import Truth, read_truth
from counterscan.metrics.validity import attempted
from counterscan.pictures import grey
from counterscan.registry import METRICS

ENOUGH = 2000  # images that a mask rule is chosen on; of more, every so manieth is taken


@dataclass
class Scores:
    """Values per image, as they come: nothing here grows with the images' size."""

    names: list[str] = field(default_factory=list)
    slices: list[int] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    curves: dict[bool, list[np.ndarray]] = field(default_factory=lambda: {False: [], True: []})
    objects: Objects = field(default_factory=Objects)

    def add(
        self,
        name: str,
        explanation: Explanation,
        truth: Truth,
        verifier: Verifier | None = None,
        **judges: Classifier | None,
    ) -> None:
        """Measure one case, each of its slices an image."""
        self.names += [name] * len(explanation)
        self.slices += range(len(explanation))
        self.patients += truth.patients
        found = {metric: METRICS[metric](explanation, truth=truth, **judges) for metric in METRICS}
        if verifier is not None:
            found |= identity(explanation, verifier, truth)
        for metric, values in found.items():
            self.values.setdefault(metric, []).extend(values.tolist())
        for relative, curves in self.curves.items():
            curves += _curves(explanation, truth, relative)
        self.objects.add(explanation, truth)

    def estimates(self) -> dict[str, Estimate]:
        """The mean of each metric that is defined for some image, with its interval by patient.

        `confidence_error` is the expected calibration error of how sure masks say they are of their objects.
        """
        found = {name: bootstrap(values, self.patients) for name, values in self._with_best().items()}
        if self.objects.hits:
            found["confidence_error"] = self.objects.error()
        return {name: estimate for name, estimate in found.items() if estimate.n}

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row an image: its name, slice and patient, and what is defined of its values."""
        columns = self._with_best()
        for index, name in enumerate(self.names):
            row = {"name": name, "slice": self.slices[index], "patient": self.patients[index]}
            known = {key: values[index] for key, values in columns.items()}
            yield {**row, **{key: "" if np.isnan(value) else float(f"{value:.6g}") for key, value in known.items()}}

    def _with_best(self) -> dict[str, list[float]]:
        """The values, and `best_iou`: IoU at the one threshold, absolute or relative, that is best on these images."""
        best, highest = np.full(len(self.names), np.nan), -1.0
        for curves in self.curves.values():
            table = np.array(curves, dtype=np.float32)
            lesion = ~np.isnan(table).any(1) if len(table) else np.zeros(0, bool)
            means = table[lesion].mean(0) if lesion.any() else np.zeros(1)
            if lesion.any() and means.max() > highest:
                best, highest = table[:, means.argmax()].astype(float), float(means.max())
        return {**self.values, "best_iou": best.tolist()}


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
) -> dict[str, Any]:
    """Score what `explain` wrote into `folder`, reading one case at a time; write score.json and scores.csv there.

    `truth` says where lesions are; without it the manifest that was explained is asked. Masks are made by `rule`, else
    by one chosen on the explanations in `validation` (their own manifest's masks), else by the rule they carry. A
    `verifier` says whether counterfactuals keep the anatomy, beside the rate that its card says true pairs reach. With
    `real` images the counterfactuals are compared with those that show what was asked for, as sets, in the features of
    the judge (`metrics/populations.py`).
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
    scores, used = Scores(), rule
    for name, explanation, known in with_truth(folder, truth, rule):
        scores.add(name, explanation, known, verifier, classifier=classifier, judge=judge)
        _keep_truth(folder / "truth", name, known)
        used = MaskRule.of(explanation)
    result = {
        "command": command,
        "version": metadata.version("counterscan"),
        "explainer": run.get("explainer", ""),
        "classifier": run.get("classifier", ""),
        "target": run.get("target", ""),
        "n": len(scores.names),
        "metrics": {name: estimate.to_dict() for name, estimate in sorted(scores.estimates().items())},
        "mask_rule": used.to_dict() if used else {},
        "calibration": _facts(calibration, validation),
        **({"verifier": promise(verifier.card)} if verifier else {}),
        **({"realism": realism(folder, real, Extractor.of(judge)).to_dict()} if real and judge else {}),
    }
    write_whole(folder / "scores.csv", _table(list(scores.rows())).encode())
    write_whole(folder / "score.json", (json.dumps(result, indent=1) + "\n").encode())
    return result


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
) -> str:
    """What `counterscan score` does: names become things, the page is written anew, the answer is a table to print."""
    from counterscan.classifiers.load import load_classifier
    from counterscan.report import write_page

    manifest = find_cases(truth) if truth else None
    run = read_run(folder)
    needed = Explanation.load(case_folders(folder)[0]).reconstruction is not None  # to measure what the codec flips
    result = score(
        folder,
        manifest,
        load_classifier(judge or run["judge"]) if judge or run.get("judge") else None,
        validation,
        classifier=load_classifier(classifier or run["classifier"]) if classifier or needed else None,
        verifier=load_verifier(verifier) if verifier else None,
        real=find_cases(real) if real else None,
        command=command,
    )
    if json_file is not None:
        write_whole(json_file, (json.dumps(result, indent=1) + "\n").encode())
    write_page(folder)
    return printable(result)


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


def case_folders(folder: str | Path) -> list[Path]:
    """The folders of finished cases, by name."""
    found = sorted(path.parent for path in Path(folder).glob("cases/*/explanation.json"))
    if not found:
        raise CounterscanError(f"{folder} holds no finished explanations; run counterscan explain again")
    return [path for path in found if not path.name.startswith(".")]


def with_truth(
    folder: str | Path, truth: Manifest | None, rule: MaskRule | None, every: int = 1
) -> Iterator[tuple[str, Explanation, Truth]]:
    """Name, explanation (carrying `rule` if given) and truth of each case, one at a time."""
    known = _index(truth) if truth else {}
    paths, matched = case_folders(folder)[::every], False
    for path in paths:
        explanation = Explanation.load(path)
        if rule is not None:
            explanation = replace(explanation, meta={**explanation.meta, "mask_rule": rule.to_dict()})
        facts = explanation.meta.get("case", {})
        case = known.get(facts.get("path", "")) or known.get(facts.get("name", path.name))
        matched = matched or case is not None
        if case is not None and truth is not None:
            yield path.name, explanation, read_truth(truth, case, explanation)
        else:
            patients = (facts.get("patient") or path.name,) * len(explanation)
            yield path.name, explanation, Truth(patients=patients)
    if truth is not None and not matched:
        raise ManifestError(
            f"{truth.root} knows none of the {len(paths)} cases in {folder}; give the manifest they are from"
        )


def _index(manifest: Manifest) -> dict[str, Case]:
    return {key: case for case in manifest.cases for key in (case.name, str(case.path))}


def _curves(explanation: Explanation, truth: Truth, relative: bool) -> Iterator[np.ndarray]:
    empty = np.full(len(SHARES if relative else LEVELS), np.nan, np.float32)
    heatmaps = explanation.heatmap * attempted(explanation).view(-1, *[1] * (explanation.heatmap.ndim - 1))
    for index in range(len(explanation)):
        if truth.mask is None or not truth.mask[index].any():
            yield empty
        else:
            heat = heatmaps[index, 0].float().numpy()
            yield iou_curve(heat, truth.mask[index, 0].numpy(), relative).astype(np.float32)


def _keep_truth(folder: Path, name: str, truth: Truth) -> None:
    """Pictures of mask and twin for the page, the slices of a volume below one another."""
    for ending, known in (("mask", truth.mask), ("twin", truth.twin)):
        if known is not None:
            images = known.float() * 2 - 1 if ending == "mask" else known
            file = io.BytesIO()
            grey(torch.cat(list(images), dim=-2)).save(file, "PNG")
            write_whole(folder / f"{name}.{ending}.png", file.getvalue())


def _facts(calibration: Calibration | None, validation: str | Path | None) -> dict[str, Any] | None:
    if calibration is None:
        return None
    share = None if np.isnan(calibration.healthy_mask_share) else round(calibration.healthy_mask_share, 4)
    facts = {key: getattr(calibration, key) for key in ("feasible", "n_lesion", "n_healthy")}
    return {"validation": str(validation), "iou": round(calibration.iou, 4), "healthy_mask_share": share, **facts}


def _table(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["name"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
