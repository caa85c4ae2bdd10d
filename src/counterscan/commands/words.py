"""What commands share beside their options: exit codes, how much is printed, and the command as it was typed."""

import os
import shlex
import sys

DONE, USER_ERROR, SOME_FAILED, STOPPED = 0, 1, 3, 130  # 2, wrong usage, is typer's own
SHOWN = 20  # lines of a long list that are printed; the whole list is in a file


def typed() -> str:
    """The command as a person typed it, for the files that keep it."""
    return shlex.join([*_launcher(), "counterscan", *sys.argv[1:]])


def _launcher() -> list[str]:
    """The words before `counterscan` where torchrun started this process with others: batches are larger by them."""
    here, every = (int(os.environ.get(name, "1")) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    nodes = ["--nnodes", str(every // here)] if every > here else []
    return ["torchrun", *nodes, "--nproc-per-node", str(here), "-m"] if every > 1 else []
