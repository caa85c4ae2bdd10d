"""The pictures of an examination: what the classifier makes of the border, and what random weights leave of a map."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from counterscan.metrics.intervals import Estimate
from counterscan.pictures import FAINT, INK, LINE, TRUE, grey, heat_picture, outline, tint
from counterscan.sanity.checks import FAILS, PASSES, missed
from counterscan.sanity.examination import Examination
from counterscan.sanity.shortcuts import frame, parts_of

SIDE, GAP, MARGIN, TOP = 224, 26, 22, 92
BAR = (30, 111, 217)
VERDICTS = {PASSES: (24, 140, 90), FAILS: (200, 55, 40)}
COLUMNS = {"whole": "the whole image", "border": "only the border", "centre": "only the centre"}
LEGEND = (
    "AUC: how well the answers tell",
    "the two kinds of images apart",
    "empty bar: guessing (0.5)",
    "full bar: always (1)",
)
MAPS = 3  # images whose maps are shown


def shortcut_picture(found: Examination) -> Image.Image:
    """Two images whole, as border and as centre, the classifier's answer to each, its AUC, and where evidence lies."""
    examples = _examples(found)
    cell, below = SIDE + 46, TOP + len(examples) * (SIDE + 46)
    board = Board(4 * (SIDE + GAP) - GAP, below + 150)
    board.headline(*_headline(found))
    told = (
        f"What is hidden is filled with the mean of all {len(found.images)} images. Bars: the answer to what is shown."
    )
    board.text(0, 34, told, 15, FAINT)
    for column, (view, title) in enumerate(COLUMNS.items()):
        left = column * (SIDE + GAP)
        board.text(left, 64, title, 17)
        for row, index in enumerate(examples):
            part = parts_of(found.images.batch(index), found.views.mean)[view]
            board.paste(grey(_plane(part[0])), left, TOP + row * cell)
            name = f"P({missed(found.true.target, found.card)})"
            board.bar(left, TOP + row * cell + SIDE + 8, _probability(found.views.answers[view][index]), name)
        board.auc(left, below + 6, found.views.auc(view), "this classifier, shown only this")
        if fitted := _figure(found, "border_gives_away", f"probe_{view}"):
            board.auc(left, below + 80, fitted, "a small model, fitted to only this")
    left = 3 * (SIDE + GAP)
    _evidence_column(board, found, left, len(examples))
    for line, words in enumerate(LEGEND):
        board.text(left, below + 22 + 20 * line, words, 14, FAINT)
    return board.picture()


def randomised_picture(found: Examination) -> Image.Image:
    """A few images and their maps by the true classifier and by ones of which ever more is random."""
    stages = [*found.weights.cascading, *([found.shuffled] if found.shuffled else [])]
    shown = min(MAPS, len(found.true))
    side = 168
    board = Board((2 + len(stages)) * (side + 12) - 12, TOP + shown * (side + 8) + 40)
    check = found.checks[0]
    board.headline(check.words.partition(":")[0].partition(".")[0] + ".", VERDICTS.get(check.verdict, INK))
    board.text(0, 34, "Each map is stretched to its own maximum. Below: mean correlation with the true map.", 15, FAINT)
    maps = [("true weights", found.true.heatmap), *((stage.title, stage.heatmap) for stage in stages)]
    for row in range(shown):
        top = TOP + row * (side + 8)
        board.paste(grey(_plane(found.true.images[row])), 0, top, side)
        for column, (_, heatmap) in enumerate(maps, 1):
            board.paste(heat_picture(_plane(heatmap[row])), column * (side + 12), top, side)
    for column, title in enumerate(["image", *(title for title, _ in maps)]):
        board.text(column * (side + 12), 66, title, 15)
    for column, stage in enumerate(stages, 2):
        value = stage.figures["correlation"].value
        board.text(column * (side + 12), TOP + shown * (side + 8) + 6, _number(value), 22)
    return board.picture()


