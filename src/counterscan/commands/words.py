"""What commands share beside their options: exit codes, how much is printed, and the command as it was typed."""

import shlex
import sys

DONE, USER_ERROR, SOME_FAILED, STOPPED = 0, 1, 3, 130  # 2, wrong usage, is typer's own
SHOWN = 20  # lines of a long list that are printed; the whole list is in a file


def typed() -> str:
    """The command as a person typed it, for the files that keep it."""
    return shlex.join(["counterscan", *sys.argv[1:]])
