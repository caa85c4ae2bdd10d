import pytest

from counterscan.bench.measuring import Found
from counterscan.bench.rows import Sizes, row

FACTS = {"command": "counterscan bench ...", "classifier": "c", "target": "t=0", "folds": [None, None]}


def part(**objects):
    columns = {"name": ["a", "b"], "slice": [0, 0], "patient": ["a", "b"], "iou": [0.5, 0.7], "dice": [0.6, 0.8]}
    columns |= {name: [4.0, 8.0] for name in ("hits", "masked", "lesion", "area_mm2", "area_px")}
    return Found({**columns, **objects}, {"explainer": "X()", "mask_rule": {}})


def metrics(*parts):
    return row("inpainting", "tuned", parts, Sizes.of(parts), (), FACTS).metrics


def test_the_confidence_of_the_objects_of_all_parts_is_held_against_what_they_hit():
    first = {"object_confidence": [0.8] * 5, "object_hits": [1.0] * 4 + [0.0], "object_patients": list("aaabb")}
    second = {"object_confidence": [0.8] * 5, "object_hits": [0.0] * 5, "object_patients": list("ccddd")}
    found = metrics(part(**first), part(**second))
    assert found["confidence_error"]["value"] == pytest.approx(0.4)
    assert found["confidence_error"]["n"] == 10
    assert not any(name.startswith("object_") for name in found), "what is told of each object is no mean of images"


def test_without_a_confidence_there_is_no_such_figure():
    none = {"object_confidence": [], "object_hits": [], "object_patients": []}
    assert "confidence_error" not in metrics(part(**none), part(**none))
    assert "confidence_error" not in metrics(part(), part()), "measured by an earlier version"
