"""What a process holds: how much it is at most, as the kernel counts, and what is no longer used given back."""

import contextlib
import ctypes
import gc
import mmap
from collections.abc import Callable
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(work: Callable[[], object]) -> float:
    """MB resident at most while `work()` runs, libraries and models included; nan where the kernel does not tell."""
    gc.collect()
    trim()  # what earlier work freed is not this work's
    try:
        CLEAR.write_text("5")  # sets the high-water mark to what is resident now
    except OSError:
        return float("nan")
    work()
    return _highest()


def trim() -> None:
    """Give back what was freed, which glibc keeps: tensors of ever other sizes leave holes that nothing fits into."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)


def release(mapped: mmap.mmap) -> None:
    """Give back what was read of a mapped file: the system keeps it, but counts it as this process's memory."""
    if hasattr(mmap, "MADV_DONTNEED"):  # Windows has none
        mapped.madvise(mmap.MADV_DONTNEED)


def _highest() -> float:
    for line in STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")
