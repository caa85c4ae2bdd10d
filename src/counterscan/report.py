"""One page for people: every case of one or several runs, self-contained, opened from disk."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from counterscan import pictures
from counterscan.core import Explanation
from counterscan.data.files import written_whole
from counterscan.errors import CounterscanError
from counterscan.kept import as_kept, finished_cases, read_json, read_rows
from counterscan.metrics.confidence import of_largest
from counterscan.metrics.confidence import told as told_confidence
from counterscan.metrics.masks import mask_of
from counterscan.templating import page_style, template
from counterscan.volumes.content import delivered

SHOWN = 400  # cases a page shows; with more it would be too large to open
SIDE = 384  # pixels: larger pictures are shrunk to this
HEADLINE = ("flip_rate", "judge_flip_rate", "iou", "twin_ratio", "healthy_mask_share", "auprc")  # tiles, if scored
ABBREVIATIONS = {
    "iou": "IoU",
    "best_iou": "best IoU",
    "dice": "Dice",
    "auprc": "AUPRC",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
}
IN_CASE = ("iou", "twin_ratio", "judge_flip_rate", "auprc")  # scores told with each case


@dataclass(frozen=True)
class Run:
    """A folder that `explain` wrote, and what `score` added."""

    folder: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What run.json says."""
        return _json(self.folder / "run.json")

    @cached_property
    def scored(self) -> dict[str, Any]:
        """What score.json says; empty before `score`."""
        return _json(self.folder / "score.json")

    @property
    def metrics(self) -> dict[str, dict]:
        """The scored metrics by name."""
        return self.scored.get("metrics", {})

    @cached_property
    def scores(self) -> dict[tuple[str, int], dict[str, str]]:
        """Scores of each image by name and slice."""
        path = self.folder / "scores.csv"
        if not path.exists():
            return {}
        with as_kept(path):
            return {(row["name"], int(row["slice"])): row for row in read_rows(path, "name", "slice")}

    @cached_property
    def names(self) -> list[str]:
        """The finished cases."""
        return [case.name for case in finished_cases(self.folder)]

    @cached_property
    def label(self) -> str:
        """What the method is called: the class of the explainer."""
        return str(self.facts.get("explainer") or self.folder.name).partition("(")[0]

    @cached_property
    def counts(self) -> dict[str, Any]:
        """How many cases were attempted, found, already there or failed, and the median seconds, from all of them."""
        rows = _rows(self.folder / "cases.csv")
        attempted = [row for row in rows if row.get("already") != "True"]
        found = sum(row.get("found") == "True" for row in attempted)
        with as_kept(self.folder / "cases.csv"):
            seconds = [float(row["seconds"]) for row in rows if row.get("seconds")]
        return {
            "cases": len(rows) or len(self.names),
            "attempted": len(attempted),
            "already": len(rows) - len(attempted),
            "found": found if any(row.get("found") for row in rows) else None,
            "failed": len(_rows(self.folder / "failed.csv")),
            "seconds": float(np.median(seconds)) if seconds else None,
        }

    @cached_property
    def heat_limit(self) -> float:
        """What a full colour means in this run's heat maps: near the largest of all cases, so that they compare."""
        peaks = [float(self.load(name).one.heatmap.max()) for name in self.names[:SHOWN]]
        return float(np.quantile(peaks, 0.9)) or 1.0

    def load(self, name: str) -> "Shown":
        """One case as it was delivered, with the mask rule it was scored with, so that mask and figures agree."""
        explanation = Explanation.load(self.folder / "cases" / name)
        rule = self.scored.get("mask_rule") or explanation.meta.get("mask_rule")
        shown = int(explanation.target.score(explanation.before).argmin())
        one = explanation.select(slice(shown, shown + 1))  # what is not shown of a volume stays on disk
        return Shown(delivered(replace(one, meta={**one.meta, "mask_rule": rule})), shown, len(explanation))

    def truth(self, name: str, kind: str, shape: tuple[int, ...]) -> Tensor | None:
        """The true mask or twin of a case `(slices, 1, h, w)` in [-1, 1] as `score` kept it."""
        path = self.folder / "truth" / f"{name}.{kind}.png"
        if not path.exists():
            return None
        pixels = torch.from_numpy(np.array(Image.open(path).convert("L"))).float() / 127.5 - 1
        return pixels.view(shape[0], 1, *shape[2:])


@dataclass(frozen=True)
class Shown:
    """What a page shows of a case: `one` image, of a volume the slice `index` of `count` furthest from the target."""

    one: Explanation
    index: int
    count: int


