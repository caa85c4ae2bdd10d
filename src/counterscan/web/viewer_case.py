"""One case for the viewer: what is known of it as JSON, and its pictures as numbers that the browser draws.

The numbers are the explanation's own, in 16 bits, so that window, colour bar and zoom are the browser's work and no
picture is drawn twice. A block is a little-endian uint32, so many bytes of JSON that describes what follows, then that.
"""

import json
import math
import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from counterscan.errors import ScanError
from counterscan.web.viewer_index import Archive, Folder, Row, inside, plain, read_json
from counterscan.web.viewer_pictures import FAULTS, change_limit, heat_limit, readable, telling, whole_case

HELD = 6  # cases whose tensors are mapped and whose masks are known
MOST_FRAMES = 64
DEPTH = 65535


class Cases:
    """Explanations as they are looked at: a few of them open at a time."""

    def __init__(self, archive: Archive):
        self.archive = archive
        self._held: OrderedDict[tuple, Any] = OrderedDict()
        self._limits: dict[str, float] = {}
        self._lock = threading.Lock()

    def told(self, row: Row) -> dict[str, Any]:
        """What stands beside the pictures of a case, and which other methods explain the same scan."""
        folder = self._folder(row)
        path = whole_case(folder.folder, row.name)
        facts = read_json(path, "explanation.json")
        meta: dict[str, Any] = facts["meta"] if isinstance(facts.get("meta"), dict) else {}
        beside = [{"run": other.run, "name": other.name, "label": self._folder(other).label, "state": other.state,
                   "title": self._folder(other).title} for other in self.archive.beside(row)]  # fmt: skip
        return {
            **row.told(),
            "methods": beside,
            "label": folder.label,
            "explainer": str(meta.get("explainer", "")),
            "target": str(folder.facts.get("target", "")),
            "classifier": folder.classifier,
            "window": _window(meta.get("window")),
            "files": sorted(files_of(path, meta)),
        }

    def planes(self, row: Row, index: int | None) -> bytes:
        """Image, counterfactual, reference, map, mask, truth and twin of one slice, by default the telling one."""
        explanation, masks = self._open(row)
        with readable(row.name):
            return self._block(row, explanation, masks, index)

    def _block(self, row: Row, explanation: Any, masks: Any, index: int | None) -> bytes:
        count = len(explanation)
        shown = telling(explanation.before.numpy(), explanation.target.wanted) if index is None else index
        if not 0 <= shown < count:
            raise ScanError(f"{row.name} has slices 0 to {count - 1}, no {shown}")
        planes = _planes(explanation, masks, shown)
        truths = self._truths(row, explanation, shown)
        head = {"slice": shown, "slices": count, "answers": _answers(explanation, shown), **self._colours(row, planes)}
        head["state"] = _state(explanation, shown)
        head["frames"] = 0 if explanation.path is None else min(MOST_FRAMES, explanation.path.shape[1])
        head |= {"profile": _profile(explanation), "masked": masks.flatten(1).any(1).tolist()} if count > 1 else {}
        return block(head, planes | truths)

    def frames(self, row: Row, index: int) -> bytes:
        """The way to the counterfactual of one slice, frame by frame, and the answers on it where they are known."""
        explanation, _ = self._open(row)
        if explanation.path is None or not 0 <= index < len(explanation):
            raise ScanError(f"{row.name} has no frames; explain it with --set path=true")
        with readable(row.name):
            frames = explanation.path[index][:MOST_FRAMES].float().numpy()
            told = (explanation.meta.get("cases") or [{}] * len(explanation))[index].get("answers", ())
            answers = [_sigmoid(np.array(answer, np.float64)).round(4).tolist() for answer in told]
            return block({"answers": answers}, {f"frame{number}": frame for number, frame in enumerate(frames)})

    def file(self, row: Row, what: str) -> Path:
        """A file that was written for a case; ScanError where there is none of that kind."""
        path = whole_case(self._folder(row).folder, row.name)
        meta = read_json(path, "explanation.json").get("meta")
        found = files_of(path, meta if isinstance(meta, dict) else {}).get(what)
        if found is None:
            raise ScanError(f"{row.name} has no file that is called {what}")
        return found

    def _folder(self, row: Row) -> Folder:
        folder = self.archive.folder(row.run)
        if folder is None:
            raise ScanError(f"{row.name} is gone; results of uploads are kept for a time only")
        return folder

    def _open(self, row: Row) -> tuple[Any, Any]:
        """The explanation as it was delivered, mapped from disk, and its masks `(slices, 1, h, w)`."""
        folder = self._folder(row)
        path = whole_case(folder.folder, row.name)
        key = (row.run, row.name, path.stat().st_mtime_ns, _rule_stamp(folder.folder))
        with self._lock:  # one at a time: a volume's mask takes seconds, and two would take twice the memory
            if key not in self._held:
                with readable(row.name):
                    self._held[key] = _load(folder.folder, path)
            self._held.move_to_end(key)
            while len(self._held) > HELD:
                self._held.popitem(last=False)
            return self._held[key]

    def _colours(self, row: Row, planes: dict[str, np.ndarray]) -> dict[str, float]:
        if "counterfactual" in planes:
            reference = planes.get("reference", planes["image"])
            return {"limit": change_limit((planes["counterfactual"] - reference) / 2)}
        return {"heat_limit": self.heat_limit(self._folder(row))}

    def heat_limit(self, folder: Folder) -> float:
        """What a full colour means in the heat maps of a run."""
        if folder.run not in self._limits:
            self._limits[folder.run] = heat_limit(folder.folder, sorted(folder.rows))
        return self._limits[folder.run]

    def _truths(self, row: Row, explanation: Any, shown: int) -> dict[str, np.ndarray]:
        from counterscan.report import Run

        found, run = {}, Run(self._folder(row).folder)
        for kind, name in (("mask", "truth"), ("twin", "twin")):
            path = inside(run.folder, "truth", f"{row.name}.{kind}.png")
            try:
                truth = (
                    None
                    if path is None
                    else run.truth(row.name, kind, (len(explanation), *explanation.images.shape[1:]))
                )
            except FAULTS:  # another size, or damaged: the case is shown without
                continue
            if truth is not None:
                found[name] = (truth[shown] > 0).numpy() if kind == "mask" else truth[shown].numpy()
        return found


