"""The pictures behind the figures of one line: some cases, each as a row of image, answer, change, and the truth."""

import io
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from counterscan import pictures
from counterscan.core import Explanation
from counterscan.data.files import write_whole
from counterscan.metrics.truth import Truth
from counterscan.volumes.content import delivered

SHOWN, SIDE = 6, 176  # cases, and pixels of each picture


@dataclass
class Sheet:
    """Rows of pictures, as they come; nothing after the first `SHOWN`."""

    rows: list[list[Image.Image]] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)

    def add(self, explanation: Explanation, truth: Truth) -> None:
        """A row for the first image of an explanation, while there is room."""
        if len(self.rows) == SHOWN:
            return
        shown = delivered(explanation)
        first, lesion = _grown(pictures.grey(shown.images[0])), truth.mask is not None and bool(truth.mask[0].any())
        if truth.mask is not None and lesion:
            first.alpha_composite(pictures.tint(truth.mask[0], first.size, pictures.TRUE))
        row = {"image, lesion tinted" if lesion else "image": first.convert("RGB")}
        if shown.counterfactual is None or shown.difference is None:
            row["map"] = pictures.heat_picture(shown.heatmap[0], shown.images[0])
        else:
            row["counterfactual"] = pictures.grey(shown.counterfactual[0])
            row["change"] = pictures.difference_picture(shown.difference[0])
        if truth.twin is not None and lesion and shown.counterfactual is not None:
            row["true twin"] = pictures.grey(truth.twin[0])
        self.titles = max(self.titles, list(row), key=len)
        self.rows.append(list(row.values()))

    def save(self, path: Path) -> Path:
        """Write them as one picture."""
        file = io.BytesIO()
        pictures.contact_sheet(self.rows, self.titles, SIDE).save(file, "WEBP", quality=88)
        return write_whole(path, file.getvalue())


def _grown(picture: Image.Image) -> Image.Image:
    return picture.convert("RGBA").resize((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC)
