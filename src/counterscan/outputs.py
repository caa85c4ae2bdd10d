"""What a job leaves behind for each case: a folder with everything (`explain`), or a mask (`segment`)."""

import glob
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from counterscan.classifiers.wrappers import Fitted
from counterscan.core import Explanation
from counterscan.data.alignment import Placed
from counterscan.data.batches import read_mask
from counterscan.data.bits import Bits
from counterscan.data.files import write_whole
from counterscan.data.fitting import fit_mask
from counterscan.data.maker import Maker
from counterscan.data.manifest import Case
from counterscan.data.measurements import Numbers
from counterscan.data.opening import open_scan, part_of
from counterscan.data.results import write_change, write_heatmap, write_mask, write_masks, write_report
from counterscan.data.scans import Scan
from counterscan.data.sums import NAME, intact, sums_of, write_sums
from counterscan.data.table import text_of
from counterscan.errors import CounterscanError, ScanError
from counterscan.kept import read_json
from counterscan.metrics.confidence import of_largest, told
from counterscan.metrics.lesions import Grid
from counterscan.metrics.masks import mask_of
from counterscan.pictures import case_figure, film_strip, save_film
from counterscan.volumes.content import Content, delivered
from counterscan.volumes.page import SlicePictures
from counterscan.volumes.stream import Volume, collected
from counterscan.volumes.tensors import SliceTensors, some_slices

if TYPE_CHECKING:
    from counterscan.engine import Job

PART = ".part"
PACKED = 3  # of 9: packing a figure took longer than most explainers, and takes half as long so; a sixth more bytes


class CaseFolders:
    """`cases/<name>/` with tensors, picture, and results in the scan's format; it appears when it is whole."""

    def __init__(self, out: Path):
        self.folder = out / "cases"

    def sweep(self) -> None:
        """Remove what a killed run left half-written."""
        for path in self.folder.glob(f".*{PART}"):
            shutil.rmtree(path)

    def finished(self, case: Case) -> dict[str, Any] | None:
        """The row of a finished case, None for any other, and where a file of it is not as it was written."""
        path = self.folder / case.name / "explanation.json"
        whole = path.exists() and intact(path.with_name(NAME), case.name)
        return read_json(path)["meta"]["row"] if whole else None

    def write(self, job: "Job", case: Case, scan: Scan, explanation: Explanation) -> dict[str, Any]:
        """Write everything about one case and answer its row."""
        with self._part(case) as part:
            return self._finish(job, case, scan, explanation, part)

    def write_volume(self, job: "Job", case: Case, scan: Scan, grid: Grid) -> dict[str, Any]:
        """Explain one volume slice by slice, write everything about it and answer its row."""
        with self._part(case) as part:
            pictures, tensors = SlicePictures(part / "volume.html", job.target), SliceTensors(part, len(scan))

            def keep(explanation: Explanation) -> dict[str, list]:
                tensors.take(explanation)
                return _judge_says(job, explanation)

            volume = collected(job, scan, grid, pictures, keep)
            place = {"rule": volume.rule.to_dict(), "pixel": grid.pixel, "places": grid.places.tolist()}
            answers = replace(volume.answers, meta={**volume.answers.meta, "volume": place})
            answers = replace(answers, meta=_facts(job, case, scan, answers))
            masks = Bits.of(volume.masks(), (len(scan), *scan.pixels.shape[2:]))
            _write_lesions(volume, pictures, job, case, part / "lesions.json")
            files = _results(job, scan, delivered(answers), Content.of_volume(part, answers, scan), masks, part)
            row, answers = _told(job, case, scan, answers, files, volume.mask_share, volume.confidence)
            row |= _counted(volume)
            shown = telling_slice(job, answers)
            one = delivered(some_slices(part, answers, slice(shown, shown + 1)))
            outline = torch.from_numpy(volume.found.mask(shown))[None, None]
            _draw(job, case, one, outline, shown, part)
            tensors.finish(replace(answers, meta={**answers.meta, "row": row}))
            self._appear(part, case)
            return row

    @contextmanager
    def _part(self, case: Case) -> Iterator[Path]:
        """The folder that a case is written into, which goes away where something cannot be written."""
        part = self.folder / f".{case.name}{PART}"
        part.mkdir(parents=True, exist_ok=True)
        try:
            yield part
        except (CounterscanError, OSError):
            shutil.rmtree(part, ignore_errors=True)
            raise

    def _appear(self, part: Path, case: Case) -> None:
        """Give what was written the case's name, with the sums of it; what has that name was damaged."""
        write_sums(part / NAME, sums_of(part, (path for path in part.rglob("*") if path.is_file())))
        shutil.rmtree(self.folder / case.name, ignore_errors=True)
        os.replace(part, self.folder / case.name)

    def lesions(self, name: str) -> Path:
        """Where the lesions of a finished volume are."""
        return self.folder / name / "lesions.json"

    def _finish(self, job: "Job", case: Case, scan: Scan, explanation: Explanation, part: Path) -> dict[str, Any]:
        explanation, mask = _settle(job, case, scan, explanation)
        kept = delivered(explanation)
        files = _results(job, scan, kept, Content.of(kept, scan), _at_scan(mask, scan).numpy(), part)
        shown = telling_slice(job, kept)
        one = slice(shown, shown + 1)
        files |= _film(job, kept.select(one), part)
        row, explanation = _told(
            job, case, scan, explanation, files, float(mask.float().mean()), of_largest(explanation)
        )
        _draw(job, case, kept.select(one), mask[one], shown, part)
        replace(explanation, meta={**explanation.meta, "row": row}).save(part)
        self._appear(part, case)
        return row


