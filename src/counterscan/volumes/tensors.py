"""The tensors of a volume in the file that `Explanation.save` would write, a few slices of them in memory at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from counterscan.core import Explanation

NAMES = ("images", "heatmap", "before", "found", "counterfactual", "reconstruction", "after", "path", "deviation")
KINDS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bool: "BOOL"}  # in safetensors
FILE = "explanation.safetensors"


def tensors_of(explanation: Explanation) -> dict[str, Tensor]:
    """What an explanation holds, by name."""
    return {name: value for name in NAMES if isinstance(value := getattr(explanation, name), Tensor)}


class SliceTensors:
    """`explanation.safetensors` in `folder` for a volume of so many `slices`: taken in and looked at in parts."""

    def __init__(self, folder: Path, slices: int):
        self.folder, self.slices = folder, slices
        self._starts: dict[str, int] = {}
        self._taken = 0

    def take(self, explanation: Explanation) -> None:
        """Write the next slices."""
        tensors = tensors_of(explanation)
        if not self._taken:
            self._lay_out(tensors)
        with (self.folder / FILE).open("r+b") as file:
            for name, value in tensors.items():
                content = value.detach().cpu().contiguous().numpy().tobytes()
                file.seek(self._starts[name] + self._taken * len(content) // len(value))
                file.write(content)
        self._taken += len(explanation)

    def _lay_out(self, tensors: dict[str, Tensor]) -> None:
        """The head of the file, and room for what it tells of: the largest numbers first, so that all are aligned."""
        head, end = {}, 0
        for name in sorted(tensors, key=lambda name: -tensors[name].element_size()):
            value = tensors[name]
            start, end = end, end + self.slices * value[0].numel() * value.element_size()
            shape = [self.slices, *value.shape[1:]]
            head[name] = {"dtype": KINDS[value.dtype], "shape": shape, "data_offsets": [start, end]}
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)
        with (self.folder / FILE).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
        self._starts = {name: 8 + len(text) + facts["data_offsets"][0] for name, facts in head.items()}

    def finish(self, answers: Explanation) -> None:
        """Write explanation.json beside the tensors: target and `meta` of `answers`, which holds no images."""
        kept = (self.folder / FILE).rename(self.folder / f".{FILE}.kept")
        answers.save(self.folder)
        kept.replace(self.folder / FILE)


def some_slices(folder: Path, of: Explanation, wanted: slice) -> Explanation:
    """Some slices of the volume whose tensors are in `folder`, with target and facts of the explanation `of`."""
    facts = {"cases": of.meta["cases"][wanted]} if "cases" in of.meta else {}
    return replace(of, **_read(folder, wanted), meta={**of.meta, **facts})


def _read(folder: Path, wanted: slice) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(folder / FILE, framework="pt") as file:
        return {name: file.get_slice(name)[wanted].clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
