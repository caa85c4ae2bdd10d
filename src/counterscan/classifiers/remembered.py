"""A black box that is asked each image once: its answers are kept on disk, by what the image is."""

import hashlib
import os
import re
import sqlite3
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from counterscan.classifiers.portions import in_portions
from counterscan.core import Card, Classifier
from counterscan.data.batches import default_cache
from counterscan.errors import ClassifierError

ALIKE = 1e-2  # log-odds: what half precision and another batch change; what differs more is another answer
UNSAID = {"metrics", "mask_rule", "command", "licence", "source"}  # of a card: nothing that is answered
DIALS = {"timeout", "batch", "parallel", "patience", "remember", "repeat"}  # of its settings: how it is asked
AT_ONCE = 500  # keys a query; sqlite takes 999 in old versions
WAIT = 60.0  # seconds for another process that writes


class Remembered:
    """Answers what it was asked before from a file under `folder`, and keeps each further answer as it comes.

    The classifier is asked the rest, `batch` images at a time and `parallel` such questions at once, each image once;
    when it fails half-way, or the program is killed, what it had answered is there the next time. An image is known by
    its float32 values and shape, the file by the card and by `identity`: what tells this classifier from others with
    the same card, such as its address or the hash of its weights. A share `repeat` of the images (by their hash, hence
    the same ones in each run) is asked once more, known or not; a different answer is told in a warning.

    `asked` counts the images that the classifier was shown, `recalled` the answers that came from the file, `repeated`
    and `changed` the images asked once more and those answered otherwise. Raises ClassifierError.
    """

    differentiable = False

    def __init__(
        self,
        classifier: Classifier,
        folder: str | Path | None = None,
        *,
        identity: str = "",
        batch: int = 32,
        parallel: int = 1,
        repeat: float = 0.0,
    ):
        if not 0 <= repeat <= 1:
            raise ClassifierError(f"{classifier.card.name}: repeat is a share from 0 to 1, got {repeat:g}")
        self.classifier, self.card = classifier, classifier.card
        self.batch, self.parallel, self.repeat = batch, parallel, repeat
        self.asked = self.recalled = self.repeated = self.changed = 0
        self.file = (Path(folder) if folder else answers_folder()) / file_name(classifier.card, identity)
        self._answers = _Answers(self.file, len(classifier.card.classes))
        self._doubted: set[bytes] = set()
        self._warned = False

    def __call__(self, images: Tensor) -> Tensor:
        """Log-odds `(b, k)` of images `(b, c, *spatial)`."""
        keys = [_key(image) for image in images]
        places = {key: place for place, key in reversed(list(enumerate(keys)))}  # the first place of each image
        known = self._answers.read(places)
        fresh = [key for key in places if key not in known]
        self.recalled += len(keys) - len(fresh)
        known |= self._learn(images, fresh, places)
        self._doubt(images, known, places)
        return torch.stack([known[key] for key in keys]).to(images.device) if keys else images.new_zeros(0, self._k)

    def told(self) -> str:
        """One line: how many images it was shown, and how many answers were there already."""
        again = f" ({self.repeated} of them once more, {self.changed} answered otherwise)" if self.repeated else ""
        return f"{self.card.name} was asked {self.asked} images{again}; {self.recalled} answers were there already"

    @property
    def _k(self) -> int:
        return len(self.card.classes)

    def _learn(self, images: Tensor, keys: list[bytes], places: dict[bytes, int]) -> dict[bytes, Tensor]:
        found = dict[bytes, Tensor]()
        for part, answers in self._asking(images, [places[key] for key in keys]):
            rows = dict(zip(keys[part], answers, strict=True))
            self._answers.write(rows)
            found |= rows
        return found

    def _doubt(self, images: Tensor, known: dict[bytes, Tensor], places: dict[bytes, int]) -> None:
        """Ask the share `repeat` once more, each image once in the life of this object."""
        keys = [key for key in places if _share(key) < self.repeat and key not in self._doubted]
        self._doubted.update(keys)
        worst = 0.0
        for part, answers in self._asking(images, [places[key] for key in keys]):
            apart = (answers - torch.stack([known[key] for key in keys[part]])).abs().amax(1)
            self.repeated += len(apart)
            self.changed += int((apart > ALIKE).sum())
            worst = max(worst, float(apart.max()))
        if worst > ALIKE and not self._warned:
            self._warned = True  # once: the numbers grow, the fault is the same
            warnings.warn(self._changed_its_mind(worst), stacklevel=3)

    def _changed_its_mind(self, worst: float) -> str:
        return (
            f"{self.card.name} answered {self.changed} of {self.repeated} images otherwise when asked again (by up to "
            f"{worst:.2g} log-odds): what explains one answer does not explain the next; turn off what is random in "
            f"it, or, if another model answers there now, delete {self.file}"
        )

    def _asking(self, images: Tensor, places: list[int]) -> Iterator[tuple[slice, Tensor]]:
        def ask(part: slice) -> Tensor:
            return self._answer(images[places[part]])

        for part, answers in in_portions(ask, len(places), self.batch, self.parallel):
            self.asked += len(answers)
            yield part, answers

    @torch.no_grad()
    def _answer(self, images: Tensor) -> Tensor:
        answers = self.classifier(images).detach().float().cpu()
        if answers.shape != (len(images), self._k) or not answers.isfinite().all():
            raise ClassifierError(
                f"{self.card.name} answered {tuple(answers.shape)} for {len(images)} images, or NaN, which is not "
                f"kept; it must answer ({len(images)}, {self._k}) log-odds"
            )
        return answers


