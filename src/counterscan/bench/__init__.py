"""Suites: each measures many methods on the same images and makes one table of them, by one command."""

import importlib
from typing import Any

from counterscan.errors import UnknownName, did_you_mean

SUITES = {"segmentation": "counterscan.bench.segmentation"}  # name: the module whose `run` makes its table


def run_suite(name: str, **words: Any) -> Any:
    """What the suite `name` finds, see `run` in its module; UnknownName for one that there is not."""
    if name not in SUITES:
        raise UnknownName(f"no suite is called {name!r}{did_you_mean(name, SUITES)}")
    return importlib.import_module(SUITES[name]).run(**words)
