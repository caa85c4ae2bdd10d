"""What the documentation says was measured is what the results hold.

A comment, which no reader sees, says behind a figure where it is from:

    the judge follows in 0.94<!-- results/diffusion-guidance-fundus.json: removed cone.judge_flip_rate --> of them

The path leads through the JSON by its keys (`metrics` and `rows` may be left out); `[rise;tuned]` picks from a list
what has these values; ` / `, ` - ` and ` * ` compute, from left to right. Several sources, with commas, are of as
many figures before the comment. A percentage is a hundred times the value, and `0.42 (0.39 to 0.45)` is checked with
its interval. Between `<!-- measured -->` and `<!-- end -->`, and in all of the README, no figure may stand without a
source; where none is kept, `<!-- no result: why -->` says so of the figures before it.
"""

import importlib.util
import json
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
GENERATED = {"results.md", "cli.md"}  # made from the JSON, and from the command
PAGES = [ROOT / "README.md", *(path for path in sorted(ROOT.glob("docs/**/*.md")) if path.name not in GENERATED)]
NUMBER = r"-?\d[\d,]*(?:\.\d+)?"
FIGURE = re.compile(
    rf"(?<![\w.,:/=^-])(?P<value>{NUMBER})(?![\w.]*\d)(?P<percent>\s?%)?"
    rf"(?:\s\((?P<low>{NUMBER})\s+to\s+(?P<high>{NUMBER})\))?"
)
COMMENT = re.compile(r"<!--\s*(.*?)\s*-->", re.S)
SOURCED = re.compile(r"([\w./-]+\.json):\s*(.*)", re.S)
NO_FIGURE = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)|arXiv\s\S+|doi\s\S+|Python\s[\d.]+|\b\d{4}\.\d{4,5}\b", re.S)
BAGS = ("metrics", "rows")  # what a path may leave out
SIGNS = {"/": operator.truediv, "-": operator.sub, "*": operator.mul}


@dataclass(frozen=True)
class Claim:
    """A figure as it is written, and where it is said to be from: nowhere (None), or a file and a path in it."""

    match: re.Match
    file: str = ""
    source: str | None = None

    @property
    def text(self) -> str:
        return self.match.group().strip()

    @property
    def measured(self) -> bool:
        """Does it look measured: a decimal, or a percentage? Whole numbers are mostly counts."""
        return "." in self.match["value"] or bool(self.match["percent"])

    def wrong(self) -> str:
        """Why it is not what its source says; empty where it is."""
        found = sourced(self.file, self.source or "")
        told = dict(zip(("value", "low", "high"), (self.match[name] for name in ("value", "low", "high")), strict=True))
        for name, text in told.items():
            value = found.get(name)
            if text is not None and (value is None or not agrees(text, value, bool(self.match["percent"]))):
                return f"{self.text!r}: {name} is {value} in {self.file}: {self.source}"
        return ""


def agrees(text: str, value: float, percent: bool) -> bool:
    """Is `text` the value, rounded to the digits that it has?"""
    digits = len(text.partition(".")[2])
    return abs(float(text.replace(",", "")) - value * (100 if percent else 1)) <= 0.5001 * 10**-digits


def blocks(text: str) -> Iterator[str]:
    """The paragraphs, items and rows of tables of a page; what holds no figures is blanked out."""
    blank = NO_FIGURE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)
    yield from re.split(r"\n\s*\n|\n(?=\s*[-*|] ?)|\n(?=\s*\d+\. )", blank)


def claims(text: str, strict: bool = False) -> Iterator[Claim]:
    """The figures of a page with their sources; without one only those where each must have one."""
    for block in blocks(text):
        start = 0
        open_figures: list[re.Match] = []
        for comment in COMMENT.finditer(block):
            open_figures += FIGURE.finditer(block, start, comment.start())
            start = comment.end()
            words = comment[1]
            if words in ("measured", "end"):
                yield from (Claim(one) for one in open_figures if strict)
                strict, open_figures = words == "measured", []
            elif words.startswith("no result: "):
                open_figures = []
            elif named := SOURCED.fullmatch(words):
                sources = [word.strip() for word in re.split(r",(?![^\[]*\])", named[2])]
                able = open_figures if len(sources) == 1 else [one for one in open_figures if Claim(one).measured]
                meant = able[-len(sources) :]
                assert len(meant) == len(sources), f"{len(sources)} sources for {len(meant)} figures: {words}"
                yield from (Claim(one, named[1], to) for one, to in zip(meant, sources, strict=True))
                yield from (Claim(one) for one in open_figures if strict and one not in meant)
                open_figures = []
        open_figures += FIGURE.finditer(block, start)
        yield from (Claim(one) for one in open_figures if strict)


@cache
def read(file: str) -> Any:
    return json.loads((ROOT / file).read_text())


