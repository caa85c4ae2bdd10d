"""The options that commands share, each with its one help text."""

from pathlib import Path
from typing import Annotated

import typer

Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="IMAGES|MANIFEST", help="Images, a folder of images, or a manifest (docs/data.md)."),
]
Data = Annotated[Path, typer.Argument(metavar="MANIFEST", help="A CSV, or a folder that holds labels.csv.")]
CLASSIFIERS = "A shipped name, a folder, model.onnx (.pt, .pt2), http://..., or [process:]package.module:function."
ClassifierName = Annotated[str, typer.Option("--classifier", metavar="C", help=CLASSIFIERS)]
TargetText = Annotated[
    str, typer.Option("--target", metavar="CLASS=P", help="The answer to ask for: effusion=0, or a=0,b=1, or normal.")
]
Method = Annotated[
    str, typer.Option("--with", metavar="NAME", help="An explainer; `counterscan list explainers` names them.")
]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="The folder to write; the same command goes on where it was.")
]
Folder = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")]
Prior = Annotated[
    str,
    typer.Option(metavar="P", help="A shipped name or a folder with a card; by default the one beside a shipped C."),
]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="A setting of the explainer or recipe; repeatable.")
]
WindowText = Annotated[
    str, typer.Option("--window", metavar="LOW:HIGH", help="What is black and what white, in the scan's unit.")
]
Folds = Annotated[list[int], typer.Option("--fold", metavar="K", help="Only this fold of the manifest; repeatable.")]
Split = Annotated[str, typer.Option(metavar="NAME", help="Only this split of the manifest: train, validation or test.")]
Where = Annotated[
    str, typer.Option(metavar="COLUMN=VALUE", help="Only where the manifest's columns say so: matched=1,view=PA.")
]
Dataset = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A dataset.toml that does not lie beside the manifest.")
]
CardPath = Annotated[
    Path | None, typer.Option("--card", metavar="CARD.json", help="The card of a model or function that has none.")
]
Judge = Annotated[
    str, typer.Option(metavar="C", help="A second classifier, trained apart, that judges the counterfactuals.")
]
Threshold = Annotated[float | None, typer.Option(metavar="T", help="Masks are where the map is above this.")]
Rule = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A JSON file with a mask_rule, as `score --validation` writes it."),
]
Seed = Annotated[int, typer.Option(metavar="N", help="All that is random replays from this number.")]
Batch = Annotated[int, typer.Option(metavar="N", min=1, help="How many slices are explained at once.")]
Workers = Annotated[int, typer.Option(metavar="N", min=1, help="How many processes work.")]
ShardText = Annotated[
    str, typer.Option("--shard", metavar="I/N", help="Only part I of N; each machine does its own, into one folder.")
]
EngineName = Annotated[str, typer.Option("--engine", metavar="NAME", help="local, or ray for many machines.")]
Address = Annotated[
    str, typer.Option("--address", metavar="HOST:PORT", help="Of a ray cluster that is there, or auto.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would run, and stop.")]
