"""The commands about reader studies: set one up, hand out its links, run it, analyse it, and plan its size."""

from pathlib import Path
from typing import Annotated, Any

import typer

from counterscan.commands.words import typed
from counterscan.options import DryRun, Split, Where

Folder = Annotated[Path, typer.Argument(metavar="STUDY", help="The folder that `study new` wrote.")]
Database = Annotated[
    str, typer.Option(metavar="URL", help="Where answers are kept: by default STUDY/answers.db; or postgresql://...")
]
Address = Annotated[str, typer.Option(metavar="URL", help="Where readers will reach the server.")]
HERE = "http://127.0.0.1:8765"


def new(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; new, or empty.")],
    description: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A TOML or JSON description (docs/study.md).")
    ] = None,
    real: Annotated[
        list[Path], typer.Option(metavar="MANIFEST", help="Real images: a manifest, or a folder; repeatable.")
    ] = [],  # noqa: B006
    synthetic: Annotated[
        list[str],
        typer.Option(metavar="NAME=DIR", help="What `explain` or `synthesise` wrote, one a method; repeatable."),
    ] = [],  # noqa: B006
    task: Annotated[
        list[str],
        typer.Option(
            help="real-or-synthetic, forced-choice, odd-one-out, realism, side-by-side or lesion; each is a part."
        ),
    ] = [],  # noqa: B006
    readers: Annotated[str, typer.Option(metavar="A,B,C", help="Who reads.")] = "",
    cases: Annotated[int | None, typer.Option(metavar="N", help="Test trials of each part; about 40.")] = None,
    title: Annotated[str | None, typer.Option(help="What the study is called.")] = None,
    lesion: Annotated[str | None, typer.Option(metavar="CLASS", help="What to look for in the lesion task.")] = None,
    k: Annotated[int | None, typer.Option("--pictures", metavar="K", help="Pictures of an odd one out; 3.")] = None,
    repeats: Annotated[float | None, typer.Option(metavar="SHARE", help="Share that is shown twice; 0.1.")] = None,
    training: Annotated[int | None, typer.Option(metavar="N", help="Practice trials of each part; 4.")] = None,
    checks: Annotated[int | None, typer.Option(metavar="N", help="Attention checks of each part; 2.")] = None,
    feedback: Annotated[bool | None, typer.Option("--feedback", help="Tell the truth after practice trials.")] = None,
    tell_prevalence: Annotated[
        bool | None, typer.Option("--tell-prevalence", help="Tell readers how many are synthetic.")
    ] = None,
    washout: Annotated[
        int | None, typer.Option(metavar="DAYS", help="Days between parts; 28 between both arms of the lesion task.")
    ] = None,
    shortest: Annotated[float | None, typer.Option(metavar="S", help="Seconds that a picture is looked at.")] = None,
    longest: Annotated[float | None, typer.Option(metavar="S", help="Seconds after which pictures go.")] = None,
    split: Split = "",
    where: Where = "",
    match: Annotated[
        str, typer.Option(metavar="COLUMN,...", help="Choose real images as the synthetic ones are: view,sex.")
    ] = "",
    many: Annotated[bool | None, typer.Option("--many-per-patient", help="A patient may appear twice.")] = None,
    reuse: Annotated[bool | None, typer.Option("--reuse", help="Parts may show the same pictures.")] = None,
    size: Annotated[
        int | None, typer.Option(metavar="N", help="Pixels of the longer side; the smallest has it.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="All choices replay from it; drawn if left out.")
    ] = None,
    address: Address = HERE,
    dry_run: DryRun = False,
) -> None:
    """Set up a blinded study.

    From manifests and explanation folders to OUT: study.json with the truth, pictures that tell nothing of it, and
    links.csv with a personal link for each reader. --split and --where choose among the real images.
    """
    from counterscan.progress import progress
    from counterscan.study.design import make
    from counterscan.study.draft import draft, told

    part = {
        "cases": cases,
        "lesion": lesion,
        "k": k,
        "repeats": repeats,
        "training": training,
        "checks": checks,
        "feedback": feedback,
        "tell_prevalence": tell_prevalence,
        "washout_days": washout,
        "shortest": shortest,
        "longest": longest,
    }
    whole = {
        "title": title,
        "readers": _words(readers),
        "real": [str(path) for path in real] or None,
        "synthetic": _methods(synthetic),
        "seed": seed,
        "split": split or None,
        "where": where or None,
        "match": _words(match),
        "one_per_patient": None if many is None else not many,
        "reuse": reuse,
        "size": size,
    }
    chosen = draft(_asked(description, task, _given(part), _given(whole)))
    typer.echo("\n".join(told(chosen)))
    if dry_run:
        return
    with progress("study", chosen.pictures, "pictures") as done:
        study = make(chosen, out, done)
    each = len(study.trials)
    typer.echo(
        f"{len(study.pictures)} pictures, {each} questions for each of {len(study.readers)} readers, seed {study.seed}"
    )
    typer.echo(f"links (keep {out / 'links.csv'} to yourself):")
    _echo_links(out, study.names, address)
    typer.echo(f"next: counterscan study serve {out}")


