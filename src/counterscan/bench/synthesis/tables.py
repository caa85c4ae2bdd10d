"""The tables of an evaluation: what was found of the made archive, with what real images reach beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from counterscan.bench.table import cell, number

SETS = ("kernel_distance", "frechet_distance", "precision", "recall", "density", "coverage")


@dataclass(frozen=True)
class Grid:
    """A table: the `part` it is of, its `title`, a sentence on how to read it, heads, and lines of text."""

    part: str
    title: str
    note: str
    heads: Sequence[str]
    lines: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As Markdown, under its title."""
        rows = [list(self.heads), ["---"] * len(self.heads), *map(list, self.lines)]
        return f"### {self.title}\n\n{self.note}\n\n" + "".join("| " + " | ".join(row) + " |\n" for row in rows)


@dataclass(frozen=True)
class Headline:
    """One figure of a part: what it is called, its value, and what it is to be read beside."""

    title: str
    value: str
    beside: str
    good: bool | None = None


def grids(parts: Mapping[str, Any]) -> list[Grid]:
    """The tables of all parts that are there."""
    return [grid for name, found in parts.items() for grid in GRIDS[name](found)]


def headlines(parts: Mapping[str, Any]) -> list[Headline]:
    """The few figures that a person asks for first."""
    return [one for name, found in parts.items() for one in HEADLINES[name](found)]


def _distances(found: list[dict[str, Any]]) -> list[Grid]:
    heads = ["images", "made", "real", "kernel distance", "floor", "times floor", "Fréchet", "real to real"]
    heads += [word for name in SETS[2:] for word in (name, "real")]
    lines = [_distance_line(line) if "metrics" in line else [line["name"], line["note"]] for line in found]
    note = (
        "The floor of the kernel distance is what 95 % of random deals of the real images to two sets of the same size "
        "stay below; every other figure stands beside that of other real images."
    )
    if any(line.get("short") for line in found):
        note += " Fréchet distances of no more images than features are mostly bias."
    return [Grid("distances", "Distances of the sets", note, heads, [_filled(line, len(heads)) for line in lines])]


def _distance_line(line: dict[str, Any]) -> list[str]:
    metrics = line["metrics"]
    first = [line["name"], str(line["n"]), str(line["n_real"]), cell(metrics["kernel_distance"])]
    first += [number(line["kernel_floor"]), number(line["times_floor"])]
    others = [
        words for name in SETS[1:] for words in (cell(metrics.get(name)), _value(metrics.get(name, {}).get("floor")))
    ]
    return [*first, *others]


def _diversity(found: list[dict[str, Any]]) -> list[Grid]:
    lines = [[line["name"], cell(line["synthetic"]), cell(line["real"]), _pairs(line)] for line in found]
    note = (
        "Mean MS-SSIM of random pairs of different patients: the more alike, the less varied. Compare with real pairs."
    )
    return [Grid("diversity", "Likeness of random pairs", note, ["images", "synthetic", "real", "pairs"], lines)]


def _pairs(line: dict[str, Any]) -> str:
    return " and ".join(str(line[kind]["n"]) if line[kind] else "too few" for kind in ("synthetic", "real"))


def _copies(found: dict[str, Any]) -> list[Grid]:
    heads = ["synthetic images nearer than", "the distance", "share", "chance of so many"]
    note = (
        "Distances in the judge's features from a synthetic image to the nearest real one of the training part, beside "
        "those of real images of other patients, whose own share is the percentile. The chance is that of as many or "
        "more so near if synthetic images were as real ones."
    )
    among = (
        "The same within each archive: how near a synthetic image comes to another synthetic one, beside real to real."
    )
    return [
        Grid("copies", "Copies of training images", note, heads, _near_lines(found["reference"])),
        Grid("copies", "Repeated images", among, heads, _near_lines(found["repeats"])),
    ]


def _near_lines(found: dict[str, Any]) -> list[list[str]]:
    names = {
        level: f"the {'1st' if level == '1' else level + 'th'} percentile of real ones"
        for level in found["nearer_than"]
    }
    lines = [
        [names[level], number(one["limit"]), cell(one), number(one["p"])] for level, one in found["nearer_than"].items()
    ]
    far = ["a quarter of the smallest real one", "", f"{found['copied']} of {found['n']}", ""]
    return [*lines, far, ["a real one, in a random pair", "", cell(found["closer"]), ""]]


def _cooccurrence(found: dict[str, Any]) -> list[Grid]:
    made, real, names = found["synthetic"], found["real"], found["classes"]
    shares = [[name, cell(made["prevalence"][name]), cell(real["prevalence"][name])] for name in names]
    patterns = found["patterns"]
    told = (
        f"Jensen-Shannon distance of the combinations {number(patterns['distance'])} (by chance up to "
        f"{number(patterns['distance_by_chance'])}, p = {number(patterns['distance_p'])}); chi-square "
        f"{number(patterns['chi_square'])} at {patterns['freedom']} degrees of freedom, p = "
        f"{number(patterns['chi_square_p'])} (patients dealt out anew)."
    )
    counts = sorted(patterns["counts"].items(), key=lambda item: -sum(item[1]))
    combined = [
        [name, *(f"{n} ({n / max(of, 1):.1%})" for n, of in zip(both, patterns["n"], strict=True))]
        for name, both in counts
    ]
    tables = [
        Grid(
            "cooccurrence",
            "Prevalence",
            "The share of images with each finding.",
            ["finding", "synthetic", "real"],
            shares,
        ),
        Grid("cooccurrence", "Combinations of findings", told, ["combination", "synthetic", "real"], combined),
    ]
    return tables + ([_odds(found["odds"])] if found["odds"] else [])


