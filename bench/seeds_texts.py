"""Small valid records and texts for fuzz.py: studies, answers, explanations, rules, requests, prompts, words."""

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from seeds import GREY, Seed

DATASET = b"""classes = ["normal", "sick"]
confounders = ["drusen"]
modality = "CT"
window = [-160, 240, "HU"]
slope = 1.0
intercept = -1024.0
mirror = false
"""
DESCRIPTION = b"""title = "Real or not"
readers = ["ada", "grace"]
real = "images"
seed = 7
match = ["view"]
[synthetic]
ours = "explained"
[[parts]]
task = "real-or-synthetic"
cases = 40
repeats = 0.1
shortest = 1.5
anchors = ["not", "hardly", "so so", "rather", "real"]
[[parts]]
task = "lesion"
lesion = "effusion"
methods = ["ours"]
washout_days = 28
"""
COUNTS = b'labels,count\neffusion=1,3\n"effusion=0,nodule=1",2\nnormal,4\n'
SHARES = b"class;prevalence\neffusion;0.25\nnodule;0.1\n"
JOINT = b"effusion,nodule,share\n1,0,0.3\n0,1,0.2\n,1,0.5\n"
PROMPT = b"Small left pleural effusion and a nodule in the right upper lobe; no pneumothorax. The heart is normal.\n"
WORDS = {  # what a person types on the command line, by the reader that takes it
    "target": b"effusion=0,nodule=0.75",
    "labels": b"effusion=1,nodule=0",
    "window": b"-160:240",
    "setting": b"widths=[16, 32.5, true]",
    "shard": b"2/4",
    "method": b"ours=runs/explained",
}


def texts() -> Iterator[Seed]:
    """All of them."""
    for name, content in (("dataset.toml", DATASET), ("study.toml", DESCRIPTION), ("prompt.txt", PROMPT)):
        yield Seed(name, name.partition(".")[0] if name != "study.toml" else "description", name, {name: content})
    for name, content in (("counts.csv", COUNTS), ("shares.csv", SHARES), ("joint.csv", JOINT)):
        yield Seed(name, "counts" if name == "counts.csv" else "shares", name, {name: content})
    for name, content in WORDS.items():
        yield Seed(name, name, "word.txt", {"word.txt": content})
    rule = {"mask_rule": {"threshold": 0.2, "relative": 1.0, "minimum": 0.05, "fill": 1.0, "smallest": 32.0}}
    yield Seed("rule", "rule", "rule.json", {"rule.json": json.dumps(rule).encode()})
    yield Seed("links", "links", "links.csv", {"links.csv": b"reader,token\nada,abcdefgh\ngrace,ijklmnop\n"})
    yield from _written("study", "study.json", _study)
    yield from _written("answers", "answers.jsonl", _answers)
    yield from _written("database", "answers.db", _database)
    yield from _written("explanation", "explanation.json", _explanation)
    yield from _written("explained", "run.json", _explained)


def _written(name: str, main: str, write: Callable[[Path], None]) -> Iterator[Seed]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder)
        paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
        yield Seed(name, name, main, {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})


def study() -> Any:
    """A study of three trials."""
    from counterscan.study.records import Part, Picture, ReaderCard, Study, Trial

    pictures = (Picture(id="a", kind="real", case="1"), Picture(id="b", kind="synthetic", method="ours", case="2"))
    part = Part(number=1, task="real-or-synthetic", title="Which", question="Real or synthetic?")
    trials = [
        Trial(id=f"t{at}", part=1, task=part.task, role="test", pictures=(one.id,), answer=one.kind)
        for at, one in enumerate(pictures)
    ]
    cards = (ReaderCard(name="ada", token_hash="0" * 64),)
    facts: dict[str, Any] = {"id": "5eed", "title": "Fuzz", "seed": 7, "created": "2026-01-01"}
    return Study(**facts, parts=(part,), trials=trials, pictures=pictures, readers=cards)


def said() -> list[Any]:
    """What a reader said of them."""
    from counterscan.study.records import Answer

    words: dict[str, Any] = {"reader": "ada", "confidence": 3, "rt_ms": 800, "received": "2026-01-01T00:00:00"}
    return [Answer(trial=f"t{at}", nonce=f"n{at}", choice="real", tools={"zoom": 1}, **words) for at in range(2)]


def _study(folder: Path) -> None:
    study().save(folder)


def _answers(folder: Path) -> None:
    (folder / "answers.jsonl").write_text("".join(f"{one.model_dump_json()}\n" for one in said()))


def _database(folder: Path) -> None:
    from counterscan.study import store as stores

    store = stores.Store.of(folder)
    for answer in said():
        store.add(answer)
    with mock.patch.object(stores, "now", return_value=said()[0].received):
        store.note("ada", "entered", "1", {"browser": "none"})
    store.close()
    with sqlite3.connect(folder / "answers.db") as line:  # all in one file
        line.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    line.close()
    for rest in folder.glob("answers.db-*"):
        rest.unlink()


def _explanation(folder: Path) -> None:
    import torch

    from counterscan.core import Explanation, Target

    image = torch.from_numpy(GREY.astype("float32")).view(1, 1, 32, 32) / 127.5 - 1
    row = {"name": "a", "path": "a.png", "slices": 1, "already": False, "found": True, "seconds": 0.5}
    case = {"name": "a", "path": "a.png", "patient": "p", "split": "", "labels": {"effusion": 1}}
    files = {"figure": "figure.png", "counterfactual": "counterfactual.png"}
    meta = {"explainer": "Ours()", "seed": 0, "queries": 3, "seconds": 0.5, "case": case, "files": files, "row": row}
    meta |= {"window": [0.0, 255.0, ""], "mask_rule": {"threshold": 0.25}, "already": [False]}
    answers = {"before": torch.tensor([[2.0]]), "after": torch.tensor([[-2.0]]), "found": torch.tensor([True])}
    changed = {"counterfactual": image * 0.9, "heatmap": (image * 0.05).abs()}
    Explanation(images=image, target=Target(((0, 0.0),)), meta=meta, **answers, **changed).save(folder)


def _explained(folder: Path) -> None:
    _explanation(folder / "cases" / "a")
    facts = {"explainer": "Ours()", "classifier": "tiny", "target": "effusion=0", "manifest": "", "dataset": ""}
    (folder / "run.json").write_text(json.dumps({**facts, "classes": ["effusion"], "cases": 1}))
    columns = "name,path,patient,slices,already,found,p_before_effusion,p_after_effusion,mask_share,seconds"
    (folder / "cases.csv").write_text(f"{columns}\na,a.png,p,1,False,True,0.88,0.12,0.1,0.5\n")