def block(head: dict[str, Any], planes: dict[str, np.ndarray]) -> bytes:
    """Named planes `(c, h, w)`: bool as bytes, pictures in [-1, 1] and maps from 0 to their maximum as uint16."""
    parts, told = [], []
    for name, value in planes.items():
        kind, low, high = "u16", -1.0, 1.0
        if value.dtype == bool:
            kind, content = "u8", value.astype(np.uint8)
        else:
            low, high = (0.0, max(float(value.max()), 1e-9)) if name == "heat" else (low, high)
            content = (((value - low) / (high - low)).clip(0, 1) * DEPTH).round().astype("<u2")
        told.append({"name": name, "kind": kind, "shape": list(value.shape), "low": low, "high": high})
        parts.append(content.tobytes() + b"\0" * (content.nbytes % 2))
    text = json.dumps({**head, "planes": told}).encode()
    text += b" " * (len(text) % 2)
    return len(text).to_bytes(4, "little") + text + b"".join(parts)


def files_of(case: Path, meta: dict[str, Any]) -> dict[str, Path]:
    """The files that an explanation says it has, as far as they lie in its folder and are no links."""
    listed = meta.get("files")
    names = {str(what): str(name) for what, name in listed.items()} if isinstance(listed, dict) else {}
    names |= {"tensors": "explanation.safetensors", "facts": "explanation.json", "volume page": "volume.html"}
    found = {what: inside(case, name) for what, name in names.items() if plain(name)}
    return {what: path for what, path in found.items() if path is not None and path.is_file()}


def _window(told: Any) -> list[Any]:
    """What black and white mean: low, high and unit."""
    try:
        low, high, unit = told
        if math.isfinite(low) and math.isfinite(high):
            return [float(low), float(high), str(unit)]
    except (TypeError, ValueError):
        pass
    return [0.0, 1.0, "intensity"]


def _load(run: Path, case: Path) -> tuple[Any, Any]:
    from counterscan.core import Explanation
    from counterscan.metrics.masks import mask_of
    from counterscan.volumes.content import delivered
    from counterscan.volumes.tensors import tensors_of

    explanation = Explanation.load(case)
    rule = read_json(run, "score.json").get("mask_rule") or explanation.meta.get("mask_rule")
    explanation = replace(explanation, meta={**explanation.meta, "mask_rule": rule})
    masks = mask_of(explanation)
    explanation = delivered(explanation)
    if explanation.images.ndim == 5:  # an image with depth: the plane where most was found
        best = int(explanation.heatmap.flatten(0, -2).sum(0).argmax())
        planes: dict[str, Any] = {
            name: value[..., best] for name, value in tensors_of(explanation).items() if value.ndim == 5
        }
        explanation, masks = replace(explanation, **planes), masks[..., best]
    return explanation, masks


def _planes(explanation: Any, masks: Any, shown: int) -> dict[str, np.ndarray]:
    planes = {"image": explanation.images[shown].float().numpy()}
    if explanation.counterfactual is not None:
        planes["counterfactual"] = explanation.counterfactual[shown].float().numpy()
        if explanation.reconstruction is not None:
            planes["reference"] = explanation.reconstruction[shown].float().numpy()
    else:
        planes["heat"] = explanation.heatmap[shown].float().numpy()
    return planes | {"mask": masks[shown].numpy()}


def _answers(explanation: Any, shown: int) -> list[dict[str, Any]]:
    """Probabilities before and after, those asked for first."""
    before = _sigmoid(explanation.before[shown].double().numpy())
    after = None if explanation.after is None else _sigmoid(explanation.after[shown].double().numpy())
    names, wanted = list(explanation.meta.get("classes") or ()), dict(explanation.target.wanted)
    names += [f"class {index}" for index in range(len(names), len(before))]
    order = sorted(range(len(before)), key=lambda index: index not in wanted)
    return [
        {"name": str(names[i]), "index": i, "before": round(float(before[i]), 4), "asked": i in wanted,
         "after": None if after is None else round(float(after[i]), 4), "wanted": wanted.get(i)}
        for i in order
    ]  # fmt: skip


def _state(explanation: Any, shown: int) -> str:
    if bool(explanation.target.reached(explanation.before)[shown]):
        return "already there"
    if explanation.counterfactual is None:
        return "attributed"
    return "found" if bool(explanation.found[shown]) else "not found"


def _profile(explanation: Any) -> list[float]:
    """How far each slice is from what was asked for, in [0, 1]."""
    p = _sigmoid(explanation.before.double().numpy())
    far = np.max([np.abs(p[:, index] - wanted) for index, wanted in explanation.target.wanted], 0)
    return far.round(3).tolist()


def _sigmoid(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds.clip(-500, 500)))


def _rule_stamp(folder: Path) -> int:
    try:
        return (folder / "score.json").stat().st_mtime_ns
    except OSError:
        return 0
