"""The suite `all`: every explainer that there is, on every kind of phantoms, disease removed and disease added.

All of them see the same images, classifier, judge and seed. A method that fails is a line that says so.
"""

from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from counterscan.bench.every.lines import DIRECTIONS, keep, kept_lines
from counterscan.bench.every.measuring import measure
from counterscan.bench.every.page import write_page
from counterscan.bench.every.places import Place, kinds_of
from counterscan.bench.every.table import Table, markdown
from counterscan.bench.methods import named, registered
from counterscan.bench.setting import kept
from counterscan.bench.suite import Asked, as_json, machine
from counterscan.data.files import write_whole
from counterscan.errors import CounterscanError

NOTES = (
    "Rates are of the images that the classifier did not answer as asked; 95 % intervals by patient.",
    "The judge never took part in finding an explanation. A twin is the same anatomy without the disease.",
    "A method without a prior for a kind of images counts as failed there.",
)


def run(
    asked: Asked,
    *,
    kinds: str | None = None,
    methods: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> Table:
    """Measure every explainer, or the `methods`, on the phantoms `kinds` (`chest,oct`) or the manifest that is `asked`.

    What was measured into the folder before is in the table, too, and is not measured again.
    """
    chosen, wanted = named(registered(quick=asked.quick), methods), kinds_of(asked, kinds)
    _claimed(asked)
    for kind in wanted:
        place = Place.load(asked, kind)
        for method in chosen:
            for direction in DIRECTIONS:
                say(f"{place.name}, disease {direction}: {method.name}")
                keep(measure(place, direction, method), asked.out)
            table = _written(asked)
    return table


def _claimed(asked: Asked) -> None:
    """Note what the folder holds, or refuse one that was measured otherwise: its lines would not compare."""
    facts = {"quick": asked.quick, "n": asked.n, "size": asked.size, "seed": asked.seed}
    before = kept(asked.out / "bench.json", "all", lambda: facts)
    if other := [name for name in facts if before[name] != facts[name]]:
        name = other[0]
        raise CounterscanError(
            f"{asked.out} was measured with {name} {before[name]}, now {facts[name]}; give another --out"
        )


def _written(asked: Asked) -> Table:
    """The table of all that is in the folder, as a page, as Markdown and as JSON."""
    facts: dict[str, Any] = {
        "suite": "all",
        "command": asked.command,
        "version": metadata.version("counterscan"),
        "machine": machine(),
        "quick": asked.quick,
        "notes": NOTES,
    }
    table = Table(facts, kept_lines(asked.out))
    for path in filter(None, (asked.out / "table.json", asked.json_file)):
        write_whole(Path(path), as_json(table.to_dict()))
    write_whole(asked.out / "table.md", markdown(table).encode())
    write_page(table, asked.out)
    return table
