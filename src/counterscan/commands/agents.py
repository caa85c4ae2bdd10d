"""The commands about agents of a black box: fit one, and show what drives it over many images."""

from pathlib import Path
from typing import Annotated

import typer

from counterscan.commands.words import typed
from counterscan.options import (
    CardPath,
    ClassifierName,
    Data,
    Dataset,
    Folder,
    Folds,
    Out,
    Prior,
    Settings,
    Split,
    Where,
    WindowText,
)

Number = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many images, taken evenly from the list.")
]


def fit(
    manifest: Data,
    classifier: ClassifierName,
    out: Out,
    prior: Prior = "",
    settings: Settings = [],  # noqa: B006 (typer copies it)
    window: WindowText = "",
    folds: Folds = [],  # noqa: B006
    split: Split = "",
    where: Where = "",
    dataset: Dataset = None,
    card: CardPath = None,
    n: Number = None,
) -> None:
    """Fit the agent of diffusion-autoencoder to a black box.

    Each image is asked once, by default those of the training part; their labels take no part. Says how faithful the
    agent is, on images and on edits that it was not fitted to. --set kind= linear or network decides what it is.
    `explain` takes it with --set fitted=DIR.
    """
    words = locals()
    from counterscan.agents import fit_folder

    typer.echo(fit_folder(**words, command=typed()))


def directions(
    manifest: Data,
    classifier: ClassifierName,
    fitted: Annotated[Path, typer.Option("--fitted", metavar="DIR", help="What `counterscan fit` wrote.")],
    out: Folder,
    prior: Prior = "",
    names: Annotated[
        list[str], typer.Option("--class", metavar="CLASS", help="Only this class; repeatable, by default each.")
    ] = [],  # noqa: B006
    count: Annotated[int, typer.Option("--n", "-n", min=1, help="How many directions of each class.")] = 5,
    window: WindowText = "",
    folds: Folds = [],  # noqa: B006
    split: Split = "",
    where: Where = "",
    dataset: Dataset = None,
    card: CardPath = None,
    n: Number = None,
) -> None:
    """Show which directions of the code drive a black box.

    They are ranked by the share of the agent's answers that each explains over the images; each is drawn as a strip of
    pictures with what the black box says of them.
    """
    words = locals()
    from counterscan.agents import directions_folder

    settings = [f"fitted={words.pop('fitted')}"]
    typer.echo(directions_folder(classes=words.pop("names"), settings=settings, command=typed(), **words))
