"""Healthy images spoilt on purpose; a network that restores them learns healthy anatomy. No mask takes part.

Two ways: invented lesions, whose shapes and fillings are broad on purpose, and grafts, real ones cut from abnormal
images where a classifier or the network in training sees them. Invented lesions alone teach their own traces and not
disease (a network that restored them well changed 5 % of real tumours); grafts teach what disease looks like.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SHIFTS = [(y, x) for y in (-4, 0, 4) for x in (-4, 0, 4)]  # pixels by which a graft may miss its old place


def blobs(centre: Tensor, size: tuple[int, int], *, smallest: float = 0.03, largest: float = 0.22) -> Tensor:
    """Random soft-edged lobulated shapes `(count, 1, h, w)` in [0, 1] around `centre` `(count, 2)`, (y, x) in [-1, 1].

    Radii are shares of the image's edge.
    """
    y, x = _grid(size)
    count, centre = len(centre), centre[..., None, None]
    radius = 2 * smallest * (largest / smallest) ** torch.rand(count, 1, 1)
    dy, dx = y - centre[:, 0], x - centre[:, 1]
    angle = torch.atan2(dy, dx)
    stretch = 1 + 0.6 * (torch.rand(count, 1, 1) - 0.3)
    turn = torch.rand(count, 1, 1) * 3.1416
    across, along = dx * turn.cos() + dy * turn.sin(), dy * turn.cos() - dx * turn.sin()
    distance = torch.sqrt((across / stretch) ** 2 + (along * stretch) ** 2) / radius
    for lobes in (2, 3, 5):
        distance = distance + 0.25 * torch.rand(count, 1, 1) / lobes * torch.sin(
            lobes * angle + 6.283 * torch.rand(count, 1, 1)
        )
    edge = 0.05 + 0.6 * torch.rand(count, 1, 1) ** 2
    return torch.clamp((1 - distance) / edge + 0.5, 0, 1).unsqueeze(1)


def anywhere(count: int) -> Tensor:
    """Places `(count, 2)` drawn evenly, away from the image's border."""
    return torch.rand(count, 2) * 1.5 - 0.75


