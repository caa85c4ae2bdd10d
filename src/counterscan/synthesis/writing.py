"""An archive of made scans, written as it is made: killed at any moment and run again it ends as if it never stopped.

Scans are made in chunks that depend on the seed, on their place and on the scans before them, and on nothing else. A
chunk counts once its note is there, which comes after its images; what a killed run leaves beside that is removed.
"""

import csv
import io
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterscan.core import Card
from counterscan.data.archive import split_of
from counterscan.data.dataset import write_dataset_file
from counterscan.data.files import write_whole
from counterscan.errors import CounterscanError
from counterscan.progress import progress
from counterscan.synthesis.gate import joined
from counterscan.synthesis.making import Making, Slot, Try
from counterscan.synthesis.specs import Request, order
from counterscan.synthesis.storage import Storage

CHUNK = 32  # scans made together
HOPELESS = 16  # of one request that failed, with none that did not, before no more of it are tried
NOTES, NOTE = ".chunks", "synthesis.json"
OURS = re.compile(r"\d{6,}\.(png|dcm)(\.part)?")


@dataclass(frozen=True)
class Archive:
    """What is to be written into `out`: `requests`, by `making`, kept in `storage`, all from `seed`.

    `card` is the classifier's. `facts` are all that decides what comes out, and stay in the folder.
    """

    out: Path
    requests: tuple[Request, ...]
    making: Making
    storage: Storage
    card: Card
    seed: int = 0
    facts: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def exclusive(self) -> bool:
        """Does each scan show one class?"""
        return self.card.output != "multilabel"

    def chunks(self) -> list[list[int]]:
        """The request that each scan is for, chunk by chunk."""
        places = order(self.requests)
        return [places[start : start + CHUNK] for start in range(0, len(places), CHUNK)]


