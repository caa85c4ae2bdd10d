"""The command that shows explanations in the browser."""

from pathlib import Path
from typing import Annotated

import typer

from counterscan.options import CLASSIFIERS, CardPath, Prior


def serve(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DIR", help="What `explain` wrote, or folders of such; without any, only uploads."),
    ] = None,
    classifier: Annotated[
        str, typer.Option(metavar="C", help=f"Offer this one for uploads, beside the shipped. {CLASSIFIERS}")
    ] = "",
    method: Annotated[str, typer.Option("--with", metavar="NAME", help="The method offered first with it.")] = "",
    prior: Prior = "",
    target: Annotated[str, typer.Option(metavar="CLASS=P", help="The answer offered first with it.")] = "",
    card: CardPath = None,
    upload: Annotated[bool, typer.Option("--upload/--no-upload", help="Whether scans may be uploaded.")] = True,
    megabytes: Annotated[int, typer.Option("--largest", metavar="MB", min=1, help="The largest upload.")] = 100,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8760,
) -> None:
    """Look at explanations in the browser.

    A gallery to filter and sort, and each case with its pictures, methods side by side. An upload box explains a new
    scan. There are no passwords: by default only this machine is answered.
    """
    from counterscan.errors import CounterscanError
    from counterscan.web.viewer import Given, serve

    if (method or prior or target or card) and not classifier:
        raise CounterscanError("--with, --prior, --target and --card go with --classifier; name one, too")
    given = (Given(classifier, method, prior, target, str(card or "")),) if classifier else ()
    serve(folders or [], host, port, given=given, megabytes=megabytes, upload=upload)
