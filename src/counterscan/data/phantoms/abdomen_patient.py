"""Who is scanned: the patient's build, enhancement and kidneys, as numbers to paint from."""

from dataclasses import dataclass

import numpy as np

from counterscan.data.phantoms.abdomen_canvas import Point
from counterscan.data.phantoms.fields import Array

PHASES = {  # Hounsfield units (low, high) of what takes up contrast medium
    "corticomedullary": {
        "aorta": (220, 320), "cava": (90, 140), "cortex": (165, 215), "medulla": (75, 110), "liver": (72, 95),
        "portal": (85, 125), "spleen": (110, 140), "wall": (80, 120), "muscle": (52, 62),
    },
    "nephrographic": {
        "aorta": (140, 180), "cava": (130, 165), "cortex": (165, 205), "medulla": (150, 190), "liver": (98, 120),
        "portal": (145, 180), "spleen": (112, 132), "wall": (75, 105), "muscle": (56, 68),
    },
    "weakly enhanced": {
        "aorta": (75, 105), "cava": (65, 90), "cortex": (105, 130), "medulla": (92, 112), "liver": (62, 80),
        "portal": (75, 95), "spleen": (62, 78), "wall": (50, 70), "muscle": (46, 56),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Kidney:
    """One kidney in section: `side` is -1 on the viewer's left (the patient's right); lengths in mm, values in HU."""

    side: int
    centre: Point
    radii: Point  # towards the hilum, and across
    turn: float  # how far the hilum looks forward, radians
    sinus: float  # size of the sinus, 0 to 1 of the kidney's
    cortex: float
    medulla: float

    def place(self, along: float, across: float) -> Point:
        """The body's point (y, x) that lies `along` towards the hilum and `across`, in mm from the centre."""
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        y = self.centre[0] - sine * along + cosine * across
        return float(y), float(self.centre[1] - self.side * (cosine * along + sine * across))

    def local(self, y: Array, x: Array) -> tuple[Array, Array]:
        """The inverse of `place`, for arrays."""
        dy, dx = y - self.centre[0], -self.side * (x - self.centre[1])
        cosine, sine = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        return cosine * dx - sine * dy, cosine * dy + sine * dx


@dataclass(frozen=True)
class Patient:
    """What the organs have in common: `phase`, `hu` of each tissue, `level` (0 low, 1 high) and sizes in mm."""

    phase: str
    hu: dict[str, float]
    level: float
    habitus: str
    width: float  # half of the muscular trunk, left to right
    depth: float  # and front to back
    fat: float  # thickness under the skin at the sides
    visceral: float  # 0 lean to 1: fat inside

    @property
    def girth(self) -> float:
        """Half of the body's width in mm, skin included."""
        return self.width + self.fat


def patient(rng: np.random.Generator) -> Patient:
    """Draw a patient."""
    phase = str(rng.choice(list(PHASES), p=[0.46, 0.46, 0.08]))
    tissues = {name: float(rng.uniform(*limits)) for name, limits in PHASES[phase].items()}
    tissues["fat"] = float(rng.uniform(-112, -92))
    plump = float(rng.beta(1.6, 2.2))
    width = float(rng.uniform(122, 146)) + 10 * plump
    return Patient(
        phase=phase,
        hu=tissues,
        level=float(rng.random()),
        habitus=("slim", "average", "obese")[int(plump > 0.3) + int(plump > 0.6)],
        width=width,
        depth=width * float(rng.uniform(0.7, 0.86)),
        fat=4 + 34 * plump * float(rng.uniform(0.7, 1.1)),
        visceral=float(np.clip(plump + rng.normal(0.1, 0.2), 0.08, 1)),
    )


def kidney(rng: np.random.Generator, body: Patient, side: int) -> Kidney:
    """Draw one kidney; poles are small and closed, the middle is open towards the hilum."""
    middle = np.clip(1.25 - abs(body.level - 0.5 + rng.normal(0.1 * side, 0.15)) * 1.3, 0.62, 1)
    radii = float(rng.uniform(28, 35) * middle), float(rng.uniform(22, 28) * middle)
    centre = body.depth * 0.27 + rng.normal(0, 6), side * (body.width * 0.42 + 5 + 5 * body.visceral + rng.normal(0, 4))
    return Kidney(
        side=side,
        centre=(float(centre[0]), float(centre[1])),
        radii=radii,
        turn=float(rng.uniform(0.1, 1.1)),
        sinus=float((middle - 0.6) * rng.uniform(0.9, 1.5)) if middle > 0.68 else 0.0,
        cortex=body.hu["cortex"],
        medulla=body.hu["medulla"],
    )