def links(
    folder: Folder,
    renew: Annotated[
        list[str], typer.Option("--new", metavar="READER", help="A new link, which ends the old one; repeatable.")
    ] = [],  # noqa: B006
    address: Address = HERE,
) -> None:
    """Print the personal links.

    The study keeps only their hashes: a link that links.csv has lost is replaced with --new.
    """
    from counterscan.study.links import renew as renewed
    from counterscan.study.records import Study

    study = Study.load(folder)
    if renew:
        study = renewed(folder, study, renew)
        typer.echo("start the server again, so that it knows the new links", err=True)
    _echo_links(folder, study.names, address)


def serve(
    folder: Folder,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port.")] = 8765,
    database: Database = "",
) -> None:
    """Let readers read.

    Each enters by a personal link (`study links`), and can stop and go on elsewhere; Ctrl-C loses nothing.
    """
    from counterscan.study.records import Study

    Study.load(folder)
    _server()(folder, host, port, database)


def analyse(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where results go; by default STUDY/results.")] = None,
    margin: Annotated[
        float, typer.Option(metavar="D", help="How far from chance is still called indistinguishable.")
    ] = 0.05,
    answers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Answers saved from the owner's page (.jsonl), not a database.")
    ] = None,
    exclude: Annotated[str, typer.Option(metavar="A,B", help="Readers to leave out; the results say so.")] = "",
    database: Database = "",
) -> None:
    """Analyse the answers.

    Writes a page, results.json, tables as CSV, and the form that iMRMC reads. Works at any time, also while readers
    read: decide beforehand when to look.
    """
    from counterscan.errors import CounterscanError
    from counterscan.study.analysis import analyse as analysed
    from counterscan.study.records import Study, read_answers
    from counterscan.study.store import Store

    study = Study.load(folder)
    given = read_answers(answers) if answers else Store.of(folder, database).answers()
    if not given:
        raise CounterscanError(f"nobody has answered {study.title!r} yet; run counterscan study serve {folder}")
    written = out or folder / "results"
    left_out = tuple(name.strip() for name in exclude.split(",") if name.strip())
    analysed(study, given, margin=margin, exclude=left_out, command=typed()).write(written)
    typer.echo(f"{len(given)} answers of {len({one.reader for one in given})} readers: {written / 'index.html'}")


