"""Pictures of explanations with Pillow alone: grey image, signed difference, heat, outlines, figures and films."""

from __future__ import annotations  # so that this can be had without torch

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from counterscan.errors import CounterscanError

if TYPE_CHECKING:
    from torch import Tensor

    from counterscan.core import Explanation

FILMS = (".gif", ".webp", ".png")
RESTING, MOVING = 1200, 300  # milliseconds that an end of a film is shown, and any other frame
LIMITS = (0.1, 0.2, 0.3, 0.5, 1.0)  # ends of a colour bar, shares of the window
PREDICTED, TRUE = (255, 176, 0), (0, 206, 209)  # an amber outline is what was found, a turquoise area what is true
INK, FAINT, LINE = (28, 30, 34), (112, 117, 125), (205, 208, 213)
BEFORE, AFTER = (158, 164, 173), (30, 111, 217)
# blue to red through white, equal in lightness on both sides
LIGHT = ((5, 48, 97), (33, 102, 172), (67, 147, 195), (146, 197, 222), (209, 229, 240), (255, 255, 255),
         (253, 219, 199), (244, 165, 130), (214, 96, 77), (178, 24, 43), (103, 0, 31))  # fmt: skip
# the same through near-black, for dark pages
DARK = ((158, 215, 255), (74, 163, 244), (38, 105, 178), (23, 62, 107), (17, 31, 48), (16, 17, 20),
        (48, 26, 19), (108, 45, 22), (180, 72, 26), (245, 118, 54), (255, 205, 160))  # fmt: skip
# black to pale yellow in even steps of lightness (after matplotlib's inferno, CC0)
HEAT = ((0, 0, 4), (22, 11, 57), (66, 10, 104), (106, 23, 110), (147, 38, 103), (188, 55, 84), (221, 81, 58),
        (243, 120, 25), (252, 165, 10), (246, 215, 70), (252, 255, 164))  # fmt: skip


