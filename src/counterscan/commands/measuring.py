"""The commands that measure explanations."""

from pathlib import Path
from typing import Annotated

import typer

from counterscan.commands.explaining import placed, prepared
from counterscan.commands.words import SOME_FAILED, typed
from counterscan.options import (
    Address,
    Batch,
    CardPath,
    ClassifierName,
    Dataset,
    EngineName,
    Folder,
    Folds,
    Inputs,
    Judge,
    Method,
    Out,
    Prior,
    Seed,
    Settings,
    ShardText,
    Split,
    TargetText,
    Where,
    WindowText,
    Workers,
)


def score(
    folder: Annotated[Path, typer.Argument(help="What `counterscan explain` wrote.")],
    truth: Annotated[
        Path | None, typer.Option(help="A manifest with masks, or twins; by default the one explained.")
    ] = None,
    judge: Judge = "",
    validation: Annotated[
        Path | None, typer.Option(help="Explanations of validation images, to choose the mask rule on.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, too.")] = None,
    classifier: Annotated[
        str, typer.Option(metavar="C", help="Ask the classifier again, for deletion and insertion.")
    ] = "",
    verifier: Annotated[
        str, typer.Option(metavar="V", help="Ask this verifier whether it is still the same eye (docs/realism.md).")
    ] = "",
    real: Annotated[
        Path | None, typer.Option(metavar="MANIFEST", help="Real images to compare with as a set (docs/realism.md).")
    ] = None,
    workers: Workers = 1,
    shard: ShardText = "",
    engine: EngineName = "local",
    address: Address = "",
) -> None:
    """Measure what `explain` wrote.

    Flips, the size of the change, and the agreement with true masks and twins where there are any.
    """
    words = locals()
    where, part = placed(words)
    from counterscan.score import score_folder

    typer.echo(score_folder(**words, command=typed(), engine=where, shard=part))


def sanity(
    inputs: Inputs,
    classifier: ClassifierName,
    target: TargetText,
    method: Method,
    out: Folder,
    shuffled: Annotated[str, typer.Option(metavar="C", help="A classifier trained with --set shuffled=true.")] = "",
    n: Annotated[int, typer.Option("-n", min=4, help="How many images are explained, a dozen times each.")] = 24,
    prior: Prior = "",
    settings: Settings = [],  # noqa: B006
    window: WindowText = "",
    folds: Folds = [],  # noqa: B006
    split: Split = "",
    where: Where = "",
    dataset: Dataset = None,
    card: CardPath = None,
    seed: Seed = 0,
    batch: Batch = 8,
) -> None:
    """Find explanations that ignore the classifier.

    Random weights and shuffled labels must change an explanation, noise must not, what it marks must matter, and the
    border alone must not tell the images apart. Leaves with 3 where a check fails.
    """
    words = locals()
    from counterscan.classifiers.load import load_classifier
    from counterscan.sanity.examination import examine

    other = load_classifier(shuffled) if shuffled else None
    job = prepared({name: word for name, word in words.items() if name not in ("shuffled", "n")} | {"dry_run": False})
    found = examine(job, shuffled=other, n=n, command=typed())
    typer.echo(f"{found}\npage: {out / 'index.html'}")
    if found.failed:
        raise typer.Exit(SOME_FAILED)


def bench(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="all, segmentation, ablation or synthesis.")],
    out: Out,
    data: Annotated[
        str,
        typer.Argument(metavar="phantoms|MANIFEST", help="Fresh phantoms, those of a kind (chest), or a manifest."),
    ] = "phantoms",
    kinds: Annotated[
        str | None, typer.Option(metavar="chest,oct", help="Of all methods: only these kinds of phantoms.")
    ] = None,
    models: Annotated[
        str,
        typer.Option(
            metavar="PLACE", help="A folder of models, with {fold} and {kind} in it; by default shipped ones."
        ),
    ] = "",
    model: Annotated[
        list[str], typer.Option(metavar="NAME=PLACE", help="Where one model lies instead: student=runs/st; repeatable.")
    ] = [],  # noqa: B006
    target: Annotated[
        str, typer.Option(metavar="CLASS=P", help="The answer to ask for; by default every disease is to go.")
    ] = "",
    folds: Annotated[
        str, typer.Option(metavar="all|0,1", help="Folds to measure, rules chosen on the next; by default all.")
    ] = "",
    method: Annotated[list[str], typer.Option(metavar="NAME", help="Only this method; repeatable.")] = [],  # noqa: B006
    size: Annotated[
        int | None, typer.Option(min=64, max=512, help="Height and width of phantoms in pixels (128).")
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", "-n", min=2, help="Phantoms in each part (300; all: 100), or at most so many.")
    ] = None,
    masks: Annotated[int | None, typer.Option(min=8, help="Masks of RISE (1000).")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of each training, of an ablation (800) or of a classifier (3000).")
    ] = None,
    real: Annotated[
        Path | None, typer.Option(metavar="MANIFEST", help="Real images that a synthetic archive is held against.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few images and masks, one fold: minutes.")] = False,
    dataset: Dataset = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of phantoms, and of all that is random.")] = 20261,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the table here, too.")] = None,
) -> None:
    """Compare methods on the same images, in one table: a page, and JSON.

    The suite `all` runs every explainer on four kinds of phantoms, disease removed and added (docs/bench-all.md);
    `segmentation` says how well each masks a lesion, `ablation` what each part of inpainting is worth, `synthesis` how
    a synthetic archive compares with a real one (docs/synthesis-evaluation.md).

    Leaves with 3 where a method fails; one whose model is absent is listed.
    """
    words = locals()
    from counterscan.bench import run_suite

    table = run_suite(
        words.pop("suite"),
        named=words.pop("model"),
        methods=words.pop("method"),
        command=typed(),
        say=lambda line: typer.echo(line, err=True),
        **words,
    )
    typer.echo(f"{table}\npage: {out / 'index.html'}")
    if table.failed:
        raise typer.Exit(SOME_FAILED)