def power(
    task: Annotated[str, typer.Option(help="real-or-synthetic, forced-choice, odd-one-out or lesion.")] = (
        "real-or-synthetic"
    ),
    share: Annotated[
        float | None, typer.Option(metavar="P", help="The share of right answers (the AUC, for a yes/no task) to find.")
    ] = None,
    dprime: Annotated[float | None, typer.Option(metavar="D", help="The same as a sensitivity d'.")] = None,
    margin: Annotated[
        float | None, typer.Option(metavar="D", help="Show instead that it is within this of chance.")
    ] = None,
    difference: Annotated[
        float | None, typer.Option(metavar="D", help="Find instead that two methods differ by this much.")
    ] = None,
    pictures: Annotated[
        int, typer.Option(metavar="K", min=0, help="Pictures of a choice; 2, or 3 of an odd one out.")
    ] = 0,
    readers: Annotated[str, typer.Option(metavar="N,...", help="Numbers of readers to look at.")] = "3,5,10,20",
    cases: Annotated[str, typer.Option(metavar="N,...", help="Numbers of cases to look at.")] = "50,100,200,400",
    wanted: Annotated[float, typer.Option("--power", metavar="P", help="The power to have.")] = 0.8,
    alpha: Annotated[float, typer.Option(metavar="A", help="The size of the test.")] = 0.05,
    reader_sd: Annotated[float, typer.Option(metavar="S", help="How readers differ in it, as an SD.")] = 0.03,
    method_sd: Annotated[float, typer.Option(metavar="S", help="How they differ in the difference.")] = 0.02,
    correlations: Annotated[
        str,
        typer.Option(metavar="R1,R2,R3", help="Of errors on the same cases: one reader, one method, neither shared."),
    ] = "0.45,0.3,0.25",
) -> None:
    """Say how many cases and readers.

    For one reader exactly, and for readers and cases in general (multi-reader multi-case), as a table. The spread is an
    assumption until a pilot tells it.
    """
    from counterscan.study.power import Spread
    from counterscan.study.sizing import Wish, sized

    wish = Wish(task, share, dprime, margin, difference, pictures, wanted, alpha)
    spread = Spread(reader_sd, method_sd, *_numbers(correlations, "correlations", 3))
    counts = [int(one) for one in _numbers(readers, "readers")], [int(one) for one in _numbers(cases, "cases")]
    typer.echo("\n".join(sized(wish, spread, *counts)))


def _asked(description: Path | None, tasks: list[str], part: dict[str, Any], whole: dict[str, Any]) -> Any:
    """The study asked for, by a file or by options; a seed is drawn where none is given."""
    import secrets

    from counterscan.errors import CounterscanError
    from counterscan.study.description import described, read_description

    if description is not None:
        if tasks or part:
            named = "task" if tasks else next(iter(part)).replace("_", "-")
            raise CounterscanError(f"--{named} says what a part is, as {description} does; write it there")
        return read_description(description, drawn=secrets.randbelow(2**31), **whole)
    if not tasks:
        raise CounterscanError("give --task (real-or-synthetic, forced-choice, ...), or --from FILE with a description")
    if "readers" not in whole:
        raise CounterscanError("give --readers with the name of each, for example --readers ann,bob,cy")
    parts = [{"task": task, **_fitting(task, part)} for task in tasks]
    return described({"seed": secrets.randbelow(2**31), **whole, "parts": parts})


def _fitting(task: str, part: dict[str, Any]) -> dict[str, Any]:
    """The options that mean something for a task, where several tasks share one command."""
    only = {"lesion": "lesion", "k": "odd-one-out"}
    return {name: value for name, value in part.items() if only.get(name, task) == task}


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _words(text: str) -> list[str] | None:
    return [word.strip() for word in text.split(",")] if text else None


def _methods(texts: list[str]) -> dict[str, str] | None:
    from counterscan.errors import CounterscanError
    from counterscan.study.description import method_folder

    named = [method_folder(text) for text in texts]
    names = [name for name, _ in named]
    if twice := [name for name in names if names.count(name) > 1]:
        raise CounterscanError(f"two synthetic folders are called {twice[0]!r}; name them: --synthetic NAME=DIR")
    return {name: str(folder) for name, folder in named} or None


def _numbers(text: str, option: str, count: int = 0) -> list[float]:
    from counterscan.errors import CounterscanError

    try:
        numbers = [float(one) for one in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or (count and len(numbers) != count):
        raise CounterscanError(f"cannot read --{option} {text!r}; write numbers with commas between them")
    return numbers


def _echo_links(folder: Path, names: tuple[str, ...], address: str) -> None:
    from counterscan.study.links import read_links

    known = read_links(folder)
    for name in names:
        link = f"{address.rstrip('/')}/enter/{known[name]}" if name in known else "(lost; replace it with --new)"
        typer.echo(f"  {name}: {link}")


def _server() -> Any:
    from counterscan.errors import MissingExtra

    try:
        from counterscan.web.study_server import serve
    except ModuleNotFoundError as error:
        raise MissingExtra(str(error.name), "web") from None
    return serve