def grey(image: Tensor) -> Image.Image:
    """An image `(c, h, w)` in [-1, 1] as it would be read: grey for one channel, colour for three."""
    pixels = ((image.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    return Image.fromarray(pixels[0] if len(pixels) != 3 else np.moveaxis(pixels, 0, -1))


def difference_limit(difference: Tensor) -> float:
    """The end of a colour bar that shows `difference` (image units): a share of the window from `LIMITS`."""
    largest = float(np.quantile(difference.detach().float().cpu().abs().numpy() / 2, 0.999))
    return next((limit for limit in LIMITS if limit >= largest - 1e-6), LIMITS[-1])


def difference_picture(difference: Tensor, limit: float | None = None, *, dark: bool = False) -> Image.Image:
    """A signed change `(c, h, w)` in image units: red where it got brighter, blue where darker, over +-`limit`.

    `limit` is a share of the window, chosen to fit when None; channels are averaged.
    """
    limit = difference_limit(difference) if limit is None else limit
    share = difference.detach().float().cpu().mean(0).numpy() / 2
    return Image.fromarray(colours(share / limit / 2 + 0.5, DARK if dark else LIGHT))


def heat_picture(heatmap: Tensor, image: Tensor | None = None, limit: float | None = None) -> Image.Image:
    """A map `(1, h, w)` that is not negative, from 0 to `limit`, laid over `image` `(c, h, w)` if given.

    Without a limit it is the map's own maximum; several maps can be compared only with one limit for all.
    """
    level = heatmap.detach().float().cpu()[0].numpy()
    limit = float(level.max()) if limit is None else limit
    level = np.clip(level / limit, 0, 1) if limit > 0 else level * 0
    shades = colours(level, HEAT)
    if image is None:
        return Image.fromarray(shades)
    opacity = np.clip(level * 1.6, 0, 0.85)[..., None]  # faint evidence lets the anatomy through
    blended = np.asarray(grey(image).convert("RGB")) * (1 - opacity) + shades * opacity
    return Image.fromarray(blended.round().astype(np.uint8))


def outline(mask: Tensor, size: tuple[int, int], colour: tuple[int, int, int], width: int = 2) -> Image.Image:
    """The border of a mask `(1, h, w)` as a transparent picture of `size` (width, height), smoothed as it grows."""
    plane = Image.fromarray(mask.detach().cpu()[0].numpy().astype(np.uint8) * 255).resize(
        size, Image.Resampling.BICUBIC
    )
    inside = np.asarray(plane) > 127
    border = inside & ~_shrunk(inside, width)
    pixels = np.zeros((*inside.shape, 4), np.uint8)
    pixels[border] = (*colour, 255)
    return Image.fromarray(pixels)


def tint(mask: Tensor, size: tuple[int, int], colour: tuple[int, int, int], opacity: float = 0.4) -> Image.Image:
    """The area of a mask `(1, h, w)` as a transparent picture of `size` (width, height), smoothed as it grows."""
    alpha = np.where(_grown(mask, size), round(255 * opacity), 0).astype(np.uint8)
    picture = Image.new("RGBA", size, (*colour, 0))
    picture.putalpha(Image.fromarray(alpha))
    return picture


def colour_bar(size: tuple[int, int], limit: float, *, dark: bool = False) -> Image.Image:
    """The colours of a difference from +`limit` at the top to -`limit`, of `size` (width, height), without labels."""
    ramp = np.linspace(1, 0, size[1])[:, None].repeat(size[0], 1)
    return Image.fromarray(colours(ramp, DARK if dark else LIGHT))


def case_figure(
    explanation: Explanation,
    classes: Sequence[str] = (),
    mask: Tensor | None = None,
    truth: Tensor | None = None,
    title: str = "",
) -> Image.Image:
    """The figure of an explanation of one image, on white, ready to be printed.

    A counterfactual gets four panels (image, counterfactual, signed difference with its colour bar, mask), an
    attribution three (image, heat map, mask). `mask` and `truth` are `(1, 1, h, w)` bool, drawn as an outline and as a
    tinted area; without either there is no mask panel. Below stand the probabilities of `classes`, asked for first.
    """
    assert len(explanation) == 1, f"a figure shows one image, not {len(explanation)}"
    classes = classes or explanation.meta.get("classes", ())
    panels = _panels(explanation, mask, truth)
    strip = _strip(panels, explanation)
    answers = _answers(explanation, classes, strip.width)
    parts = [*([_headline(title, strip.width)] if title else []), strip, answers]
    return _stacked(parts, margin=16, gap=10)


def contact_sheet(rows: Sequence[Sequence[Image.Image]], titles: Sequence[str] = (), side: int = 160) -> Image.Image:
    """Pictures in rows, each fitted to `side` pixels, on white, with a title above each column."""
    columns, gap, top = max(map(len, rows)), 6, 24 if titles else 0
    sheet = Image.new("RGB", (columns * (side + gap) + gap, len(rows) * (side + gap) + gap + top), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((gap + column * (side + gap), 5), title, INK, _font(14))
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            fitted = _scaled(picture, side)
            sheet.paste(fitted, (gap + column * (side + gap), gap + top + row * (side + gap)))
    return sheet


def stacked_sheets(sheets: Mapping[str, Image.Image]) -> Image.Image:
    """Contact sheets below one another, each under its title."""
    parts = [part for title, sheet in sheets.items() for part in (_headline(title, sheet.width), sheet)]
    return _stacked(parts, margin=12, gap=2)


def film_strip(explanation: Explanation, classes: Sequence[str] = (), side: int = 160) -> Image.Image:
    """The frames of the way to a counterfactual side by side, and below each what has changed by then.

    Of one image, explained with `path=true`; above the frames stands the probability of the first class asked for,
    where the black box was asked about them.
    """
    frames = _frames(explanation)
    changes = frames - explanation.reference[0]
    limit = difference_limit(changes)
    rows = [[grey(frame) for frame in frames], [difference_picture(change, limit, dark=True) for change in changes]]
    return contact_sheet(rows, _said(explanation, classes), side)


def save_film(explanation: Explanation, path: str | Path, classes: Sequence[str] = (), side: int = 384) -> Path:
    """Write the frames of the way to a counterfactual as an animation that runs there and back for ever.

    As for `film_strip`; the ending says whether it is `.gif`, `.webp` or an animated `.png`.
    """
    path = Path(path)
    if path.suffix not in FILMS:
        raise CounterscanError(f"an animation ends in {', '.join(FILMS)}, not {path.name!r}; rename it")
    frames = [_scaled(grey(frame), side).convert("RGB") for frame in _frames(explanation)]
    said = _said(explanation, classes) or [""] * len(frames)
    shown = [_stacked([_headline(text, one.width), one], 0, 0) for text, one in zip(said, frames, strict=True)]
    pause = [RESTING, *[MOVING] * (len(shown) - 2), RESTING]
    shown, pause = [*shown, *shown[-2:0:-1]], [*pause, *pause[-2:0:-1]]
    shown[0].save(path, save_all=True, append_images=shown[1:], duration=pause, loop=0)
    return path


def shown_plane(explanation: Explanation) -> Explanation:
    """An explanation of one volume `(1, c, h, w, d)` as one of the slice where most was found; images stay."""
    from dataclasses import fields, replace

    if explanation.images.ndim == 4:
        return explanation
    best = int(explanation.heatmap.flatten(0, -2).sum(0).argmax())
    named = {item.name: getattr(explanation, item.name) for item in fields(explanation)}
    planes = {name: value[..., best] for name, value in named.items() if getattr(value, "ndim", 0) == 5}
    return replace(explanation, **planes)


def _frames(explanation: Explanation) -> Tensor:
    assert len(explanation) == 1, f"a film shows one image, not {len(explanation)}"
    if explanation.path is None:
        raise CounterscanError("this explanation has no path; explain again with --set path=true")
    return explanation.path[0]


def _said(explanation: Explanation, classes: Sequence[str]) -> list[str]:
    """What is asked for first and its probability in each frame, or nothing where that is not known."""
    (case, *_), index = explanation.meta.get("cases") or [{}], explanation.target.wanted[0][0]
    names = classes or explanation.meta.get("classes", ())
    name = names[index][:12] if index < len(names) else f"class {index}"
    return [f"{name} {1 / (1 + np.exp(-answer[index])):.2f}" for answer in case.get("answers", ())]


def colours(level: np.ndarray, table: tuple) -> np.ndarray:
    """The colours `(..., 3)` uint8 of levels in [0, 1] by a table of stops, as `DARK` and `HEAT` are."""
    stops = np.linspace(0, 1, len(table))
    columns = [np.interp(level, stops, channel) for channel in np.array(table, float).T]
    return np.stack(columns, -1).round().astype(np.uint8)


def _grown(mask: Tensor, size: tuple[int, int]) -> np.ndarray:
    plane = Image.fromarray(mask.detach().cpu()[0].numpy().astype(np.uint8) * 255)
    return np.asarray(plane.resize(size, Image.Resampling.BICUBIC)) > 127


def _shrunk(inside: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):
        padded = np.pad(inside, 1)
        inside = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside


def _panels(explanation: Explanation, mask: Tensor | None, truth: Tensor | None) -> list[tuple[str, Image.Image]]:
    explanation = shown_plane(explanation)
    image = explanation.images[0]
    panels = [("image", grey(image))]
    if explanation.counterfactual is not None and explanation.difference is not None:
        panels.append(("counterfactual", grey(explanation.counterfactual[0])))
        panels.append(("difference", difference_picture(explanation.difference[0])))
    else:
        panels.append(("evidence", heat_picture(explanation.heatmap[0], image)))
    side = _side(image.shape[-2:])
    panels = [(name, _scaled(picture, side)) for name, picture in panels]
    if mask is not None or truth is not None:
        names = [name for name, known in (("mask", mask), ("truth", truth)) if known is not None]
        panels.append((" and ".join(names), _outlined(panels[0][1], mask, truth)))
    return panels


def _outlined(picture: Image.Image, mask: Tensor | None, truth: Tensor | None) -> Image.Image:
    picture = picture.convert("RGBA")
    if truth is not None:
        picture.alpha_composite(tint(truth[0], picture.size, TRUE))
    if mask is not None:
        picture.alpha_composite(outline(mask[0], picture.size, PREDICTED))
    return picture.convert("RGB")


def _side(spatial: Sequence[int]) -> int:
    """The longer side of a panel: small images grow two or three times, large ones stay."""
    longer = max(spatial)
    return longer * (3 if longer <= 128 else 2) if longer <= 256 else min(longer, 640)


def _scaled(picture: Image.Image, side: int) -> Image.Image:
    factor = side / max(picture.size)
    size = tuple(max(1, round(length * factor)) for length in picture.size)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)  # type: ignore[arg-type]


def _strip(panels: list[tuple[str, Image.Image]], explanation: Explanation) -> Image.Image:
    """The panels side by side under their names; the difference has its colour bar at its right."""
    width, height = panels[0][1].size
    gap, top, bar = 10, 26, 74
    barred = any(name == "difference" for name, _ in panels)
    total = len(panels) * (width + gap) - gap + (bar if barred else 0)
    strip = Image.new("RGB", (total, top + height), "white")
    draw, left = ImageDraw.Draw(strip), 0
    for name, picture in panels:
        _name(draw, left, name)
        strip.paste(picture, (left, top))
        left += width
        if name == "difference" and explanation.difference is not None:
            draw.rectangle((left - width, top, left - 1, top + height - 1), outline=LINE)  # its ground is white too
            _labelled_bar(strip, (left + 8, top), height, difference_limit(shown_plane(explanation).difference[0]))  # type: ignore[index]
            left += bar
        left += gap
    return strip


def _name(draw: ImageDraw.ImageDraw, left: int, name: str) -> None:
    """The panel's name; the words for mask and truth carry a dot of their colour, which is their legend."""
    for word in name.split(" "):
        if word in ("mask", "truth"):
            draw.ellipse((left, 8, left + 9, 17), PREDICTED if word == "mask" else TRUE)
            left += 14
        draw.text((left, 2), word, INK, _font(17))
        left += round(draw.textlength(word + " ", _font(17)))


def _labelled_bar(strip: Image.Image, place: tuple[int, int], height: int, limit: float) -> None:
    left, top = place
    draw = ImageDraw.Draw(strip)
    strip.paste(colour_bar((12, height), limit), place)
    draw.rectangle((left, top, left + 11, top + height - 1), outline=LINE)
    for level, anchor, text in ((0, "la", f"+{limit:.0%}"), (0.5, "lm", "0"), (1, "ld", f"-{limit:.0%}")):
        draw.text((left + 18, top + level * (height - 1)), text, INK, _font(14), anchor=anchor)
    draw.text((left + 18, top + 18), "of window", FAINT, _font(10))


def _answers(explanation: Explanation, classes: Sequence[str], width: int) -> Image.Image:
    """Probabilities before and after as bars, in as many columns as fit; what was asked for comes first."""
    wanted = dict(explanation.target.wanted)
    order = sorted(range(explanation.before.shape[1]), key=lambda index: index not in wanted)
    rows, cell, line = order[:12], 380, 26
    columns = max(1, min(width // cell, len(rows)))
    height = -(-len(rows) // columns) * line + 30
    band = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(band)
    for place, index in enumerate(rows):
        name = classes[index] if index < len(classes) else f"class {index}"
        corner = (place % columns * (width // columns), place // columns * line)
        before = float(explanation.before[0, index].sigmoid())
        after = None if explanation.after is None else float(explanation.after[0, index].sigmoid())
        _bar_row(draw, corner, name, before, after, index in wanted)
    draw.text((0, height - 22), _verdict(explanation, classes), FAINT, _font(14))
    return band


def _bar_row(draw: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, before: float, after: float | None, asked):
    left, top = corner
    draw.text((left, top + 3), name[:20], INK if asked else FAINT, _font(15))
    start, long = left + 150, 120
    draw.rectangle((start, top + 4, start + long, top + 20), outline=LINE)
    draw.rectangle((start, top + 5, start + round(long * before), top + (11 if after is not None else 19)), BEFORE)
    ink, left = INK if asked else FAINT, start + long + 10
    draw.text((left, top + 3), f"{before:.2f}", ink, _font(15))
    if after is not None:
        draw.rectangle((start, top + 13, start + round(long * after), top + 19), AFTER)
        draw.line((left + 38, top + 12, left + 54, top + 12), ink)  # the font has no arrow
        draw.polygon(((left + 58, top + 12), (left + 52, top + 9), (left + 52, top + 15)), ink)
        draw.text((left + 66, top + 3), f"{after:.2f}", ink, _font(15))


def _verdict(explanation: Explanation, classes: Sequence[str]) -> str:
    asked = ", ".join(f"{classes[i] if i < len(classes) else i}={p:g}" for i, p in explanation.target.wanted)
    if bool(explanation.target.reached(explanation.before)[0]):
        return f"asked for {asked}: answered so already"
    if explanation.counterfactual is None:
        return f"evidence against {asked}"
    return f"asked for {asked}: {'reached' if bool(explanation.found[0]) else 'not found'}"


def _headline(title: str, width: int) -> Image.Image:
    band = Image.new("RGB", (width, 28), "white")
    ImageDraw.Draw(band).text((0, 2), title, INK, _font(20))
    return band


def _stacked(parts: list[Image.Image], margin: int, gap: int) -> Image.Image:
    width = max(part.width for part in parts) + 2 * margin
    height = sum(part.height for part in parts) + gap * (len(parts) - 1) + 2 * margin
    figure, top = Image.new("RGB", (width, height), "white"), margin
    for part in parts:
        figure.paste(part, (margin, top))
        top += part.height + gap
    return figure


def _font(size: int):
    return ImageFont.load_default(size)
