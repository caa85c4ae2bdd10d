"""The documentation is true: every command and name is in it, links lead somewhere, and its Python runs."""

import importlib.util
import re
from pathlib import Path

import pytest
from typer.main import get_command

from counterscan.cli import app
from counterscan.registry import EXPLAINERS, METRICS, RECIPES

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TEXT = {page: page.read_text() for page in PAGES}
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def commands() -> dict[str, str]:
    """Every command and its help."""
    found = {}
    for name, command in get_command(app).commands.items():
        below = getattr(command, "commands", {name: command})
        found |= {word if word == name else f"{name} {word}": one.help for word, one in below.items()}
    return found


@pytest.mark.parametrize("name", commands())
def test_a_command_has_help_and_is_used_in_a_page_that_people_wrote(name):
    assert commands()[name]
    written = [text for page, text in TEXT.items() if page.name != "cli.md"]
    assert any(f"counterscan {name}" in text for text in written)


@pytest.mark.parametrize(("script", "page"), [("write_cli", "cli.md"), ("write_results", "results.md")])
def test_a_generated_page_is_up_to_date(script, page):
    spec = importlib.util.spec_from_file_location(script, ROOT / "docs" / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page() == (ROOT / "docs" / page).read_text(), "run: make docs"


@pytest.mark.parametrize("name", list(EXPLAINERS))
def test_an_explainer_is_in_the_readme_and_has_a_page(name):
    assert f"`{name}`" in TEXT[ROOT / "README.md"]
    page = TEXT[ROOT / "docs" / "methods" / f"{name}.md"]
    assert f"--with {name}" in page, "a page shows the command"


@pytest.mark.parametrize("name", list(METRICS))
def test_a_metric_is_documented(name):
    assert f"`{name}`" in TEXT[ROOT / "docs" / "metrics.md"]


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_is_documented(name):
    assert any(f"counterscan train {name}" in text for text in TEXT.values())


@every_page
def test_relative_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXT[page]):
        if not re.match(r"[a-z]+:", link) and not link.startswith("#"):
            assert (page.parent / link.partition("#")[0]).exists(), link


@every_page
def test_no_page_names_a_folder_of_somebodys_machine(page):
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|usr|opt|Users)/", TEXT[page])


@every_page
def test_python_in_a_page_compiles(page):
    for block in python_blocks(page):
        compile(block, page.name, "exec")


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", TEXT[page], re.S)


def test_the_readme_runs(tmp_path, monkeypatch):
    from counterscan.data.archive import write_phantoms

    monkeypatch.chdir(tmp_path)
    archive = write_phantoms("chest", 1, tmp_path / "phantoms", size=128)
    (tmp_path / "chest.png").write_bytes(next((archive / "images").glob("*.png")).read_bytes())
    for block in python_blocks(ROOT / "README.md"):
        exec(block.replace(".dcm", ".png"), {})
    assert (tmp_path / "figure.png").exists()
    assert (tmp_path / "without_effusion.png").exists()


def test_the_explainer_of_the_how_to_works():
    import torch

    from counterscan.classifiers.function import FunctionClassifier
    from counterscan.core import Card, Target

    names: dict = {}
    exec(python_blocks(ROOT / "docs" / "how-to" / "add-an-explainer.md")[0], names)
    card = Card(name="mean", shape=(1, 32, 32), classes=("bright",))
    classifier = FunctionClassifier(lambda images: images.mean((1, 2, 3))[:, None], card)
    images = torch.full((2, 1, 32, 32), -0.5)
    images[:, :, 16:, 16:] = 1
    explanation = names["Blackout"]()(classifier, images, Target(((0, 0.0),)))
    assert explanation.heatmap[0, 0, 20, 20] > explanation.heatmap[0, 0, 4, 4]