def write_page(folders: str | Path | Sequence[str | Path], out: str | Path | None = None, title: str = "") -> Path:
    """Write one page about one run, or about several side by side, and answer where it is.

    Runs of the same classifier, target and manifest share a section, where each case shows all of them. The page goes
    to `out`, by default `index.html` in the first folder. Cases are read one at a time and the page is written as it
    grows; it shows the first `SHOWN` of each section and says so. Raises CounterscanError where nothing is finished, or
    something is damaged.
    """
    folders = [folders] if isinstance(folders, str | Path) else list(folders)
    runs = [Run(Path(folder)) for folder in folders]
    if not any(run.names for run in runs):
        raise CounterscanError(f"{runs[0].folder} holds no finished explanations; run counterscan explain first")
    page = Path(out) if out else runs[0].folder / "index.html"
    sections = [_section(group) for group in _grouped(runs)]
    with written_whole(page) as part, part.open("w", encoding="utf-8") as file:
        for text in _whole().generate(title=title, sections=sections, style=page_style(), script=template("page.js")):
            file.write(text)
    return page


@cache
def _whole() -> Any:
    """The template of the page."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "spoken": _spoken}
    return environment.from_string(template("page.html"))


def _grouped(runs: list[Run]) -> list[list[Run]]:
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        key = tuple(str(run.facts.get(name, "")) for name in ("classifier", "target", "manifest"))
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def _section(runs: list[Run]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for run in runs for name in run.names))
    scored = list(dict.fromkeys(name for run in runs for name in run.metrics))
    first = runs[0]
    return {
        "classifier": _short(str(first.facts.get("classifier", ""))),
        "target": first.facts.get("target", ""),
        "runs": [
            {"label": run.label, "facts": run.facts, "counts": run.counts, "metrics": run.metrics} for run in runs
        ],
        "tiles": _tiles(first),
        "compared": [name for name in HEADLINE if name in scored],
        "metrics": sorted(scored, key=lambda name: (name not in HEADLINE, name)),
        "total": len(names),
        "cases": (_case(runs, name) for name in names[:SHOWN]),  # a generator: one case in memory at a time
        "shown": min(len(names), SHOWN),
        "scores": [name for name in IN_CASE if any(name in run.metrics for run in runs)],
        "blinks": any(run.counts["found"] is not None for run in runs),
    }


def _tiles(run: Run) -> list[dict[str, str]]:
    """The headline: how many flipped, then what was scored, then the cost."""
    counts, tiles = run.counts, []
    if counts["found"] is not None and counts["attempted"]:
        share = counts["found"] / counts["attempted"]
        note = f"{counts['found']} of {counts['attempted']} reached the target"
        tiles.append({"name": "flipped", "value": f"{share:.0%}", "note": note})
    for name in HEADLINE:
        if name in run.metrics and name != "flip_rate" and run.metrics[name]["value"] is not None:
            figure = run.metrics[name]
            note = f"{_number(figure['low'])} to {_number(figure['high'])}, n={figure['n']}"
            tiles.append({"name": name, "value": _number(figure["value"]), "note": note})
    if counts["already"]:
        tiles.append({"name": "already there", "value": str(counts["already"]), "note": f"of {counts['cases']} cases"})
    if counts["failed"]:
        tiles.append({"name": "failed", "value": str(counts["failed"]), "note": "see failed.csv"})
    if counts["seconds"] is not None:
        tiles.append({"name": "seconds a case", "value": _number(counts["seconds"]), "note": "median"})
    return tiles


def _case(runs: list[Run], name: str) -> dict[str, Any]:
    """All that the page says of one case; ScanError where what is kept of it does not fit together."""
    with as_kept(runs[0].folder / "cases" / name):
        return _told(runs, name)


def _told(runs: list[Run], name: str) -> dict[str, Any]:
    """The image once, then what each run made of it."""
    loaded = [(run, run.load(name)) for run in runs if (run.folder / "cases" / name / "explanation.json").exists()]
    run, first = loaded[0]
    image, shown = first.one.images[0], first.index
    truths = {kind: run.truth(name, kind, (first.count, *image.shape)) for kind in ("mask", "twin")}
    methods = [_method(each, name, case) for each, case in loaded]
    facts = first.one.meta.get("case", {})
    lead = methods[0]
    return {
        "name": name,
        "note": ", ".join(
            filter(None, [facts.get("patient") or "", f"slice {shown + 1} of {first.count}" * (first.count > 1)])
        ),
        "labels": [label for label, value in facts.get("labels", {}).items() if value],
        "image": _embedded(pictures.grey(image)),
        "size": {"width": image.shape[-1], "height": image.shape[-2]},
        **_overlays(truths["mask"], shown),
        "twin": None if truths["twin"] is None else _embedded(pictures.grey(truths["twin"][shown])),
        "methods": methods,
        "answers": _answers(first.one) if len(methods) == 1 else [],
        "sort": {"name": name, **lead["sort"]},
        "state": lead["state"],
    }


def _method(run: Run, name: str, shown: Shown) -> dict[str, Any]:
    explanation = pictures.shown_plane(shown.one)
    difference = explanation.difference
    mask = mask_of(explanation)
    scores = run.scores.get((name, shown.index), {})
    told = {key: float(scores[key]) for key in IN_CASE if scores.get(key)}
    change = None if difference is None else float(difference.abs().mean() / 2)
    asked = _asked(explanation)
    sort = {"before": asked["before"], "after": asked["after"], "change": change, "mask": float(mask.float().mean())}
    method: dict[str, Any] = {
        "label": run.label,
        "state": _state(explanation),
        "mask": _overlay(mask[0], _line, pictures.PREDICTED),
        "sure": told_confidence(of_largest(shown.one)) if shown.count == 1 else "",  # of a volume see its own page
        "scores": told,
        "change": change,
        "sort": {**sort, **told},
        "answers": _answers(explanation),
        "searched": _searched(shown.one),
        "counterfactual": None,
    }
    if difference is None or explanation.counterfactual is None:
        heat = pictures.heat_picture(explanation.heatmap[0], explanation.images[0], run.heat_limit)
        return {**method, "heat": _embedded(heat)}
    limit = pictures.difference_limit(difference[0])
    return {
        **method,
        "counterfactual": _embedded(pictures.grey(explanation.counterfactual[0])),
        "difference": _embedded(pictures.difference_picture(difference[0], limit, dark=True)),
        "limit": f"{limit:.0%}",
        "film": _film(run.folder / "cases" / name),
    }


def _film(folder: Path) -> str | None:
    """The animation that `explain` wrote beside a case that has a path, as a data address."""
    path = folder / "film.webp"
    return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}" if path.exists() else None


def _searched(explanation: Explanation) -> str:
    """What finding it took, and how far it went in the code of a codec, where the method says so."""
    case = (explanation.meta.get("cases") or [{}])[0]
    if "round_trip" not in case:
        return ""
    parts = [
        f"{case['queries']:.0f} queries",
        f"{case['evaluations']:.0f} evaluations of the network",
        f"reconstruction off by {case['round_trip']:.1%} of the window",
        f"code moved by {case['step']:.2g} deviations to a radius of {case['radius']:.3g} (bound {case['bound']:.3g})",
    ]
    return " · ".join(parts) + ". The reconstruction alone is answered as asked." * case["reconstruction_flips"]


def _state(explanation: Explanation) -> str:
    if bool(explanation.target.reached(explanation.before)[0]):
        return "already there"
    if explanation.counterfactual is None:
        return "attributed"
    return "found" if bool(explanation.found[0]) else "not found"


def _answers(explanation: Explanation) -> list[dict[str, Any]]:
    """Probabilities of each class before and after, those asked for first."""
    classes = explanation.meta.get("classes") or [f"class {i}" for i in range(explanation.before.shape[1])]
    wanted = dict(explanation.target.wanted)
    before = explanation.before[0].sigmoid().tolist()
    after = [None] * len(before) if explanation.after is None else explanation.after[0].sigmoid().tolist()
    order = sorted(range(len(before)), key=lambda index: index not in wanted)
    return [{"name": classes[i], "before": before[i], "after": after[i], "asked": i in wanted} for i in order]


def _asked(explanation: Explanation) -> dict[str, float | None]:
    """The one class to sort by: of those asked for, the one furthest from the probability wanted."""
    before = explanation.before[0].sigmoid()
    index, _ = max(explanation.target.wanted, key=lambda want: abs(float(before[want[0]]) - want[1]))
    after = None if explanation.after is None else float(explanation.after[0, index].sigmoid())
    return {"before": float(before[index]), "after": after}


def _overlays(truth: Tensor | None, shown: int) -> dict[str, str | None]:
    """The true lesion as an area to lie over the image, and as a line to lie over a heat map."""
    if truth is None:
        return {"truth": None, "truth_line": None}
    mask = truth[shown] > 0
    return {
        "truth": _overlay(mask, pictures.tint, pictures.TRUE),
        "truth_line": _overlay(mask, _line, pictures.TRUE),
    }


def _overlay(mask: Tensor, draw: Callable, colour: tuple[int, int, int]) -> str | None:
    """A transparent picture of a mask `(1, h, w)`; None where it is empty."""
    if not mask.any():
        return None
    factor = max(1, round(SIDE / max(mask.shape[-2:])))
    return _embedded(draw(mask, (mask.shape[-1] * factor, mask.shape[-2] * factor), colour), "PNG")


def _line(mask: Tensor, size: tuple[int, int], colour: tuple[int, int, int]) -> Image.Image:
    return pictures.outline(mask, size, colour, width=3)  # pages show it smaller than it is drawn


def _embedded(picture: Image.Image, form: str = "WEBP") -> str:
    """The picture as a data address, so that the page needs nothing beside it."""
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, form, quality=92)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _spoken(name: str) -> str:
    """A metric's name as people say it."""
    return ABBREVIATIONS.get(name, name.replace("_", " "))


def _short(classifier: str) -> str:
    """A shipped name as it is, of a file or folder its own name."""
    return Path(classifier).name if Path(classifier).is_absolute() else classifier


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.2g}"


def _json(path: Path) -> dict:
    return read_json(path) if path.exists() else {}


def _rows(path: Path) -> list[dict[str, str]]:
    return read_rows(path) if path.exists() else []
