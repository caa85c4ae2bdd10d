import numpy as np
import pytest

from counterscan.explainers.attribution.grad_cam import GradCAM
from counterscan.sanity.drawing import VERDICTS, randomised_picture, shortcut_picture
from counterscan.sanity.examination import examine


def has(picture, colour):
    return bool((np.asarray(picture) == colour).all(-1).any())


@pytest.mark.parametrize(("place", "verdict"), [("centre", "passes"), ("corner", "fails")])
def test_the_picture_of_the_border_shows_its_verdict_in_colour(place, verdict, job):
    found = examine(job(GradCAM(), place), n=4)
    picture = shortcut_picture(found)
    assert has(picture, VERDICTS[verdict])
    assert not has(picture, VERDICTS[{"passes": "fails", "fails": "passes"}[verdict]])
    wide, high = randomised_picture(found).size
    assert wide > high
