"""Disease placed by a sentence: scans, a prompt, and whether what came is where the prompt says.

The prompt is read as `prompts.py` reads it, and asked in the grammar's own words, which the prior was trained with; the
target is what it says is there, or not. `latent-text` draws it into each scan as `counterscan explain` would, and the
change is then measured: side, zone and size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterscan.core import Explanation
from counterscan.data.files import write_whole
from counterscan.data.table import text_of
from counterscan.engine import Job, Outcome, run
from counterscan.errors import CounterscanError
from counterscan.jobs import prepare
from counterscan.metrics.placement import Placement, placements
from counterscan.metrics.validity import attempted
from counterscan.priors.text import load_text_prior
from counterscan.prompts import Mention, Reading, read, report
from counterscan.score import case_folders

METHOD = "latent-text"
TABLE = "placement.csv"
COLUMNS = ("case", "already", "found", "side", "zone", "left", "height", "area", "size", "agrees")


@dataclass(frozen=True)
class Induction:
    """A job that draws what `reading` says, and the sentence that it is asked in."""

    job: Job
    reading: Reading
    asked: str


def prepare_induction(
    inputs: Sequence[Path], prompt: str, *, prior: str, classifier: str, settings: Sequence[str] = (), **rest: Any
) -> Induction:
    """The job for `prompt`; CounterscanError where it names no finding that prior and classifier know.

    A classifier that is not given is the shipped one beside a shipped prior.
    """
    classes = load_text_prior(prior).card.classes
    reading = read(prompt, classes)
    named = [mention for mention in reading.mentions if mention.finding in classes]
    if not named:
        near = next((f"did you mean {word!r}?" for _, word in reading.unknown if word), "say which finding")
        raise CounterscanError(f"{prompt!r} names none of {', '.join(classes)}; {near}")
    asked = report(named)
    target = ",".join(f"{mention.finding}={int(mention.present)}" for mention in named)
    given = [f"prompt={asked}", *settings]
    classifier = classifier or f"{prior.partition('/')[0]}/classifier"
    job = prepare(inputs, classifier=classifier, target=target, method=METHOD, prior=prior, settings=given, **rest)
    return Induction(job, reading, asked)


def induce(induction: Induction) -> tuple[Outcome, list[dict[str, Any]]]:
    """Run the job, measure each change, and write OUT/placement.csv; what became of the scans, and its rows.

    Of scans that show `already` what is asked for, which keep their picture, a row says no more.
    """
    outcome = run(induction.job)
    rows = [_row(folder, induction.reading.mentions) for folder in case_folders(induction.job.out)]
    shown = [{name: _short(value) for name, value in row.items()} for row in rows]
    write_whole(induction.job.out / TABLE, text_of(shown, COLUMNS).encode())
    return outcome, rows


def _row(folder: Path, mentions: Sequence[Mention]) -> dict[str, Any]:
    explanation = Explanation.load(folder)
    if not attempted(explanation)[0]:
        return dict.fromkeys(COLUMNS, "") | {"case": folder.name, "already": 1}
    assert explanation.difference is not None, "latent-text finds counterfactuals"
    (placed,) = placements(explanation.difference)
    told = {name: getattr(placed, name) for name in ("side", "zone", "left", "height", "area", "size")}
    agrees = int(agreement(placed, mentions))
    return {"case": folder.name, "already": 0, "found": int(explanation.found[0]), **told, "agrees": agrees}


def agreement(placed: Placement, mentions: Sequence[Mention]) -> bool:
    """Whether a change lies where all that a sentence says is there lies; of one that only denies nothing is asked."""
    return all(placed.agrees(mention) for mention in mentions if mention.present)


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value
