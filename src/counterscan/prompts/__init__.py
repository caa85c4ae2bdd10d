"""Prompts from radiology: what is seen, how much, on which side and where, to sentences and back.

One grammar writes the phantoms' report text, the captions that a text-guided prior is trained with, and the prompts
that ask it for an image; `read` understands what the grammar writes, and what a radiologist types in these words.
Sides are the patient's. A finding that nobody labelled is unknown: it is never said and never denied.
"""

from counterscan.prompts.grammar import CHEST, Mention, mentions_of, mirrored, normal_text, report, tokens
from counterscan.prompts.reading import Reading, read
from counterscan.prompts.wordings import paraphrase, vocabulary

__all__ = [
    "CHEST",
    "Mention",
    "Reading",
    "mentions_of",
    "mirrored",
    "normal_text",
    "paraphrase",
    "read",
    "report",
    "tokens",
    "vocabulary",
]
