"""The public names are exactly those that are promised, each has a docstring, and importing them late costs nothing."""

import inspect
import subprocess
import sys

import pytest

import counterscan


def test_the_public_names_are_sorted_and_exact():
    assert list(counterscan.__all__) == sorted(counterscan._HOMES)
    assert {name for name in dir(counterscan) if not name.startswith("_")} == set(counterscan.__all__)


@pytest.mark.parametrize("name", counterscan.__all__)
def test_a_public_name_resolves_and_is_documented(name):
    thing = getattr(counterscan, name)
    assert inspect.getdoc(thing)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = counterscan.nothing


LIGHT = ("import counterscan", "import counterscan.cli", "import counterscan.cli; counterscan.cli.app()")
PROGRAM = """
import sys
try:
    {code}
except SystemExit:
    pass
print([name for name in ("torch", "numpy", "scipy", "pydicom", "pydantic") if name in sys.modules])
"""


@pytest.mark.parametrize("code", LIGHT)
def test_importing_is_light(code):
    command = [sys.executable, "-c", PROGRAM.format(code=code), "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"
