"""What the words of a radiologist mean to the grammar: a phrase of one to four words, and what it stands for."""

from functools import cache

from counterscan.prompts.grammar import tokens
from counterscan.prompts.nouns import findings, key, noun

Item = tuple[str, str]  # what a phrase is (`severity`, `finding`, ...), and which
Phrases = dict[tuple[str, ...], tuple[Item, ...]]

MEANINGS = {
    ("severity", "small"): "small, tiny, minimal, minor, mild, mildly, slight, slightly, trace, subtle, little",
    ("severity", "moderate"): "moderate, moderately, medium",
    ("severity", "large"): "large, marked, markedly, severe, severely, massive, massively, big, extensive, huge, gross,"
    "grossly, substantial",
    ("side", "left"): "left, leftsided",
    ("side", "right"): "right, rightsided",
    ("side", "both"): "both, bilateral, bilaterally",
    ("zone", "upper"): "upper, apical, apex, apices, top, superior",
    ("zone", "middle"): "middle, mid, midzone, midzones, perihilar",
    ("zone", "lower"): "lower, base, bases, basal, basilar, bottom, inferior",
    ("subject", "lung"): "lung, lungs, lung fields, lung zones, pulmonary",
    ("subject", "pleura"): "pleura, pleural, pleural space, pleural spaces, pleural cavity, pleural cavities",
    ("subject", "effusion"): "costophrenic angle, costophrenic angles",
    ("subject", "heart"): "heart, cardiac, heart size, cardiac size, cardiac silhouette, heart silhouette",
    ("subject", "all"): "chest, thorax, radiograph, film, study, examination, scan, image, x ray, xray",
    ("good", ""): "clear, normal, unremarkable, sharp",
    ("anything", ""): "finding, findings, abnormality, abnormalities, disease, process, pathology",
    ("not", "before"): "no, without, nor",
    ("not", "anywhere"): "not, absent, none, free of, free from, clear of, negative, negative for",
    ("link", "and"): "and, plus",
    ("link", "or"): "or",
    ("link", "but"): "but, however, although, though, except, with, apart from, aside from, other than",
    ("verb", ""): "is, are, was, were, has, have, shows, show, appears, appear",
    ("preposition", ""): "in, on, at, within, of, over",
    ("filler", ""): "a, an, the, there, this, that, seen, present, noted, identified, visible, demonstrated, evidence,"
    "acute, focal, new, other, otherwise, any, also, some, size, sized, sided, side, sides, zone, zones, lobe, lobes,"
    "field, fields, region, area, hemithorax, cardiopulmonary, significant, definite, frontal, pa, ap, view, it, its,"
    "patient, to, for",
}
TOGETHER = {"bibasal": "both lower", "bibasilar": "both lower", "biapical": "both upper"} | {
    f"{side[0]}{zone[0]}l": f"{side} {zone}" for side in ("left", "right") for zone in ("upper", "middle", "lower")
}


@cache
def phrases(classes: tuple[str, ...]) -> Phrases:
    """Every phrase that is understood where the findings are those of `classes`."""
    known: Phrases = {(",",): (("link", "and"),)}
    for item, listed in MEANINGS.items():
        known |= {tokens(phrase): (item,) for phrase in listed.split(",")}
    for word, parts in TOGETHER.items():
        known[word,] = tuple(known[part,][0] for part in parts.split())
    for heart in findings(classes, "heart"):
        known["enlarged",] = (("enlarged", heart),)
    return known | _called(classes)


def _called(classes: tuple[str, ...]) -> Phrases:
    """The names of the findings; a name that two share belongs to the one that writes it."""
    also: Phrases = {tokens(name): (("finding", one),) for one in findings(classes) for name in noun(one).also}
    own: Phrases = {
        tokens(name): (("finding", one),) for one in findings(classes) for name in (noun(one).many, noun(one).one)
    }
    return also | own


def covered(subject: str, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `classes` that a sentence about `subject` is about: an organ, one finding, or `all`."""
    if subject == "all":
        return findings(classes)
    return tuple(name for name in findings(classes) if subject in (noun(name).organ, key(name)))
