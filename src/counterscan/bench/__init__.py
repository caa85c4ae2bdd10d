"""Suites: each measures many methods on the same images and makes one table of them, by one command."""

import importlib
import inspect
from typing import Any

from counterscan.errors import CounterscanError, UnknownName, did_you_mean

SUITES = {  # name: the module whose `run` makes its table
    "segmentation": "counterscan.bench.segmentation",
    "ablation": "counterscan.bench.ablation",
    "synthesis": "counterscan.bench.synthesis",
    "all": "counterscan.bench.every",
}
OWN = ("masks", "steps", "real", "kinds")  # words that not every suite has


def run_suite(name: str, **words: Any) -> Any:
    """What the suite `name` finds, see `Asked` in suite.py and `run` in its own module.

    UnknownName for one that there is not, CounterscanError for a word that it does not have.
    """
    if name not in SUITES:
        raise UnknownName(f"no suite is called {name!r}{did_you_mean(name, SUITES)}")
    from counterscan.bench.suite import Asked

    run = importlib.import_module(SUITES[name]).run
    own = {word: words.pop(word) for word in ("methods", "say", *OWN) if word in words}
    for word in OWN:
        if word not in inspect.signature(run).parameters and own.pop(word, None) is not None:
            raise CounterscanError(f"the suite {name} has no --{word}; leave it out")
    return run(Asked(**words), **own)
