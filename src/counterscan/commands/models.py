"""The commands about networks: look at one, train one."""

from pathlib import Path
from typing import Annotated

import typer

from counterscan.commands.words import SOME_FAILED, typed
from counterscan.options import CLASSIFIERS, CardPath, Dataset, DryRun, Settings, Where


def check_classifier(
    name: Annotated[str, typer.Argument(metavar="C", help=CLASSIFIERS)],
    card: CardPath = None,
    manifest: Annotated[
        Path | None, typer.Option("--data", metavar="MANIFEST", help="Ask these images (a manifest, or a folder).")
    ] = None,
) -> None:
    """Ask a classifier a few images.

    Says what it takes and answers, whether batches and repetitions agree, how fast it is, and whether it has gradients
    and layers. Leaves with 3 where there is something to mend.
    """
    from counterscan.classifiers.check import check_classifier
    from counterscan.classifiers.load import load_classifier
    from counterscan.data.manifest import find_cases

    summary = check_classifier(load_classifier(name, card), find_cases(manifest) if manifest else None)
    typer.echo(summary)
    if not summary.ok:
        raise typer.Exit(SOME_FAILED)


def serve_classifier(
    name: Annotated[str, typer.Argument(metavar="C", help=CLASSIFIERS)],
    card: CardPath = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8765,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="The most images in one question.")] = 32,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="The most questions that wait; a further one is told to come later.")
    ] = 16,
) -> None:
    """Offer a classifier over HTTP.

    POST / takes images as an .npy file and answers scores, GET / the card, GET /health how it is (the format is in
    docs/how-to/use-your-classifier.md). There are no passwords: whoever reaches the port may ask.
    """
    from counterscan.classifiers.load import load_classifier
    from counterscan.classifiers.server import build_app, build_server
    from counterscan.listening import open_port

    app = build_app(load_classifier(name, card), batch, limit)
    server, line = build_server(app), open_port(host, port)
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"{app.title}: http://{shown}:{line.getsockname()[1]}/ (Ctrl-C ends it)")
    server.run(sockets=[line])


def train(
    recipe: Annotated[str, typer.Argument(help="`counterscan list recipes` names them.")],
    manifest: Annotated[Path, typer.Option("--data", help="A CSV, or a folder that holds labels.csv.")],
    out: Annotated[Path, typer.Option("--out", help="The folder for weights, card, log and previews.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    classifier: Annotated[str, typer.Option(metavar="C", help="The frozen classifier that a prior is for.")] = "",
    where: Where = "",
    dataset: Dataset = None,
    settings: Settings = [],  # noqa: B006 (typer copies it)
    dry_run: DryRun = False,
) -> None:
    """Train a classifier or a prior by a recipe.

    The folder that it writes loads wherever a shipped name does.
    """
    from counterscan.data.manifest import read_manifest
    from counterscan.jobs import prepare_recipe

    ready = prepare_recipe(recipe, classifier=classifier, settings=settings)
    if dry_run:
        typer.echo(repr(ready))
        return
    cases = read_manifest(manifest, dataset).select(where=where or None)
    typer.echo(f"weights and card: {ready.train(cases, out, resume=resume, command=typed())}")
