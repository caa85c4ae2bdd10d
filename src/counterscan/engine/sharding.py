"""A job in parts on several machines that share a folder: which part is whose, and who is the last to finish."""

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterscan.data.files import write_whole
from counterscan.errors import CounterscanError

NOTES = ".shards"


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 1) of `count`; every `count`-th task of a job is in it, so that parts take equally long."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `2/4`; nothing is the whole job."""
        if not text:
            return WHOLE
        found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
        shard = cls(*map(int, found.groups())) if found else cls(0)
        if not 1 <= shard.index <= shard.count:
            raise CounterscanError(f"cannot read the shard {text!r}; write i/n, from --shard 1/4 to --shard 4/4")
        return shard

    def __contains__(self, number: int) -> bool:
        """Is task `number` (from 0) in this part?"""
        return number % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def all(self) -> tuple["Shard", ...]:
        """This part and the others."""
        return tuple(Shard(index, self.count) for index in range(1, self.count + 1))

    @property
    def whole(self) -> bool:
        """Is it all of the job?"""
        return self.count == 1


WHOLE = Shard()


@dataclass(frozen=True)
class Notes:
    """What the parts of the job in `out` leave for one another: a note each, once a part is done."""

    out: Path

    def write(self, shard: Shard, facts: dict[str, Any]) -> None:
        """Note that a part is done, and what the others must know of it."""
        write_whole(self._path(shard), (json.dumps(facts) + "\n").encode())

    def missing(self, shard: Shard, **facts: Any) -> tuple[Shard, ...]:
        """Which of all parts are not done, or noted other `facts`: they did another job, such as fewer images."""
        return tuple(one for one in shard.all if not self._says(one, facts))

    def read(self, shard: Shard) -> list[dict[str, Any]]:
        """What all parts noted."""
        return [json.loads(self._path(one).read_text()) for one in shard.all]

    @contextlib.contextmanager
    def alone(self, shard: Shard) -> Iterator[bool]:
        """Within, whether this is the one part that may write what is of the whole job; a run of the whole may."""
        if shard.whole:
            yield True
            return
        lock = self.out / NOTES / "tables.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            yield False
            return
        try:
            yield True
        finally:
            lock.unlink(missing_ok=True)

    def _says(self, shard: Shard, facts: dict[str, Any]) -> bool:
        path = self._path(shard)
        return path.is_file() and facts.items() <= json.loads(path.read_text()).items()

    def _path(self, shard: Shard) -> Path:
        return self.out / NOTES / f"{shard.index}-of-{shard.count}.json"


def what_is_left(missing: Sequence[object], what: str) -> str:
    """Who will write `what` is of the whole job, for whoever waits for it: a part that is `missing`, or another one.

    A part that is killed while it writes leaves its lock, which only a run of the whole does not mind.
    """
    if missing:
        return f"missing: {', '.join(map(str, missing))}; who finishes last writes {what}"
    return f"another part is writing {what}; if none is running, run this once more without --shard"


def write_alone(path: Path, content: bytes) -> None:
    """Write `content` whole, also where several processes do so at once: each into a file of its own."""
    own = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    write_whole(own, content)
    os.replace(own, path)


def sweep_beside(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` left beside it."""
    for part in path.parent.glob(f"{path.name}.*"):
        part.unlink(missing_ok=True)
