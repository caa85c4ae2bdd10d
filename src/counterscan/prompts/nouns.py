"""The words for findings: how each is called in a sentence, in the plural, and by other people."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

HEALTHY = frozenset({"normal", "healthy", "no_finding"})  # classes that are not a finding
Organ = Literal["lung", "pleura", "heart", ""]


@dataclass(frozen=True)
class Noun:
    """How a finding is called.

    `organ` says how a place is put: a finding of the lung lies "in the left upper zone", one of the pleura is "left",
    an enlarged heart has neither. `many` is its plural, the same word where `number` says that it has none (`mass`) or
    that it is one already (`plural`). `also` are other names that are understood, but never written.
    """

    one: str
    many: str
    organ: Organ = ""
    number: Literal["count", "mass", "plural"] = "count"
    also: tuple[str, ...] = ()


def _one(one: str, organ: Organ = "", also: str = "", many: str = "") -> Noun:
    """A noun that is counted; `also` are its other names, with commas."""
    return Noun(one, many or _many(one), organ, "count", _names(also))


def _mass(one: str, organ: Organ = "", also: str = "") -> Noun:
    """A noun without a plural and without an article."""
    return Noun(one, one, organ, "mass", _names(also))


def _names(listed: str) -> tuple[str, ...]:
    return tuple(filter(None, listed.split(", ")))


def _many(one: str) -> str:
    if one.endswith("y"):
        return f"{one[:-1]}ies"
    return f"{one}es" if one.endswith(("s", "x", "ch", "sh")) else f"{one}s"


KNOWN = {
    "consolidation": _one(
        "consolidation", "lung", "airspace opacity, airspace opacities, airspace opacification, airspace consolidation"
    ),
    "effusion": _one("pleural effusion", "pleura", "effusion, effusions, pleural fluid, hydrothorax"),
    "nodule": _one("nodule", "lung", "pulmonary nodule, pulmonary nodules, lung nodule, lung nodules"),
    "pneumothorax": _one("pneumothorax", "pleura", "pneumothoraxes, ptx", "pneumothoraces"),
    "cardiomegaly": _mass("cardiomegaly", "heart", "cardiac enlargement, heart enlargement, enlargement of the heart"),
    "pneumonia": _mass("pneumonia", "lung", "pneumonic infiltrate"),
    "covid": _mass("COVID-19 pneumonia", "lung", "covid pneumonia, covid 19, covid"),
    "other_pneumonia": _mass("other pneumonia", "lung"),
    "lung_opacity": _one("lung opacity", "lung", "opacity, opacities, opacification"),
    "infiltration": _one("infiltrate", "lung", "infiltration, infiltrations"),
    "mass": _one("mass", "lung", "lung mass, lung masses, pulmonary mass"),
    "atelectasis": _mass("atelectasis", "lung", "atelectases, collapse"),
    "edema": _mass("pulmonary oedema", "lung", "pulmonary edema, oedema, edema"),
    "emphysema": _mass("emphysema", "lung"),
    "fibrosis": _mass("fibrosis", "lung"),
    "dr": _mass("diabetic retinopathy", "", "retinopathy"),
    "drusen": Noun("drusen", "drusen", "", "plural"),
    "cnv": _mass("choroidal neovascularisation", "", "choroidal neovascularization, neovascularisation"),
    "dme": _mass("diabetic macular oedema", "", "diabetic macular edema, macular oedema, macular edema"),
    "tumour": _one("tumour", "", "tumor, tumors"),
}
SAME = {"pleural_effusion": "effusion", "covid_19": "covid", "covid19": "covid", "oedema": "edema", "tumor": "tumour"}


@cache
def key(finding: str) -> str:
    """The class name in one spelling: `"Pleural Effusion"` is `"effusion"`."""
    plain = "_".join(finding.lower().replace("_", " ").replace("-", " ").split())
    return SAME.get(plain, plain)


@cache
def noun(finding: str) -> Noun:
    """The noun for a class; one that has no entry is called by its own name."""
    return KNOWN.get(key(finding)) or _one(key(finding).replace("_", " "))


@cache
def findings(classes: tuple[str, ...], *organs: str) -> tuple[str, ...]:
    """Those of `classes` that are findings (a class `normal` is none), of these organs where any are named."""
    return tuple(name for name in classes if key(name) not in HEALTHY and (not organs or noun(name).organ in organs))
