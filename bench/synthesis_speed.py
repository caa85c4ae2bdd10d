"""How many labelled scans a minute: latents moved as `synthesise` does, beside the plain way, in one run.

    python bench/synthesis_speed.py --generator chest/growing-gan --classifier chest/classifier --judge chest/judge \
        -n 16 --work runs/speed --json results/synthesis-speed.json

Asked for is every class alone, and random pairs. The plain way takes one random draw at a time, without a start that
is chosen, and follows Adam on the latent's numbers with a cross-entropy until the classifier is sure, or for so many
steps. The gate is the same for both. They take turns, request by request, so that a busy machine slows down both; the
plain way gets as long as ours took, and at least one try. A request that is in WORK is not measured again. `drawn`
says what the generator makes unasked: the share of random draws in which classifier and judge see each class, and in
how many of those that the classifier is sure of the judge sees it, too. No way of moving latents goes far beyond that.
"""

import argparse
import json
import random
import shlex
import sys
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.wrappers import Fitted
from counterscan.core import Card, Classifier, Target
from counterscan.data.files import write_whole
from counterscan.explainers.latents.aims import MARGIN
from counterscan.synthesis.asking import prepare
from counterscan.synthesis.making import Making, Slot

PAIRS, STEPS, RATE = 10, 200, 0.05  # the plain way's steps and Adam's rate
DRAWS, BATCH = 2048, 32


def requests(card: Card, seed: int) -> list[Target]:
    """Every class alone, and `PAIRS` random pairs of findings where a scan can show several."""
    single = [Target(((index, 1.0),)) for index in range(len(card.classes)) if card.classes[index] != card.normal]
    if card.output != "multilabel":
        return single
    pairs = list(combinations([target.wanted[0] for target in single], 2))
    return single + [Target(pair) for pair in random.Random(seed).sample(pairs, min(PAIRS, len(pairs)))]


def plain(making: Making, target: Target, source: torch.Generator) -> tuple[Tensor, int]:
    """The latent `(1, d)` where plain descent from one draw ends, and after how many steps."""
    latent = making.generator.draw(1, source).requires_grad_()
    adam = torch.optim.Adam([latent], RATE)
    for step in range(STEPS):
        answers = making.classifier(making.generator(latent)).float()
        if target.score(answers.detach()) >= MARGIN:
            return latent.detach(), step
        adam.zero_grad()
        target.loss(answers).sum().backward()
        adam.step()
    return latent.detach(), STEPS


def ours(making: Making, target: Target, n: int, seed: int) -> dict[str, Any]:
    """`n` scans of one request, made together."""
    start = time.perf_counter()
    tries = making([Slot(index, target) for index in range(n)], torch.zeros(0, 0), seed)
    counted = {"asked": n, "accepted": sum(one.taken for one in tries), "tries": sum(one.number for one in tries)}
    refusals = [why for one in tries for why in one.refusals]
    return {**counted, "refusals": refusals, "seconds": time.perf_counter() - start}


def theirs(making: Making, target: Target, seconds: float, seed: int) -> dict[str, Any]:
    """As many tries, one after the other, as `seconds` allow."""
    source, taken, start = torch.Generator().manual_seed(seed), torch.zeros(0, 0), time.perf_counter()
    tries, accepted, refusals = 0, 0, []
    while not tries or time.perf_counter() - start < seconds:
        latent, _ = plain(making, target, source)
        with torch.no_grad():
            image = making.stored(making.generator(latent))
        (verdict,) = making.gate(image, [target], taken)
        tries, accepted = tries + 1, accepted + (not verdict.refused)
        refusals += [verdict.refused] if verdict.refused else []
    return {"accepted": accepted, "tries": tries, "refusals": refusals, "seconds": time.perf_counter() - start}


def rate(rows: Sequence[dict[str, Any]]) -> float:
    """Accepted scans a minute."""
    return 60 * sum(row["accepted"] for row in rows) / sum(row["seconds"] for row in rows)


def measured(making: Making, card: Card, work: Path, n: int, seed: int) -> dict[str, dict[str, Any]]:
    """Both ways for each request; rows that are in `work` are read."""
    rows = {}
    for target in requests(card, seed):
        name = target.describe(card)
        path = work / f"{name}.json"
        if not path.exists():
            own = ours(making, target, n, seed)
            row = {"ours": own, "plain": theirs(making, target, own["seconds"], seed)}
            write_whole(path, json.dumps(row).encode())
        rows[name] = json.loads(path.read_text())
        print(name, *(f"{way} {rate([rows[name][way]]):.1f} a minute" for way in ("ours", "plain")), flush=True)
    return rows


@torch.no_grad()
def drawn(making: Making, judge: Classifier, card: Card, seed: int) -> dict[str, dict[str, float]]:
    """Of `DRAWS` draws: how often each class is seen, and how often the judge sees what the classifier is sure of."""
    source = torch.Generator().manual_seed(seed)
    images = (making.generator(making.generator.draw(BATCH, source)) for _ in range(DRAWS // BATCH))
    answers = [(making.classifier(part).float(), judge(part).float()) for part in images]
    own, judged = (torch.cat(part) for part in zip(*answers, strict=True))
    rows = {}
    for index, name in enumerate(card.classes):
        sure = own[:, index] >= MARGIN
        shares = {
            "classifier": own[:, index] > 0,
            "judge": judged[:, index] > 0,
            "judge_if_sure": judged[sure, index] > 0,
        }
        rows[name] = {key: round(float(seen.double().mean()), 4) for key, seen in shares.items()}
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("generator", "classifier", "judge"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--references", type=Path)
    parser.add_argument("-n", type=int, default=16, help="scans of each request")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    names = {name: getattr(words, name) for name in ("generator", "classifier", "judge", "references")}
    anything = f"{load_classifier(words.classifier).card.classes[-1]}=1"  # what is asked for is said below
    archive = prepare(**names, out=words.work, labels=[anything], n=1)
    rows = measured(archive.making, archive.card, words.work, words.n, words.seed)
    told = {way: rate([row[way] for row in rows.values()]) for way in ("ours", "plain")}
    shares = {name: row["ours"]["accepted"] / row["ours"]["asked"] for name, row in rows.items()}
    told |= {"least_accepted": min(shares.values()), "tries_at_most": archive.making.tries}
    print(
        f"accepted a minute: ours {told['ours']:.1f}, plain {told['plain']:.1f}; least share {told['least_accepted']}"
    )
    judge = Fitted(load_classifier(words.judge), archive.making.generator.card.shape)
    told["drawn"] = drawn(archive.making, judge, archive.card, words.seed)
    print(told["drawn"])
    if words.json:
        command = shlex.join(["python", *sys.argv])
        write_whole(words.json, (json.dumps({"command": command, **told, "rows": rows}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
