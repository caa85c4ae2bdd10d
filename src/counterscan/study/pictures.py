"""Pictures of a study: whatever they came from, one size, one mode, eight bits, no compression, nothing but pixels.

Uncompressed PNGs of one size have one length, where compressed ones are shorter the smoother the picture is, and a
generator's pictures are smooth. Names are random, times are all the same, and no text, profile or resolution is kept.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from counterscan.data.files import write_whole
from counterscan.errors import CounterscanError
from counterscan.study.draws import shuffled

ALIKE = 1.02  # sides' ratios that differ by less are taken for the same form
TILES = 8  # a broken picture is cut into this many by this many tiles
EPOCH = 315_532_800  # 1980-01-01: the time of every picture, so that none tells when it was written


@dataclass(frozen=True)
class Form:
    """What all pictures of a study are made to: their size in pixels, and whether they have colour."""

    height: int
    width: int
    colour: bool = False

    @property
    def mode(self) -> str:
        """Pillow's name for the kind of pixels."""
        return "RGB" if self.colour else "L"


def form_for(shapes: Sequence[tuple[int, int, int]], size: int | None = None, colour: bool = False) -> Form:
    """The form for images of `shapes` `(c, h, w)`: no larger than the smallest of them, as sharpness would tell.

    Images of different forms are cut to the square in their middle. `size` is the longer side. Raises CounterscanError
    where it is more than the images have.
    """
    ratios = [height / width for _, height, width in shapes]
    alike = max(ratios) / min(ratios) <= ALIKE
    smallest = min(shapes, key=lambda shape: min(shape[1:]))
    height, width = smallest[1:] if alike else (min(smallest[1:]),) * 2
    longer = max(height, width)
    if size is not None and size > longer:
        raise CounterscanError(
            f"pictures of {size} pixels are asked for, but the smallest image has {longer}: enlarged, it would be told "
            f"by its blur; give --size {longer} or less"
        )
    scale = 1 if size is None else size / longer
    return Form(max(1, round(height * scale)), max(1, round(width * scale)), colour)


def has_colour(plane: np.ndarray) -> bool:
    """Do the channels of `plane` `(c, h, w)` differ?"""
    return len(plane) == 3 and not (np.array_equal(plane[0], plane[1]) and np.array_equal(plane[1], plane[2]))


def encoded(plane: np.ndarray, form: Form) -> bytes:
    """`plane` `(c, h, w)` in [0, 1] as a PNG of `form`; the length depends on the form alone."""
    return _png(Image.fromarray(_levels(fitted(plane, form), form)))


def fitted(plane: np.ndarray, form: Form) -> np.ndarray:
    """`plane` `(c, h, w)` cut to the form's sides and brought to its size, antialiased, in float."""
    height, width = plane.shape[1:]
    high, wide = _cut(height, width, form.height / form.width)
    top, left = (height - high) // 2, (width - wide) // 2
    cut = plane[:, top : top + high, left : left + wide]
    size = (form.width, form.height)
    planes = [Image.fromarray(np.ascontiguousarray(one, np.float32)) for one in cut]
    return np.stack([np.asarray(one.resize(size, Image.Resampling.BICUBIC)) for one in planes])


def broken(plane: np.ndarray, form: Form, seed: int, *name: object) -> np.ndarray:
    """`plane` in tiles that are shuffled: a picture that nobody takes for real, for attention checks."""
    whole = fitted(plane, form)
    rows, columns = (np.array_split(np.arange(side), TILES) for side in whole.shape[1:])
    tiles = [(row, column) for row in rows for column in columns]
    result = np.empty_like(whole)
    for (row, column), (from_row, from_column) in zip(tiles, shuffled(tiles, seed, "broken", *name), strict=True):
        nearest = np.ix_(np.arange(len(whole)), _resampled(from_row, len(row)), _resampled(from_column, len(column)))
        result[:, row[0] : row[-1] + 1, column[0] : column[-1] + 1] = whole[nearest]
    return result


def instructed(plane: np.ndarray, form: Form, lines: Sequence[str]) -> np.ndarray:
    """`plane` with words across it that say what to answer: an attention check where nothing can be broken."""
    shade = Image.new("L", (form.width, form.height), 0)
    draw, size = ImageDraw.Draw(shade), 200
    while size > 6 and max(draw.textlength(line, _font(size)) for line in lines) > form.width * 0.9:
        size -= 1
    top = (form.height - 1.3 * size * len(lines)) / 2
    for number, line in enumerate(lines):
        draw.text((form.width / 2, top + 1.3 * size * number), line, 255, _font(size), anchor="ma")
    words = np.asarray(shade, np.float32)[None] / 255
    return np.maximum(fitted(plane, form) * 0.3, words)


def write_picture(path: Path, content: bytes) -> Path:
    """Write a picture whole, with the time that all have."""
    write_whole(path, content)
    os.utime(path, (EPOCH, EPOCH))
    return path


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=0)
    return file.getvalue()


def _levels(plane: np.ndarray, form: Form) -> np.ndarray:
    levels = (np.clip(plane, 0, 1) * 255).round().astype(np.uint8)
    if form.colour:
        return np.moveaxis(np.broadcast_to(levels, (3, *levels.shape[1:])), 0, -1)
    return levels[0]


def _cut(height: int, width: int, ratio: float) -> tuple[int, int]:
    """The largest sides within `height` and `width` that have `ratio`; nearly alike is left as it is."""
    own = height / width
    if max(own, ratio) / min(own, ratio) <= ALIKE:
        return height, width
    return (min(height, round(width * ratio)), width) if own > ratio else (height, min(width, round(height / ratio)))


def _resampled(places: np.ndarray, count: int) -> np.ndarray:
    return places[np.linspace(0, len(places) - 1, count).round().astype(int)]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
