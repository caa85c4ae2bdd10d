"""Train a verifier: a network that tells whether two images show the same anatomy, whatever disease and camera are.

InfoNCE (van den Oord et al., 2018, 1807.03748, eq. 4) with temperature, both ways, on rows of length one. A true pair
is an image and its healthy twin, or another image of the same patient and side, each taken anew (`retaken`), so that
neither lesion nor exposure, noise or place tell; false ones are all other patients of the batch, and chimeras
(`chimeras`), which keep the image's camera and only part of its anatomy.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.core import Card
from counterscan.data.batches import Images, open_images
from counterscan.data.manifest import Case, Manifest
from counterscan.errors import ManifestError
from counterscan.metrics.identity import Pairs, Verifier
from counterscan.metrics.intervals import Estimate, bootstrap
from counterscan.nets.blocks import channels_last
from counterscan.nets.precision import reduced
from counterscan.pictures import contact_sheet, grey
from counterscan.registry import RECIPES
from counterscan.train.augment import augment
from counterscan.train.corruption import anywhere, blobs
from counterscan.train.descent import descend
from counterscan.train.loop import fit
from counterscan.train.parts import parts
from counterscan.train.starting import channels_of, first_card, first_network
from counterscan.weights.store import save_weights

MOST = 300  # validation images looked at while training
MEASURED = 1500  # images at most that are compared with one another afterwards
BATCH = 64
SHOWN = 8


@RECIPES.register("verifier")
@dataclass(frozen=True)
class VerifierRecipe:
    """Trains on all training images, whatever they show; labels take no part.

    `batch` patients are told from one another at once. `channels` is 1 for grey, 3 for colour, and 0 for what the first
    image has. `outputs` is the length of a row.
    """

    name: str = ""
    channels: int = 0
    size: int = 64
    steps: int = 600
    batch: int = 64
    rate: float = 2e-3
    temperature: float = 0.1
    outputs: int = 128
    fold: int = 0
    seed: int = 0

    def train(
        self,
        manifest: Manifest,
        out: Path,
        *,
        resume: bool = False,
        say: Callable[[str], None] = print,
        command: str = "",
    ) -> Path:
        """Train on the training part, choose the threshold on validation, measure on test; write weights and card."""
        card = self._card(manifest, out, command)
        people = {name: People.of(part, card.shape) for name, part in parts(manifest, fold=self.fold).items()}
        network = first_network(card, self.seed)
        task = VerifierTask(network, people, card, self.batch, self.rate, self.temperature)
        network = fit(task, out, steps=self.steps, seed=self.seed, resume=resume, say=say)
        return save_weights(out, network, task.measured(network))

    def _card(self, manifest: Manifest, out: Path, command: str) -> Card:
        channels = self.channels or channels_of(manifest)
        return first_card(
            self.name or out.name,
            manifest,
            command,
            kind="verifier",
            shape=(channels, self.size, self.size),
            classes=(),
            network="embedder",
            settings={"channels": channels, "outputs": self.outputs},
        )


@dataclass(frozen=True, eq=False)
class People:
    """The images of a part, their `twins` in the same order (an image without one is its own), and whose they are.

    `same` holds for each image its partner in a true pair: the next one of the same patient and side, or itself where
    there is no other, or no side is known. `patients` holds the indices of each patient's images.
    """

    images: Images
    twins: Images
    same: Tensor
    patients: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, manifest: Manifest, shape: tuple[int, ...]) -> "People":
        """Open images and twins; ManifestError where there is nobody to be told from."""
        if len(set(manifest.patients)) < 2:
            raise ManifestError(f"a part of {manifest.root} has one patient; a verifier tells patients apart: add some")
        twins = replace(
            manifest, cases=tuple(replace(case, path=case.twin_path or case.path) for case in manifest.cases)
        )
        same = torch.arange(len(manifest))
        for eye in _grouped([_eye(case) for case in manifest.cases]):
            same[list(eye)] = torch.tensor([*eye[1:], eye[0]])
        patients = _grouped(manifest.patients)
        return cls(open_images(manifest, shape), open_images(twins, shape), same, patients)

    def __len__(self) -> int:
        return len(self.images)

    def pairs(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Some images `(b, c, h, w)`, and the twins of their partners."""
        return self.images.batch(chosen), self.twins.batch(self.same[chosen])

    def drawn(self, count: int) -> Tensor:
        """Indices of `count` images, each of another patient; fewer where there are fewer."""
        who = torch.randperm(len(self.patients))[:count].tolist()
        return torch.tensor([self.patients[i][int(torch.randint(len(self.patients[i]), ()))] for i in who])

    @property
    def called(self) -> str:
        """What the second images of true pairs are."""
        if any(case.twin_path for case in self.images.manifest.cases):
            return "true twins"
        return "other images of the same eye" if (self.same != torch.arange(len(self))).any() else "images taken anew"


