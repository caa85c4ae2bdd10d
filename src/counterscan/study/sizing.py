"""The size of a study in words: what one reader needs, and a table of readers by cases."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from counterscan.errors import CounterscanError, check_one_of
from counterscan.study import power as powers
from counterscan.study.power import TASKS, Spread


@dataclass(frozen=True)
class Wish:
    """What a study is to show: a `share` right (or `dprime`), equivalence to chance (`margin`), or a `difference`."""

    task: str
    share: float | None = None
    dprime: float | None = None
    margin: float | None = None
    difference: float | None = None
    pictures: int = 0
    power: float = 0.8
    alpha: float = 0.05

    def __post_init__(self) -> None:
        check_one_of("--task", self.task, TASKS)
        given = [one for one in (self.share, self.dprime, self.margin, self.difference) if one is not None]
        if len(given) != 1:
            raise CounterscanError("give one of --share, --dprime, --margin and --difference: what is to be shown")

    @property
    def count(self) -> int:
        """How many pictures are chosen from; 1 where each is judged by itself."""
        return 1 if self.yes_no else self.pictures or (3 if self.task == "odd-one-out" else 2)

    @property
    def yes_no(self) -> bool:
        """Is each picture judged by itself, with a confidence?"""
        return self.task in ("real-or-synthetic", "lesion")

    @property
    def chance(self) -> float:
        """What guessing gets right."""
        return 0.5 if self.yes_no else 1 / self.count

    @property
    def right(self) -> float:
        """The share of right answers to be found; chance where none is."""
        if self.dprime is not None:
            return powers.share_correct(self.dprime, self.task, self.count)
        return self.chance if self.share is None else self.share

    @property
    def index(self) -> float:
        """The same as analysis will measure it: of a yes/no task the AUC, which is a two-picture choice's share."""
        if self.yes_no and self.dprime is not None:
            return powers.share_correct(self.dprime, "forced-choice", 2)
        return self.right


def sized(wish: Wish, spread: Spread, readers: Sequence[int], cases: Sequence[int]) -> list[str]:
    """The answer in lines: one reader exactly, then many readers of the same cases."""
    if min(*readers, *cases, 4) < 2:
        raise CounterscanError("give --readers of 2 or more, and --cases of 4 or more")
    return [*_alone(wish), "", *_table(wish, spread, readers, cases), "", *_assumed(wish, spread)]


def _alone(wish: Wish) -> list[str]:
    if wish.difference is not None:
        return [f"Two methods that differ by {wish.difference:g}, read by all readers on the same cases."]
    if wish.margin is not None:
        n = powers.trials_for_equivalence(wish.margin, wish.chance, wish.alpha, wish.power)
        return [
            f"One reader, within {wish.margin:g} of chance ({wish.chance:.3g}) where the truth is chance: {n} "
            f"independent trials (two one-sided tests, {wish.alpha:g} each, power {wish.power:.0%}).",
            "That a test of chance finds nothing is no evidence of it.",
        ]
    n = powers.trials_for_share(wish.right, wish.chance, wish.alpha, wish.power)
    return [
        f"One reader who is right in {wish.right:.1%} where chance is {wish.chance:.1%}: {n} independent trials (exact "
        f"binomial test, two-sided, {wish.alpha:g}, power {wish.power:.0%}).",
        f"The interval is then +-{powers.wilson_half_width(n, wish.right, wish.alpha):.3f} wide (Wilson).",
    ]


def _table(wish: Wish, spread: Spread, readers: Sequence[int], cases: Sequence[int]) -> list[str]:
    index = "AUC" if wish.yes_no else "share right"
    beside = "" if wish.difference is not None else f", and half the width of the {100 * (1 - wish.alpha):g} % interval"
    columns = [f"{n} cases" for n in cases] + [f"cases for {wish.power:.0%}"]
    lines = [f"Readers and cases in general ({index}): power{beside}", _row("readers", columns)]
    for count in readers:
        needed = powers.cases_for(_power_of(wish, spread, count), wish.power)
        cells = [_cell(wish, spread, count, n) for n in cases]
        lines.append(_row(str(count), [*cells, str(needed or "more readers")]))
    return lines


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:>8} " + "".join(f"{cell:>16}" for cell in cells)


def _cell(wish: Wish, spread: Spread, readers: int, cases: int) -> str:
    power = f"{_power_of(wish, spread, readers)(cases):.0%}"
    if wish.difference is not None:
        return power
    half = powers.mean_half_width(readers, _variance(wish, cases), spread, wish.alpha)
    return f"{power} (+-{half:.3f})"


def _power_of(wish: Wish, spread: Spread, readers: int) -> Callable[[int], float]:
    def of(cases: int) -> float:
        variance = _variance(wish, cases)
        if wish.difference is not None:
            return powers.difference_power(wish.difference, readers, variance, spread, wish.alpha)
        if wish.margin is not None:
            return powers.mean_equivalence_power(wish.margin, readers, variance, spread, wish.alpha)
        return powers.mean_power(wish.index - wish.chance, readers, variance, spread, wish.alpha)

    return of


def _variance(wish: Wish, cases: int) -> float:
    """The variance of one reader's index; of a yes/no task half the cases are of either truth."""
    if wish.yes_no:
        return powers.auc_variance(wish.index, cases // 2, cases - cases // 2)
    return powers.share_variance(wish.index, cases)


def _assumed(wish: Wish, spread: Spread) -> list[str]:
    lines = [
        f"Assumed, until a pilot tells: readers differ with an SD of {spread.reader_sd:g} (--reader-sd); errors of two "
        f"readers on the same cases correlate by {spread.same_method:g} (--correlations).",
    ]
    if wish.difference is not None:
        lines.append(
            f"Of two methods: readers' differences have an SD of {spread.method_sd:g} (--method-sd); errors correlate "
            f"by {spread.same_reader:g} within a reader and {spread.neither:g} between readers and methods."
        )
    return lines