def where_it_looks(saliency: Tensor) -> Tensor:
    """One place `(b, 2)` for each map `(b, 1, h, w)` that is not negative, in proportion to its smoothed square."""
    h, w = saliency.shape[2:]
    level = F.avg_pool2d(saliency.square(), 9, 1, 4).flatten(1)
    chosen = torch.multinomial(level + 1e-12, 1)[:, 0]
    place = torch.stack([(chosen // w + 0.5) / h, (chosen % w + 0.5) / w], 1)
    return place * 2 - 1


def corrupt(images: Tensor, shape: Tensor) -> Tensor:
    """Spoil healthy `images` `(b, c, h, w)` inside `shape` `(b, 1, h, w)`, each in a way of its own."""
    b = len(images)
    kind = torch.randint(0, 5, (b, 1, 1, 1))
    texture = _texture(b, images.shape[2:]) * 0.3 * torch.rand(b, 1, 1, 1)
    level = _level(images, shape)
    grain = images - F.avg_pool2d(images, 5, 1, 2)
    limit = 2 * grain.abs().mean((1, 2, 3), keepdim=True)
    filled = level + texture + grain.clamp(-limit, limit)  # the scan's own noise: its absence would be a trace
    shifted = images + (torch.rand(b, 1, 1, 1) * 0.9 + 0.1) * (torch.randint(0, 2, (b, 1, 1, 1)) * 2 - 1) + texture
    other = torch.roll(images.roll(1, 0), (int(torch.randint(-9, 10, ())), int(torch.randint(-9, 10, ()))), (2, 3))
    faded = level + (images - level) * 0.4 * torch.rand(b, 1, 1, 1)
    part = torch.rand(b, 1, 1, 1) * 0.7 + 0.3
    content = torch.where(kind == 0, filled, torch.where(kind == 1, shifted, torch.where(kind == 2, other, faded)))
    content = torch.where(kind == 4, images + part * (filled - images), content)
    pushed = _bulge(images, shape)
    return (pushed + shape * (content - pushed)).clamp(-1, 1)


def graft(donors: Tensor, where: Tensor, hosts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Paste `donors` `(b, c, h, w)`, where `where` `(b, 1, h, w)` is, into the best fitting of `hosts` `(n, c, h, w)`.

    Answers the spoilt images, where they are spoilt, and the hosts `(b, c, h, w)` as they were. The host and a small
    shift are chosen by how alike host and donor are around the piece, so that a kidney's tumour comes onto a kidney and
    leaves little trace at its border.
    """
    around, donor, host = (F.avg_pool2d(x.mean(1, keepdim=True), 2) for x in (where, donors, hosts))
    around = (F.avg_pool2d(around, 9, 1, 4) * 3).clamp(0, 1) * (1 - around)
    fits = []
    for y, x in SHIFTS:
        ring, moved = (x_.roll((y // 2, x // 2), (2, 3)).flatten(1) for x_ in (around, donor))
        fits.append(((moved[:, None] - host.flatten(1)).abs() * ring[:, None]).sum(2))
    best = torch.stack(fits).permute(1, 0, 2).flatten(1).argmin(1)  # shift-major over the hosts
    chosen = hosts[best % len(hosts)]
    shifts = [SHIFTS[int(i)] for i in best // len(hosts)]
    donors, where = (
        torch.stack([one.roll(shift, (1, 2)) for one, shift in zip(x, shifts, strict=True)]) for x in (donors, where)
    )
    return chosen + where * (donors - chosen), where, chosen


def changed(donors: Tensor, restored: Tensor) -> Tensor:
    """Where `(b, 1, h, w)` in [0, 1] `restored` differs from `donors`, smooth; nothing where it hardly does."""
    where = F.avg_pool2d((donors - restored).abs().mean(1, keepdim=True), 5, 1, 2)
    return (where / where.amax((2, 3), keepdim=True).clamp_min(0.05) * 3 - 0.6).clamp(0, 1)


def grown(where: Tensor) -> Tensor:
    """`where` `(b, 1, h, w)` with a margin of its own around each, up to 5 % of the edge: lesions go on past a map."""
    margins = torch.randint(0, max(where.shape[-1] // 20, 1) + 1, (len(where),)).tolist()
    return torch.stack([F.max_pool2d(one, 2 * m + 1, 1, m) for one, m in zip(where, margins, strict=True)])


def erase(images: Tensor, hole: Tensor) -> Tensor:
    """`images` with a chequerboard in the `hole`, booleans `(b, 1, h, w)`.

    No tissue looks like it, and it is easily taken away again: its fields are half a patch of `nets/unet.py` wide, so
    that all of it looks the same to the network; noise would have to be cancelled pixel by pixel. Whoever restores it
    must go by the surroundings.
    """
    h, w = images.shape[2:]
    fields = (torch.arange(h)[:, None] // 2 + torch.arange(w) // 2) % 2
    return torch.where(hole, fields - 0.5, images)


def _grid(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    y = torch.linspace(-1, 1, size[0])[:, None]
    x = torch.linspace(-1, 1, size[1])[None]
    return y, x


def _texture(count: int, size: tuple[int, ...]) -> Tensor:
    """Noise of two grain sizes `(count, 1, h, w)`, deviation about 1."""
    coarse = F.interpolate(torch.randn(count, 1, size[0] // 8, size[1] // 8), size=size, mode="bilinear")
    return coarse + 0.5 * F.avg_pool2d(torch.randn(count, 1, *size), 3, 1, 1)


def _level(images: Tensor, shape: Tensor) -> Tensor:
    """A grey value per image: from somewhere within it half of the time, else any."""
    b = len(images)
    flat = images.mean(1).flatten(1)
    picked = flat.gather(1, torch.randint(0, flat.shape[1], (b, 1)))
    bright = flat.gather(1, torch.multinomial((flat + 1.0).clamp_min(1e-3), 1))
    anything = torch.rand(b, 1) * 2 - 1
    draw = torch.rand(b, 1)
    return torch.where(draw < 0.2, picked, torch.where(draw < 0.7, bright, anything))[..., None, None]


def _bulge(images: Tensor, shape: Tensor) -> Tensor:
    """Push tissue outwards around `shape`, as a mass does, in half of the images."""
    b, _, h, w = images.shape
    push = F.avg_pool2d(shape, 9, 1, 4)
    dy = F.pad(push[:, :, 1:] - push[:, :, :-1], (0, 0, 0, 1))
    dx = F.pad(push[..., 1:] - push[..., :-1], (0, 1, 0, 0))
    strength = (torch.rand(b, 1, 1) * 1.2 - 0.6).clamp_min(0)
    y, x = _grid((h, w))
    field = torch.stack([x + strength * dx[:, 0], y + strength * dy[:, 0]], -1)
    return F.grid_sample(images, field, mode="bilinear", padding_mode="border", align_corners=True)
