"""Where a batch job runs: in this process, in several, or on a cluster. Names are loaded when they are first used.

So a worker that starts imports what its own work needs, and no more.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterscan.engine.job import Job, Outcome
    from counterscan.engine.running import claim, run

_HOMES = {"Job": "job", "Outcome": "job", "claim": "running", "run": "running"}

__all__ = ["Job", "Outcome", "claim", "run"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'counterscan.engine' has no attribute {name!r}")
    return getattr(import_module(f"counterscan.engine.{_HOMES[name]}"), name)
