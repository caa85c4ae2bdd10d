"""The page of a study's results: self-contained, drawn by its template as SVG."""

from typing import Any

from counterscan.templating import page_style, template

SPOKEN = {
    "auc": "area under the ROC curve",
    "accuracy": "accuracy",
    "d_prime": "d'",
    "criterion": "criterion",
    "rating": "mean rating",
    "seconds": "seconds an answer",
    "share": "share of pairs of readers who agree",
    "fleiss_kappa": "Fleiss kappa",
    "gwet_ac1": "Gwet AC1",
    "krippendorff_alpha": "Krippendorff alpha",
    "krippendorff_alpha_ordinal": "Krippendorff alpha, ordinal",
    "krippendorff_alpha_interval": "Krippendorff alpha, interval",
    "icc_2_1": "intraclass correlation (2,1)",
}
HINTS = {
    "auc": "a synthetic picture is rated more synthetic than a real one; 0.5 is chance",
    "d_prime": "how far apart the two kinds are, in standard deviations; 0 is chance",
    "criterion": "above 0: slow to say synthetic",
}
HEADLINES = {
    "real-or-synthetic": ("auc", "accuracy", "d_prime", "criterion", "seconds"),
    "lesion": ("auc", "accuracy", "sensitivity", "specificity", "seconds"),
    "forced-choice": ("accuracy", "d_prime", "seconds"),
    "odd-one-out": ("accuracy", "d_prime", "seconds"),
    "realism": ("rating", "seconds"),
    "side-by-side": ("seconds",),
}


def page_of(content: dict[str, Any]) -> str:
    """The page as HTML, from the content of results.json."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "spoken": lambda name: SPOKEN.get(name, name.replace("_", " "))}
    page = environment.from_string(template("study_results.html"))
    return page.render(found=content, style=page_style(), headlines=HEADLINES, hints=HINTS)


def _number(value: float | None) -> str:
    """Three digits for people; what is not defined is a dash."""
    if not value:
        return "–" if value is None else "0"
    if abs(value) < 0.0005:
        return "<0.001" if value > 0 else ">-0.001"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
