"""The command: thin skins over one library call each. Heavy imports happen inside the commands, never here."""

import functools
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from counterscan.errors import CounterscanError
from counterscan.options import (
    CLASSIFIERS,
    Batch,
    CardPath,
    ClassifierName,
    Data,
    Dataset,
    DryRun,
    Folds,
    Inputs,
    Judge,
    Method,
    Out,
    Prior,
    Rule,
    Seed,
    Settings,
    Split,
    TargetText,
    Threshold,
    Where,
    WindowText,
    Workers,
)

if TYPE_CHECKING:
    from counterscan.engine import Job, Outcome

DONE, USER_ERROR, SOME_FAILED, STOPPED = 0, 1, 3, 130  # 2, wrong usage, is typer's own
SHOWN = 20  # lines of a long list that are printed; the whole list is in a file

app = typer.Typer(
    name="counterscan",
    help="What would this scan look like if the classifier had said otherwise?",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Look at a dataset.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")
classifiers = typer.Typer(help="Look at a classifier.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(classifiers, name="classifier")


def main() -> None:
    """The entry point of the console script."""
    app()


def command(group: typer.Typer = app, name: str | None = None, cure: str = "run the same command to go on"):
    """Register a command whose user errors are one line, and whose interruption says how to go on."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @group.command(name)
        @functools.wraps(function)
        def door(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except CounterscanError as error:
                _fail(f"error: {error}", USER_ERROR)
            except KeyboardInterrupt:
                _fail(f"stopped; {cure}", STOPPED)

        return door

    return register


def _fail(line: str, code: int) -> NoReturn:
    typer.echo(" ".join(line.split()), err=True)
    raise typer.Exit(code)


def _typed() -> str:
    return shlex.join(["counterscan", *sys.argv[1:]])


@command()
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


@command()
def phantoms(
    kind: Annotated[str, typer.Argument(help="chest, abdomen, fundus or oct.")],
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


@command(data, "check")
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


@command(classifiers, "check")
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


@command(cure="add --resume to the same command to go on")
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
    typer.echo(f"weights and card: {ready.train(cases, out, resume=resume, command=_typed())}")


@command()
def explain(
    inputs: Inputs,
    classifier: ClassifierName,
    target: TargetText,
    method: Method,
    out: Out,
    prior: Prior = "",
    settings: Settings = [],  # noqa: B006
    window: WindowText = "",
    folds: Folds = [],  # noqa: B006
    split: Split = "",
    where: Where = "",
    dataset: Dataset = None,
    card: CardPath = None,
    judge: Judge = "",
    threshold: Threshold = None,
    rule: Rule = None,
    seed: Seed = 0,
    batch: Batch = 8,
    dry_run: DryRun = False,
) -> None:
    """Write counterfactuals, maps, masks and a page.

    Each image gets a folder under OUT/cases; an image that fails is listed and stops nothing else.
    """
    job = _prepared(locals())
    _run(job, dry_run)


@command()
def segment(
    inputs: Inputs,
    classifier: ClassifierName,
    target: TargetText,
    method: Method,
    out: Out,
    prior: Prior = "",
    settings: Settings = [],  # noqa: B006
    window: WindowText = "",
    folds: Folds = [],  # noqa: B006
    split: Split = "",
    where: Where = "",
    dataset: Dataset = None,
    card: CardPath = None,
    threshold: Threshold = None,
    rule: Rule = None,
    seed: Seed = 0,
    batch: Batch = 8,
    dry_run: DryRun = False,
) -> None:
    """Write masks in the format of the input.

    They lie under OUT/masks as the input folder is laid out.
    """
    job = _prepared(locals() | {"masks_only": True})
    _run(job, dry_run)


def _prepared(words: dict[str, Any]) -> "Job":
    from counterscan.jobs import prepare

    del words["dry_run"]
    return prepare(words.pop("inputs"), names={"command": _typed()}, **words)


def _run(job: "Job", dry_run: bool) -> None:
    """Run a job, or print it; say what came out, and leave with 3 if some images failed."""
    import json

    if dry_run:
        typer.echo(json.dumps(job.describe(), indent=1))
        return
    from counterscan.engine import run

    outcome = run(job)
    typer.echo(_summary(job, outcome))
    if outcome.failed:
        _list(f"{len(outcome.failed)} failed (all in {job.out / 'failed.csv'}):", [e for _, _, e in outcome.failed])
        raise typer.Exit(SOME_FAILED)


def _summary(job: "Job", outcome: "Outcome") -> str:
    asked = len(outcome.rows) - len(outcome.already)
    where = job.out / ("masks" if job.masks_only else "index.html")
    lines = [f"{len(outcome.rows)} image{'s' * (len(outcome.rows) != 1)} done: {where}"]
    if asked and outcome.rows[0]["found"] != "":
        lines.append(f"{outcome.found} of {asked} reached {job.target.describe(job.classifier.card)}")
    if outcome.already:
        names = ", ".join(outcome.already[:SHOWN]) + (", ..." if len(outcome.already) > SHOWN else "")
        verb = "was there already and keeps its" if len(outcome.already) == 1 else "were there already and keep their"
        lines.append(f"{len(outcome.already)} {verb} picture: {names}")
    return "\n".join(lines)


def _list(title: str, lines: list[str]) -> None:
    typer.echo(title, err=True)
    for line in lines[:SHOWN]:
        typer.echo(f"  {line}", err=True)


@command()
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
) -> None:
    """Measure what `explain` wrote.

    Flips, the size of the change, and the agreement with true masks and twins where there are any.
    """
    words = locals()
    from counterscan.score import score_folder

    typer.echo(score_folder(**words, command=_typed()))


@command(cure="nothing is written before the end, so run it again")
def sanity(
    inputs: Inputs,
    classifier: ClassifierName,
    target: TargetText,
    method: Method,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")],
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
    job = _prepared({name: word for name, word in words.items() if name not in ("shuffled", "n")} | {"dry_run": False})
    found = examine(job, shuffled=other, n=n, command=_typed())
    typer.echo(f"{found}\npage: {out / 'index.html'}")
    if found.failed:
        raise typer.Exit(SOME_FAILED)


@command(name="list")
def list_names(
    what: Annotated[str, typer.Argument(help="explainers, recipes, weights or metrics; nothing lists all.")] = "",
) -> None:
    """Name explainers, recipes, weights, metrics."""
    from counterscan.listing import listing

    typer.echo(listing(what))


@command()
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
