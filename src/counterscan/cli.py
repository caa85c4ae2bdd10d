"""The command: every subcommand under its name, behind one door for errors and warnings, which become one line each."""

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from counterscan.commands import (
    agents,
    datasets,
    environment,
    explaining,
    inducing,
    measuring,
    models,
    studying,
    synthesis,
    viewing,
)
from counterscan.commands.words import STOPPED, USER_ERROR
from counterscan.errors import CounterscanError

AGAIN = "run the same command to go on"
FOR_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)

app = typer.Typer(
    name="counterscan",
    help="What would this scan look like if the classifier had said otherwise?",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Look at a dataset, or take in a public one.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")
classifiers = typer.Typer(help="Look at a classifier, or serve it.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(classifiers, name="classifier")
study = typer.Typer(
    help="Ask readers, blinded, and analyse what they say.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(study, name="study")


def main() -> None:
    """The entry point of the console script."""
    app()


def add(function: Callable[..., None], name: str | None = None, group: typer.Typer = app, cure: str = AGAIN) -> None:
    """Register a command whose user errors are one line, and whose interruption says how to go on."""

    @group.command(name)
    @functools.wraps(function)
    def door(*args: Any, **kwargs: Any) -> None:
        try:
            with plain_warnings():
                function(*args, **kwargs)
        except CounterscanError as error:
            _fail(f"error: {error}", USER_ERROR)
        except KeyboardInterrupt:
            _fail(f"stopped; {cure}", STOPPED)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Within, each warning is one line for the user, once; those for developers keep Python's form."""
    told: set[str] = set()
    with warnings.catch_warnings():
        before = warnings.showwarning

        def tell(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            line = f"counterscan: {_one_line(str(message))}"
            if issubclass(category, FOR_DEVELOPERS):
                before(message, category, *place, **more)
            elif line not in told:
                told.add(line)
                typer.echo(line, err=True)

        warnings.showwarning = tell
        yield


def _fail(line: str, code: int) -> NoReturn:
    typer.echo(_one_line(line), err=True)
    raise typer.Exit(code)


def _one_line(text: str) -> str:
    return " ".join(text.split())


add(environment.demo)
add(datasets.phantoms)
add(datasets.check, "check", data)
add(datasets.import_data, "import", data)
add(models.check_classifier, "check", classifiers)
add(models.serve_classifier, "serve", classifiers, cure="start it again with the same command")
add(models.train, cure="add --resume to the same command to go on")
add(agents.fit)
add(agents.directions)
add(explaining.explain)
add(explaining.segment)
add(inducing.induce)
add(synthesis.synthesise)
add(measuring.score)
add(measuring.sanity, cure="nothing is written before the end, so run it again")
add(measuring.bench)
add(studying.new, "new", study, cure="nothing is shown to anybody yet, so run the same command again")
add(studying.links, "links", study)
add(studying.serve, "serve", study, cure="every answer is kept; start it again with the same command")
add(studying.analyse, "analyse", study)
add(studying.power, "power", study)
add(viewing.serve, cure="start it again with the same command")
add(environment.list_names, "list")
add(environment.doctor)