def answers_folder() -> Path:
    """Where answers are kept without a word: `$COUNTERSCAN_CACHE/answers`, or beside the cache of images."""
    return Path(os.environ.get("COUNTERSCAN_CACHE") or default_cache().parent) / "answers"


def file_name(card: Card, identity: str = "") -> str:
    """The name of the file for a classifier: another one for whatever may change its answers."""
    settings = {key: value for key, value in card.settings.items() if key not in DIALS}
    told = card.model_copy(update={"settings": settings}).model_dump_json(exclude=UNSAID) + "\0" + identity
    name = re.sub(r"[^\w.-]+", "-", card.name)[:60].strip("-.")
    return f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.sqlite"


def _key(image: Tensor) -> bytes:
    pixels = np.ascontiguousarray(image.detach().float().cpu().numpy())
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.data)
    return digest.digest()


def _share(key: bytes) -> float:
    """A number from 0 to 1 that depends on the image alone."""
    return int.from_bytes(key[:4], "big") / 2**32


class _Answers:
    """A file of `k` float32 log-odds a key. Each write is a transaction: there as a whole, or not at all."""

    def __init__(self, file: Path, k: int):
        self.file = file
        self.k = k

    def read(self, keys: Iterable[bytes]) -> dict[bytes, Tensor]:
        """The answers that are there; one of another length is not."""
        wanted, rows = list(keys), []
        with self._open() as base:
            for start in range(0, len(wanted), AT_ONCE):
                some = wanted[start : start + AT_ONCE]
                marks = ",".join("?" * len(some))
                rows += base.execute(f"SELECT key, log_odds FROM answers WHERE key IN ({marks})", some).fetchall()
        return {key: self._tensor(data) for key, data in rows if len(data) == 4 * self.k}

    def write(self, rows: dict[bytes, Tensor]) -> None:
        """Keep these answers `(k,)`, together."""
        with self._open() as base, base:
            data = [(key, answer.numpy().astype("<f4").tobytes()) for key, answer in rows.items()]
            base.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", data)

    def _tensor(self, data: bytes) -> Tensor:
        return torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for each use, which threads and forked processes need not share."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.file, timeout=WAIT)) as base:
                base.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, log_odds BLOB) WITHOUT ROWID")
                yield base
        except (OSError, sqlite3.Error) as error:
            raise ClassifierError(
                f"answers cannot be kept in {self.file} ({error}); delete that file, or set COUNTERSCAN_CACHE to a "
                "folder that can be written"
            ) from None