@dataclass(frozen=True)
class Chunk:
    """What became of a chunk: `rows` of the manifest, `missed` slots, and `latents` and `features` `(n, d)` of rows."""

    rows: list[dict[str, Any]]
    missed: list[dict[str, Any]]
    latents: Tensor
    features: Tensor

    def save(self, path: Path) -> None:
        """Write whole or not at all."""
        words = np.frombuffer(json.dumps([self.rows, self.missed]).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, words=words, latents=self.latents.numpy(), features=self.features.numpy())
        write_whole(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Chunk":
        """Read what `save` wrote."""
        with np.load(path) as parts:
            rows, missed = json.loads(parts["words"].tobytes())
            return cls(rows, missed, torch.from_numpy(parts["latents"]), torch.from_numpy(parts["features"]))


def write_archive(archive: Archive) -> dict[str, Any]:
    """Make and write what is missing, then the manifest; answers what `summary.json` holds.

    Raises CounterscanError where the folder holds something else, ScanError where there is no room.
    """
    out, asked = archive.out, archive.chunks()
    _claim(out, archive.facts)
    if (out / "labels.csv").is_file():
        return json.loads((out / "summary.json").read_text())
    done = list(_done(out, len(asked)))
    _sweep(out, done)
    count = sum(map(len, asked))
    with progress("synthesise", count, "scans") as tell:
        for number, places in enumerate(asked[len(done) :], len(done)):
            done.append(_make(archive, number, places, done))
            done[-1].save(out / NOTES / f"{number:08d}.npz")
            tell(sum(len(chunk.rows) + len(chunk.missed) for chunk in done))
    return _finish(archive, done)


def _claim(out: Path, facts: dict[str, Any]) -> None:
    """Note what the folder is for, or refuse it when it holds something else; what never finished a chunk does not."""
    note, text = out / NOTE, json.dumps(facts, indent=1) + "\n"
    if note.is_file():
        before, wanted = json.loads(note.read_text()), json.loads(text)
        other = [name for name in wanted if name != "command" and before.get(name) != wanted[name]]
        if not other:
            return
        if (out / "labels.csv").is_file() or any((out / NOTES).glob("*.npz")):
            raise CounterscanError(
                f"{out} holds another archive ({other[0]} was {str(before.get(other[0]))[:80]}, now "
                f"{str(wanted[other[0]])[:80]}); give another --out, or delete that folder"
            )
    elif out.exists() and (not out.is_dir() or any(one.name != f"{NOTE}.part" for one in out.iterdir())):
        raise CounterscanError(f"{out} holds other files and no archive; give an --out that is new or empty")
    write_whole(note, text.encode())


def _done(out: Path, number: int) -> Iterator[Chunk]:
    """The chunks that are finished, up to the first that is not: what comes later depends on it."""
    for path in (out / NOTES / f"{chunk:08d}.npz" for chunk in range(number)):
        if not path.is_file():
            return
        yield Chunk.load(path)


def _sweep(out: Path, done: Sequence[Chunk]) -> None:
    """Remove what a killed run left of a chunk that it did not finish."""
    known = {Path(row["path"]).name for chunk in done for row in chunk.rows}
    for path in (out / "images").glob("*"):
        if OURS.fullmatch(path.name) and path.name not in known:
            path.unlink()


def _make(archive: Archive, number: int, places: Sequence[int], done: Sequence[Chunk]) -> Chunk:
    """Make and write chunk `number`; slots of a request that nobody could fulfil before are not tried."""
    given_up, slots, missed = _hopeless(done), [], []
    for index, place in enumerate(places, number * CHUNK):
        request = archive.requests[place]
        if request.labels in given_up:
            missed.append({"index": index, "asked": request.labels, "tries": 0, "refusals": [], "score": None})
        else:
            slots.append(Slot(index, request.target))
    known = torch.zeros(0, 0)
    for chunk in done:
        known = joined(known, chunk.features)
    tries = archive.making(slots, known, archive.seed) if slots else []
    good = [one for one in tries if one.taken]
    rows = [_written(archive, one) for one in good]
    missed += [_missed(archive, one) for one in tries if not one.taken]
    parts = ([one.latent for one in good], [one.verdict.features for one in good])
    latents, features = (torch.stack(part) if part else torch.zeros(0, 0) for part in parts)
    return Chunk(rows, missed, latents, features)


def _hopeless(done: Sequence[Chunk]) -> set[str]:
    """Requests that failed `HOPELESS` times and never did not."""
    failed = Counter(one["asked"] for chunk in done for one in chunk.missed)
    made = {row["asked"] for chunk in done for row in chunk.rows}
    return {labels for labels, times in failed.items() if times >= HOPELESS and labels not in made}


def _written(archive: Archive, one: Try) -> dict[str, Any]:
    """Write the image of a try, and answer its row."""
    index, seed, seen = one.slot.index, archive.seed, one.verdict
    asked = one.slot.target.describe(archive.card)
    patient = f"synthetic-{seed}-{index:06d}"
    path = archive.storage.write(one.image, archive.out / "images" / f"{index:06d}", patient, f"Asked for: {asked}")
    return {
        "path": f"images/{path.name}",
        "split": split_of(seed, index),
        "patient_id": patient,
        **_labels(archive, one),
        "asked": asked,
        **_probabilities("p", archive.card, seen.answers),
        **_probabilities("judge_p", archive.card, seen.judged),
        "critic": round(seen.critic, 4),
        "nearest_real": "" if np.isnan(seen.nearest) else round(seen.nearest, 4),
        "tries": one.number,
        "refusals": " ".join(one.refusals),
        "steps": one.steps,
        "seed": seed,
        "index": index,
    }


def _labels(archive: Archive, one: Try) -> dict[str, Any]:
    """What was asked for; of the classes that were left open what classifier and judge agree on, else nothing."""
    classes, wanted = archive.card.classes, dict(one.slot.target.wanted)
    seen, judged = one.verdict.answers, one.verdict.judged
    if archive.exclusive:
        present = [index for index, p in wanted.items() if p]
        agreed = [int(seen.argmax())] if seen.argmax() == judged.argmax() else []
        return {"label": next((classes[index] for index in present or agreed), "")}
    open_ones = {
        index: float(seen[index] > 0) for index in range(len(classes)) if (seen[index] > 0) == (judged[index] > 0)
    }
    labels = open_ones | wanted
    return {name: int(labels[index]) if index in labels else "" for index, name in enumerate(classes)}


def _probabilities(prefix: str, card: Card, log_odds: Tensor) -> dict[str, str]:
    values = torch.sigmoid(log_odds.double()).tolist()
    return {f"{prefix}_{name}": f"{p:.4f}" for name, p in zip(card.classes, values, strict=True)}


def _missed(archive: Archive, one: Try) -> dict[str, Any]:
    """What a slot that stayed empty is told of: the nearest answer, and why each try was refused."""
    p = torch.sigmoid(one.verdict.answers.double()).tolist()
    judged = torch.sigmoid(one.verdict.judged.double()).tolist()
    seen = ", ".join(
        f"{archive.card.classes[index]} {p[index]:.2f} (judge {judged[index]:.2f})"
        for index, _ in one.slot.target.wanted
    )
    asked = one.slot.target.describe(archive.card)
    facts = {"index": one.slot.index, "asked": asked, "tries": one.number, "refusals": list(one.refusals)}
    return {**facts, "score": one.verdict.score, "nearest": seen}


def _finish(archive: Archive, done: Sequence[Chunk]) -> dict[str, Any]:
    """Write what is of the whole archive; the manifest comes last."""
    out = archive.out
    rows = [row for chunk in done for row in chunk.rows]
    told = summary(archive, done)
    if not rows:
        raise CounterscanError(f"not one scan was taken; {told['failed'][0]}")
    rows = [{**row, "latent": number} for number, row in enumerate(rows)]
    classes = archive.card.classes
    write_dataset_file(out / "dataset.toml", archive.storage.dataset_file(classes, archive.facts.get("command", "")))
    latents = io.BytesIO()
    np.save(latents, torch.cat([chunk.latents for chunk in done if len(chunk.latents)]).numpy())
    write_whole(out / "latents.npy", latents.getvalue())
    write_whole(out / "summary.json", (json.dumps(told, indent=1) + "\n").encode())
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(out / "labels.csv", text.getvalue().encode())
    shutil.rmtree(out / NOTES, ignore_errors=True)
    return told


def summary(archive: Archive, done: Sequence[Chunk]) -> dict[str, Any]:
    """What was asked for and what came of it, for each request and in all; `failed` has a line for each that lacks."""
    rows = [row for chunk in done for row in chunk.rows]
    missed = [one for chunk in done for one in chunk.missed]
    requests = [_told(request.labels, request.count, rows, missed) for request in archive.requests]
    failed = [one.pop("failed") for one in requests if "failed" in one]
    total = {"asked": sum(one["asked"] for one in requests), "written": len(rows)}
    return {**total, "requests": requests, "failed": failed}


def _told(labels: str, count: int, rows: Sequence[dict], missed: Sequence[dict]) -> dict[str, Any]:
    good, bad = ([one for one in some if one["asked"] == labels] for some in (rows, missed))
    tries = sum(one["tries"] for one in (*good, *bad))
    refusals = Counter(why for one in good for why in one["refusals"].split())
    refusals.update(why for one in bad for why in one["refusals"])
    told: dict[str, Any] = {"labels": labels, "asked": count, "written": len(good), "tries": tries}
    told["refused"] = dict(refusals)
    if bad:
        nearest = max((one for one in bad if one["tries"]), key=lambda one: one["score"])
        reasons = ", ".join(f"{times} by {why}" for why, times in refusals.most_common())
        told["failed"] = (
            f"{labels}: {len(bad)} of {count} not reached in {tries} tries (refused {reasons}); "
            f"the nearest was answered {nearest['nearest']}"
        )
    return told
