"""The commands that explain images, and what they share: the words become a job, its outcome is told."""

from typing import TYPE_CHECKING, Any

import typer

from counterscan.commands.words import SHOWN, SOME_FAILED, typed
from counterscan.options import (
    Address,
    Batch,
    CardPath,
    ClassifierName,
    Dataset,
    DryRun,
    EngineName,
    Folds,
    Inputs,
    Judge,
    Method,
    Out,
    Prior,
    Rule,
    Seed,
    Settings,
    ShardText,
    Split,
    TargetText,
    Threshold,
    Where,
    WindowText,
    Workers,
)

if TYPE_CHECKING:
    from counterscan.engine import Job, Outcome
    from counterscan.engine.sharding import Shard
    from counterscan.engine.work import Engine


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
    workers: Workers = 1,
    shard: ShardText = "",
    engine: EngineName = "local",
    address: Address = "",
    dry_run: DryRun = False,
) -> None:
    """Write counterfactuals, maps, masks and a page.

    Each image gets a folder under OUT/cases; an image that fails is listed and stops nothing else.
    """
    words = locals()
    place = placed(words)
    _run(prepared(words), dry_run, *place)


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
    workers: Workers = 1,
    shard: ShardText = "",
    engine: EngineName = "local",
    address: Address = "",
    dry_run: DryRun = False,
) -> None:
    """Write masks in the format of the input.

    They lie under OUT/masks as the input folder is laid out.
    """
    words = locals() | {"masks_only": True}
    place = placed(words)
    _run(prepared(words), dry_run, *place)


def prepared(words: dict[str, Any]) -> "Job":
    from counterscan.jobs import prepare

    del words["dry_run"]
    return prepare(words.pop("inputs"), names={"command": typed()}, **words)


def placed(words: dict[str, Any]) -> tuple["Engine", "Shard"]:
    """Where the work is done and which part of it, by words that are taken out; a wrong one is told before any work."""
    from counterscan.engine.distributed import engine_of
    from counterscan.engine.sharding import Shard

    shard = Shard.parse(words.pop("shard"))
    return engine_of(words.pop("engine"), words.pop("workers"), words.pop("address")), shard


def _run(job: "Job", dry_run: bool, engine: "Engine", shard: "Shard") -> None:
    """Run a job, or print it."""
    import json

    if dry_run:
        typer.echo(json.dumps(job.describe(), indent=1))
        return
    from counterscan.engine import run

    told(job, run(job, engine, shard))


def told(job: "Job", outcome: "Outcome") -> None:
    """Say what came out of a job, and leave with 3 if some images failed."""
    typer.echo(_summary(job, outcome))
    if outcome.failed:
        where = "" if outcome.partly else f" (all in {job.out / 'failed.csv'})"
        _list(f"{len(outcome.failed)} failed{where}:", [e for _, _, e in outcome.failed])
        raise typer.Exit(SOME_FAILED)


def _summary(job: "Job", outcome: "Outcome") -> str:
    from counterscan.classifiers.remembered import Remembered
    from counterscan.engine.sharding import what_is_left

    asked = len(outcome.rows) - len(outcome.already)
    where = f"{job.out / ('masks' if job.masks_only else 'index.html')}"
    if outcome.partly:
        where = f"{job.out}; {what_is_left(outcome.missing, 'the tables')}"
    lines = [f"{len(outcome.rows)} image{'s' * (len(outcome.rows) != 1)} done: {where}"]
    volumes = [row for row in outcome.rows if "lesions" in row]
    if volumes:
        count, ml = (sum(row[name] for row in volumes) for name in ("lesions", "lesions_ml"))
        pages = job.out / ("volumes" if job.masks_only else "cases")
        lines.append(
            f"{len(volumes)} volume{'s' * (len(volumes) != 1)} with {count} lesion{'s' * (count != 1)} ({ml:.3g} ml): "
            f"pages in {pages}" + (f", all in {job.out / 'lesions.csv'}" if count else "")
        )
    if asked and outcome.rows[0]["found"] != "":
        lines.append(f"{outcome.found} of {asked} reached {job.target.describe(job.classifier.card)}")
    if outcome.already:
        names = ", ".join(outcome.already[:SHOWN]) + (", ..." if len(outcome.already) > SHOWN else "")
        verb = "was there already and keeps its" if len(outcome.already) == 1 else "were there already and keep their"
        lines.append(f"{len(outcome.already)} {verb} picture: {names}")
    if isinstance(job.classifier, Remembered):
        lines.append(job.classifier.told())
    return "\n".join(lines)


def _list(title: str, lines: list[str]) -> None:
    typer.echo(title, err=True)
    for line in lines[:SHOWN]:
        typer.echo(f"  {line}", err=True)
