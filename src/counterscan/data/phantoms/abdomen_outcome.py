"""What becomes of the patient of an abdominal phantom: a risk by a formula of the tumour's size and place.

The risk of a poor outcome is

    sigmoid(SLOPE_SIZE * (size - SIZE) / 10 + SLOPE_PLACE * (centrality - PLACE))

where `size` is the diameter in mm of a disc as large as the tumour's mask, and `centrality` 1 where the middle of the
mask lies at the middle of its kidney, 0 where it lies on the contour, and less beyond it. Without a tumour it is
`BASE`, whatever cysts there are. Larger tumours and those near the sinus do worse, as nephrometry scores have it
(Kutikov and Uzzo, 2009, J Urol 182:844); the numbers are ours: four tumours in ten do poorly, and both size and
place are needed to tell which. The outcome is drawn with that risk: no classifier can know it for certain.
"""

import numpy as np

from counterscan.data.phantoms.abdomen_canvas import Canvas
from counterscan.data.phantoms.abdomen_lesions import SIDES, Tumour
from counterscan.data.phantoms.abdomen_patient import Kidney

SLOPE_SIZE, SIZE = 1.8, 41.0  # of the log-odds per 10 mm; mm
SLOPE_PLACE, PLACE = 5.0, 0.25  # of the log-odds per unit of centrality
BASE = 0.03
FARTHEST = -1.0  # a centrality: what lies further out is counted as there


def risk(size_mm: float, centrality: float) -> float:
    """The probability of a poor outcome with a tumour of this size and place."""
    log_odds = SLOPE_SIZE * (size_mm - SIZE) / 10 + SLOPE_PLACE * (centrality - PLACE)
    return float(1 / (1 + np.exp(-log_odds)))


def centrality(canvas: Canvas, kidneys: tuple[Kidney, Kidney], tumour: Tumour) -> float:
    """How near to the middle of its kidney the middle of the tumour's mask lies: 1 there, 0 on the contour."""
    (kidney,) = (kidney for kidney in kidneys if SIDES[kidney.side] == tumour.side)
    y, x = (axis[tumour.box][tumour.mask].mean(keepdims=True) for axis in np.broadcast_arrays(canvas.y, canvas.x))
    along, across = kidney.local(y, x)
    return max(FARTHEST, float(1 - np.hypot(along / kidney.radii[0], across / kidney.radii[1])[0]))


def outcome(
    rng: np.random.Generator, canvas: Canvas, kidneys: tuple[Kidney, Kidney], tumour: Tumour | None
) -> dict[str, str | float]:
    """The facts `poor_outcome` (0 or 1) and `risk`, and with a tumour its `tumour_centrality`."""
    facts: dict[str, str | float] = {}
    p = BASE
    if tumour is not None:
        place = round(centrality(canvas, kidneys, tumour), 4)
        facts, p = {"tumour_centrality": place}, risk(tumour.size_mm, place)
    return {**facts, "risk": round(p, 6), "poor_outcome": int(rng.random() < p)}