def _odds(found: list[dict[str, Any]]) -> Grid:
    lines = [
        [" and ".join(one["pair"]), cell(one["first"]), cell(one["second"]), cell(one["ratio"]), number(one["p"])]
        for one in found
    ]
    note = (
        "Above 1 two findings come together more often than by chance. The last column is the chance of such a ratio "
        f"of both where the archives agree; of {len(found)} pairs one in twenty is below 0.05 by accident."
    )
    heads = ["findings", "odds ratio, synthetic", "odds ratio, real", "synthetic over real", "p"]
    return Grid("cooccurrence", "Pairs of findings", note, heads, lines)


def _training(found: dict[str, Any]) -> list[Grid]:
    sizes = ", ".join(
        f"{name} {one['train']} / {one['validation']} / {one['test']}" for name, one in found["sizes"].items()
    )
    grids = []
    for on, lines in found["tested_on"].items():
        other = "synthetic" if on == "real" else "real"
        heads = ["finding", f"trained on {other}", f"trained on {on}", "difference", "p", "ratio"]
        rows = [
            [line["name"], *(cell(line[name]) for name in (f"from_{other}", f"from_{on}", "difference")),
             number(line["difference"]["p"]), cell(line["ratio"])]
            for line in lines
        ]  # fmt: skip
        note = (
            f"AUC on the {on} test part with DeLong's 95 % intervals, paired. Images that train, select, test: {sizes}."
        )
        grids.append(Grid("training", f"Tested on {on} images", note, heads, rows))
    return grids


def _of_distances(found: list[dict[str, Any]]) -> list[Headline]:
    first = found[0]
    if "metrics" not in first:
        return []
    times, metrics = first["times_floor"], first["metrics"]
    beside = f"{number(metrics['kernel_distance']['value'])}; the real floor is {number(first['kernel_floor'])}"
    told = "within the floor" if times is not None and times <= 1 else f"{number(times)} x floor"
    lines = [Headline("kernel distance", told, beside, _below(times, 3))]
    for name in ("recall", "precision"):
        if name in metrics:
            value, floor = metrics[name]["value"], _value(metrics[name]["floor"])
            lines.append(Headline(name, number(value), f"real images reach {floor}"))
    return lines


def _of_diversity(found: list[dict[str, Any]]) -> list[Headline]:
    made, real = found[0]["synthetic"], found[0]["real"]
    if not (made and real):
        return []
    beside = f"real pairs {_value(real)}"
    return [Headline("MS-SSIM of pairs", _value(made), beside, made["low"] <= real["high"])]


def _of_copies(found: dict[str, Any]) -> list[Headline]:
    titles = {"reference": "near a training image", "repeats": "near another of the archive"}
    lines = []
    for part, title in titles.items():
        one = found[part]["nearer_than"]["1"]
        beside = f"1 % of real ones are as near; p = {number(one['p'])}"
        suspicious = found[part]["alarming"] or found[part]["copied"] > 0
        lines.append(Headline(title, f"{one['value']:.1%}", beside, not suspicious))
    return lines


def _of_cooccurrence(found: dict[str, Any]) -> list[Headline]:
    one = found["patterns"]
    beside = f"Jensen-Shannon, by chance up to {number(one['distance_by_chance'])}; p = {number(one['distance_p'])}"
    return [Headline("co-occurrence", number(one["distance"]), beside, one["distance_p"] >= 0.05)]


def _of_training(found: dict[str, Any]) -> list[Headline]:
    lines = found["tested_on"]["real"]
    mean = lines[-1]
    beside = f"of real-on-real, mean AUC {_value(mean['from_synthetic'])} against {_value(mean['from_real'])}"
    value = mean["ratio"]["value"]
    return [Headline("synthetic teaches", f"{value:.1%}" if value is not None else "", beside, not _below(value, 0.95))]


def _below(value: float | None, limit: float) -> bool | None:
    return None if value is None else value <= limit


def _value(figure: Mapping[str, Any] | None) -> str:
    return number(figure["value"]) if figure else ""


def _filled(line: list[str], width: int) -> list[str]:
    return line + [""] * (width - len(line))


GRIDS: dict[str, Callable[[Any], list[Grid]]] = {
    "distances": _distances,
    "diversity": _diversity,
    "copies": _copies,
    "cooccurrence": _cooccurrence,
    "training": _training,
}
HEADLINES: dict[str, Callable[[Any], list[Headline]]] = {
    "distances": _of_distances,
    "diversity": _of_diversity,
    "copies": _of_copies,
    "cooccurrence": _of_cooccurrence,
    "training": _of_training,
}
