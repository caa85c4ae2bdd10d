"""A message is one line, and no longer than a person reads, whatever a damaged file put into it."""

from counterscan.errors import LONGEST, ManifestError, did_you_mean


def test_a_message_is_one_line_whatever_it_repeats():
    known = did_you_mean("count", ["a\nb", "c\u2028d"])
    error = ManifestError(f"labels.csv has no column 'count'{known}")
    assert str(error) == "labels.csv has no column 'count' (known: a b, c d)"


def test_a_message_keeps_its_beginning_and_its_end():
    error = str(ManifestError("labels.csv: " + "x" * 5000 + "; write one path"))
    assert len(error) < LONGEST + 10
    assert error.startswith("labels.csv")
    assert error.endswith("; write one path")
