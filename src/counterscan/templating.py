"""The text of the package's templates, and the one style that all its pages carry."""

from functools import cache
from importlib import resources
from typing import Any


def template(name: str) -> str:
    """The text of one of the templates."""
    return _text(f"templates/{name}")


def rendered(name: str, **words: Any) -> str:
    """The template `name` filled with `words`, whose text is escaped."""
    return str(_compiled(name).render(words))


@cache
def _compiled(name: str) -> Any:
    from jinja2 import Environment

    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template(name))


def page_style(*sheets: str) -> str:
    """The style that a self-contained page carries inside: what all pages share, then `sheets` (default: page.css)."""
    return "".join([_text("web/static/base.css"), *map(template, sheets or ("page.css",))])


def _text(name: str) -> str:
    return resources.files("counterscan").joinpath(name).read_text(encoding="utf-8")
