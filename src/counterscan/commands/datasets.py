"""The commands about images and their truth: draw some, take in public data sets, look at those there are."""

import os
from pathlib import Path
from typing import Annotated

import typer

from counterscan.commands.words import SOME_FAILED
from counterscan.options import Data, Dataset, Seed, Workers


def phantoms(
    kind: Annotated[str, typer.Argument(help="chest, abdomen, fundus, oct or gaussian.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; the same command goes on where it was.")],
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many.")] = 100,
    size: Annotated[int, typer.Option(min=64, max=512, help="Height and width in pixels.")] = 128,
    seed: Seed = 0,
    findings: Annotated[str, typer.Option(help="Only these findings, at most one per image: a,b")] = "",
    workers: Workers = 1,
) -> None:
    """Draw images with known lesions.

    Masks, labels and the healthy twins come with them.
    """
    # processes whose BLAS has several threads each wait for one another; numpy reads this when it is first imported
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from counterscan.data.archive import write_phantoms
    from counterscan.progress import progress

    names = [name.strip() for name in findings.split(",") if name.strip()] or None
    with progress(kind, n, "phantoms") as done:
        written = write_phantoms(kind, n, out, size=size, seed=seed, findings=names, workers=workers, progress=done)
    typer.echo(f"{n} phantoms: {written / 'labels.csv'}")


LAYOUTS = (
    "aptos2019, chexpert, covid19-radiography, eyepacs, kermany-oct, kits, medmnist, nih-chestxray14, totalsegmentator."
)


def import_data(
    layout: Annotated[str, typer.Argument(metavar="LAYOUT", help=LAYOUTS)],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The data set as it was unpacked; medmnist: a .npz.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for labels.csv and dataset.toml.")],
    classes: Annotated[
        str, typer.Option(metavar="A,B", help="Only for medmnist: classes of a file that is none of its own sets.")
    ] = "",
) -> None:
    """Make a manifest of a public data set.

    Nothing in FOLDER changes: where DIR is neither FOLDER nor above it, DIR gets a link to it. Images that the data
    set lists and FOLDER lacks are in DIR/missing.csv, and the command then leaves with 3. What each layout becomes is
    told in docs/how-to/public-data-sets.md.
    """
    from counterscan.data.importing import import_layout
    from counterscan.progress import progress

    names = [name.strip() for name in classes.split(",") if name.strip()]
    with progress(layout, 1, "data set") as done:
        imported = import_layout(layout, folder, out, names)
        done(1)
    typer.echo(imported)
    if imported.missing:
        raise typer.Exit(SOME_FAILED)


def check(manifest: Data, dataset: Dataset = None, workers: Workers = 1) -> None:
    """Say what a dataset holds.

    Counts per class and split, and what is wrong: patients in two splits, duplicates, unreadable files, masks that do
    not fit. Leaves with 3 where there is something to mend.
    """
    from counterscan.data.check import check_manifest
    from counterscan.data.manifest import read_manifest
    from counterscan.progress import progress

    cases = read_manifest(manifest, dataset)
    with progress("check", len(cases)) as done:
        summary = check_manifest(cases, workers, done)
    typer.echo(summary)
    if not summary.ok:
        raise typer.Exit(SOME_FAILED)
