"""What a study may show: real scans of manifests, and what `explain` or a generator made, each read in one way.

A counterfactual is taken from the file that `explain` wrote beside the case, at the scan's own resolution and in the
window of its scan, so that it goes through the very pipeline that a real scan goes through.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from counterscan.data.manifest import Case, find_cases, read_manifest
from counterscan.data.opening import open_case
from counterscan.data.scans import Scan
from counterscan.data.window import Window
from counterscan.errors import CounterscanError, ManifestError
from counterscan.kept import as_kept, finished_cases, read_json

Kind = Literal["real", "synthetic"]


@dataclass(frozen=True)
class Source:
    """One image that may be shown.

    `patient` is whom it shows, `key` the image itself, or the one that a counterfactual was made of. `window` overrides
    what the file says; of a volume the slice at `height` (0 first, 1 last) is shown. `folder` holds its explanation,
    `changed` is the file of its counterfactual.
    """

    kind: Kind
    method: str
    case: Case
    patient: str
    key: str
    window: Window | None = None
    height: float = 0.5
    labels: dict[str, int | None] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    changed: Path | None = None

    @property
    def name(self) -> str:
        """What the case is called."""
        return self.case.name

    def read(self) -> Scan:
        """The scan in the window that it is shown in: a counterfactual in that of its image, not in one of its own."""
        scan = open_case(self.case)
        if self.window is None:
            return scan
        return replace(scan, window=scan.window_for(self.window) if self.window.physical else self.window)

    def counterfactual(self, method: str) -> "Source | None":
        """The counterfactual that `method` made of this image, where it made one."""
        if self.changed is None:
            return None
        made = replace(self.case, path=self.changed, files=(), window=None)
        return replace(self, kind="synthetic", method=method, case=made)

    def plane(self) -> np.ndarray:
        """The slice shown, as `(c, h, w)` float32 in [0, 1]."""
        scan = self.read()
        pixels = scan.pixels[round(self.height * (len(scan) - 1))]
        return (scan.window.to_unit(np.asarray(pixels, np.float32)) + 1) / 2


@dataclass(frozen=True)
class Pool:
    """The images of one kind; `left_out` counts those that cannot be shown, by the reason."""

    sources: tuple[Source, ...]
    left_out: dict[str, int] = field(default_factory=dict)


def real_pool(paths: Iterable[Path], split: str = "", where: str = "") -> Pool:
    """The scans of manifests, or of folders of images."""
    sources = []
    for path in paths:
        manifest = find_cases(path).select(split=split or None, where=where or None)
        sources += [_of_case("real", "", case, case.patient or case.name) for case in manifest.cases]
    return Pool(tuple(_unique(sources)))


def synthetic_pool(method: str, folder: Path) -> Pool:
    """The counterfactuals of a folder that `explain` wrote, or the images of an archive.

    Left out are counterfactuals that did not reach their target, and cases that were there already: those are
    unchanged, so real. Raises CounterscanError where nothing can be shown.
    """
    if not is_explained(folder):
        manifest = find_cases(folder)
        every = (
            _of_case("synthetic", method, case, case.patient or f"{method}/{case.name}") for case in manifest.cases
        )
        return Pool(tuple(_unique(every)))
    sources: list[Source] = []
    left_out = {"already at the target": 0, "target not reached": 0}
    for image, row in explained(folder):
        made = image.counterfactual(method)
        if row["already"]:
            left_out["already at the target"] += 1
        elif row["found"] is False:
            left_out["target not reached"] += 1
        elif made is not None:
            sources.append(made)
    if not sources:
        raise CounterscanError(
            f"{folder} has no counterfactual that reached its target; name a folder of an explainer that makes some"
        )
    return Pool(tuple(sources), {reason: count for reason, count in left_out.items() if count})


def is_explained(folder: Path) -> bool:
    """Did `explain` write this folder?"""
    return bool(_finished(folder))


def _finished(folder: Path) -> list[Path]:
    """The folders of the finished cases, of a folder that is a run."""
    return finished_cases(folder) if (folder / "run.json").is_file() else []


def explained(folder: Path) -> Iterator[tuple[Source, dict[str, Any]]]:
    """The images of the finished cases of a folder that `explain` wrote, and the row of each."""
    if not folder.is_dir():
        raise ManifestError(f"{folder} does not exist; name a folder that counterscan explain wrote")
    cases = _finished(folder)
    if not cases:
        raise CounterscanError(f"{folder} holds no finished explanations; run counterscan explain first")
    told = _cases_of(folder)
    for case in cases:
        path = case / "explanation.json"
        with as_kept(path):
            meta = read_json(path)["meta"]
            image, row = _image(case, meta, told), {name: meta["row"][name] for name in ("already", "found")}
        yield image, row


def _image(folder: Path, meta: dict[str, Any], told: dict[str, Case]) -> Source:
    facts, written = meta["case"], meta["files"].get("counterfactual")
    case = told.get(facts["path"]) or Case(Path(facts["path"]), facts["name"])
    return Source(
        kind="real",
        method="",
        case=replace(case, name=facts["name"], labels=facts["labels"] or case.labels),
        patient=str(facts["patient"]),
        key=str(facts["path"]),
        window=Window(*meta["window"]),
        height=0.5 if meta["row"]["slices"] == 1 else _height(folder),
        labels=facts["labels"] or case.labels,
        facts=_facts(case),
        folder=folder,
        changed=(folder / Path(written).name).resolve() if written else None,  # never a file of somewhere else
    )


def _cases_of(folder: Path) -> dict[str, Case]:
    """What the manifest of the run says of its cases, by path; nothing where it is gone."""
    facts = read_json(folder / "run.json")
    path, dataset = (str(facts.get(name) or "") for name in ("manifest", "dataset"))
    if not path:  # which would be the working folder
        return {}
    try:
        manifest = read_manifest(path, dataset) if dataset else find_cases(Path(path))
    except (CounterscanError, OSError):
        return {}
    return {str(case.path): case for case in manifest.cases}


def _height(folder: Path) -> float:
    """Where the slice with the strongest evidence lies in a volume."""
    from safetensors import safe_open

    with safe_open(folder / "explanation.safetensors", "numpy") as tensors:
        heat = tensors.get_slice("heatmap")
        count = heat.get_shape()[0]
        strength = [float(np.mean(heat[index : index + 1])) for index in range(count)]
    return int(np.argmax(strength)) / max(count - 1, 1)


def _of_case(kind: Kind, method: str, case: Case, patient: str) -> Source:
    key = str(case.files[0] if case.files else case.path)
    return Source(kind, method, case, patient, key, labels=case.labels, facts=_facts(case))


def _facts(case: Case) -> dict[str, str]:
    return {**case.facts, **{name: "" if known is None else str(known) for name, known in case.labels.items()}}


def _unique(sources: Iterable[Source]) -> list[Source]:
    return list({source.key: source for source in sources}.values())


def common_window(sources: Iterable[Source]) -> Window | None:
    """The physical window that synthetic pictures were made in, for real ones to be shown in too.

    None where they were made in the windows of their own scans. Raises CounterscanError where there are several.
    """
    windows = {source.window for source in sources if source.window and source.window.physical}
    if len(windows) > 1:
        shown = " and ".join(sorted(f"{one.low:g}:{one.high:g} {one.unit}" for one in windows))
        raise CounterscanError(
            f"the synthetic pictures were made in different windows ({shown}), which would tell them apart; "
            "explain with one --window"
        )
    return windows.pop() if windows else None


def in_window(source: Source, window: Window | None) -> Source:
    """A source to be shown in `window`, where its own is not known."""
    return source if window is None or source.window is not None else replace(source, window=window)
