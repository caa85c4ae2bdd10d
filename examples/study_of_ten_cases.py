"""A study of ten cases: explain, ask readers blinded whether what they see is real, analyse what they say.

Run: python examples/study_of_ten_cases.py [FOLDER]    (readers are simulated; `counterscan study serve` asks real ones)
"""

import json
import random
import sys
import tempfile
from pathlib import Path

from counterscan.cli import app
from counterscan.data.archive import write_phantoms
from counterscan.study.analysis import analyse
from counterscan.study.records import Answer, Study

READERS = {"ann": 0.55, "bob": 0.7, "cy": 0.9}  # how often each tells real from synthetic


def counterscan(*words: object) -> None:
    """The command, as it would be typed."""
    if app([str(word) for word in words], standalone_mode=False):
        sys.exit("the command said what is wrong")


def said(study: Study) -> list[Answer]:
    """What simulated readers say, in place of `counterscan study serve`: the truth, or the opposite by chance."""
    chance, answers = random.Random(0), []
    other = {"real": "synthetic", "synthetic": "real"}
    for reader, skill in READERS.items():
        for trial in study.trials:
            right = chance.random() < skill
            choice = trial.answer if right else other[trial.answer]
            sure = chance.choice((3, 4, 5) if right else (1, 2, 3))
            words = {"nonce": f"{reader}-{trial.id}", "choice": choice, "confidence": sure, "rt_ms": 4000}
            answers.append(Answer(reader=reader, trial=trial.id, **words))
    return answers


def main(folder: Path) -> None:
    """Ten pictures, half of them counterfactuals without effusion, half real ones that never had any."""
    write_phantoms("chest", 28, folder / "chest", seed=11, findings=["effusion"])
    words = ("--classifier", "chest/classifier", "--target", "effusion=0", "--with", "inpainting")
    counterscan("explain", folder / "chest", "--where", "effusion=1", *words, "--out", folder / "answers")

    shown = ("--real", folder / "chest", "--where", "effusion=0", "--synthetic", f"inpainting={folder / 'answers'}")
    sizes = ("--cases", 10, "--training", 0, "--checks", 0, "--repeats", 0, "--seed", 1, "--readers", ",".join(READERS))
    counterscan("study", "new", folder / "study", *shown, "--task", "real-or-synthetic", *sizes)

    study = Study.load(folder / "study")
    page = analyse(study, said(study)).write(folder / "study" / "results")
    (part,) = json.loads(page.with_name("results.json").read_text())["parts"]
    for row in part["readers"]:
        print({name: value for name, value in row.items() if name in ("reader", "n", "accuracy")})
    print(f"the page: {page}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
