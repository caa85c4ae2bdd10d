"""Draws that depend on the patient alone: all images of one fall into the same part, whoever asks and in what order."""

import hashlib


def draw(patient: str, purpose: str) -> float:
    """A number in [0, 1) that depends on the patient and the purpose only."""
    digest = hashlib.sha256(f"{purpose}/{patient}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def drawn_split(patient: str) -> str:
    """The part that a patient falls into where nobody has said which."""
    return split_at(draw(patient, "split"))


def split_at(number: float) -> str:
    """Parts of 70, 15 and 15 %, by a number in [0, 1)."""
    return "train" if number < 0.7 else "validation" if number < 0.85 else "test"
