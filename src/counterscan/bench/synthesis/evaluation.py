"""What was found, part by part: in the form of `results/`, as tables for people, and in a few sentences."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any, Self

from counterscan.bench.suite import machine
from counterscan.bench.synthesis.setting import Setting
from counterscan.bench.synthesis.tables import Grid, grids, headlines

Figure = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The `parts` that are done, the `failures` of others, and `facts` that hold for all."""

    facts: dict[str, Any]
    parts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    failures: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, setting: Setting) -> Self:
        """Nothing found yet."""
        judge = setting.judge
        return cls(
            {
                "suite": "synthesis",
                "data": setting.made.manifest.root.name,
                "real": setting.real.manifest.root.name,
                "n": len(setting.made),
                "n_real": len(setting.real),
                "side": setting.side,
                "extractor": setting.extractor.name if judge else "",
                "version": metadata.version("counterscan"),
                "machine": machine(),
                "command": setting.command,
            }
        )

    def with_part(self, name: str, found: Any) -> Self:
        """The same, with one part more."""
        return replace(self, parts={**self.parts, name: found})

    def with_failure(self, name: str, why: str) -> Self:
        """The same, with a part that could not be done."""
        return replace(self, failures={**self.failures, name: why})

    @property
    def failed(self) -> bool:
        """Did any part fail?"""
        return bool(self.failures)

    @property
    def tables(self) -> list[Grid]:
        """A table or more for each part."""
        return grids(self.parts)

    @property
    def metrics(self) -> dict[str, Figure]:
        """The figures by name, each with value, interval and number."""
        return {name: figure for part, found in self.parts.items() for name, figure in FIGURES[part](found).items()}

    def to_dict(self) -> dict[str, Any]:
        """The form of the results, with all that was found under `parts`."""
        told = {
            "command": self.facts["command"],
            "version": self.facts["version"],
            "explainer": "",
            "n": self.facts["n"],
        }
        failures = {"failed": dict(self.failures)} if self.failures else {}
        return {**told, "metrics": self.metrics, **self.facts, **failures, "parts": dict(self.parts)}

    def __str__(self) -> str:
        head = f"{self.facts['n']} synthetic images ({self.facts['data']}) against {self.facts['n_real']} real ones"
        lines = [f"  {one.title}: {one.value}  ({one.beside})" for one in headlines(self.parts)]
        return "\n".join([head, *lines, *(f"  {name} failed: {why}" for name, why in self.failures.items())])

    def markdown(self) -> str:
        """All tables as Markdown."""
        failures = "".join(f"- {name} failed: {why}\n" for name, why in self.failures.items())
        return "\n".join([*(table.markdown() for table in self.tables), failures + f"- `{self.facts['command']}`\n"])


def _distances(found: list[dict[str, Any]]) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for line in found:
        if "metrics" not in line:
            continue
        end = "" if line["kind"] == "overall" else f"_{line['name'].replace(' ', '_')}"
        for name, figure in line["metrics"].items():
            figures[name + end] = _figure(figure)
            if figure["floor"]:
                figures[f"{name}_floor{end}"] = _figure(figure["floor"])
        figures[f"kernel_distance_times_floor{end}"] = _plain(line["times_floor"], line["n"])
    return figures


def _diversity(found: list[dict[str, Any]]) -> dict[str, Figure]:
    kinds = ("synthetic", "real")
    return {
        f"ms_ssim_pairs_{kind}" + ("" if not place else f"_{line['name'].replace(' ', '_')}"): _figure(line[kind])
        for place, line in enumerate(found)
        for kind in kinds
        if line[kind]
    }


def _copies(found: dict[str, Any]) -> dict[str, Figure]:
    return {
        f"{name}_nearer_than_{level}": _figure(figure)
        for part, name in (("reference", "copies"), ("repeats", "repeats"))
        for level, figure in found[part]["nearer_than"].items()
    }


def _cooccurrence(found: dict[str, Any]) -> dict[str, Figure]:
    patterns, n = found["patterns"], sum(found["patterns"]["n"])
    names = ("distance", "distance_by_chance", "distance_p", "chi_square_p")
    return {f"cooccurrence_{name}": _plain(patterns[name], n) for name in names}


def _training(found: dict[str, Any]) -> dict[str, Figure]:
    figures = {}
    for on, lines in found["tested_on"].items():
        for line in lines:
            for kind in ("synthetic", "real"):
                figures[f"auc_{kind}_to_{on}_{line['name']}"] = _figure(line[f"from_{kind}"])
            figures[f"auc_ratio_on_{on}_{line['name']}"] = _figure(line["ratio"])
    return figures


def _figure(figure: Mapping[str, Any]) -> Figure:
    return {key: figure[key] for key in ("value", "low", "high", "n")}


def _plain(value: float | None, n: int) -> Figure:
    return {"value": value, "low": None, "high": None, "n": n}


FIGURES: dict[str, Callable[[Any], dict[str, Figure]]] = {
    "distances": _distances,
    "diversity": _diversity,
    "copies": _copies,
    "cooccurrence": _cooccurrence,
    "training": _training,
}
