"""TorchScript files and exported programs as torch modules; pickles, which run code when opened, are refused."""

import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from counterscan.classifiers.sizes import fits, in_portions, wrong_size
from counterscan.classifiers.torch import one_line
from counterscan.core import Card
from counterscan.errors import ClassifierError, WeightsError

ONLY_TENSORS = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch's own switch, which no call can overrule


class Program(nn.Module):
    """A module from a file, which takes images of `shape` (with None where it is free) in batches of least to most.

    `most` 0 is any number. It answers batches of every size: they are cut, and filled up, to what it takes.
    """

    def __init__(self, module: nn.Module, shape: tuple[int | None, ...] = (), least: int = 1, most: int = 0):
        super().__init__()
        self.module = module
        self.shape = shape
        self.least = least
        self.most = most

    def forward(self, images: Tensor) -> Any:
        """What the module answers for images `(b, c, *spatial)`."""
        return in_portions(self.module, images, self.least, self.most)

    def check_card(self, name: str, card: Card) -> None:
        """Refuse a card whose images this file cannot take."""
        if self.shape and not fits(self.shape, card.shape):
            raise wrong_size(name, self.shape, card)


def open_program(path: Path) -> Program:
    """The module in a file that `torch.export.save` or `torch.jit.save` wrote, told apart by what is in it.

    Raises WeightsError for a pickle, ClassifierError for a file that is not there, is something else, or does not load.
    """
    if not path.is_file():
        raise ClassifierError(f"{path} does not exist; name a file that torch.export.save or torch.jit.save wrote")
    form = _form(path)
    if form == "pickle":
        raise WeightsError(
            f"{path} is a pickle, which runs code when opened; save the module with torch.export.save or "
            "torch.jit.save, or name a function: package.module:function"
        )
    if not form:
        raise ClassifierError(f"{path} is neither TorchScript nor an exported program; write it again, or copy it anew")
    try:
        with _only_tensors():
            return _exported(path) if form == "exported" else Program(torch.jit.load(str(path), map_location="cpu"))
    except ClassifierError:
        raise
    except Exception as error:
        raise ClassifierError(f"{path} does not load with torch {torch.__version__}: {one_line(error)}") from error


def _form(path: Path) -> str:
    """`exported`, `script`, `pickle`, or nothing."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return "pickle" if file.read(1) == b"\x80" else ""
    with zipfile.ZipFile(path) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    if names & {"archive_format", "serialized_exported_program.json"}:  # torch 2.8 and later; before
        return "exported"
    return "script" if "constants.pkl" in names else "pickle" if "data.pkl" in names else ""


@contextmanager
def _only_tensors() -> Iterator[None]:
    """Keep torch from unpickling more than tensors: an exported program may carry pickles, which torch would open."""
    before = os.environ.get(ONLY_TENSORS)
    os.environ[ONLY_TENSORS] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own deprecations
            yield
    finally:
        if before is None:
            del os.environ[ONLY_TENSORS]
        else:
            os.environ[ONLY_TENSORS] = before


def _exported(path: Path) -> Program:
    program = torch.export.load(str(path))
    batch, *shape = _only_input(program, path).shape
    least, most = _batches(program, batch)
    return Program(_module(program), tuple(side if isinstance(side, int) else None for side in shape), least, most)


def _module(program: torch.export.ExportedProgram) -> nn.Module:
    """The program with the parts of the module it was made from, so that class activation maps find its layers."""
    try:
        return torch.export.unflatten(program)
    except Exception:  # a part that is shared or called in several ways: the same answers, without layers
        return program.module()


def _only_input(program: torch.export.ExportedProgram, path: Path) -> Tensor:
    names = program.graph_signature.user_inputs
    values = [node.meta.get("val") for node in program.graph.nodes if node.name in names]
    if len(names) != 1 or not isinstance(values[0], Tensor) or values[0].ndim < 3:
        raise ClassifierError(
            f"{path} takes {len(names)} inputs ({', '.join(map(str, names))}); a classifier takes one tensor "
            "(b, c, *spatial): export a module that fills in the others"
        )
    return values[0]


def _batches(program: torch.export.ExportedProgram, batch: Any) -> tuple[int, int]:
    """The least and the most images (0: any number) that the program takes at once."""
    if isinstance(batch, int):
        return batch, batch
    allowed = program.range_constraints.get(batch.node.expr)
    if allowed is None:
        return 1, 0
    return max(int(allowed.lower), 1), int(allowed.upper) if allowed.upper.is_Integer else 0
