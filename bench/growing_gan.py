"""How fast the growing GAN trains, beside the same mathematics written module by module as the papers draw it.

    python bench/growing_gan.py --side 64 --batch 16 --json results/growing-gan-speed.json

Both networks get the same weights, one step is a step of the discriminator and one of the generator, and the lazy
penalties are counted as they come: one step in eight. The plain networks are in float32; how much of the difference is
channels-last memory, and bfloat16 where the device has it, is shown by `plain_fast`, where they have these as well.
`Plain` is also what the tests compare with: same weights, same images, same scores, same losses, same gradients.
"""

import argparse
import json
import shlex
import statistics
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.nets.blocks import fast_layout
from counterscan.nets.growing_gan import Discriminator, Generator, GrowingGAN
from counterscan.nets.precision import reduced
from counterscan.train.adversarial import DRIFT, LAZY, LENGTH, WGANGP, Relativistic, descend_both, optimisers_of
from counterscan.train.growing import PRESETS, widths_of

GAMMA, SIDE = 1.0, 128


class EqualisedConv(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor, gain: float):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        self.scale = gain / weight[0].numel() ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)


class EqualisedDense(EqualisedConv):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias)


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)


class MinibatchDeviation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        size = 4 if b % 4 == 0 else 2 if b % 2 == 0 else 1
        groups = x.view(b // size, size, *x.shape[1:])
        deviation = torch.sqrt(torch.mean((groups - groups.mean(1, keepdim=True)) ** 2, dim=1) + 1e-8)
        each = deviation.mean([1, 2, 3]).repeat_interleave(size).view(b, 1, 1, 1)
        return torch.cat([x, each.expand(b, 1, h, w)], dim=1)


def conv_of(layer, gain: float = 2**0.5) -> EqualisedConv:
    return EqualisedConv(layer.weight.data, layer.bias.data, gain)


class PlainGenerator(nn.Module):
    """The generator of `known`, layer by layer."""

    def __init__(self, known: Generator):
        super().__init__()
        self.norm, self.act, self.up = PixelNorm(), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2, mode="nearest")
        self.dense = EqualisedDense(known.dense.weight.data, torch.zeros(len(known.dense.weight)), 2**0.5 / 4)
        self.dense.bias = nn.Parameter(known.dense.bias.data.clone())
        self.first = conv_of(known.first)
        self.blocks = nn.ModuleList(nn.ModuleList([conv_of(a), conv_of(b)]) for a, b in known.blocks)
        self.to_image = nn.ModuleList(conv_of(layer, 1.0) for layer in known.to_image)

    def forward(self, z: Tensor, grown: float) -> Tensor:
        z = self.norm(z)
        x = F.linear(z, self.dense.weight * self.dense.scale).view(len(z), -1, 4, 4)
        x = self.norm(self.act(x + self.dense.bias.view(1, -1, 1, 1)))
        x = self.norm(self.act(self.first(x)))
        whole, fade = int(grown), grown - int(grown)
        for number in range(whole):
            x = self.block(x, number)
        image = self.to_image[whole](x)
        if fade:
            new = self.to_image[whole + 1](self.block(x, whole))
            image = (1 - fade) * self.up(image) + fade * new
        return image

    def block(self, x: Tensor, number: int) -> Tensor:
        first, second = self.blocks[number]
        x = self.norm(self.act(first(self.up(x))))
        return self.norm(self.act(second(x)))


class PlainDiscriminator(nn.Module):
    """The discriminator of `known`, layer by layer."""

    def __init__(self, known: Discriminator):
        super().__init__()
        self.act, self.down, self.deviation = nn.LeakyReLU(0.2), nn.AvgPool2d(2), MinibatchDeviation()
        self.from_image = nn.ModuleList(conv_of(layer) for layer in known.from_image)
        self.blocks = nn.ModuleList(nn.ModuleList([conv_of(a), conv_of(b)]) for a, b in known.blocks)
        self.last = conv_of(known.last)
        self.dense = EqualisedDense(known.dense.weight.data, known.dense.bias.data, 2**0.5)
        self.score = EqualisedDense(known.score.weight.data, known.score.bias.data, 1.0)

    def forward(self, images: Tensor, grown: float) -> Tensor:
        whole, fade = int(grown), grown - int(grown)
        if fade:
            old = self.act(self.from_image[whole](self.down(images)))
            new = self.block(self.act(self.from_image[whole + 1](images)), whole)
            x = (1 - fade) * old + fade * new
        else:
            x = self.act(self.from_image[whole](images))
        for number in reversed(range(whole)):
            x = self.block(x, number)
        x = self.act(self.last(self.deviation(x)))
        return self.score(self.act(self.dense(x.flatten(1)))).squeeze(1)

    def block(self, x: Tensor, number: int) -> Tensor:
        first, second = self.blocks[number]
        return self.act(self.down(second(self.act(first(x)))))  # the mean of a sum with a bias has the same bias


