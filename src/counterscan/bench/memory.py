"""How much memory a piece of work takes at most, measured by the kernel."""

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(work: Callable[[], object]) -> float:
    """MB resident at most while `work()` runs, libraries and models included; nan where the kernel does not tell."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # what earlier work freed goes back first
        ctypes.CDLL(None).malloc_trim(0)
    try:
        CLEAR.write_text("5")  # sets the high-water mark to what is resident now
    except OSError:
        return float("nan")
    work()
    return _highest()


def _highest() -> float:
    for line in STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")
