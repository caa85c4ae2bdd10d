"""The one training loop: schedule, moving averages, log, previews, selection on validation, and resuming at any moment.

A step draws all its randomness from `(seed, step)`, and a checkpoint holds everything else, so that a run that was
killed and resumed ends where an undisturbed one ends. Processes that torchrun starts train together (`together.py`):
each draws from `(seed, step, rank)`.
"""

import json
import math
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from counterscan.data.files import telling_why, write_whole, written_whole
from counterscan.errors import CounterscanError
from counterscan.train.together import (
    APART,
    averaged,
    leave_to_the_first,
    rank,
    share_buffers,
    share_weights,
    shared,
    together,
)

VALIDATIONS = 10  # in a training, unless it is asked for otherwise
AVERAGE = 0.998  # decay of the moving averages, reached after as many steps as it looks back


class Task(Protocol):
    """What a recipe trains: networks, their optimisers, one step, and a validation score (higher is better)."""

    averaged: str

    @property
    def modules(self) -> Mapping[str, nn.Module]: ...

    @property
    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]: ...

    def step(self, step: int) -> Mapping[str, float]: ...

    def validate(self, network: nn.Module) -> Mapping[str, float]: ...

    def preview(self, network: nn.Module, path: Path) -> None: ...


def fit(
    task: Task,
    folder: Path,
    *,
    steps: int,
    every: int | None = None,
    average: float = AVERAGE,
    pace: Callable[[int, int], float] | None = None,
    seed: int = 0,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> nn.Module:
    """Train `task` for `steps`, validating and saving `every` so many (a tenth); return the average that scored best.

    `folder` gets `checkpoint.pt`, `log.jsonl` and `previews/`. Without `resume` a folder with a checkpoint is refused.
    `average` is the decay of the moving averages; `pace` answers the factor of the learning rate at a step of so many
    (`schedule`). Under torchrun this returns in the first process, which alone writes; the others leave (SystemExit).
    """
    every = every or max(steps // VALIDATIONS, 1)
    run = _Run(task, steps, average, pace or schedule)
    with together(), torch.random.fork_rng(devices=[]), _SayOnInterrupt(run, say):
        _begin(run, folder, resume, say)
        while run.step < steps:
            losses = run.advance(seed)
            if run.step % every == 0 or run.step == steps:
                losses = averaged(losses)
                run.forget_losses()
                if rank() == 0:
                    _report(run, folder, losses, say)
        leave_to_the_first()
    return run.best_network()


def _begin(run: "_Run", folder: Path, resume: bool, say: Callable[[str], None]) -> None:
    """Go on from the checkpoint in `folder`, if there is one; all processes from the first one's."""
    checkpoint = folder / "checkpoint.pt"
    if shared(checkpoint.exists()):
        if not resume:
            raise CounterscanError(f"{folder} holds a training already; add --resume to go on, or name another folder")
        run.restore(shared(_loaded(checkpoint, folder / "log.jsonl") if rank() == 0 else {}), checkpoint)
        if rank() == 0:
            say(f"resumed at step {run.step} of {run.steps}")
    share_weights(run.task.modules)
    if rank() == 0:
        run.write_log(folder / "log.jsonl")


def _report(run: "_Run", folder: Path, losses: Mapping[str, float], say: Callable[[str], None]) -> None:
    """Validate, save, and say how far it is; the checkpoint comes last, for all else is made again from it."""
    with telling_why(folder / "previews"):
        scores = run.validate(folder / "previews")
    run.log.append(_rounded({"step": run.step, **losses, **scores}))
    run.write_log(folder / "log.jsonl")
    run.save(folder / "checkpoint.pt")
    say(_line(run, {**losses, **scores}))


class _Run:
    def __init__(self, task: Task, steps: int, decay: float, pace: Callable[[int, int], float]):
        self.task, self.steps, self.step = task, steps, 0
        self.decay, self.pace = decay, pace
        self.average = {name: value.detach().clone() for name, value in self._trained().state_dict().items()}
        self.best: dict[str, Tensor] = {}
        self.best_score = -math.inf
        self.sums: dict[str, float] = {}
        self.summed = 0
        self.log: list[dict[str, float]] = []
        self.rates = {name: [g["lr"] for g in o.param_groups] for name, o in task.optimisers.items()}
        self.started = time.perf_counter()

    def _trained(self) -> nn.Module:
        return self.task.modules[self.task.averaged]

    def advance(self, seed: int) -> dict[str, float]:
        """One step with its own randomness; returns the mean losses since the last validation."""
        torch.manual_seed(seed * 1_000_003 + self.step + rank() * APART)
        for name, optimiser in self.task.optimisers.items():
            for group, rate in zip(optimiser.param_groups, self.rates[name], strict=True):
                group["lr"] = rate * self.pace(self.step, self.steps)
        losses = self.task.step(self.step)
        broken = [name for name, value in losses.items() if not math.isfinite(value)]
        if broken:
            raise CounterscanError(f"loss {broken[0]!r} is not finite at step {self.step}; lower the learning rate")
        self.step += 1
        share_buffers(self.task.modules)
        self._move_average()
        self.summed += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        return {name: value / self.summed for name, value in self.sums.items()}

    def forget_losses(self) -> None:
        """Begin their means anew."""
        self.sums, self.summed = {}, 0

    @torch.no_grad()
    def _move_average(self) -> None:
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for name, value in self._trained().state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def validate(self, previews: Path) -> dict[str, float]:
        """Score the averaged network, and remember it if none was better."""
        network = self._trained()
        live = {name: value.clone() for name, value in network.state_dict().items()}
        was_training = network.training
        network.load_state_dict(self.average)
        network.eval()
        scores = dict(self.task.validate(network))
        previews.mkdir(exist_ok=True)
        self.task.preview(network, previews / f"{self.step:06d}.png")
        network.load_state_dict(live)
        network.train(was_training)
        if scores["score"] > self.best_score:
            self.best_score = scores["score"]
            self.best = {name: value.clone() for name, value in self.average.items()}
        return scores

    def best_network(self) -> nn.Module:
        """The network with the averaged weights that scored best, in evaluation mode."""
        network = self._trained()
        network.load_state_dict(self.best or self.average)
        return network.eval()

    def save(self, path: Path) -> None:
        """Write all that a resumed run needs, at once or not at all."""
        state = {
            "step": self.step,
            "steps": self.steps,
            "log": self.log,
            "average": self.average,
            "best": self.best,
            "best_score": self.best_score,
            "modules": {name: module.state_dict() for name, module in self.task.modules.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.task.optimisers.items()},
        }
        with written_whole(path) as part:
            try:
                torch.save(state, part)
            except RuntimeError as error:  # torch's word for a full disk
                raise OSError(None, str(error).rpartition(". ")[2]) from error

    def write_log(self, path: Path) -> None:
        """Write the rows so far."""
        write_whole(path, "".join(json.dumps(row) + "\n" for row in self.log).encode())

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Go back to where `save` was called, by what it wrote to `path`."""
        if state["steps"] != self.steps:
            raise CounterscanError(
                f"{path} is of a training of {state['steps']} steps, not {self.steps}; ask for those"
            )
        self.step, self.average, self.best = state["step"], state["average"], state["best"]
        self.best_score, self.log = state["best_score"], state["log"]
        try:
            for name, module in self.task.modules.items():
                module.load_state_dict(state["modules"][name])
        except (KeyError, RuntimeError):
            raise CounterscanError(
                f"{path} is of a training with another network; ask for the settings that it began with"
            ) from None
        for name, optimiser in self.task.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])


class _SayOnInterrupt:
    """On Ctrl-C, say how to go on."""

    def __init__(self, run: _Run, say: Callable[[str], None]):
        self.run, self.say = run, say

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            self.say(f"stopped at step {self.run.step}; the last checkpoint is kept, add --resume to go on")


def schedule(step: int, steps: int, warm_up: int = 50) -> float:
    """A factor for the learning rate: linear warm-up, then half a cosine down to 2 %."""
    warm = min(1.0, (step + 1) / warm_up)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def warm_then_falling(step: int, steps: int, falling: float, warm_up: int = 50) -> float:
    """A factor for the learning rate: linear warm-up, one, half a cosine down to 2 % in the last share `falling`."""
    late = max(0.0, (step / steps - (1 - falling)) / falling) if falling else 0.0
    return min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * late)))


def _loaded(path: Path, log: Path) -> dict[str, Any]:
    """What a checkpoint holds, and the `log` with it where it was written before checkpoints held one."""
    try:
        with zipfile.ZipFile(path) as file:
            if file.testzip() is not None:  # torch does not look at its own check sums
                raise zipfile.BadZipFile
        state = torch.load(path, weights_only=True)
        before = [] if "log" in state or not log.exists() else map(json.loads, log.read_text().splitlines())
        return {"log": [row for row in before if row["step"] <= state["step"]], **state}
    except Exception as error:  # torch, zip files and pickles raise nearly anything over what is damaged
        raise CounterscanError(
            f"{path} is damaged ({type(error).__name__}); restore it from a copy, or delete it to begin anew"
        ) from error


def _rounded(row: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), 5) for name, value in row.items()}


def _line(run: _Run, values: Mapping[str, float]) -> str:
    minutes = (time.perf_counter() - run.started) / 60
    shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
    return f"step {run.step}/{run.steps}  {minutes:.1f} min  {shown}"
