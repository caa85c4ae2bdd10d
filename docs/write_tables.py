"""Write anew the tables that stand inside pages that people wrote, from the JSON files under results/.

Such a table stands between `<!-- table NAME -->` and `<!-- end of table -->`. `--check` only tells whether all are
up to date.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "results"
MARKED = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end of table -->)", re.S)
PUBLISHED = {  # table 1 of COIN
    "inpainting": None,
    "coin": 0.646,
    "progressive": 0.445,
    "rise": 0.397,
    "score-cam": 0.030,
    "layer-cam": 0.026,
    "grad-cam": None,
}
CAMS = ("score-cam", "layer-cam", "grad-cam")
FAULTS = {
    "killed_at_a_time": "killed at a random time",
    "killed_at_a_file": "killed before a random operation on a file",
    "disk_full": "the disk full",
    "damaged": "a file damaged",
}
FUZZED = {
    "read": "read",
    "refused": "refused in one line",
    "crash": "crash",
    "hang": "hang",
    "outside": "file outside its folder",
    "memory": "more than 400 MiB",
    "error": "any other error",
}


def pages() -> dict[Path, str]:
    """Each page with such a table, as it should be."""
    found = {path: path.read_text() for path in sorted(DOCS.glob("**/*.md"))}
    return {path: MARKED.sub(_filled, text) for path, text in found.items() if MARKED.search(text)}


def _filled(found: re.Match) -> str:
    start, name, end = found.groups()
    return f"{start}\n{TABLES[name]()}\n{end}"


def speed() -> str:
    """What attributions cost here and in other libraries, by `bench/attribution.py`."""
    rows = json.loads((RESULTS / "attribution-speed.json").read_text())["rows"]
    ours = {(row["network"], row["method"]): row["cpu_seconds"] for row in rows if row["library"] == "counterscan"}
    return _table(
        ["network", "method", "library", "processor s", "times ours", "peak MB", "deviation"],
        ([*_named(row), *_costs(row, ours[row["network"], row["method"]])] for row in rows),
    )


def _named(row: dict[str, Any]) -> list[str]:
    return [row["network"], f"`{row['method']}`", row["library"]]


def _costs(row: dict[str, Any], ours: float) -> list[str]:
    deviation = row["deviation"]
    told = "" if deviation is None else f"{deviation:.1e}" if deviation else "0"
    return [f"{row['cpu_seconds']:.3f}", f"{row['cpu_seconds'] / ours:.2f}", str(row["peak_mb"]), told]


def peak() -> str:
    """What share of a matrix product's speed explainers and recipes reach, by `bench/peak.py`."""
    found = json.loads((RESULTS / "peak.json").read_text())
    rows = [
        [kind, f"`{name}`", row["of"], f"{row['gflop']:g}", f"{row['cpu_seconds']:g}", f"{row['share']:.2f}"]
        for kind, part in (("image", "explainers"), ("step", "recipes"))
        for name, row in found[part].items()
        if "failed" not in row
    ]
    head = "{cpu}, {precision}, {threads} thread, {peak_gflop_a_second} GFLOP a second; `{command}`\n\n".format(**found)
    return head + _table(["one", "of", "phantoms", "GFLOP", "processor s", "share of the peak"], iter(rows))


def memory(name: str) -> str:
    """The largest resident memory of each command over few and many images, by `bench/memory.py`."""
    found = json.loads((RESULTS / f"{name}.json").read_text())
    rows = [
        [f"`{job}`", *(str(peak["mib"]) for peak in told["peaks"]), f"{told['ratio']:.2f}"]
        for job, told in found["jobs"].items()
    ]
    heads = [f"MiB, {count} images" for count in found["counts"]]
    return f"`{found['command']}`\n\n" + _table(["command", *heads, "times"], iter(rows))


def published() -> str:
    """The experiment of COIN on phantoms, by `bench/published.py`."""
    return _table(["method", "layer", "mask rule", "micro IoU", "mean IoU", "the paper"], _published_rows())


def _published_rows() -> Iterator[list[str]]:
    for method, paper in PUBLISHED.items():
        for layer in ("last", "best") if method in CAMS else ("",):
            for rule in ("published", "tuned"):
                parts = ["published", method, *["last"] * (layer == "last"), *["published"] * (rule == "published")]
                found = json.loads((RESULTS / f"{'-'.join(parts)}.json").read_text())["metrics"]
                micro = "{value:.3f} ({low:.3f} to {high:.3f})".format(**found["micro_iou"])
                known = paper if paper and rule == "published" and layer != "best" else ""
                yield [f"`{method}`", layer, rule, micro, f"{found['iou']['value']:.3f}", str(known)]


def faults() -> str:
    """What commands survive, by `bench/faults.py`."""
    found = json.loads((RESULTS / "faults.json").read_text())["metrics"]
    commands = dict.fromkeys(name.partition("_")[0] for name in found)
    rows = ([f"`{one}`", *(_survived(found.get(f"{one}_{kind}")) for kind in FAULTS)] for one in commands)
    return _table(["", *FAULTS.values()], rows)


def _survived(figure: dict[str, Any] | None) -> str:
    return f"{round(figure['value'] * figure['n'])} of {figure['n']}" if figure else ""


def fuzz() -> str:
    """What readers make of damaged files, by `bench/fuzz.py`: in all, and how many inputs each kind had."""
    told = json.loads((RESULTS / "fuzz.json").read_text())
    figures = {name.removeprefix("fuzz_"): one["value"] for name, one in told["metrics"].items()}
    kinds = {name.removeprefix("of_"): count for name, count in figures.items() if name.startswith("of_")}
    whole = _table(["inputs", *FUZZED.values()], iter([[f"{told['n']:,}", *(f"{figures[name]:,}" for name in FUZZED)]]))
    return f"{whole}\nInputs of each kind: {', '.join(f'{kind} {count:,}' for kind, count in kinds.items())}.\n"


def _table(heads: list[str], rows: Iterator[list[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (heads, ["---"] * len(heads), *rows))


TABLES: dict[str, Callable[[], str]] = {
    "attribution-speed": speed,
    "peak": peak,
    "memory": partial(memory, "memory"),
    "memory-10000": partial(memory, "memory-10000"),
    "memory-10000-rows": partial(memory, "memory-10000-rows"),
    "published-experiment": published,
    "faults": faults,
    "fuzz": fuzz,
}

if __name__ == "__main__":
    stale = {path: text for path, text in pages().items() if path.read_text() != text}
    if "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(path.name for path in stale)}; run make docs" if stale else 0)
    for path, text in stale.items():
        path.write_text(text)
