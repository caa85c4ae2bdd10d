"""A small language model of radiology: a word encoder learns what sentences say before any image is shown to it.

What a report says of each finding, and with which size, side and zone, must be readable from the mean of its tokens.
A denoiser that is told tokens at random takes thousands of steps to find out that "left" and "effusion" belong
together; told these, it can learn from its first step where effusions are.
"""

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.nets.word_encoder import WordEncoder
from counterscan.priors.text import Words
from counterscan.prompts import Mention, paraphrase, read
from counterscan.prompts.nouns import findings

STEPS, BATCH, RATE = 1500, 64, 2e-3
SAID = ("", "small", "moderate", "large"), ("", "left", "right", "both"), ("", "upper", "middle", "lower")
STATES = 3  # not mentioned, absent, present


def teach_words(encoder: WordEncoder, vocabulary: Sequence[str], classes: Sequence[str], seed: int) -> float:
    """Teach `encoder` the grammar of `classes`; the share of what sentences say that it then reads rightly.

    No random state changes.
    """
    known, rng = findings(tuple(classes)), random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = nn.Linear(encoder.place.shape[1], len(known) * (STATES + sum(map(len, SAID))))
        learning = nn.ModuleList([encoder, reader]).train()
        optimiser = torch.optim.AdamW(learning.parameters(), RATE)
        for step in range(STEPS):
            for group in optimiser.param_groups:
                group["lr"] = RATE * min(1.0, 2 * (1 - step / STEPS))
            loss, right = _read(encoder, reader, vocabulary, known, rng)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    return right


def _read(
    encoder: WordEncoder, reader: nn.Module, vocabulary: Sequence[str], known: Sequence[str], rng: random.Random
) -> tuple[Tensor, float]:
    said = [drawn(known, rng) for _ in range(BATCH)]
    tokens, mask = Words(encoder, vocabulary)([text for text, _ in said])
    mean = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    answers = reader(mean).view(BATCH, len(known), -1).split([STATES, *map(len, SAID)], 2)
    wanted = torch.tensor([truth for _, truth in said]).unbind(2)
    losses = [F.cross_entropy(a.flatten(0, 1), w.flatten()) for a, w in zip(answers, wanted, strict=True)]
    right = [(a.argmax(2) == w).float().mean() for a, w in zip(answers, wanted, strict=True)]
    return torch.stack(losses).sum(), float(torch.stack(right).mean())


def drawn(known: Sequence[str], rng: random.Random) -> tuple[str, list[list[int]]]:
    """A sentence about findings drawn at random, and what it says of each: state, size, side and zone, as numbers."""
    mentions = [_mention(name, rng) for name in known if rng.random() < 0.8]
    text = paraphrase(mentions, rng, known)
    told = {mention.finding: mention for mention in read(text, known).mentions}
    return text, [_numbers(told.get(name)) for name in known]


def _mention(name: str, rng: random.Random) -> Mention:
    if rng.random() < 0.6:
        return Mention(name, False)
    return Mention(name, True, *(rng.choice(words) for words in SAID))


def _numbers(mention: Mention | None) -> list[int]:
    if mention is None:
        return [0, 0, 0, 0]
    values = (mention.severity, mention.side, mention.zone)
    return [1 + mention.present, *(words.index(value) for words, value in zip(SAID, values, strict=True))]
