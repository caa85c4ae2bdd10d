"""The command as it was typed, which results and cards keep."""

import sys

import pytest

from counterscan.commands.words import typed


@pytest.mark.parametrize(
    ("world", "local", "before"),
    [
        (None, None, ""),
        ("1", "1", ""),
        ("2", "2", "torchrun --nproc-per-node 2 -m "),
        ("6", "2", "torchrun --nnodes 3 --nproc-per-node 2 -m "),
    ],
)
def test_torchrun_stands_before_what_it_started(monkeypatch, world, local, before):
    for name, value in (("WORLD_SIZE", world), ("LOCAL_WORLD_SIZE", local)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["/somewhere/counterscan", "train", "classifier", "--out", "a b"])
    assert typed() == before + "counterscan train classifier --out 'a b'"
