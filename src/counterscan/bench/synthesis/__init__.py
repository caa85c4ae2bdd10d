"""The suite `synthesis`: what a made archive is worth beside a real one, with what real images reach beside everything.

Distances of sets, diversity, copies of training images, co-occurrence of findings, and classifiers trained on either.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from counterscan.bench.setting import kept
from counterscan.bench.suite import Asked, as_json, one_line
from counterscan.bench.synthesis.evaluation import Evaluation
from counterscan.bench.synthesis.likeness import copies, diversity, sheet
from counterscan.bench.synthesis.page import write_page
from counterscan.bench.synthesis.sets import distances
from counterscan.bench.synthesis.setting import Setting
from counterscan.bench.synthesis.teaching import training
from counterscan.bench.synthesis.together import cooccurrence
from counterscan.data.files import write_whole
from counterscan.errors import CounterscanError, UnknownName, did_you_mean

PARTS: dict[str, Callable[[Setting], Any]] = {
    "distances": distances,
    "diversity": diversity,
    "copies": copies,
    "cooccurrence": cooccurrence,
}
TRAINING = "training"
JUDGED = ("distances", "copies")  # what needs a judge's features


def run(
    asked: Asked,
    *,
    real: Path | None = None,
    methods: Sequence[str] = (),
    steps: int | None = None,
    say: Callable[[str], None] = print,
) -> Evaluation:
    """Evaluate the archive that `asked.data` names against the `real` one, by every part or those that `methods` name.

    `steps` are those of each training. A part that is done is not done again; the page is written anew after each. One
    that fails is a line that says so. CounterscanError for words that do not fit, before anything is made.
    """
    if real is None:
        raise CounterscanError("the suite synthesis compares with real images: name their manifest, --real MANIFEST")
    chosen = _named(methods)
    setting = Setting.load(asked, real, judged=any(name in JUDGED for name in chosen))
    found = Evaluation.of(setting)
    for name in chosen:
        say(name)
        try:
            found = found.with_part(name, _part(setting, name, steps, say))
        except (CounterscanError, OSError) as error:
            found = found.with_failure(name, one_line(error))
        _write(found, setting, asked.json_file)
    return found


def _part(setting: Setting, name: str, steps: int | None, say: Callable[[str], None]) -> Any:
    if name == TRAINING:
        return training(setting, steps, say)
    return kept(setting.out / "parts" / f"{name}.json", [*setting.key, setting.quick], partial(PARTS[name], setting))


def _write(found: Evaluation, setting: Setting, json_file: Path | None) -> None:
    out, copied = setting.out, found.parts.get("copies")
    content = as_json(found.to_dict())
    for path in filter(None, (out / "synthesis.json", json_file)):
        write_whole(path, content)
    write_whole(out / "synthesis.md", found.markdown().encode())
    write_page(found, out, sheet(setting, copied) if copied else None)


def _named(names: Sequence[str]) -> list[str]:
    known = [*PARTS, TRAINING]
    for name in names:
        if name not in known:
            raise UnknownName(f"the suite synthesis has no part {name!r}{did_you_mean(name, known)}")
    return [name for name in known if not names or name in names]
