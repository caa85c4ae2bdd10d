"""What fuzz.py gives each kind of file to: all that a user would do with it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = "out"  # the folder for what is written of a scan; where it is not, nothing is
LONGEST = 200  # letters of a word that somebody types
Reader = Callable[[Path, Path], object]  # of the file that is named, in its folder


@cache
def card() -> Any:
    """The classifier that requests are made of."""
    from counterscan.core import Card

    return Card(name="tiny", shape=(1, 16, 16), classes=("effusion", "nodule"))


@cache
def _study() -> Any:
    from seeds_texts import study

    return study()


def image(path: Path, folder: Path) -> None:
    """Read a scan, and write results beside it where there is a folder for them."""
    from counterscan.data.results import MapSource
    from counterscan.data.scans import read_scan

    scan = read_scan(path)
    scan.images((1, 32, 32))
    if not (folder / RESULTS).is_dir():
        return
    scan.write(scan.pixels, folder / RESULTS / "counterfactual")
    scan.write_mask(scan.pixels[:, 0] > scan.window.low, folder / RESULTS / "mask")
    if isinstance(scan.source, MapSource):
        scan.source.write_map(scan.pixels[:, 0], folder / RESULTS / "heatmap")


def _cases(path: Path, folder: Path) -> None:
    from counterscan.data.manifest import find_cases

    for case in find_cases(path).cases:
        case.read()


def _manifest(path: Path, folder: Path) -> None:
    from counterscan.data.manifest import read_manifest

    read_manifest(path).leaks("split")


def _dataset(path: Path, folder: Path) -> None:
    from counterscan.data.dataset import read_dataset_file

    read_dataset_file(path, needed=True)


def _card(path: Path, folder: Path) -> None:
    from counterscan.classifiers.load import read_card

    read_card(path)


def _weights(path: Path, folder: Path) -> None:
    from counterscan.weights.store import load_weights

    load_weights(folder)


def _frozen(path: Path, folder: Path) -> None:
    from counterscan.study.records import Study

    Study.load(folder)


def _answers(path: Path, folder: Path) -> None:
    from counterscan.study.records import read_answers, readings

    readings(_study(), read_answers(path))


def _database(path: Path, folder: Path) -> None:
    from counterscan.study.records import readings
    from counterscan.study.store import Store

    store = Store.of(folder)
    try:
        readings(_study(), store.answers())
        store.notes(), store.progress("ada")
    finally:
        store.close()


def _description(path: Path, folder: Path) -> None:
    from counterscan.study.description import read_description

    read_description(path)


def _links(path: Path, folder: Path) -> None:
    from counterscan.study.links import read_links

    read_links(folder)


def _explanation(path: Path, folder: Path) -> None:
    from counterscan.core import Explanation

    Explanation.load(folder).select(slice(0, 1))


def _explained(path: Path, folder: Path) -> None:
    from counterscan.report import write_page
    from counterscan.study.sources import synthetic_pool

    synthetic_pool("ours", folder)
    write_page(folder)


def _rule(path: Path, folder: Path) -> None:
    from counterscan.jobs import read_rule

    read_rule(path)


def _counts(path: Path, folder: Path) -> None:
    from counterscan.synthesis.specs import counted, order

    requests = counted(path, card())
    if sum(one.count for one in requests) < 10_000:
        order(requests)


def _shares(path: Path, folder: Path) -> None:
    from counterscan.synthesis.specs import order, prevalent

    order(prevalent(path, 100, card()))


def _prompt(path: Path, folder: Path) -> None:
    from counterscan.prompts.reading import read

    read(_text(path), card().classes)


def _text(path: Path) -> str:
    return path.read_text(errors="replace")


def _word(read: Callable[[str], object]) -> Reader:
    """A reader of what is typed, where no null byte can be."""
    return lambda path, folder: read(_text(path)[:LONGEST].replace("\0", ""))


def _target(text: str) -> None:
    from counterscan.core import Target

    Target.parse(text, card()).describe(card())


def _labels(text: str) -> None:
    from counterscan.synthesis.specs import parse

    parse(text, card())


def _window(text: str) -> None:
    from counterscan.jobs import parse_window

    parse_window(text)


def _setting(text: str) -> None:
    from counterscan.jobs import read_settings
    from counterscan.train.recipes.classifier import ClassifierRecipe

    read_settings(ClassifierRecipe, [text])


def _shard(text: str) -> None:
    from counterscan.engine.sharding import Shard

    Shard.parse(text)


def _method(text: str) -> None:
    from counterscan.study.description import method_folder

    method_folder(text)


READERS: dict[str, Reader] = {
    "manifest": _manifest,
    "dataset": _dataset,
    "card": _card,
    "weights": _weights,
    "zip": _cases,
    "series": lambda path, folder: _cases(folder, folder),
    "study": _frozen,
    "answers": _answers,
    "database": _database,
    "description": _description,
    "links": _links,
    "explanation": _explanation,
    "explained": _explained,
    "rule": _rule,
    "counts": _counts,
    "shares": _shares,
    "prompt": _prompt,
    "target": _word(_target),
    "labels": _word(_labels),
    "window": _word(_window),
    "setting": _word(_setting),
    "shard": _word(_shard),
    "method": _word(_method),
}
