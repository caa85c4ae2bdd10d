"""The other end of `process.py`: runs in a Python of its own, which needs numpy and nothing of counterscan.

A message is one letter (r ready, a array, e error), the length in 8 bytes, and the content. Standard input and output
are the line to the parent: what the function prints goes to standard error.
"""

import importlib
import io
import os
import struct
import sys
import threading
import time
from typing import Any, BinaryIO

import numpy as np


def main() -> None:
    """Import the function that the first argument names, say its card, then answer arrays until the line is closed."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # also for what compiled libraries print
    threading.Thread(target=_leave_with_the_parent, args=(os.getppid(),), daemon=True).start()
    try:
        function = _find(sys.argv[1])
        _send(outbox, b"r", _card(function))
    except BaseException as error:
        _send(outbox, b"e", _told(error))
        return
    while header := inbox.read(9):
        data = inbox.read(struct.unpack(">cQ", header)[1])
        try:
            file = io.BytesIO()
            pixels = np.load(io.BytesIO(data), allow_pickle=False)
            np.save(file, np.asarray(function(pixels)), allow_pickle=False)
            _send(outbox, b"a", file.getvalue())
        except Exception as error:
            _send(outbox, b"e", _told(error))


def _leave_with_the_parent(parent: int) -> None:
    """A parent that is killed cannot end its worker, which may be busy for long."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _find(text: str) -> Any:
    module_name, _, name = text.partition(":")
    function = getattr(importlib.import_module(module_name), name)
    if not callable(function) or hasattr(function, "named_parameters") or hasattr(function, "differentiable"):
        raise TypeError(f"{name} is a {type(function).__name__}; name a function that takes and answers numpy arrays")
    return function


def _card(function: Any) -> bytes:
    card: Any = getattr(function, "card", None)
    return card.model_dump_json().encode() if hasattr(card, "model_dump_json") else b""


def _told(error: BaseException) -> bytes:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}".encode()[:2000]


def _send(outbox: BinaryIO, kind: bytes, data: bytes) -> None:
    outbox.write(struct.pack(">cQ", kind, len(data)) + data)
    outbox.flush()


if __name__ == "__main__":
    main()