def _eye(case: Case) -> tuple[str, ...]:
    side = case.facts.get("laterality", "")
    return (case.patient, side) if case.patient and side else ("", case.name)


def _grouped(names: Iterable[object]) -> tuple[tuple[int, ...], ...]:
    """The indices of each name."""
    groups: dict[object, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    return tuple(tuple(group) for group in groups.values())


@dataclass
class VerifierTask:
    """One step tells the patients of a batch, drawn at random, from one another and from chimeras."""

    network: nn.Module
    people: Mapping[str, People]
    card: Card
    batch: int = 64
    rate: float = 2e-3
    temperature: float = 0.1
    averaged: str = "network"

    def __post_init__(self) -> None:
        self.modules = {"network": self.network}
        self.optimisers = {"network": torch.optim.AdamW(self.network.parameters(), self.rate, weight_decay=0.05)}

    def step(self, step: int) -> Mapping[str, float]:
        self.network.train()
        images, twins = self.people["train"].pairs(self.people["train"].drawn(self.batch))
        views = torch.cat([retaken(images), retaken(twins), retaken(chimeras(images, twins))])
        with reduced(views.device):
            rows = self.network(channels_last(views))
        first, second, false = rows.chunk(3)
        losses = [self.contrast(first, second, false), self.contrast(second, first, false)]
        return descend(self.network, self.optimisers["network"], {"loss": torch.stack(losses).mean()}, clip=5.0)

    def contrast(self, rows: Tensor, partners: Tensor, false: Tensor) -> Tensor:
        """InfoNCE: the cross-entropy of finding each row's partner among all `partners` and the `false` ones."""
        logits = rows @ torch.cat([partners, false]).T / self.temperature
        return F.cross_entropy(logits, torch.arange(len(rows)))

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        """`score`: the share accepted of true pairs, taken anew, less that of chimeras, at one false pair in 1,000."""
        seen = self.seen(network, "validation", MOST)
        threshold = seen.pairs.threshold()
        figures = seen.rates(threshold)
        score = figures["retaken_accepted"].value - figures["chimeras_accepted"].value
        return {"score": score, "threshold": threshold, **{name: one.value for name, one in figures.items()}}

    def preview(self, network: nn.Module, path: Path) -> None:
        """A sheet: training images, their partners taken anew, and chimeras."""
        images, twins = self.people["train"].pairs(torch.arange(min(SHOWN, len(self.people["train"]))))
        rows = (images, retaken(twins), chimeras(images, twins))
        contact_sheet([[grey(one) for one in row] for row in rows]).save(path)

    def measured(self, network: nn.Module) -> Card:
        """The card with the threshold that validation gives, and the figures of the test part."""
        threshold = round(self.seen(network, "validation").pairs.threshold(), 4)
        seen = self.seen(network, "test")
        figures = {**seen.pairs.figures(), **seen.rates(threshold)}
        metrics = {"pairs": self.people["test"].called, **{name: one.to_dict() for name, one in figures.items()}}
        settings = {**self.card.settings, "threshold": threshold}
        return self.card.model_copy(update={"settings": settings, "metrics": metrics})

    def seen(self, network: nn.Module, part: str, most: int = MEASURED) -> "Seen":
        """What the network says of the first `most` images of a part, with the same draws each time."""
        people, rows = self.people[part], []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for chosen in torch.arange(min(len(people), most)).split(BATCH):
                rows.append(_rows(Verifier(network, self.card), *people.pairs(chosen)))
        image, partner, anew, chimera, differs = (torch.cat(column) for column in zip(*rows, strict=True))
        patients = people.images.patients[: len(image)]
        partner = torch.where(differs.any(), partner, anew)
        true = differs if differs.any() else torch.ones_like(differs)
        alike = {"retaken_accepted": (image * anew).sum(1), "chimeras_accepted": (image * chimera).sum(1)}
        return Seen(Pairs.of(image, partner, patients, true), alike, patients)


@dataclass(frozen=True)
class Seen:
    """The `pairs` of a part, and how `alike` `(n,)` its images are to partners taken anew and to chimeras."""

    pairs: Pairs
    alike: Mapping[str, Tensor]
    patients: tuple[str, ...]

    def rates(self, threshold: float) -> dict[str, Estimate]:
        """The share accepted from `threshold` on: of true and false pairs, partners taken anew, and chimeras."""
        others = {name: bootstrap((one >= threshold).numpy(), self.patients) for name, one in self.alike.items()}
        false = float((self.pairs.false >= threshold).mean())
        return {
            "accepted": bootstrap(self.pairs.true >= threshold, self.pairs.patients),
            "false_accepted": Estimate(false, float("nan"), float("nan"), len(self.pairs.false)),
            **others,
        }


@torch.no_grad()
def _rows(verifier: Verifier, images: Tensor, partners: Tensor) -> tuple[Tensor, ...]:
    """Rows of images, partners, partners taken anew and chimeras, and whether image and partner differ `(b,)`."""
    views = (images, partners, retaken(partners), chimeras(images, partners))
    return *(verifier(view) for view in views), (images != partners).flatten(1).any(1)


def retaken(images: Tensor) -> Tensor:
    """`images` `(b, c, h, w)` in [-1, 1] as if taken again: place, exposure, tint, sharpness and noise are others."""
    b, c, *_ = images.shape
    soft = F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    images = images + torch.rand(b, 1, 1, 1) * (soft - images)
    tint = 1 + (torch.rand(b, c, 1, 1) - 0.5) * 0.2
    return augment(((images + 1) * tint - 1).clamp(-1, 1))


def chimeras(images: Tensor, twins: Tensor) -> Tensor:
    """`images` `(b, c, h, w)` with a large part of another's anatomy, or of their own moved, as they were exposed.

    The part is cut from the healthy `twins`, so that no lesion tells a chimera.
    """
    b, _, h, w = images.shape
    other = _exposed_as(twins.roll(1, 0), images)
    moved = twins.roll((_far(h), _far(w)), (2, 3))
    donors = torch.where(torch.rand(b, 1, 1, 1) < 0.5, other, moved)
    shape = blobs(0.6 * anywhere(b), (h, w), smallest=0.15, largest=0.45)
    return (images + shape * (donors - images)).clamp(-1, 1)


def _far(length: int) -> int:
    """An eighth to a quarter of `length`, either way."""
    return int(torch.randint(length // 8, length // 4 + 1, ())) * (1 if float(torch.rand(())) < 0.5 else -1)


def _exposed_as(donors: Tensor, images: Tensor) -> Tensor:
    """`donors` with the mean and deviation of `images` in each channel, so that the camera does not tell them apart."""
    (level, spread), (wanted, wide) = (
        (x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True)) for x in (donors, images)
    )
    return (donors - level) / (spread + 1e-3) * wide + wanted