class Plain:
    """Both networks, the losses as the papers write them, and one step."""

    def __init__(self, known: GrowingGAN, rate: float = 1e-3, *, fast: bool = False):
        self.generator, self.discriminator = PlainGenerator(known.generator), PlainDiscriminator(known.discriminator)
        self.fast = fast
        if fast:
            fast_layout(self.generator), fast_layout(self.discriminator)
        self.optimisers = [torch.optim.Adam(m.parameters(), rate, (0.0, 0.99)) for m in self.modules]

    @property
    def modules(self) -> tuple[nn.Module, nn.Module]:
        return self.discriminator, self.generator

    def relativistic(self, real: Tensor, fake: Tensor, grown: float, step: int) -> tuple[Tensor, Tensor]:
        """The discriminator's loss and its scores of the real images."""
        real, fake = real.clone().requires_grad_(), fake.detach().clone().requires_grad_()
        on_real, on_fake = self.discriminator(real, grown), self.discriminator(fake, grown)
        loss = F.softplus(-(on_real - on_fake)).mean()
        if step % LAZY == 0:
            gamma = LAZY * GAMMA * (real.shape[-1] / SIDE) ** 2
            for images, scores in ((real, on_real), (fake, on_fake)):
                (slope,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
                loss = loss + gamma / 2 * (slope**2).sum([1, 2, 3]).mean()
        return loss, on_real.detach()

    def wgan_gp(self, real: Tensor, fake: Tensor, grown: float) -> tuple[Tensor, Tensor]:
        """The same for the Wasserstein loss; draws one number an image."""
        on_real, on_fake = self.discriminator(real, grown), self.discriminator(fake.detach(), grown)
        share = torch.rand(len(real), 1, 1, 1)
        between = (share * real + (1 - share) * fake.detach()).requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator(between, grown).sum(), between, create_graph=True)
        penalty = ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
        return -on_real.mean() + on_fake.mean() + LENGTH * penalty + DRIFT * (on_real**2).mean(), on_real.detach()

    def step(self, real: Tensor, z: Tensor, grown: float, step: int, loss: str) -> None:
        """The discriminator, then the generator."""
        with reduced(real.device) if self.fast else nullcontext():
            with torch.no_grad():
                fake = self.generator(z, grown)
            value, on_real = (
                self.relativistic(real, fake, grown, step)
                if loss == "relativistic"
                else self.wgan_gp(real, fake, grown)
            )
        self._descend(0, value)
        with reduced(real.device) if self.fast else nullcontext():
            on_fake = self.discriminator(self.generator(z, grown), grown)
            value = F.softplus(-(on_fake - on_real)).mean() if loss == "relativistic" else -on_fake.mean()
        self._descend(1, value)

    def _descend(self, number: int, loss: Tensor) -> None:
        self.optimisers[number].zero_grad()
        loss.backward()
        self.optimisers[number].step()


def ours(known: GrowingGAN, loss: str):
    """One step of ours as a function of (real, z, grown, step), the way the recipe makes it."""
    losses = Relativistic(GAMMA, SIDE) if loss == "relativistic" else WGANGP()
    optimisers = optimisers_of(known, 1e-3)

    def step(real: Tensor, z: Tensor, grown: float, number: int) -> None:
        descend_both(known, optimisers, losses, real, z, grown, number)

    return step


def seconds(step, real: Tensor, z: Tensor, grown: float, rounds: int) -> float:
    """Mean seconds of this process in one step: lazy penalties in one of `LAZY`; each kind the median of `rounds`."""
    medians = []
    for number in (0, 1):
        step(real, z, grown, number)
        times = []
        for _ in range(rounds):
            started = time.process_time()
            step(real, z, grown, number)
            times.append(time.process_time() - started)
        medians.append(statistics.median(times))
    return (medians[0] + (LAZY - 1) * medians[1]) / LAZY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    widths = widths_of(PRESETS["small"].resolutions)
    grown = float((arguments.side // 4).bit_length() - 1)
    real = torch.randn(arguments.batch, 1, arguments.side, arguments.side)
    z = torch.randn(arguments.batch, PRESETS["small"].latents)
    found: dict[str, dict[str, float]] = {}
    for loss in ("relativistic", "wgan-gp"):
        torch.manual_seed(0)
        known = fast_layout(GrowingGAN(1, z.shape[1], widths))
        plain, fast = Plain(known), Plain(known, fast=True)
        with torch.random.fork_rng(devices=[]):
            steps = {
                "plain": partial(plain.step, loss=loss),
                "plain_fast": partial(fast.step, loss=loss),
                "ours": ours(known, loss),
            }
            row = {name: seconds(step, real, z, grown, arguments.rounds) for name, step in steps.items()}
        row = {name: round(value, 4) for name, value in row.items()} | {"faster": round(row["plain"] / row["ours"], 2)}
        found[loss] = row
        print(f"{loss:<14}" + "  ".join(f"{name} {value:g}" for name, value in row.items()), flush=True)
    if arguments.json:
        command = shlex.join(["python", *sys.argv])
        facts = {"command": command, "side": arguments.side, "batch": arguments.batch}
        facts |= {
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "seconds": found,
        }
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
