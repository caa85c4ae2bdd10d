"""From a public data set as it was downloaded to explanations: three commands, here on a tiny tree of drawn eyes.

Run: python examples/public_layouts.py [FOLDER]    (docs/how-to/public-data-sets.md has the other data sets)
"""

import csv
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from counterscan import draw
from counterscan.cli import app

PARTS = ("train", "test", "train")  # by turns


def download(folder: Path, patients: int = 16) -> None:
    """In place of Kermany's OCT: train|test / CNV|DME|DRUSEN|NORMAL / CLASS-PATIENT-NUMBER.jpeg."""
    count: Counter[str] = Counter()
    for patient in range(patients):
        phantom = draw("oct", patient, seed=2, size=128)
        name = next(name for name, shown in phantom.labels.items() if shown).upper()
        path = folder / PARTS[count[name] % 3] / name / f"{name}-{1000 + patient}-1.jpeg"
        count[name] += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(phantom.image.round().clip(0, 255).astype(np.uint8)).save(path, quality=95)


def counterscan(*words: object) -> None:
    """The command, as it would be typed: counterscan data import kermany-oct OCT2017 --out oct"""
    print("$ counterscan", *words)
    if app([str(word) for word in words], standalone_mode=False):
        sys.exit("the command said what is wrong")


def main(folder: Path) -> None:
    """Download, import, check, explain; what was found is in FOLDER/answers/index.html."""
    download(folder / "OCT2017")
    counterscan("data", "import", "kermany-oct", folder / "OCT2017", "--out", folder / "oct")
    print((folder / "oct" / "dataset.toml").read_text())
    counterscan("data", "check", folder / "oct")

    words = ("--classifier", "oct/classifier", "--target", "normal", "--with", "layer-cam")
    counterscan("explain", folder / "oct", "--split", "test", *words, "--out", folder / "answers")
    with (folder / "answers" / "cases.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            print(f"{row['name']} (patient {row['patient']}): normal with probability {row['p_before_normal']}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