class MaskFiles:
    """`masks/` mirrors the input folder; `cases/<name>.json`, written last, says that a case is finished."""

    def __init__(self, out: Path):
        self.out = out

    def sweep(self) -> None:
        """Remove the pictures that a killed run had collected; all else is written whole."""
        for path in self.out.glob(f"volumes/.*{PART}"):
            path.unlink()

    def finished(self, case: Case) -> dict[str, Any] | None:
        """The row of a finished case, None for any other, and where a file of it is not as it was written."""
        path = self.out / "cases" / f"{case.name}.json"
        return read_json(path) if path.exists() and intact(path.with_suffix(".sha256"), case.name) else None

    def write(self, job: "Job", case: Case, scan: Scan, explanation: Explanation) -> dict[str, Any]:
        """Write the mask of one case and answer its row."""
        explanation, mask = _settle(job, case, scan, explanation)
        pixels = _at_scan(mask, scan).numpy()
        written = write_mask(scan, pixels, self._place(job, case, scan), _maker(job, explanation))
        row = _row(job, case, explanation, float(mask.float().mean()), of_largest(explanation))
        return self._done(case, row, written)

    def write_volume(self, job: "Job", case: Case, scan: Scan, grid: Grid) -> dict[str, Any]:
        """Explain one volume slice by slice; write its mask, its lesions and their page, and answer its row."""
        pictures = SlicePictures(self.out / "volumes" / f"{case.name}.html", job.target)
        volume = collected(job, scan, grid, pictures)
        already = job.target.reached(volume.answers.before).tolist()
        answers = replace(volume.answers, meta={**volume.answers.meta, "already": already})
        written = write_masks(scan, volume.masks(), self._place(job, case, scan), _maker(job, answers))
        _write_lesions(volume, pictures, job, case, self.lesions(case.name))
        row = _row(job, case, answers, volume.mask_share, volume.confidence)
        return self._done(case, row | _counted(volume), written)

    def lesions(self, name: str) -> Path:
        """Where the lesions of a finished volume are."""
        return self.out / "volumes" / f"{name}.lesions.json"

    def _done(self, case: Case, row: dict[str, Any], written: Path) -> dict[str, Any]:
        row = {**row, "mask": written.relative_to(self.out).as_posix()}
        path, content = self.out / "cases" / f"{case.name}.json", (json.dumps(row) + "\n").encode()
        sums = sums_of(path.parent, [written, *(self.out / "volumes").glob(f"{glob.escape(case.name)}.*")])
        write_sums(path.with_suffix(".sha256"), sums | {path.name: hashlib.sha256(content).hexdigest()})
        write_whole(path, content)
        return row

    def _place(self, job: "Job", case: Case, scan: Scan) -> Path:
        inside = case.path.is_relative_to(job.manifest.root)
        path = case.path.relative_to(job.manifest.root) if inside else Path(case.name)
        stem = path.name.lower().removesuffix(scan.suffix).removesuffix(scan.mask_suffix)
        return self.out / "masks" / path.parent / (path.name[: len(stem)] + scan.mask_suffix)


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write `rows` as CSV with every column that any of them has; no rows, no file."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    write_whole(path, text_of(rows).encode())


