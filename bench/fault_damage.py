"""Files of a run that was interrupted, or is done, are damaged: is that named, or mended, or taken for whole?"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fault_commands import OUT
from fault_runs import Moment, contents, differences, ended

HALF = (0.5, 0.7, 0.85, 0.95)  # of a command's operations on files, where it is interrupted


def flipped(content: bytes) -> bytes:
    """One bit in the middle is another."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


def cut(content: bytes) -> bytes:
    """The second half is missing."""
    return content[: len(content) // 2]


def emptied(content: bytes) -> bytes:
    """Nothing is left."""
    return b""


def another_choice(content: bytes) -> bytes:
    """The answer that a database holds last is another word."""
    head, found, tail = content.rpartition(b'"choice":"')
    return head + found + bytes([tail[0] ^ 1]) + tail[1:]


@dataclass(frozen=True)
class Damage:
    """`how` the first file that matches `file` (in its working folder) is damaged, `half` way or at the end."""

    command: str
    file: str
    how: Callable[[bytes], bytes]
    half: bool = True


DAMAGES = (
    Damage("explain", "out/cases/[0-9]*/explanation.safetensors", flipped),
    Damage("explain", "out/cases/[0-9]*/explanation.safetensors", cut),
    Damage("explain", "out/cases/[0-9]*/explanation.json", cut),
    Damage("explain", "out/cases/[0-9]*/explanation.json", flipped),
    Damage("explain", "out/cases/[0-9]*/counterfactual.png", flipped),
    Damage("explain", "out/cases/[0-9]*/mask.png", emptied),
    Damage("explain", "out/run.json", cut),
    Damage("segment", "out/masks/**/*.png", flipped),
    Damage("segment", "out/cases/[0-9]*.json", cut),
    Damage("segment", "out/cases/[0-9]*.json", flipped),
    Damage("segment", "out/run.json", emptied),
    Damage("synthesise", "out/.chunks/00000000.npz", cut),
    Damage("synthesise", "out/.chunks/00000000.npz", flipped),
    Damage("synthesise", "out/images/*.png", flipped),
    Damage("synthesise", "out/images/*.png", emptied),
    Damage("synthesise", "out/synthesis.json", cut),
    Damage("synthesise", "out/labels.csv", cut, half=False),
    Damage("synthesise", "out/latents.npy", cut, half=False),
    Damage("synthesise", "out/latents.npy", flipped, half=False),
    Damage("synthesise", "out/summary.json", cut, half=False),
    Damage("train", "out/checkpoint.pt", cut),
    Damage("train", "out/checkpoint.pt", flipped),
    Damage("train", "out/checkpoint.pt", emptied),
    Damage("train", "out/log.jsonl", cut),
    Damage("train", "out/weights.safetensors", flipped, half=False),
    Damage("train", "out/card.json", cut, half=False),
    Damage("phantoms", "out/.rows/00000000.json", cut),
    Damage("phantoms", "out/series.json", cut),
    Damage("phantoms", "out/labels.csv", cut, half=False),
    Damage("study", "study/study.json", flipped, half=False),
    Damage("study", "study/study.json", cut, half=False),
    Damage("study", "study/answers.db", cut, half=False),
    Damage("study", "study/answers.db", another_choice, half=False),
)


def damaged(damage: Damage, whole, place: Path) -> list[str]:
    """What is wrong with how the command goes on after `damage`."""
    folder = place / f"{damage.command}-{DAMAGES.index(damage)}"
    path = _state(damage, whole, folder)
    path.write_bytes(damage.how(path.read_bytes()))
    found = ended(lambda: whole.command.run(again=True), folder, folder.with_suffix(".log"))
    name = f"{damage.file} {damage.how.__name__}"
    if found.code == 0:
        wrong = differences(whole.left, contents(folder / OUT))
        return [f"{name} is taken for whole: {wrong[0]}"] if wrong else []
    named = [line for line in found.lines if path.name in line]
    if found.code not in (1, 3) or "Traceback" in found.said or not named:
        return [f"{name} ends in exit code {found.code} and: {found.lines[-1] if found.lines else 'nothing'}"]
    return []


def _state(damage: Damage, whole, folder: Path) -> Path:
    """The file to damage, in a folder where the command was interrupted once the file was there, or is done."""
    if not damage.half:
        shutil.copytree(whole.place, folder)
        return sorted(folder.glob(damage.file))[0]
    for share in HALF:
        ready = folder.parent / f"{damage.command}-at-{share}"
        if not ready.exists():
            ended(whole.command.run, ready, ready.with_suffix(".log"), Moment(number=int(share * whole.operations)))
        if files := sorted(ready.glob(damage.file)):
            shutil.copytree(ready, folder)
            return folder / files[0].relative_to(ready)
    raise SystemExit(f"{damage.command} is never half done with {damage.file}")
