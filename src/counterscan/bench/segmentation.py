"""The suite `segmentation`: how well each method's masks find a lesion that only image-level labels told of.

Inpainting, progressive exaggeration, a student of the masks, the same network taught by true masks (the upper bound),
and the attributions, on the same images with the same classifier and judge.
"""

import json
import os
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from counterscan.bench import methods as known
from counterscan.bench.measuring import TUNED, Found, measure
from counterscan.bench.methods import Method
from counterscan.bench.notes import notes
from counterscan.bench.page import sheet, write_page
from counterscan.bench.parts import PHANTOMS, SEED, Models, manifest_parts, phantom_part
from counterscan.bench.rows import FIRST, Row, Sizes, row
from counterscan.bench.setting import Setting
from counterscan.bench.table import Table, markdown
from counterscan.data.files import write_whole
from counterscan.errors import CounterscanError, UnknownName, WeightsError, did_you_mean

SIZE, IMAGES, MASKS = 128, 300, 1000  # of phantoms, how many in each part, and masks of RISE
QUICK_IMAGES, QUICK_MASKS = 16, 48

Done = dict[str, list[dict[str, Found]] | Row]  # by method: for each part what each rule found, or why nothing was


def run(
    data: str,
    out: Path,
    *,
    models: str = "",
    named: Sequence[str] = (),
    target: str = "",
    folds: str = "",
    methods: Sequence[str] = (),
    size: int | None = None,
    n: int | None = None,
    masks: int | None = None,
    quick: bool = False,
    dataset: Path | None = None,
    seed: int = SEED,
    json_file: Path | None = None,
    command: str = "",
    say: Callable[[str], None] = print,
) -> Table:
    """Measure every method on `data` (`phantoms`, a kind of phantom, or a manifest) and write the table into `out`.

    `models` is a shipped kind or a folder that holds classifier, judge, inpainting, progressive, student and
    supervised; `{fold}` in it stands for the fold measured. A method whose model is absent, or that fails, is a line
    that says so. The table is written anew after every method; a run that was stopped goes on where it was.
    """
    n = n or (QUICK_IMAGES if quick else IMAGES if data in PHANTOMS else 0)
    places = Models.parse(models or PHANTOMS.get(data, ""), named)
    chosen = known.methods(methods, masks=masks or (QUICK_MASKS if quick else MASKS), quick=quick)
    _check(data, size, folds, dataset, places)
    if data in PHANTOMS:
        parts = [phantom_part(PHANTOMS[data], out / "data", n=n, size=size or SIZE, seed=seed)]
    else:
        parts = manifest_parts(Path(data), dataset, folds, n)[: 1 if quick else None]
    settings = [Setting.load(part, places, target, out, command, seed) for part in parts]
    facts = _facts(data, (size or SIZE) if data in PHANTOMS else None, settings, command)
    done: Done = {}
    for method in chosen:
        say(f"{method.name}")
        done[method.name] = _measured(method, settings)
        table = _written(done, facts, settings, out, json_file)
    return table


def _check(data: str, size: int | None, folds: str, dataset: Path | None, places: Models) -> None:
    """Refuse words that do not fit one another before anything is drawn or read."""
    if data not in PHANTOMS and not Path(data).exists():
        raise UnknownName(f"{data!r} is neither a manifest nor a kind of phantom{did_you_mean(data, PHANTOMS)}")
    if data not in PHANTOMS and size:
        raise CounterscanError("--size is for phantoms; a manifest's images are brought to the models' size")
    if data in PHANTOMS and (folds or dataset):
        raise CounterscanError("phantoms have neither folds nor a dataset.toml; leave --folds and --dataset out")
    if not places.pattern and "classifier" not in places.named:
        raise WeightsError("name the folder of the models: --models runs/{fold}, see docs/bench-segmentation.md")
    if data in PHANTOMS and not places.there("classifier"):
        raise WeightsError(f"there is no classifier {places.place('classifier')}; name --models, or train one")


def _measured(method: Method, settings: Sequence[Setting]) -> list[dict[str, Found]] | Row:
    """What was found on each part; a line that says why where there is nothing."""
    for setting in settings:
        if method.prior and not setting.models.there(method.prior, setting.part.fold):
            return Row(method.name, absent=f"no model {setting.models.place(method.prior, setting.part.fold)}")
    try:
        return [measure(setting, method) for setting in settings]
    except (CounterscanError, OSError) as error:
        return Row(method.name, failed=" ".join(str(error).split()))


def _written(
    done: Done,
    facts: dict[str, Any],
    settings: Sequence[Setting],
    out: Path,
    json_file: Path | None,
) -> Table:
    """The table of what is done so far, written as JSON, Markdown and a page, with a JSON file a line."""
    tuned = {name: [part[TUNED] for part in found] for name, found in done.items() if not isinstance(found, Row)}
    sizes = Sizes.of(next(iter(tuned.values()))) if tuned else Sizes("px", (0, 0))
    told = facts | {"folds": [setting.part.fold for setting in settings], "classifier": _place(settings)}
    rows = [one for name, found in done.items() for one in _lines(name, found, sizes, tuned.get(FIRST, []), told)]
    table = Table({**facts, "sizes": sizes.describe() if tuned else "", "notes": notes(tuned)}, rows)
    for one in rows:
        write_whole(out / "results" / f"{one.file}.json", (json.dumps(one.to_dict(), indent=1) + "\n").encode())
    text = (json.dumps(table.to_dict(), indent=1) + "\n").encode()
    for path in filter(None, (out / "table.json", json_file)):
        write_whole(path, text)
    write_whole(out / "table.md", markdown(table).encode())
    picture = sheet(settings[0].part.test, {name: settings[0].out / name / "test" for name in tuned}) if tuned else None
    write_page(table, out, picture)
    return table


def _lines(
    name: str, found: list[dict[str, Found]] | Row, sizes: Sizes, first: Sequence[Found], told: dict[str, Any]
) -> list[Row]:
    """One line a rule, or the one that says why there is none."""
    if isinstance(found, Row):
        return [found]
    return [row(name, rule, [part[rule] for part in found], sizes, first, told) for rule in found[0]]


def _place(settings: Sequence[Setting]) -> str:
    first = settings[0]
    return first.models.named.get("classifier") or f"{first.models.pattern}/classifier"


def _facts(data: str, size: int | None, settings: Sequence[Setting], command: str) -> dict[str, Any]:
    first = settings[0]
    images = sum(len(setting.part.test) for setting in settings)
    return {
        "suite": "segmentation",
        "data": f"{PHANTOMS[data]} phantoms at {size} px" if size else Path(data).name,
        "target": first.target.describe(first.classifier.card),
        "n": images,
        "version": metadata.version("counterscan"),
        "machine": f"{os.cpu_count()} CPUs, {torch.get_num_threads()} threads of torch {torch.__version__}",
        "command": command,
        "judge": first.judge.card.name if first.judge else "",
    }
