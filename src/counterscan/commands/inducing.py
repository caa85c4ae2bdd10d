"""The command that places disease by a sentence."""

from typing import Annotated

import typer

from counterscan.commands.explaining import told
from counterscan.commands.words import typed
from counterscan.options import Batch, DryRun, Inputs, Judge, Out, Seed, Settings, WindowText

TextPriorName = Annotated[
    str, typer.Option("--prior", metavar="P", help="A shipped name, or a folder of `text-diffusion` or of diffusers.")
]


def induce(
    inputs: Inputs,
    prompt: Annotated[str, typer.Option(metavar="SENTENCE", help="What is to be seen: finding, size, side, zone.")],
    out: Out,
    prior: TextPriorName = "chest/text-diffusion",
    classifier: Annotated[
        str, typer.Option(metavar="C", help="Who must see it; without one the shipped one beside a shipped prior.")
    ] = "",
    settings: Settings = [],  # noqa: B006 (typer copies it)
    window: WindowText = "",
    judge: Judge = "",
    seed: Seed = 0,
    batch: Batch = 8,
    dry_run: DryRun = False,
) -> None:
    """Draw into scans what a sentence says, and measure where it came.

    Sides are the patient's. OUT gets what `explain` writes, and placement.csv.
    """
    import json

    words = {name: value for name, value in locals().items() if name not in ("dry_run", "json")}
    from counterscan.induction import TABLE, induce, prepare_induction
    from counterscan.priors.text import warn_of

    asked = prepare_induction(**words, names={"command": typed()})
    warn_of(dict(asked.reading.unknown))
    typer.echo(f"asked for: {asked.asked}")
    if dry_run:
        typer.echo(json.dumps(asked.job.describe(), indent=1))
        return
    outcome, rows = induce(asked)
    drawn = [row for row in rows if not row["already"]]
    for row in drawn:
        typer.echo("{case}: {side} {zone}, {area:.1%} of the image; ".format(**row) + _verdict(row))
    typer.echo(f"{sum(row['agrees'] for row in drawn)} of {len(drawn)} lie where the prompt says: {out / TABLE}")
    told(asked.job, outcome)


def _verdict(row: dict) -> str:
    seen = "seen by the classifier" if row["found"] else "not seen by the classifier"
    return f"{seen}, {'where' if row['agrees'] else 'not where'} the prompt says"
