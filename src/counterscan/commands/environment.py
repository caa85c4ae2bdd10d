"""The commands about the installation: run its main job, name what is there, say what is wrong."""

from pathlib import Path
from typing import Annotated

import typer

from counterscan.commands.words import SOME_FAILED
from counterscan.options import Seed


def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")] = Path("demo"),
    n: Annotated[int, typer.Option("-n", min=1, help="How many phantoms of each kind are explained.")] = 24,
    train: Annotated[bool, typer.Option("--train", help="Train everything from scratch first.")] = False,
    seed: Seed = 2024,
) -> None:
    """Run the main job on phantoms.

    Fresh phantoms are explained by counterfactuals and by attributions, scored against the exact truth, and shown on a
    page.
    """
    from counterscan.demo import run_demo

    typer.echo(run_demo(out, n=n, train=train, seed=seed))


def list_names(
    what: Annotated[str, typer.Argument(help="explainers, recipes, weights or metrics; nothing lists all.")] = "",
) -> None:
    """Name explainers, recipes, weights, metrics."""
    from counterscan.listing import listing

    typer.echo(listing(what))


def doctor() -> None:
    """Say what is wrong with an environment.

    Versions, broken libraries, devices, DICOM codecs, threads, disk, memory and shipped weights, each fault with its
    cure. Leaves with 3 where there is something to mend; an optional library that is absent is no fault.
    """
    from counterscan.doctor import examine, looks
    from counterscan.progress import progress

    with progress("doctor", len(looks()), "looks") as done:
        report = examine(done)
    typer.echo(report)
    if report.faults:
        raise typer.Exit(SOME_FAILED)