class Board:
    """A white picture that is drawn upon; places are in pixels from inside its margin."""

    def __init__(self, width: int, height: int):
        self._picture = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), "white")
        self._draw = ImageDraw.Draw(self._picture)

    def picture(self) -> Image.Image:
        """What was drawn."""
        return self._picture

    def text(self, left: float, top: float, words: str, size: int, colour: tuple[int, int, int] = INK) -> None:
        """One line of text."""
        self._draw.text((MARGIN + left, MARGIN + top), words, colour, ImageFont.load_default(size))

    def headline(self, words: str, colour: tuple[int, int, int]) -> None:
        """The sentence above all, with a bar of the verdict's colour before it."""
        self._draw.rectangle((MARGIN, MARGIN + 2, MARGIN + 6, MARGIN + 26), colour)
        self.text(16, 0, words, 22)

    def paste(self, picture: Image.Image, left: int, top: int, side: int = SIDE) -> None:
        """A picture fitted into a square."""
        factor = side / max(picture.size)
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        self._picture.paste(
            picture.resize(size, Image.Resampling.BICUBIC).convert("RGB"), (MARGIN + left, MARGIN + top)
        )

    def bar(self, left: int, top: int, share: float, name: str) -> None:
        """A probability as a bar under a picture."""
        x, y, long = MARGIN + left, MARGIN + top, SIDE - 52
        self._draw.rectangle((x, y, x + long, y + 10), outline=LINE)
        self._draw.rectangle((x, y, x + round(long * share), y + 10), BAR)
        self.text(left + long + 10, top - 5, f"{share:.2f}", 17)
        self.text(left, top + 12, name, 12, FAINT)

    def auc(self, left: int, top: int, value: Estimate, whose: str) -> None:
        """How well answers tell the images apart, on a bar from guessing (0.5) to always (1)."""
        x, y, long = MARGIN + left, MARGIN + top + 48, SIDE
        self.text(left, top, whose, 13, FAINT)
        self.text(left, top + 16, f"AUC {_number(value.value)}", 22)
        self._draw.rectangle((x, y, x + long, y + 8), outline=LINE)
        if not np.isnan(value.value):
            self._draw.rectangle((x, y, x + round(long * max(0.0, 2 * value.value - 1)), y + 8), BAR)


def _examples(found: Examination) -> list[int]:
    """A typical image that misses the target and one that does not: those with the middle answer to their border."""
    examples = []
    for label in (1.0, 0.0):
        of_kind = np.flatnonzero(found.views.labels == label)
        if len(of_kind):
            order = np.argsort(found.views.answers["border"][of_kind])
            examples.append(int(of_kind[order[len(order) // 2]]))
    return examples


def _evidence_column(board: "Board", found: Examination, left: int, rows: int) -> None:
    """The mean of the maps over the mean image, and the frame that evidence is counted in."""
    mean, maps = _plane(found.views.mean), found.true.heatmap
    maps = maps / maps.flatten(1).amax(1).clamp_min(1e-12).view(-1, *[1] * (maps.ndim - 1))
    border = frame(tuple(mean.shape[1:]))
    share, area = (_figure(found, "evidence_in_frame", name) for name in ("frame_evidence", "frame_area"))
    assert share, "the check always measures it"
    assert area, "the check always measures it"
    board.text(left, 64, f"evidence, mean of {len(maps)} maps", 17)
    shown = [heat_picture(_plane(maps.mean(0)), mean), grey(mean)][:rows]
    for row, picture in enumerate(shown):
        size = (picture.width * 2, picture.height * 2)
        drawn = picture.convert("RGBA").resize(size, Image.Resampling.BICUBIC)
        overlay = outline(~border, size, TRUE) if row == 0 else tint(border, size, TRUE)
        board.paste(Image.alpha_composite(drawn, overlay), left, TOP + row * (SIDE + 46))
    board.text(left, TOP + SIDE + 8, f"in the frame: {share.value:.0%} of the evidence", 15)
    if rows > 1:
        board.text(left, TOP + 2 * SIDE + 54, f"the frame: {area.value:.0%} of the area", 15)


def _headline(found: Examination) -> tuple[str, tuple[int, int, int]]:
    """What the picture shows in one sentence, and the colour of its verdict."""
    checks = {check.name: check for check in found.checks}
    border, data = checks["border_alone"], checks["border_gives_away"]
    if border.verdict == FAILS:
        return "A shortcut: this classifier tells the images apart by their border.", VERDICTS[FAILS]
    if data.verdict == FAILS:
        return "Look out: in these images the border alone gives the label away.", VERDICTS[FAILS]
    if checks["evidence_in_frame"].verdict == FAILS:
        return "Look out: the evidence lies in the border.", VERDICTS[FAILS]
    if border.verdict == PASSES:
        return "No shortcut at the border: shown only that, the classifier is near guessing.", VERDICTS[PASSES]
    return "The border tells this classifier something, or the images are too few to tell.", FAINT


def _figure(found: Examination, check: str, name: str) -> Estimate | None:
    return next(one.figures.get(name) for one in found.checks if one.name == check)


def _probability(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-log_odds)))


def _plane(tensor: Tensor) -> Tensor:
    """Of a volume `(c, h, w, d)` its middle slice."""
    return tensor if tensor.ndim == 3 else tensor[..., tensor.shape[-1] // 2]


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"
