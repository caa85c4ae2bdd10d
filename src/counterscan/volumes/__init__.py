"""Volumes of a job: streamed through the explainer, joined across slices, shown slice by slice."""
