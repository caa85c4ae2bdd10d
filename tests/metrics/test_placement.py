"""Placement says where a change lies as the phantoms' own anatomy does, and in the patient's sides."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from counterscan.data.phantoms.base import draw
from counterscan.metrics.placement import placements
from counterscan.prompts import Mention


def spot(row, column, side=64):
    change = torch.zeros(1, 1, side, side)
    change[..., row - 3 : row + 3, column - 3 : column + 3] = -0.5
    return change


@given(row=st.integers(4, 60), column=st.integers(4, 27), brighter=st.booleans())
def test_mirrored_changes_change_sides(row, column, brighter):
    change = spot(row, column) * (-1 if brighter else 1)
    (here,), (there,) = placements(change), placements(change.flip(3))
    assert (here.side, there.side) == ("right", "left")  # the patient's right is on the left of the image
    assert here.zone == there.zone
    assert (here.size, here.height, here.left) == pytest.approx((there.size, there.height, 1 - there.left), abs=1e-5)


def test_zones_sides_and_nothing():
    change = torch.cat(
        [spot(12, 12), spot(28, 50), spot(46, 50), spot(46, 12) + spot(46, 52), torch.zeros(1, 1, 64, 64)]
    )
    found = placements(change)
    assert [(one.side, one.zone) for one in found[:4]] == [
        ("right", "upper"),
        ("left", "middle"),
        ("left", "lower"),
        ("both", "lower"),
    ]
    assert (found[4].side, found[4].zone, found[4].area) == ("", "", 0.0)
    assert found[0].agrees(Mention("nodule", side="right"))
    assert found[0].agrees(Mention("nodule"))
    assert not found[0].agrees(Mention("nodule", side="right", zone="lower"))
    assert not found[4].agrees(Mention("nodule"))


def test_it_agrees_with_the_anatomy_of_phantoms():
    sides, zones = [], []
    for index in range(60):
        phantom = draw("chest", index, seed=11, size=64, findings=["consolidation", "nodule", "effusion"])
        seen = [name for name, present in phantom.labels.items() if present]
        if not seen:
            continue
        (found,) = placements(torch.from_numpy((phantom.image - phantom.twin) * 2)[None, None])
        sides.append(found.side == phantom.facts[f"{seen[0]}_side"])
        zones.append(found.zone == phantom.facts[f"{seen[0]}_zone"])
    assert sum(sides) / len(sides) > 0.9
    assert sum(zones) / len(zones) > 0.8
