"""Labelled archives of made scans from one generator that knows no labels: asked for, moved to, judged, written."""
