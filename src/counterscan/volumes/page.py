"""The page of a volume: image, counterfactual, change and mask of every slice, in one file without a network."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from counterscan import pictures
from counterscan.core import Explanation
from counterscan.data.fitting import fit_images, fit_mask, resize
from counterscan.data.scans import Scan
from counterscan.templating import page_style, template

if TYPE_CHECKING:
    from counterscan.volumes.stream import Volume

SIDE = 256  # pixels of the longer side of a picture: of 300 slices the page is then some 10 MB
LIMIT = 0.3  # of the window: what the darkest colour of a change means, in every slice
MARK = "/*slices*/"


class SlicePictures:
    """The pictures of a volume's slices, kept in a file beside the page until that is written."""

    def __init__(self, page: Path, target: Any):
        self.page, self.target = page, target
        self.part = page.with_name(f".{page.name}.slices.part")
        self.part.parent.mkdir(parents=True, exist_ok=True)
        self.part.write_text("")

    def take(self, part: Scan, explanation: Explanation) -> None:
        """Keep the pictures of the next slices."""
        images = part.images((1, *shown_size(part.pixels.shape[2:])))
        change = explanation.difference
        already = self.target.reached(explanation.before).tolist()
        p_before = explanation.before.sigmoid()
        p_after = None if explanation.after is None else explanation.after.sigmoid()
        asked = [index for index, _ in self.target.wanted]
        with self.part.open("a") as file:
            for number, image in enumerate(images):
                facts = {"image": _jpeg(pictures.grey(image)), "before": _answers(p_before[number], asked)}
                if change is not None and p_after is not None:
                    moved = torch.zeros_like(image) if already[number] else _resized(change[number], image)
                    facts["counterfactual"] = _jpeg(pictures.grey((image + moved).clamp(-1, 1)))
                    facts["change"] = _jpeg(pictures.difference_picture(moved, LIMIT, dark=True))
                    facts["after"] = _answers(p_before[number] if already[number] else p_after[number], asked)
                file.write(json.dumps(facts) + "\n")

    def write(self, volume: Volume, title: str, classes: list[str]) -> Path:
        """Write the page and remove what was kept."""
        start, end = _frame(volume, title, classes).split(MARK)
        part = self.page.with_name(f"{self.page.name}.part")
        with part.open("w", encoding="utf-8") as file:
            file.write(start)
            for number, facts in enumerate(self._slices(volume)):
                file.write(("," if number else "") + json.dumps(facts) + "\n")
            file.write(end)
        os.replace(part, self.page)
        self.part.unlink()
        return self.page

    def _slices(self, volume: Volume) -> Iterator[dict[str, Any]]:
        size = shown_size(volume.scan.pixels.shape[2:])
        highest = float(volume.heat.max()) or 1.0
        with self.part.open() as file:
            for index, line in enumerate(file):
                facts, numbers = json.loads(line), volume.found.numbered(index)
                if "change" not in facts:
                    heat = resize(torch.from_numpy(volume.heat[index]).float()[None, None], size)[0]
                    facts["evidence"] = _jpeg(pictures.heat_picture(heat, limit=highest))
                if numbers.any():
                    mask = fit_mask(torch.from_numpy(numbers > 0)[None, None], size)[0]
                    facts["outline"] = _png(pictures.outline(mask, (size[1], size[0]), pictures.PREDICTED, 1))
                    facts["lesions"] = sorted({int(number) for number in numbers[numbers > 0]})
                    facts["share"] = round(float((numbers > 0).mean()), 5)
                yield facts


def shown_size(spatial: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a slice's pictures."""
    factor = min(1.0, SIDE / max(spatial))
    return max(1, round(spatial[0] * factor)), max(1, round(spatial[1] * factor))


def _frame(volume: Volume, title: str, classes: list[str]) -> str:
    """The page around its slices."""
    from jinja2 import Environment

    height, width = volume.scan.pixels.shape[2:]
    spacing = volume.scan.spacing or (1.0, 1.0)
    facts = volume.facts()
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template("volume.html"))
    return page.render(
        title=title,
        style=page_style("volume.css"),
        facts=facts,
        classes=classes,
        steps=[round(float(step), 3) for step in volume.grid.steps],
        counterfactual=volume.answers.after is not None,
        ratio=f"{width * spacing[1]:.4g} / {height * spacing[0]:.4g}",
        limit=f"{LIMIT:.0%}",
        sure=volume.rule.confident,
    )


def _answers(p: Tensor, asked: list[int]) -> list[float]:
    return [round(float(p[index]), 3) for index in asked]


def _resized(change: Tensor, image: Tensor) -> Tensor:
    return fit_images(change[None].float(), tuple(image.shape))[0]


def _jpeg(picture: Image.Image) -> str:
    return _encoded(picture, "JPEG", quality=82)


def _png(picture: Image.Image) -> str:
    return _encoded(picture.quantize(2) if picture.mode == "RGBA" else picture, "PNG", optimize=True)


def _encoded(picture: Image.Image, kind: str, **settings: Any) -> str:
    content = io.BytesIO()
    picture.save(content, kind, **settings)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"
