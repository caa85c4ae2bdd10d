"""A chunk of an archive: its scans made and written, in whatever process, and the note of what became of it."""

import io
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from counterscan.core import Card
from counterscan.data.archive import split_of
from counterscan.data.files import write_whole
from counterscan.data.sums import changed, sums_of
from counterscan.engine.work import Work, elsewhere
from counterscan.errors import ScanError
from counterscan.kept import as_kept
from counterscan.memory import trim
from counterscan.synthesis.making import Slot, Try

if TYPE_CHECKING:
    from counterscan.synthesis.writing import Archive


@dataclass(frozen=True)
class Order:
    """Chunk `number` of an archive, to be made: its scans from number `start`, and the request each is `asked` for.

    Requests that are `given_up` are not tried; scans that repeat one of `known` features `(m, d)`, those of the first
    `upto` chunks, are not taken.
    """

    number: int
    start: int
    asked: tuple[int, ...]
    given_up: frozenset[str]
    known: Tensor
    upto: int


@dataclass(frozen=True)
class Chunk:
    """What became of a chunk: `rows` of the manifest, `missed` slots, and `latents` and `features` `(n, d)` of rows.

    It was made knowing the scans of the first `upto` chunks, and that some of its requests were `given_up`. `sums` are
    those of its images, by their paths in the archive.
    """

    rows: list[dict[str, Any]]
    missed: list[dict[str, Any]]
    latents: Tensor
    features: Tensor
    upto: int = 0
    given_up: tuple[str, ...] = ()
    sums: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write whole or not at all."""
        told = [self.rows, self.missed, self.upto, self.given_up, self.sums]
        words = np.frombuffer(json.dumps(told).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, words=words, latents=self.latents.numpy(), features=self.features.numpy())
        write_whole(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path, out: Path) -> "Chunk | None":
        """Read what `save` wrote; None, with a warning, where that or an image in `out` is not as it was written."""
        try:
            with as_kept(path), np.load(path) as parts:
                rows, missed, upto, given_up, sums = json.loads(parts["words"].tobytes())
                latents, features = (torch.from_numpy(parts[name]) for name in ("latents", "features"))
            wrong = changed(out, sums)
        except ScanError:
            wrong = path.name
        if wrong:
            warnings.warn(f"{wrong} is not as it was written; its scans are made again", stacklevel=2)
            return None
        return cls(rows, missed, latents, features, upto, tuple(given_up), sums)


@dataclass(frozen=True)
class Chunks:
    """Makes chunks of an archive: the same chunk for the same order, whatever was made before and wherever."""

    archive: "Archive"

    def __call__(self, order: Order) -> Chunk:
        trim()  # what the chunk before left: samples that stop early leave batches of ever other sizes
        archive, slots, missed, skipped = self.archive, [], [], set()
        for index, place in enumerate(order.asked, order.start):
            request = archive.requests[place]
            if request.labels in order.given_up:
                missed.append({"index": index, "asked": request.labels, "tries": 0, "refusals": [], "score": None})
                skipped.add(request.labels)
            else:
                slots.append(Slot(index, request.target))
        tries = archive.making(slots, order.known, archive.seed) if slots else []
        good = [one for one in tries if one.taken]
        rows = [_written(archive, one) for one in good]
        missed += [_missed(archive, one) for one in tries if not one.taken]
        parts = ([one.latent for one in good], [one.verdict.features for one in good])
        latents, features = (torch.stack(part) if part else torch.zeros(0, 0) for part in parts)
        sums = sums_of(archive.out, [archive.out / row["path"] for row in rows])
        return Chunk(rows, missed, latents, features, order.upto, tuple(sorted(skipped)), sums)


def work_of(archive: "Archive") -> Work[Order, Chunk]:
    """Making chunks, for any engine."""
    away = elsewhere(Chunks, archive.again, archive)
    return Work(Chunks(archive), away, lambda order: f"scans {order.start} to {order.start + len(order.asked) - 1}")


def _written(archive: "Archive", one: Try) -> dict[str, Any]:
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


def _labels(archive: "Archive", one: Try) -> dict[str, Any]:
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


def _missed(archive: "Archive", one: Try) -> dict[str, Any]:
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
