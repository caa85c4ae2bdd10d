"""The command that writes archives of made scans."""

from pathlib import Path
from typing import Annotated

import typer

from counterscan.commands.explaining import placed
from counterscan.commands.words import SHOWN, SOME_FAILED, typed
from counterscan.options import CLASSIFIERS, Address, ClassifierName, DryRun, EngineName, Out, Seed, ShardText, Workers

Generator = Annotated[str, typer.Option("--generator", metavar="G", help="A shipped name, or a folder with a card.")]
JudgeName = Annotated[
    str, typer.Option("--judge", metavar="C", help=f"A second classifier, trained apart. {CLASSIFIERS}")
]


def synthesise(
    generator: Generator,
    classifier: ClassifierName,
    judge: JudgeName,
    out: Out,
    labels: Annotated[
        list[str],
        typer.Option(
            metavar="A=1,B=0", help="Findings present (1) and absent (0), others open; or normal. Repeatable."
        ),
    ] = [],  # noqa: B006 (typer copies it)
    counts: Annotated[
        Path | None, typer.Option(metavar="CSV", help="How many of what: a column count, and labels or classes.")
    ] = None,
    prevalence: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="A manifest whose labels to match, or a table with a column prevalence."),
    ] = None,
    n: Annotated[int | None, typer.Option("-n", metavar="N", min=1, help="How many scans, all told.")] = None,
    kind: Annotated[str, typer.Option("--format", metavar="NAME", help="png or dicom.")] = "png",
    references: Annotated[
        Path | None,
        typer.Option(metavar="MANIFEST", help="The images that the generator learned from, of which none is copied."),
    ] = None,
    seed: Seed = 0,
    draws: Annotated[
        int, typer.Option(metavar="N", min=1, help="Draws for each scan, the best of which is moved.")
    ] = 16,
    tries: Annotated[int, typer.Option(metavar="N", min=1, help="Tries at each scan before it is given up.")] = 3,
    workers: Workers = 1,
    shard: ShardText = "",
    engine: EngineName = "local",
    address: Address = "",
    dry_run: DryRun = False,
) -> None:
    """Write an archive of made scans with the labels asked for.

    A scan is taken if classifier and judge answer as asked, and if it is of the usual kind, no copy and no repeat. OUT
    gets images/, labels.csv (a manifest), latents.npy and summary.json. Leaves with 3 where some could not be made.
    """
    import json

    words = locals()
    del words["dry_run"], words["json"]
    place = placed(words)
    from counterscan.engine.sharding import what_is_left
    from counterscan.synthesis.asking import prepare
    from counterscan.synthesis.writing import write_archive

    archive = prepare(**words, command=typed())
    if dry_run:
        typer.echo(json.dumps(archive.facts, indent=1))
        return
    if references is None:
        typer.echo("without --references nobody looks for copies of training images", err=True)
    told = write_archive(archive, *place)
    if "missing" in told:
        typer.echo(f"part {told['shard']} is made; {what_is_left(told['missing'], 'the manifest')}")
        return
    typer.echo(f"{told['written']} of {told['asked']} scans: {out / 'labels.csv'}")
    for line in told["failed"][:SHOWN]:
        typer.echo(f"  {line}", err=True)
    if told["failed"]:
        raise typer.Exit(SOME_FAILED)
