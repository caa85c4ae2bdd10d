"""What suites share: what they are asked, what they measure it on, and a table written anew after every method."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from counterscan.bench.measuring import TUNED, Found, measure
from counterscan.bench.methods import Method
from counterscan.bench.notes import notes
from counterscan.bench.page import sheet, write_page
from counterscan.bench.parts import PHANTOMS, SEED, Models, Part, manifest_parts, phantom_part
from counterscan.bench.rows import FIRST, Row, Sizes, row
from counterscan.bench.setting import Setting
from counterscan.bench.table import Table, markdown
from counterscan.data.files import write_whole
from counterscan.errors import CounterscanError, UnknownName, WeightsError, did_you_mean

SIZE, IMAGES, QUICK_IMAGES = 128, 300, 16  # of phantoms, and how many in each part

Done = dict[str, list[dict[str, Found]] | Row]  # by method: for each part what each rule found, or why nothing was


@dataclass(frozen=True)
class Asked:
    """What is measured, and with what: `data` is `phantoms`, a kind of phantom, or a manifest.

    `models` is a shipped kind or a folder that holds the models by name, `{fold}` in it stands for the fold measured;
    `named` holds words such as `judge=runs/judge` for those that lie elsewhere. `n` images are in each part of phantoms
    (at most so many of a manifest's), `quick` takes few of them, and one fold.
    """

    data: str
    out: Path
    models: str = ""
    named: Sequence[str] = ()
    target: str = ""
    folds: str = ""
    size: int | None = None
    n: int | None = None
    quick: bool = False
    dataset: Path | None = None
    seed: int = SEED
    json_file: Path | None = None
    command: str = ""

    @property
    def phantoms(self) -> str:
        """The kind of phantoms asked for, empty for a manifest."""
        return PHANTOMS.get(self.data, "")

    @property
    def places(self) -> Models:
        """Where the models lie."""
        return Models.parse(self.models or self.phantoms, self.named)

    def settings(self) -> list[Setting]:
        """Every part with its models loaded; an error for words that do not fit, before anything is drawn or read."""
        self.check()
        return [
            Setting.load(part, self.places, self.target, self.out, self.command, self.seed) for part in self._parts()
        ]

    def _parts(self) -> list[Part]:
        n = self.n or (QUICK_IMAGES if self.quick else IMAGES if self.phantoms else 0)
        if self.phantoms:
            return [phantom_part(self.phantoms, self.out / "data", n=n, size=self.size or SIZE, seed=self.seed)]
        return manifest_parts(Path(self.data), self.dataset, self.folds, n)[: 1 if self.quick else None]

    def check(self) -> None:
        """An error for words that do not fit."""
        if not self.phantoms and not Path(self.data).exists():
            hint = did_you_mean(self.data, PHANTOMS)
            raise UnknownName(f"{self.data!r} is neither a manifest nor a kind of phantom{hint}")
        if not self.phantoms and self.size:
            raise CounterscanError("--size is for phantoms; a manifest's images are brought to the models' size")
        if self.phantoms and (self.folds or self.dataset):
            raise CounterscanError("phantoms have neither folds nor a dataset.toml; leave --folds and --dataset out")
        if not self.places.pattern and "classifier" not in self.places.named:
            raise WeightsError("name the folder of the models: --models runs/{fold}, see docs/bench-segmentation.md")
        if self.phantoms and not self.places.there("classifier"):
            raise WeightsError(f"there is no classifier {self.places.place('classifier')}; name --models, or train one")


@dataclass
class Making:
    """The table of the suite `name` in the making, over the parts that `asked` names."""

    name: str
    asked: Asked
    settings: Sequence[Setting]
    done: Done = field(default_factory=dict)

    def add(self, method: Method, settings: Sequence[Setting] = ()) -> Table:
        """Measure `method` on every part (with the models of `settings`, where given); the table so far, written.

        A method whose model is absent, or that fails, is a line that says so.
        """
        self.done[method.name] = _measured(method, settings or self.settings)
        return self._write()

    def _write(self) -> Table:
        out, first = self.asked.out, self.settings[0]
        tuned = {name: [part[TUNED] for part in it] for name, it in self.done.items() if not isinstance(it, Row)}
        sizes = Sizes.of(next(iter(tuned.values()))) if tuned else Sizes("px", (0, 0))
        facts = self._facts()
        rows = [one for name, found in self.done.items() for one in self._lines(name, found, sizes, facts)]
        table = Table({**facts, "sizes": sizes.describe() if tuned else "", "notes": notes(tuned)}, rows)
        for one in rows:
            write_whole(out / "results" / f"{one.file}.json", as_json(one.to_dict()))
        for path in filter(None, (out / "table.json", self.asked.json_file)):
            write_whole(path, as_json(table.to_dict()))
        write_whole(out / "table.md", markdown(table).encode())
        where = {name: first.out / name / "test" for name in tuned}
        write_page(table, out, sheet(first.part.test, where) if tuned else None)
        return table

    def _lines(self, name: str, found: list[dict[str, Found]] | Row, sizes: Sizes, facts: dict[str, Any]) -> list[Row]:
        """One line a rule, or the one that says why there is none."""
        if isinstance(found, Row):
            return [found]
        first = self.done.get(FIRST, [])
        compared = [] if isinstance(first, Row) else [part[TUNED] for part in first]
        folds = [setting.part.fold for setting in self.settings]
        models = self.settings[0].models
        place = models.named.get("classifier") or f"{models.pattern}/classifier"
        told = facts | {"folds": folds, "classifier": place}
        return [row(name, rule, [part[rule] for part in found], sizes, compared, told) for rule in found[0]]

    def _facts(self) -> dict[str, Any]:
        first, kind = self.settings[0], self.asked.phantoms
        return {
            "suite": self.name,
            "data": f"{kind} phantoms at {self.asked.size or SIZE} px" if kind else Path(self.asked.data).name,
            "target": first.target.describe(first.classifier.card),
            "n": sum(len(setting.part.test) for setting in self.settings),
            "version": metadata.version("counterscan"),
            "machine": machine(),
            "command": self.asked.command,
            "judge": first.judge.card.name if first.judge else "",
        }


def _measured(method: Method, settings: Sequence[Setting]) -> list[dict[str, Found]] | Row:
    """What was found on each part; a line that says why where there is nothing."""
    for setting in settings:
        if method.prior and not setting.models.there(method.prior, setting.part.fold):
            return Row(method.name, absent=f"no model {setting.models.place(method.prior, setting.part.fold)}")
    try:
        return [measure(setting, method) for setting in settings]
    except (CounterscanError, OSError) as error:
        return Row(method.name, failed=one_line(error))


def machine() -> str:
    """What figures of time are of."""
    return f"{os.cpu_count()} CPUs, {torch.get_num_threads()} threads of torch {torch.__version__}"


def one_line(error: Exception) -> str:
    """What an error says, in a line of a table."""
    return " ".join(str(error).split())


def as_json(value: Any) -> bytes:
    """The file that holds `value`."""
    return (json.dumps(value, indent=1) + "\n").encode()