def lesion_rows(output: CaseFolders | MaskFiles, rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One line of lesions.csv for each lesion of the volumes among the finished cases."""
    for row in rows:
        if row.get("lesions"):
            facts = json.loads(output.lesions(row["name"]).read_text())
            for lesion in facts["lesions"]:
                yield {"name": row["name"], "path": row["path"], **lesion, "coordinates": facts["coordinates"]}


def _write_lesions(volume: Volume, pictures: SlicePictures, job: "Job", case: Case, path: Path) -> None:
    facts = {"name": case.name, "path": str(case.path), **volume.facts()}
    write_whole(path, (json.dumps(facts, indent=1) + "\n").encode())
    pictures.write(volume, case.name, [job.classifier.card.classes[index] for index, _ in job.target.wanted])


def _counted(volume: Volume | None) -> dict[str, Any]:
    """What a row says of a volume beside the rest."""
    if volume is None:
        return {}
    found = volume.found.lesions
    return {"lesions": len(found), "lesions_ml": round(sum(lesion.ml for lesion in found), 3)}


def _settle(job: "Job", case: Case, scan: Scan, explanation: Explanation) -> tuple[Explanation, Tensor]:
    """The explanation with the case's facts in its meta, and its mask `(b, 1, h, w)`: empty where already there."""
    meta = {**_facts(job, case, scan, explanation), **_judge_says(job, explanation)}
    explanation = replace(explanation, meta=meta)
    return explanation, mask_of(explanation)


def _facts(job: "Job", case: Case, scan: Scan, explanation: Explanation) -> dict[str, Any]:
    """The explanation's meta with what is known of the case."""
    meta = {
        **explanation.meta,
        "case": {
            "name": case.name,
            "path": str(case.path),
            "patient": case.patient or case.name,
            "split": case.split,
            "labels": case.labels,
        },
        "window": list(scan.window.as_tuple()),
        "grid": Placed.of(scan).to_dict(),
        "already": job.target.reached(explanation.before).tolist(),
    }
    if job.rule is not None:
        meta["mask_rule"] = job.rule.to_dict()
    if job.judge is not None:
        meta["judge"] = job.judge.card.name
    return meta


def _judge_says(job: "Job", explanation: Explanation) -> dict[str, list]:
    if job.judge is None:
        return {}
    told = {"judge_before": _judged(job, explanation.images)}
    if explanation.counterfactual is not None:
        told["judge_after"] = _judged(job, explanation.counterfactual)
    return told


def _results(
    job: "Job", scan: Scan, answers: Explanation, content: Content, mask: np.ndarray | Bits, folder: Path
) -> dict[str, Path]:
    """Write what is delivered, in the scan's format: the mask `(slices, h, w)`, and what else the format can hold."""
    maker = _maker(job, answers)
    path = folder / f"mask{scan.mask_suffix}"
    if isinstance(mask, Bits):
        files = {"mask": write_masks(scan, mask, path, maker)}
    else:
        files = {"mask": write_mask(scan, mask, path, maker)}
    if content.change is not None:
        files["counterfactual"] = write_change(scan, content.change, folder / f"counterfactual{scan.suffix}")
    optional = {"heatmap": write_heatmap(scan, content.maps, folder / f"heatmap{scan.mask_suffix}", maker)}
    beside = [*files.values(), *(path for path in optional.values() if path)]
    optional["report"] = write_report(scan, mask, _numbers(job, scan, answers), beside, folder / "report", maker)
    return files | {what: path for what, path in optional.items() if path}


def _told(
    job: "Job", case: Case, scan: Scan, explanation: Explanation, files: dict[str, Path], share: float, sure: float
) -> tuple[dict[str, Any], Explanation]:
    """The case's row, and the explanation with what is known once its `files` are written."""
    meta = dict(explanation.meta)
    if "counterfactual" in files:
        meta["after_scan"] = _answers_on_file(job, case, scan, files["counterfactual"])
    meta["files"] = {"figure": "figure.png", **{what: path.name for what, path in files.items()}}
    explanation = replace(explanation, meta=meta)
    return _row(job, case, explanation, share, sure), explanation


def _maker(job: "Job", explanation: Explanation) -> Maker:
    card = job.classifier.card
    return Maker(
        explanation.meta["explainer"].partition("(")[0],
        card.name,
        job.target.describe(card),
        explanation.after is not None,
    )


def _numbers(job: "Job", scan: Scan, kept: Explanation) -> Numbers:
    """What the report says: the answers of the telling slice, as the row has them."""
    shown, already = telling_slice(job, kept), torch.tensor(kept.meta["already"])
    after = None if kept.after is None else tuple(kept.after[shown].sigmoid().tolist())
    return Numbers(
        classes=job.classifier.card.classes,
        before=tuple(kept.before[shown].sigmoid().tolist()),
        after=after,
        found=None if after is None else bool((kept.found | already).all()),
        already=bool(already.all()),
        shown=shown,
        spacing=scan.spacing,
    )


def _at_scan(mask: Tensor, scan: Scan) -> Tensor:
    height, width = scan.pixels.shape[2:]
    return fit_mask(mask, (height, width))[:, 0]


@torch.no_grad()
def _answers_on_file(job: "Job", case: Case, scan: Scan, written: Path) -> list[list[float]]:
    """What the classifier says of the counterfactual at the scan's own resolution, as it was written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd about the source was said when it was read
        again = replace(open_scan(written).declared(None, case.slope, case.intercept), window=scan.window)
        parts = (part_of(again, slice(at, at + job.batch)) for at in range(0, len(again), job.batch))
        return [line for part in parts for line in job.classifier(part.images(job.classifier.card.shape)).tolist()]


@torch.no_grad()
def _judged(job: "Job", images: Tensor) -> list[list[float]]:
    assert job.judge is not None
    return Fitted(job.judge, tuple(images.shape[1:]))(images).tolist()


def telling_slice(job: "Job", explanation: Explanation) -> int:
    """The slice that is furthest from the target: the one to show of a volume."""
    return int(job.target.score(explanation.before).argmin())


def _row(job: "Job", case: Case, explanation: Explanation, mask_share: float, confidence: float) -> dict[str, Any]:
    """One line of cases.csv; of a volume the probabilities of its telling slice."""
    shown, meta = telling_slice(job, explanation), explanation.meta
    already = torch.tensor(meta["already"])
    row: dict[str, Any] = {
        "name": case.name,
        "path": str(case.path),
        "patient": case.patient or case.name,
        "slices": len(explanation),
        "already": bool(already.all()),
        "found": bool((explanation.found | already).all()) if explanation.after is not None else "",
        **_probabilities(job, "before", explanation.before[shown]),
    }
    if explanation.after is not None:
        row |= _probabilities(job, "after", explanation.after[shown])
    if "after_scan" in meta:
        row |= _probabilities(job, "scan", torch.tensor(meta["after_scan"][shown]))
        row["found_at_scan"] = bool(job.target.reached(torch.tensor(meta["after_scan"])).all())
    row["mask_share"] = round(mask_share, 6)
    row["confidence"] = told(confidence)
    row["seconds"] = round(float(meta["seconds"]), 4)
    return row


def _probabilities(job: "Job", when: str, log_odds: Tensor) -> dict[str, float]:
    values = log_odds.sigmoid().tolist()
    return {f"p_{when}_{name}": round(p, 4) for name, p in zip(job.classifier.card.classes, values, strict=True)}


def _draw(job: "Job", case: Case, one: Explanation, mask: Tensor, shown: int, folder: Path) -> None:
    """The picture of one slice, `one`, which is number `shown` of its scan."""
    truth = _truth(case, shown, (mask.shape[2], mask.shape[3]))
    figure = case_figure(one, classes=job.classifier.card.classes, mask=mask, truth=truth, title=case.name)
    figure.save(folder / "figure.png", compress_level=PACKED)


def _film(job: "Job", one: Explanation, folder: Path) -> dict[str, Path]:
    """The way to a counterfactual as a strip and as an animation, where it was kept and led there."""
    if one.path is None or not bool(one.found[0]) or bool(job.target.reached(one.before)[0]):
        return {}
    strip, classes = folder / "strip.png", job.classifier.card.classes
    film_strip(one, classes).save(strip)
    return {"strip": strip, "film": save_film(one, folder / "film.webp", classes)}


def _truth(case: Case, shown: int, spatial: tuple[int, int]) -> Tensor | None:
    """The true mask `(1, 1, h, w)` of the slice shown, where the manifest has one that can be read."""
    if case.mask_path is None:
        return None
    try:
        slices = read_mask(case.mask_path)
    except ScanError:  # the figure goes without; `data check` names the file
        return None
    return fit_mask(torch.from_numpy(slices[min(shown, len(slices) - 1)])[None, None], spatial)