def sourced(file: str, source: str) -> dict[str, float | None]:
    """The value that a source names, with its interval where it has one."""
    first, *rest = re.split(r"\s([/*-])\s", source)
    if rest:
        value = _number(file, first)
        for sign, other in zip(rest[::2], rest[1::2], strict=True):
            value = SIGNS[sign](value, _number(file, other))
        return {"value": value}
    node = read(file)
    for step in re.findall(r"[^.\[\]]+(?:\[[^\]]*\])?|\[[^\]]*\]", source):
        node = stepped(node, step, source)
    return node if isinstance(node, dict) else {"value": node}


def _number(file: str, word: str) -> float:
    return float(word) if re.fullmatch(NUMBER, word) else sourced(file, word)["value"]


def stepped(node: Any, step: str, source: str) -> Any:
    name, _, picked = step.partition("[")
    if name:
        bag = next((node[bag] for bag in BAGS if name not in node and name in node.get(bag, ())), node)
        assert name in bag, f"{source}: there is no {name!r} among {', '.join(map(str, bag))}"
        node = bag[name]
    if picked:
        wanted = picked.rstrip("]").split(";")
        several = node if isinstance(node, list) else node["rows"]
        chosen = [one for one in several if all(word in one.values() for word in wanted)]
        assert len(chosen) == 1, f"{source}: {len(chosen)} entries have {picked}"
        node = chosen[0]
    return node


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_quoted_figure_is_the_one_in_the_results(page):
    found = list(claims(page.read_text(), strict=page.name == "README.md"))
    wrong = [claim.wrong() for claim in found if claim.source is not None]
    assert not any(wrong), "\n".join(filter(None, wrong))
    loose = [claim.text for claim in found if claim.source is None and claim.measured]
    assert not loose, f"say where {', '.join(loose)} is from, as {Path(__file__).name} does"


def test_claims_are_made():
    assert sum(claim.source is not None for page in PAGES for claim in claims(page.read_text())) > 50


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_comment_tears_a_paragraph(page):
    """A line that begins with a comment ends the paragraph before it, unless it stands alone."""
    for line in page.read_text().splitlines():
        assert not re.match(r"\s*<!--.*-->\s*\S", line), line


def test_tables_inside_pages_are_those_of_the_results():
    spec = importlib.util.spec_from_file_location("write_tables", ROOT / "docs" / "write_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pages = module.pages()
    assert {path.stem for path in pages} == {"attribution-speed", "faults", "published-experiment", "speed"}
    for path, text in pages.items():
        assert path.read_text() == text, "run: make docs"


EXAMPLE = ROOT / "results" / "abdomen-inpainting.json"
IOU = json.loads(EXAMPLE.read_text())["metrics"]["iou"]


def page(value: float, low: float, path: str = "iou") -> str:
    quoted = f"{value:.2f} ({low:.2f} to {IOU['high']:.2f})"
    return f"On `0.5` px it reaches\n{quoted}<!-- results/{EXAMPLE.name}: {path} --> of them."


def test_a_figure_that_differs_is_found():
    (right,) = claims(page(IOU["value"], IOU["low"]))
    assert not right.wrong()
    (wrong,) = claims(page(IOU["value"] + 0.01, IOU["low"]))
    assert "value is" in wrong.wrong()
    (wrong,) = claims(page(IOU["value"], IOU["low"] - 0.01))
    assert "low is" in wrong.wrong()
    with pytest.raises(AssertionError, match="there is no 'iuo'"):
        next(claims(page(IOU["value"], IOU["low"], "iuo"))).wrong()


@pytest.mark.parametrize(
    ("text", "loose"),
    [
        ("it flips 0.93 of them", ["0.93"]),
        ("it flips 93 % of them, `--set p=0.5`, of 200", ["93 %"]),
        ("<!-- measured -->\n\n- 0.2\n\n<!-- end -->\n\n0.3", ["0.2"]),
        ("it flips 0.93<!-- no result: python bench/x.py --> of 10", []),
        ("Python 3.11, arXiv 2406.15182, [a page](0.5.md)", []),
    ],
)
def test_a_figure_without_a_source_is_found_where_each_must_have_one(text, loose):
    strict = "measured" not in text
    assert [claim.text for claim in claims(text, strict) if claim.measured] == loose


def test_figures_and_sources_go_together_in_their_order():
    text = f"a 0.10, b 20 %, c 7<!-- results/{EXAMPLE.name}: iou, dice -->"
    assert [(claim.text, claim.source) for claim in claims(text)] == [("0.10", "iou"), ("20 %", "dice")]
    with pytest.raises(AssertionError, match="3 sources for 2 figures"):
        list(claims(text.replace("dice", "dice, l1")))


@pytest.mark.parametrize(
    ("text", "value", "percent"), [("0.93", 0.9349, False), ("93 %", 0.9349, True), ("1,024", 1024, 0)]
)
def test_a_figure_is_rounded_to_the_digits_it_has(text, value, percent):
    assert agrees(text.rstrip(" %"), value, percent)
    assert not agrees(text.rstrip(" %"), value * 1.01, percent)
