"""Distilling an agent from a black box's answers, all in closed form: ridge regression, kernel ridge, and how faithful.

The student answers the teacher's log-odds, clipped, because those of a sure classifier have no end (soft targets;
Hinton et al., 2015, arXiv 1503.02531). Penalties are chosen by the exact leave-one-out error, which costs no refit.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from scipy.stats import rankdata
from torch import Tensor

from counterscan.errors import CounterscanError, check_one_of
from counterscan.explainers.latent_agent.agent import Agent

CLIP = 6.0  # log-odds: what a classifier is surer of is not told apart
LEAST = 40  # images: fewer leave no telling of an agent's faithfulness
HELD = 5  # every so many-th image (or patient) is held out
PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(-8, 9))  # of ridge, times the mean variance
WIDTHS = (0.7, 1.0, 1.5)  # of bumps, times the root of the latents' dimensions
ANCHORS = 2000  # at most: an eigenvalue problem of this size is solved per width
WORTH = 0.95  # bumps must lower the error to this share of the linear one's, which has a step in closed form
KINDS = ("auto", "linear", "bumps")


@dataclass(frozen=True)
class Fit:
    """Tensors of an agent, and its leave-one-out error: the mean square over images and classes."""

    weight: Tensor
    bias: Tensor
    anchors: Tensor
    pull: Tensor
    width: float
    error: float


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


def distil(latents: Tensor, answers: Tensor, classes: Sequence[str], kind: str = "auto", **facts: Any) -> Agent:
    """An agent from latents `(n, d)` and a black box's log-odds `(n, k)`: `linear`, `bumps`, or `auto`, the better.

    Raises CounterscanError for too few images, or for a kind that does not exist.
    """
    check_request(len(latents), kind)
    fit = linear = ridge(latents, answers)
    if kind != "linear":
        bumps = kernel_ridge(latents, answers)
        fit = bumps if kind == "bumps" or bumps.error < WORTH * linear.error else linear
    agent = Agent(
        tuple(classes),
        fit.weight.float(),
        fit.bias.float(),
        fit.anchors.float(),
        fit.pull.float(),
        centre=latents.mean(0),
        covariance=shrunk_covariance(latents),
        radii=latents[:0, 0],
        width=fit.width,
        facts={"n": len(latents), "error": fit.error, **facts},
    )
    return replace(agent, radii=agent.radius(latents).sort().values)


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
    none = x[:0], y[:0]
    return Fit(weight, level - weight @ centre, *none, 1.0, float(error.mean()))


def kernel_ridge(latents: Tensor, answers: Tensor) -> Fit:
    """Log-odds from the kernel u.v / d + exp(-|u - v|^2 / 2 width^2): a line, and bumps at up to `ANCHORS` images."""
    x, y = latents[:ANCHORS].double(), answers[:ANCHORS].double().clamp(-CLIP, CLIP)
    fits = [_kernel_fit(x, y, width * math.sqrt(x.shape[1])) for width in WIDTHS]
    return min(fits, key=lambda fit: fit.error)


def _kernel_fit(x: Tensor, y: Tensor, width: float) -> Fit:
    centre, level = x.mean(0), y.mean(0)
    flat = x - centre
    kernel = flat @ flat.T / x.shape[1] + torch.exp(-torch.cdist(x, x).square() / (2 * width**2))
    values, vectors = torch.linalg.eigh(kernel)
    turned = vectors.T @ (y - level)
    errors, duals = [], []
    for penalty in PENALTIES:
        inverse = 1 / (values.clamp_min(0) + penalty)
        dual = vectors @ (inverse[:, None] * turned)
        errors.append((dual / (vectors.square() @ inverse)[:, None]).square().mean(0))
        duals.append(dual)
    error, best = torch.stack(errors).min(0)
    pull = torch.stack(duals)[best, :, torch.arange(y.shape[1])].T
    weight = pull.T @ flat / x.shape[1]
    return Fit(weight, level - weight @ centre, x, pull, width, float(error.mean()))


def shrunk_covariance(latents: Tensor) -> Tensor:
    """The covariance `(d, d)` of latents `(n, d)`, shrunk towards a sphere as far as their number asks for.

    Ledoit and Wolf, 2004, A well-conditioned estimator for large-dimensional covariance matrices.
    """
    x = (latents - latents.mean(0)).double()
    n, d = x.shape
    sample = x.T @ x / n
    sphere = sample.trace() / d * torch.eye(d, dtype=x.dtype)
    spread = (sample - sphere).square().sum()
    noise = (x.square().sum(1).square().mean() - sample.square().sum()) / n
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
