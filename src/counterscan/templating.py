"""The text of the package's templates, and the one style that all its pages carry."""

from importlib import resources


def template(name: str) -> str:
    """The text of one of the templates."""
    return _text(f"templates/{name}")


def page_style(*sheets: str) -> str:
    """The style that a self-contained page carries inside: what all pages share, then `sheets` (default: page.css)."""
    return "".join([_text("web/static/base.css"), *map(template, sheets or ("page.css",))])


def _text(name: str) -> str:
    return resources.files("counterscan").joinpath(name).read_text(encoding="utf-8")
