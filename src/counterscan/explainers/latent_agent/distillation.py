"""Distilling an agent from a black box's answers: ridge regression in closed form or a small network, and how faithful.

The student answers the teacher's log-odds, clipped, because those of a sure classifier have no end (soft targets;
Hinton et al., 2015, arXiv 1503.02531). The ridge's penalty is chosen by the exact leave-one-out error, which costs no
refit. The network sees codes blurred as they were in the codec's training: an answer that a step of that length turns
is not one that images turn on.
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from counterscan.errors import CounterscanError, check_one_of
from counterscan.explainers.latent_agent.agent import Agent
from counterscan.explainers.latent_agent.steps import Demand, Question, infilled
from counterscan.nets.blocks import freeze
from counterscan.nets.code_reader import CodeReader
from counterscan.nets.semantic_encoder import BLUR
from counterscan.progress import within

CLIP = 6.0  # log-odds: what a classifier is surer of is not told apart
LEAST = 40  # images: fewer leave no telling of an agent's faithfulness
HELD = 5  # every so many-th image (or patient) is held out
PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(-8, 9))  # of ridge, times the mean variance
WORTH = 0.95  # a network must lower the error to this share of the linear one's, which has a step in closed form
KINDS = ("auto", "linear", "network")
TURNS, FEWEST, MOST, BATCH = (
    30,
    400,
    4000,
    64,
)  # a network sees each image so often, in so many steps, so many at a time
RATE = 2e-3
AGAIN = 600  # steps of learning from edits
SURE, FINDINGS = 2.0, 16  # log-odds that a finding is surely there with, and so many of each class that are kept


@dataclass(frozen=True)
class Fit:
    """What an agent answers with, and its error on images left out: the mean square over images and classes."""

    weight: Tensor
    bias: Tensor
    error: float
    reader: CodeReader | None = None


@dataclass(frozen=True)
class Fidelity:
    """How an agent's log-odds agree with the black box's on `n` images; means over the classes.

    `agreement` is the share of answers on the same side of one half, `constant` what always giving the commoner answer
    would reach; `rank_correlation` is Spearman's; `slope` that of the black box's (clipped) log-odds on the agent's: 1
    where they are calibrated. `classes` holds the four of each class. None stands where the answers do not vary.
    """

    n: int
    agreement: float
    constant: float
    rank_correlation: float | None
    slope: float | None
    classes: dict[str, tuple[float, float, float | None, float | None]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def distil(
    latents: Tensor,
    answers: Tensor,
    classes: Sequence[str],
    kind: str = "auto",
    maps: tuple[int, int] | None = None,
    patients: Sequence[str] = (),
    unseen: Tensor | None = None,
    **facts: Any,
) -> Agent:
    """An agent from latents `(n, d)` and a black box's log-odds `(n, k)`: `linear`, `network`, or `auto`, the better.

    `maps` says how many maps of how many places a side a row of latents holds, by default d of one; `patients`, whose
    each of them is, by default another's each. Its `radii` are those of latents `unseen` `(m, d)`, by default of
    its own. Raises CounterscanError for too few images, or for a kind that does not exist.
    """
    check_request(len(latents), kind)
    fit = linear = ridge(latents, answers)
    if kind != "linear":
        network = taught(latents, answers, maps or (latents.shape[1], 1))
        fit = network if kind == "network" or network.error < WORTH * linear.error else linear
    agent = Agent(
        tuple(classes),
        fit.weight.float(),
        fit.bias.float(),
        centre=latents.mean(0),
        covariance=shrunk_covariance(latents, patients),
        radii=latents[:0, 0],
        reader=fit.reader,
        maps=maps,
        facts={"n": len(latents), "error": fit.error, **facts},
    )
    agent = replace(agent, radii=agent.radius(latents if unseen is None else unseen).sort().values)
    return agent if agent.surroundings is None else with_findings(agent, latents)


def with_findings(agent: Agent, latents: Tensor) -> Agent:
    """The agent with what stood out of some `latents` `(n, d)` that it finds each of its classes in."""
    assert agent.surroundings is not None, "only codes with places have surroundings"
    findings, shows = [latents[:0]], list[float]()
    for column in range(len(agent.classes)):
        sure = torch.nonzero(agent.log_odds(latents)[:, column] > SURE)[:, 0][:FINDINGS]
        question = Question(agent, torch.full((len(sure), 1), column), torch.zeros(len(sure), 1))
        gone = Demand(-torch.ones(len(sure), 1), torch.zeros(1), torch.tensor([False]))
        if len(sure):
            findings.append(-infilled(question, gone, latents[sure], agent.surroundings))
            shows += [float(column)] * len(sure)
    return replace(agent, findings=torch.cat(findings), shows=torch.tensor(shows))


def retaught(agent: Agent, latents: Tensor, answers: Tensor, edits: Tensor, said: Tensor) -> Agent:
    """The agent whose network goes on learning, a third from `edits` `(m, d)`, of which the black box `said` `(m, k)`.

    Where its explanations lead no image has been. An agent that is wrong there is told so by the black box itself.
    """
    assert agent.reader is not None, "a linear agent is fitted in closed form"
    reader = copy.deepcopy(agent.reader).requires_grad_()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        _descend(reader, (latents, edits), (answers.clamp(-CLIP, CLIP), said.clamp(-CLIP, CLIP)), AGAIN, RATE / 4)
    return replace(agent, reader=freeze(reader))


def check_request(n: int, kind: str = "auto") -> None:
    """Refuse fewer images than an agent can be fitted to, and a kind that does not exist, before anything is asked."""
    check_one_of("kind", kind, KINDS)
    if n < LEAST:
        raise CounterscanError(
            f"an agent needs {LEAST} images or more to be fitted to, got {n}; "
            "give more images of the same kind, their labels are not needed"
        )


def ridge(latents: Tensor, answers: Tensor) -> Fit:
    """Linear log-odds of least leave-one-out error, over `PENALTIES`, for each class apart."""
    x, y = latents.double(), answers.double().clamp(-CLIP, CLIP)
    centre, level = x.mean(0), y.mean(0)
    u, s, v = torch.linalg.svd(x - centre, full_matrices=False)
    turned = u.T @ (y - level)
    errors, weights = [], []
    for penalty in PENALTIES:
        kept = s.square() / (s.square() + penalty * s.square().sum() / x.shape[1])
        own = (u.square() @ kept + 1 / len(x)).clamp_max(1 - 1e-9)  # how far each image decides its own answer
        left = (y - level - u @ (kept[:, None] * turned)) / (1 - own)[:, None]
        errors.append(left.square().mean(0))
        weights.append((v.T @ ((kept / s.clamp_min(1e-12))[:, None] * turned)).T)
    error, best = torch.stack(errors).min(0)
    weight = torch.stack(weights)[best, torch.arange(y.shape[1])]
    return Fit(weight, level - weight @ centre, float(error.mean()))


def taught(latents: Tensor, answers: Tensor, maps: tuple[int, int]) -> Fit:
    """A network's log-odds, learned from nine in ten of the images; its error is that on the tenth."""
    wanted = answers.float().clamp(-CLIP, CLIP)
    level, spread = wanted.mean(0), wanted.std(0).clamp_min(1e-3)
    out = torch.arange(len(latents)) % 10 == 9
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reader = CodeReader(*maps, outputs=wanted.shape[1])
        steps = min(max(TURNS * len(latents) // BATCH, FEWEST), MOST)
        _descend(reader, (latents[~out],), (((wanted - level) / spread)[~out],), steps, RATE)
    with torch.no_grad():
        reader.head.weight.mul_(spread[:, None])
        reader.head.bias.mul_(spread).add_(level)
        error = float((freeze(reader)(latents[out]) - wanted[out]).square().mean())
    return Fit(torch.zeros(wanted.shape[1], latents.shape[1]), torch.zeros(wanted.shape[1]), error, reader)


@torch.enable_grad()
def _descend(reader: CodeReader, latents: Sequence[Tensor], wanted: Sequence[Tensor], steps: int, rate: float) -> None:
    """Teach `reader` the answers `wanted` `(n, k)` to `latents` `(n, d)`; of each next set half as many."""
    optimiser = torch.optim.AdamW(reader.parameters(), rate, weight_decay=0.05)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    for step in range(steps):
        batch = [torch.randint(len(one), (min(BATCH >> i, len(one)),)) for i, one in enumerate(latents)]
        seen = torch.cat([one[chosen] for one, chosen in zip(latents, batch, strict=True)])
        right = torch.cat([one[chosen] for one, chosen in zip(wanted, batch, strict=True)])
        loss = F.smooth_l1_loss(reader(seen + BLUR * torch.randn_like(seen)), right)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        falling.step()
        if (step + 1) % 100 == 0:
            within(step + 1, steps, "steps of the agent's network")


def shrunk_covariance(latents: Tensor, patients: Sequence[str] = ()) -> Tensor:
    """The covariance `(d, d)` of latents `(n, d)`, shrunk towards a sphere as far as the number of `patients` asks for.

    Ledoit and Wolf, 2004, A well-conditioned estimator for large-dimensional covariance matrices, with patients
    for what is drawn, and not images: slices of one patient are alike, and those of the next one are not like them.
    """
    x = (latents - latents.mean(0)).double()
    n, d = x.shape
    sample = x.T @ x / n
    sphere = sample.trace() / d * torch.eye(d, dtype=x.dtype)
    spread = (sample - sphere).square().sum()
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(patients or map(str, range(n))):
        rows.setdefault(name, []).append(row)
    own = torch.stack([(x[one] @ x[one].T).square().sum() for one in rows.values()]) * (len(rows) / n) ** 2
    noise = (own.mean() - sample.square().sum()) / len(rows)
    share = float((noise / spread.clamp_min(1e-300)).clamp(0, 1))
    return (share * sphere + (1 - share) * sample + 1e-6 * torch.eye(d, dtype=x.dtype)).float()


def fidelity(agent: Tensor, black_box: Tensor, classes: Sequence[str]) -> Fidelity:
    """How log-odds `(n, k)` of an agent agree with those of its black box."""
    pairs = zip(agent.double().T, black_box.double().clamp(-CLIP, CLIP).T, strict=True)
    each = {name: _agreement(*pair) for name, pair in zip(classes, pairs, strict=True)}
    columns = list(zip(*each.values(), strict=True))
    agreement, constant, rank, slope = (_mean(column) for column in columns)
    assert agreement is not None, "shares are always defined"
    assert constant is not None, "shares are always defined"
    return Fidelity(len(agent), agreement, constant, rank, slope, each)


def _agreement(agent: Tensor, black_box: Tensor) -> tuple[float, float, float | None, float | None]:
    same = float(((agent > 0) == (black_box > 0)).double().mean())
    share = float((black_box > 0).double().mean())
    ranks = torch.stack([torch.from_numpy(rankdata(one.numpy())) for one in (agent, black_box)])
    varied = agent.std() > 1e-9 and black_box.std() > 1e-9
    rank = float(torch.corrcoef(ranks)[0, 1]) if varied else None
    slope = float(torch.cov(torch.stack([agent, black_box]))[0, 1] / agent.var()) if varied else None
    return same, max(share, 1 - share), rank, slope


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def held_out(n: int, patients: Sequence[str] = ()) -> Tensor:
    """Which of `n` images `(n,)` are held out, one in `HELD`; no patient is on both sides."""
    names = list(patients) or [str(index) for index in range(n)]
    known = sorted(set(names))
    if len(names) != n:
        raise CounterscanError(f"got {len(names)} patients for {n} images; name one for each")
    if len(known) < HELD:
        raise CounterscanError(
            f"an agent needs images of {HELD} patients or more, got {len(known)}; give more patients"
        )
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = {known[index] for index in order[: max(1, len(known) // HELD)]}
    return torch.tensor([name in chosen for name in names])
