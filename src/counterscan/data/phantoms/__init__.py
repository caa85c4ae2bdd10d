"""Procedural scans with a known lesion and the true healthy twin."""

from counterscan.data.phantoms.base import KINDS, Phantom, draw, module, stream

__all__ = ["KINDS", "Phantom", "draw", "module", "stream"]
