"""Imports only go down (docs/design.md draws the house), and no file grows past 400 lines."""

import ast
from pathlib import Path

import pytest

import counterscan

ROOT = Path(counterscan.__file__).parent
FLOORS = (
    {"errors"},
    {"core", "registry", "pictures", "progress", "listening", "templating", "prompts", "kept", "memory"},
    {"data", "nets", "weights"},
    {"classifiers", "priors"},
    {"explainers"},
    {"metrics", "train"},
    {
        "bench",
        "report",
        "study",
        "synthesis",
        "induction",
        "engine",
        "outputs",
        "jobs",
        "listing",
        "score",
        "scores",
        "demo",
        "doctor",
        "sanity",
        "volumes",
        "agents",
    },
    {"cli", "__main__", "commands", "options", "web"},
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def imported(tree: ast.AST) -> set[str]:
    """The parts of the package that a file imports, anywhere in it."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the floor"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("counterscan.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_only_go_down(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for other in imported(ast.parse(path.read_text())) & FLOOR_OF.keys():
        assert FLOOR_OF[other] <= FLOOR_OF[part], f"{part} (floor {FLOOR_OF[part]}) imports {other}, which is above it"


def test_every_part_has_a_floor():
    parts = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES}
    assert parts <= FLOOR_OF.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400
